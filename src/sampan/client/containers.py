"""Containers, by the Python client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Self, overload

import msgspec

from sampan.client import options as options_
from sampan.client.options import RunOptions
from sampan.client.streams import Stream, frames, gather
from sampan.client.wire import ConnectionLost, query, quote
from sampan.errors import Failed, NotFound
from sampan.spec import docker
from sampan.spec.docker.stats import StatsResponse
from sampan.spec.docker.why import Why

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Unpack

    from sampan.client.images import Image
    from sampan.client.sdk import Api

__all__ = ["Container", "Containers", "ExecResult", "ProgramFailed", "RunOptions", "RunResult"]


class RunResult(NamedTuple):
    """What a program in a container did. With a terminal all output is in `stdout`."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class ExecResult(NamedTuple):
    """What a program executed in a running container did."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class ProgramFailed(Failed):
    """The program that `run` was asked to run ended with another status than 0; `result` has it and the output."""

    def __init__(self, message: str, hint: str = "", result: RunResult | None = None) -> None:
        super().__init__(message, hint)
        self.result = result or RunResult(1, b"", b"")


class Containers:
    """The containers of an instance: `client.containers`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    @overload
    def run(
        self,
        image: str,
        command: str | Sequence[str] | None = None,
        *,
        detach: Literal[False] = False,
        check: bool = True,
        keep: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunResult: ...

    @overload
    def run(
        self,
        image: str,
        command: str | Sequence[str] | None = None,
        *,
        detach: Literal[True],
        check: bool = True,
        keep: bool = False,
        **options: Unpack[RunOptions],
    ) -> Container: ...

    def run(
        self,
        image: str,
        command: str | Sequence[str] | None = None,
        *,
        detach: bool = False,
        check: bool = True,
        keep: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunResult | Container:
        """Run a program in a new container and return what it did; or, detached, the running container.

        Raises ProgramFailed unless the program ends with 0 (`check=False` leaves that to you). The container is
        removed afterwards unless `keep`; a detached one is yours to remove, or use it in a `with`.
        """
        container = self.create(image, command, **options)
        try:
            if detach:
                container.start()
                return container
            result = container._run()
        except BaseException:
            container._remove_quietly()
            raise
        if not keep:
            container._remove_quietly()
        if check and result.exit_code != 0:
            said = result.stderr.decode(errors="replace").strip().splitlines()
            raise ProgramFailed(
                f"can't run {' '.join(container.command)[:200]}: it ended with {result.exit_code}"
                + (f": {said[-1]}" if said else ""),
                result=result,
            )
        return result

    def create(
        self, image: str, command: str | Sequence[str] | None = None, **options: Unpack[RunOptions]
    ) -> Container:
        """Make a container without starting it; an image that is missing is pulled."""
        body = options_.body(image, command, options)
        target = f"/containers/create{query(name=options.get('name'), platform=options.get('platform'))}"
        try:
            data = self._api.post(target, body)
        except NotFound as e:
            if not e.message.lower().startswith("no such image"):
                raise
            from sampan.client.images import Images

            Images(self._api).pull(image, platform=options.get("platform"))
            data = self._api.post(target, body)
        made = docker.decode_answer(docker.ContainerCreateResponse, data)
        return Container(self._api, made.id, warnings=made.warnings)

    def get(self, ref: str) -> Container:
        """Return a container by name, id, or an id's beginning. Raises NotFound."""
        attributes = self._api.get(docker.ContainerInspectResponse, f"/containers/{quote(ref)}/json")
        return Container(self._api, attributes.id, attributes)

    def list(
        self, *, all: bool = False, limit: int = 0, filters: Mapping[str, str | Iterable[str]] | None = None
    ) -> Sequence[docker.ContainerSummary]:
        """Return a line for each running container (`all`: for each), as `sampan ps` shows."""
        from sampan.client.sdk import filter_lists

        target = f"/containers/json{query(all=all, limit=limit or None, filters=filter_lists(filters))}"
        return self._api.get_list(docker.ContainerSummary, target)

    def prune(self, *, filters: Mapping[str, str | Iterable[str]] | None = None) -> docker.ContainerPruneResponse:
        """Remove the containers that do not run."""
        from sampan.client.sdk import filter_lists

        return self._api.ask(docker.ContainerPruneResponse, f"/containers/prune{query(filters=filter_lists(filters))}")


class Container:
    """One container. In a `with` it is removed at the end, running or not.

    with client.containers.run("debian", ["python3", "-m", "http.server"], detach=True) as server:
        print(server.exec_run(["ps", "ax"]).stdout)
    """

    def __init__(
        self,
        api: Api,
        id: str,
        attributes: docker.ContainerInspectResponse | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._api = api
        self._path = f"/containers/{id}"
        self._attributes = attributes
        self.id = id
        self.warnings = warnings
        """What the engine had to say about its options when it was made."""

    def __repr__(self) -> str:
        return f"<Container {self.short_id}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._remove_quietly()

    @property
    def short_id(self) -> str:
        """Its id's first twelve digits."""
        return self.id[:12]

    @property
    def attributes(self) -> docker.ContainerInspectResponse:
        """What `inspect` told when it was last asked; `reload` asks again."""
        return self._attributes or self.reload()

    @property
    def name(self) -> str:
        """Its name, without Docker's slash."""
        return self.attributes.name.removeprefix("/")

    @property
    def ports(self) -> dict[str, tuple[docker.PortBinding, ...] | None]:
        """Where its ports are published while it runs, by "80/tcp"; None for one that is only exposed."""
        return self.attributes.network_settings.ports

    def publish(self, *ports: str, remove: Sequence[int] = ()) -> None:
        """Publish more ports, "8081:80", also while it runs; `remove` are TCP ports of the host that go."""
        gone = tuple(docker.PublishedRange(host_port=str(port)) for port in remove)
        body = docker.PortsUpdate(add=options_.bindings(ports) or {}, remove=gone)
        self._api.post(f"/sampan{self._path}/ports", body)
        self.reload()

    def update(self, **changes: object) -> docker.ContainerUpdateResponse:
        """Change limits and the restart policy, at once if it runs: fields of `spec.docker.ContainerUpdate`."""
        body = docker.ContainerUpdate(**changes)  # type: ignore[arg-type]
        answer = docker.decode_answer(docker.ContainerUpdateResponse, self._api.post(f"{self._path}/update", body))
        self.reload()
        return answer

    def update_health(
        self, check: docker.HealthConfig | None = None, annotations: dict[str, str] | None = None
    ) -> None:
        """Change how its health is checked, at once if it runs; `annotations` are those about health."""
        body = docker.HealthUpdate(healthcheck=check, annotations=annotations)
        self._api.post(f"/sampan{self._path}/healthcheck", body)
        self.reload()

    def stats(self) -> StatsResponse:
        """Measure what it uses: one sample, with the processor time of a moment before. Bytes and nanoseconds."""
        return self._api.get(StatsResponse, f"{self._path}/stats{query(stream='0')}")

    @property
    def command(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return (self.attributes.path, *self.attributes.args)

    @property
    def status(self) -> str:
        """Its state now: "created", "running", "paused", "exited" …"""
        return self.reload().state.status

    @property
    def exit_code(self) -> int:
        """The status that its program ended with, as known at the last `reload`."""
        return self.attributes.state.exit_code

    def reload(self) -> docker.ContainerInspectResponse:
        """Ask the engine for everything about it."""
        self._attributes = self._api.get(docker.ContainerInspectResponse, f"{self._path}/json")
        return self._attributes

    inspect = reload

    # ---------------------------------------------------------------------------------------- its life

    def start(self) -> None:
        """Start it; nothing happens if it runs."""
        self._post("start")

    def stop(self, timeout_s: int | None = None, *, signal: str | None = None) -> None:
        """Send its stop signal, and after the timeout (its own, or 10 s) kill it."""
        self._post("stop", t=_number(timeout_s), signal=signal)

    def restart(self, timeout_s: int | None = None) -> None:
        """Stop and start it."""
        self._post("restart", t=_number(timeout_s))

    def kill(self, signal: str | None = None) -> None:
        """Send a signal to its program, SIGKILL by default."""
        self._post("kill", signal=signal)

    def pause(self) -> None:
        """Freeze all its processes."""
        self._post("pause")

    def unpause(self) -> None:
        """Let them go on."""
        self._post("unpause")

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._post("rename", name=name)

    def wait(self, condition: Literal["not-running", "next-exit", "removed"] = "not-running") -> int:
        """Wait until it has ended and return its exit status. A restart of the server in between does not matter."""
        while True:
            try:
                data = self._api.post(f"{self._path}/wait{query(condition=condition)}")
            except ConnectionLost:
                condition = "removed" if condition == "removed" else "not-running"
                continue
            answer = docker.decode_answer(docker.ContainerWaitResponse, data)
            if answer.error and answer.error.message:
                raise Failed(f"can't wait for {self.short_id}: {answer.error.message}")
            return answer.status_code

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; with `force` also if it runs."""
        self._api.post(f"{self._path}{query(force=force, v=volumes)}", method="DELETE")

    def _post(self, verb: str, **parameters: object) -> None:
        self._api.post(f"{self._path}/{verb}{query(**parameters)}")

    def _remove_quietly(self) -> None:
        try:
            self.remove(force=True, volumes=True)
        except NotFound:
            pass  # auto_remove, or somebody else, was first

    def _run(self) -> RunResult:
        """Attach, start, and read to the end: nothing of the output can be missed."""
        with self.attach() as stream:
            self.start()
            out, err = stream.read()
        try:
            return RunResult(self.wait(), out, err)
        except NotFound:
            if self._attributes is None or not self._attributes.host_config.auto_remove:
                raise
            raise Failed(f"can't tell how {self.short_id} ended: it removed itself", "leave auto_remove out") from None

    # ---------------------------------------------------------------------------------------- its streams

    def attach(self, *, stdin: bool = False, logs: bool = False) -> Stream:
        """Return its standard streams from now on, with `logs` also what was written before."""
        parameters = query(stream=True, stdin=stdin, stdout=True, stderr=True, logs=logs)
        return Stream(self._api.hijack(f"{self._path}/attach{parameters}"), tty=self.attributes.config.tty)

    def logs(
        self,
        *,
        stdout: bool = True,
        stderr: bool = True,
        timestamps: bool = False,
        tail: int | None = None,
        since: str | float | None = None,
        until: str | float | None = None,
    ) -> bytes:
        """Return what it has written so far, both streams in the order of writing."""
        return b"".join(
            data
            for _, data in self._logs(
                f"/sampan{self._path}/logs",  # many lines at a time
                stdout=stdout,
                stderr=stderr,
                timestamps=timestamps,
                tail=tail,
                since=since,
                until=until,
            )
        )

    def follow_logs(self, *, tail: int | None = None, timestamps: bool = False) -> Iterator[tuple[str, bytes]]:
        """Give ("stdout" | "stderr", line) of what it has written and writes, until it ends."""
        return self._logs(f"{self._path}/logs", follow=True, stdout=True, stderr=True, tail=tail, timestamps=timestamps)

    def _logs(self, path: str, **parameters: object) -> Iterator[tuple[str, bytes]]:
        from sampan.client.sdk import seconds

        for name in ("since", "until"):
            moment = parameters.pop(name, None)
            parameters[name] = seconds(moment)  # type: ignore[arg-type]
        tail = parameters.pop("tail", None)
        target = f"{path}{query(tail=None if tail is None else str(tail), **parameters)}"
        tty = self.attributes.config.tty
        with self._api.exchange("GET", target) as answer:
            if tty:
                yield from (("stdout", piece) for piece in answer.pieces())
            else:
                yield from frames(answer.pieces())

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        self._post("resize", h=str(rows), w=str(columns))

    # ---------------------------------------------------------------------------------------- in it

    def changes(self) -> list[docker.PathChange]:
        """Return what it has changed in its image's files: kind 0 is changed, 1 added, 2 deleted."""
        return self._api.get_list(docker.PathChange, f"{self._path}/changes")

    def commit(
        self,
        reference: str = "",
        *,
        message: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        squash: bool = False,
        epoch_s: int | None = None,
    ) -> Image:
        """Make an image of what it is now; with `squash` of one layer. `changes` are instructions of a Dockerfile.

        `epoch_s`, as SOURCE_DATE_EPOCH, is when the image says it was made, and no file in its layer is later.
        """
        from sampan.client.images import Images, split_tag

        name, tag = split_tag(reference)
        parameters = query(
            container=self.id,
            repo=name,
            tag=tag,
            comment=message,
            author=author,
            changes=list(changes),
            pause=str(int(pause)),
            squash=squash,
            epoch=_number(epoch_s),
        )
        made = docker.decode_answer(docker.IdResponse, self._api.post(f"/sampan/commit{parameters}"))
        return Images(self._api).get(made.id)

    def export(self) -> Iterator[bytes]:
        """Give all its files as a tar, in pieces. It is whole if no error is raised."""
        with self._api.exchange("GET", f"{self._path}/export") as answer:
            yield from answer.pieces()

    def why(self) -> Why:
        """Return what ended it, or ails it: causes with their facts and what would help, and its last output."""
        return self._api.get(Why, f"/sampan{self._path}/why")

    def top(self, ps_args: str | None = None) -> docker.ContainerTopResponse:
        """Return its processes."""
        return self._api.get(docker.ContainerTopResponse, f"{self._path}/top{query(ps_args=ps_args)}")

    def exec_run(
        self,
        command: str | Sequence[str],
        *,
        environment: Mapping[str, str] | Sequence[str] | None = None,
        working_dir: str = "",
        user: str = "",
        privileged: bool = False,
        stdin: bytes | None = None,
    ) -> ExecResult:
        """Run another program in it and return what it did, whatever its status."""
        id = self._exec_create(
            docker.ExecConfig(
                cmd=options_.words(command),
                env=options_.environment(environment),
                working_dir=working_dir,
                user=user,
                privileged=privileged,
                attach_stdin=stdin is not None,
                attach_stdout=True,
                attach_stderr=True,
            )
        )
        body = msgspec.json.encode(docker.ExecStartConfig())
        with Stream(self._api.hijack(f"/exec/{id}/start", body), tty=False) as stream:
            if stdin is not None:
                _feed(stream, stdin)
            out, err = gather(stream)
        told = self._api.get(docker.ExecInspectResponse, f"/exec/{id}/json")
        return ExecResult(told.exit_code if told.exit_code is not None else -1, out, err)

    def _exec_create(self, body: docker.ExecConfig) -> str:
        return docker.decode_answer(docker.IdResponse, self._api.post(f"{self._path}/exec", body)).id


def _feed(stream: Stream, data: bytes) -> None:
    """Write from a thread of its own: the program may write more than a pipe holds before it reads on."""
    import threading

    def feed() -> None:
        try:
            stream.write(data)
            stream.close_stdin()
        except Failed:
            pass  # it ended before it had read everything

    threading.Thread(target=feed, daemon=True).start()


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
