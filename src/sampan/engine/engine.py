"""The verbs, top to bottom: what `sampan run` is made of, and what the API calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from sampan.dirs import Dirs
    from sampan.engine.requests import AttachQuery, EventsQuery, Filters, LogsQuery, LogStream, Session
    from sampan.spec import docker


class Engine:
    """One instance's engine. Every method may be called from any thread, blocks until it is done, and raises SampanError.

    `ref` is a container's id, an id's unambiguous beginning, or its name (with or without "/").
    """

    @classmethod
    def open(cls, dirs: Dirs, keeper_fd: int | None, listen_fd: int | None = None) -> Engine:
        """Open the state, probe the host, talk to the keeper, repair what a crash left, reconnect the shims."""

    def close(self) -> None:
        """Write what is unwritten and let go of everything; containers run on."""

    # -- containers

    def create(
        self, name: str | None, body: docker.ContainerCreate, platform: str | None = None
    ) -> docker.ContainerCreateResponse: ...
    def start(self, ref: str, *, detach_keys: str | None = None) -> bool:
        """Start a created or stopped container. False: it was running already (HTTP 304)."""

    def stop(self, ref: str, timeout_s: int | None = None, signal: str | None = None) -> bool:
        """False: it was not running (HTTP 304). `timeout_s` -1 waits for ever; None: the container's own, else 10."""

    def kill(self, ref: str, signal: str | None = None) -> None: ...
    def restart(self, ref: str, timeout_s: int | None = None, signal: str | None = None) -> None: ...
    def pause(self, ref: str) -> None: ...
    def unpause(self, ref: str) -> None: ...
    def remove(self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None: ...
    def rename(self, ref: str, name: str) -> None: ...
    def wait(
        self, ref: str, condition: str = "not-running", begun: Callable[[], None] | None = None
    ) -> docker.ContainerWaitResponse:
        """Block until "not-running", "next-exit" or "removed". `begun` is called once the wait is registered: the API sends its headers then."""

    def list(
        self, *, all: bool = False, limit: int = 0, size: bool = False, filters: Filters | None = None
    ) -> list[docker.ContainerSummary]: ...
    def inspect(self, ref: str, *, size: bool = False) -> docker.ContainerInspectResponse: ...
    def top(self, ref: str, ps_args: str | None = None) -> docker.ContainerTopResponse: ...
    def logs(self, ref: str, query: LogsQuery) -> LogStream: ...
    def attach(self, ref: str, query: AttachQuery) -> Session: ...
    def resize(self, ref: str, rows: int, columns: int) -> None: ...

    # -- exec

    def exec_create(self, ref: str, body: docker.ExecConfig) -> str: ...
    def exec_start(self, exec_id: str, body: docker.ExecStartConfig) -> Session | None:
        """With `body.detach` start it and return None; else return the session to hand the client's connection to."""

    def exec_inspect(self, exec_id: str) -> docker.ExecInspectResponse: ...
    def exec_resize(self, exec_id: str, rows: int, columns: int) -> None: ...

    # -- explain: dictionaries in the form of runtime.explain.to_json, {"steps": [{who, sentence, shell, man}], "script": "…"}

    def explain(self, ref: str) -> dict[str, Any]:
        """The plan of a container's start, which need not happen."""

    def start_explained(self, ref: str) -> Iterator[dict[str, Any]]:
        """Start it up to its program's execution, give each step with the time it took, then execute."""

    def explain_exec(self, exec_id: str) -> dict[str, Any]: ...

    # -- images

    def pull(
        self, name: str, *, platform: str | None = None, auth: bytes | None = None, progress: Callable[[Any], None]
    ) -> None:
        """`auth`: the X-Registry-Auth header as it came. `progress` gets image.pull.Progress."""

    def load(self, stream: BinaryIO, *, progress: Callable[[Any], None]) -> list[str]: ...
    def import_image(
        self,
        stream: BinaryIO | str,
        reference: str,
        *,
        changes: tuple[str, ...] = (),
        message: str = "",
        platform: str | None = None,
    ) -> str:
        """Make an image of a root filesystem's tar, or of a directory given by its path. Return the image's id."""

    def tag(self, name: str, repository: str, tag: str | None) -> None: ...
    def remove_image(
        self, name: str, *, force: bool = False, no_prune: bool = False
    ) -> list[docker.ImageDeleteResponseItem]: ...
    def list_images(
        self, *, all: bool = False, filters: Filters | None = None, digests: bool = False
    ) -> list[docker.ImageSummary]: ...
    def inspect_image(self, name: str) -> docker.ImageInspect: ...
    def history(self, name: str) -> list[docker.ImageHistoryResponseItem]: ...

    # -- system

    def info(self) -> docker.SystemInfo: ...
    def version(self) -> docker.SystemVersion: ...
    def disk_usage(self) -> docker.DiskUsage: ...
    def events(self, query: EventsQuery) -> Iterator[docker.EventMessage]:
        """Past and coming events; `close()` of what is returned, from any thread, ends it."""

    # -- the server's life

    def connection_opened(self, user_agent: str) -> None:
        """The API tells of every connection, at its first request: who calls decides how the instance rests when idle."""

    def connection_closed(self) -> None: ...
    def on_idle(self, leave: Callable[[], None]) -> None:
        """`leave` is called, once, when the server should stop listening and exit: the keeper has been told."""
