"""`exec`: another process in a running container. Kept in memory; what a shim knows is asked again after a restart."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan import ids
from sampan.engine import device_requests, lending, lifecycle, oci_words, secret_files
from sampan.engine.attaching import tell_client
from sampan.engine.core import encode
from sampan.engine.lifecycle import Verb
from sampan.engine.reaching import TRIES, ask, must_run
from sampan.engine.translate import exec_process
from sampan.errors import Conflict, InvalidInput, NotFound, SampanError, Unsupported
from sampan.runtime import plan as planning
from sampan.spec.docker import ExecConfig, ExecInspectResponse, ProcessConfig
from sampan.supervise import messages
from sampan.units import parse_detach_keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import Literal

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.runtime.plan import Plan
    from sampan.spec.docker import ExecStartConfig
    from sampan.spec.runtime import Process, Spec

_LAUNCH_S = 60
_KEPT, _KEPT_UNSTARTED = 100, 1000
_KEPT_SINCE = 3  # the version of a shim's messages
"""Execs that a container remembers: ended ones, and those that were made and are not started."""


class Exec:
    """One exec. `code` is None until it has ended."""

    def __init__(self, id: str, container: Container, config: ExecConfig, process: Process | None) -> None:
        self.id = id
        self.container = container
        self.config = config
        self.process = process  # None: found again after a restart of the server
        self.started = process is None
        self.running = False
        self.code: int | None = None
        self.pid = 0


def create(core: Core, container: Container, body: ExecConfig) -> str:
    """Note what is to be run; raise now for what can't be."""
    lifecycle.check(Verb.EXEC, container.state, container.id)
    if body.detach_keys:
        _keys(body.detach_keys)
    process = exec_process(body, _spec(core, container), core.host)
    exec = Exec(ids.new_id(), container, body, process)
    _forget_oldest(core, container)
    core.execs[exec.id] = exec
    container.execs[exec.id] = None
    core.tell(container, f"exec_create: {' '.join(process.args)}", {"execID": exec.id})
    return exec.id


def _keys(text: str) -> bytes:
    try:
        return parse_detach_keys(text)
    except InvalidInput as e:  # Docker calls them so here
        raise InvalidInput(f"Invalid escape keys ({text}) provided", e.hint) from None


def _forget_oldest(core: Core, container: Container) -> None:
    known = [exec for exec in map(core.execs.get, tuple(container.execs)) if exec]
    ended_ones = [exec for exec in known if exec.code is not None]
    unstarted = [exec for exec in known if not exec.started]
    for exec in (*ended_ones[:-_KEPT], *unstarted[:-_KEPT_UNSTARTED]):
        forget(core, exec)


def forget(core: Core, exec: Exec) -> None:
    """Know nothing of it any more."""
    core.execs.pop(exec.id, None)
    exec.container.execs.pop(exec.id, None)


def run_begins(core: Core, container: Container) -> None:
    """Let go of what was not started in the run before; what is said to run since then has ended with that.

    On the reading thread, before any exec of the new run is known to be executed.
    """
    for exec in [exec for exec in map(core.execs.get, tuple(container.execs)) if exec]:
        if not exec.started:
            forget(core, exec)
        elif exec.running:
            exec.running, exec.code = False, 137


def find(core: Core, exec_id: str) -> Exec:
    """Return an exec of this server's time, or one that a shim has told of."""
    exec = core.execs.get(exec_id)
    if exec is None:
        raise NotFound(
            f"No such exec instance: {exec_id}",
            "an exec that was made and not started is forgotten when the server restarts: make it again",
        )
    return exec


def start(core: Core, exec_id: str, body: ExecStartConfig, lent: str = "") -> ExecSession | None:
    """Return what a client's connection is handed to; with `detach` run it now and return None.

    `lent` names descriptors for it: lending.
    """
    exec = find(core, exec_id)
    with exec.container.lock:
        lifecycle.check(Verb.EXEC, exec.container.state, exec.container.id)
        if exec.started:
            state = "running" if exec.running else "already run"
            raise Conflict(
                f"Error: Exec command {exec_id} is {state}" if exec.running else f"exec {exec_id} has already run"
            )
        exec.started = True
    session = ExecSession(core, exec, body.console_size, lent)
    if body.detach:
        session.run(None, b"")
        return None
    return session


class ExecSession:
    """A checked exec that waits for the client's connection."""

    def __init__(self, core: Core, exec: Exec, size: tuple[int, int] | None, lent: str = "") -> None:
        self._core = core
        self._lent = lent
        self._exec = exec
        self._size = size or exec.config.console_size

    @property
    def tty(self) -> bool:
        """Whether the streams are raw."""
        return self._exec.config.tty

    def answering(self) -> AbstractContextManager[None]:
        """Nothing runs before the handover."""
        return nullcontext()

    def hand_over(self, fd: int, already_read: bytes = b"") -> None:
        """Run it with the connection; a failure is written to the client."""
        try:
            self.run(fd, already_read)
        except SampanError as e:
            tell_client(fd, e, tty=self.tty)

    def abandon(self) -> None:
        """The connection broke before it was handed over: it can be started again."""
        self._exec.started = False

    def run(self, fd: int | None, already_read: bytes) -> None:
        """Have the shim run it; return when it is being executed."""
        core, exec = self._core, self._exec
        try:
            if exec.config.working_dir and not exec.config.working_dir.startswith("/"):
                raise oci_words.refused_directory()
            message = self._message(_plan_with_secrets(core, exec), fd, already_read)
            must_run(exec.container, Verb.EXEC)
            with lending.taken(core, self._lent) as lent:
                core.tell(exec.container, f"exec_start: {' '.join(exec.config.cmd or ())}", {"execID": exec.id})
                if lent.descriptors:
                    _refuse_earlier(exec.container)
                    message = replace(message, kept=len(lent.descriptors))
                self._launch(message, (*(() if fd is None else (fd,)), *lent.descriptors))
        except SampanError as e:
            exec.code = e.exit_status if e.exit_status in (126, 127) else 126
            raise

    def _launch(self, message: messages.Exec, fds: tuple[int, ...]) -> None:
        """Ask again where the shim was killed, unless its successor says that the program was executed."""
        exec = self._exec
        for left in reversed(range(TRIES)):
            pending = must_run(exec.container, Verb.EXEC).post(message, fds, then=self._runs)
            try:
                pending.wait(messages.Launched, _LAUNCH_S)
            except SampanError as e:
                if not pending.broken:
                    raise oci_words.of_exec(e) from None
                if not left:
                    raise
            else:
                return
            learn(self._core, exec.container, ask(exec.container, Verb.EXEC, messages.Hello(), messages.Status))
            if exec.running or exec.code is not None:
                return

    def _runs(self, answer: messages.Message) -> None:
        if isinstance(answer, messages.Launched):
            self._exec.running = True
            self._exec.pid = answer.pid

    def _message(self, plan: Plan, fd: int | None, already_read: bytes) -> messages.Exec:
        config = self._exec.config
        wanted: dict[Literal["stdin", "stdout", "stderr"], bool] = {
            "stdin": config.attach_stdin,
            "stdout": config.attach_stdout,
            "stderr": config.attach_stderr,
        }
        return messages.Exec(
            exec_id=self._exec.id,
            process=encode(self._exec.process),
            plan=planning.encode(plan),
            tty=config.tty,
            streams=frozenset() if fd is None else frozenset(name for name, given in wanted.items() if given),
            console_size=self._size if config.tty and self._size and all(self._size) else None,
            detach_keys=_keys(config.detach_keys) if config.detach_keys else b"\x10\x11",
            already_read=already_read,
        )


def _refuse_earlier(container: Container) -> None:
    """An earlier shim would take what is lent for the client's connection."""
    if ask(container, Verb.EXEC, messages.Hello(), messages.Status).version < _KEPT_SINCE:
        raise Unsupported(f"can't give {container.name} open files: an earlier sampan has started it", "restart it")


def plan_of(core: Core, exec: Exec, variables: Mapping[str, str] = {}) -> Plan:
    """Return the steps that run it, with `variables` besides its own."""
    if exec.process is None:
        raise Conflict(f"exec {exec.id} has already run")
    process = secret_files.with_variables(exec.process, variables)
    return planning.plan_exec(process, _spec(core, exec.container), core.host, id=exec.container.id)


def _plan_with_secrets(core: Core, exec: Exec) -> Plan:
    """What is given to the exec itself comes before the container's secrets."""
    given = {text.partition("=")[0] for text in exec.config.env or ()}
    values = secret_files.variables(core, exec.container)
    return plan_of(core, exec, {name: value for name, value in values.items() if name not in given})


def _spec(core: Core, container: Container) -> Spec:
    return device_requests.still_given(core, container.body.host_config, core.spec(container))


def ended(core: Core, container: Container, event: messages.ExecExited) -> None:
    """Take note of an exec's end. On the reading thread."""
    exec = core.execs.get(event.exec_id)
    if exec is None or exec.code is not None:
        return
    exec.pid = event.pid
    exec.code = event.exit_code
    exec.running = False
    core.tell(container, "exec_die", {"execID": exec.id, "exitCode": str(event.exit_code)})


def learn(core: Core, container: Container, status: messages.Status) -> None:
    """Take in what a shim says of its execs: those of a server before this one."""
    for known in status.execs:
        exec = core.execs.get(known.exec_id)
        if exec is None:
            exec = Exec(known.exec_id, container, ExecConfig(), None)
            core.execs[exec.id] = exec
            container.execs[exec.id] = None
        exec.pid = known.pid
        if known.exit_code is not None:
            exec.code = known.exit_code
        exec.running = exec.code is None


def inspect(core: Core, exec_id: str) -> ExecInspectResponse:
    """Return what is known of an exec."""
    exec = find(core, exec_id)
    if (exec.started or exec.running) and exec.code is None:
        # A client asks when its stream has ended, which can be seen before the event, and even before the answer that
        # it runs: both come before the answer to this. Where the shim was killed its successor knows.
        with suppress(SampanError):
            learn(core, exec.container, ask(exec.container, Verb.TOP, messages.Hello(), messages.Status))
    if exec.running and not exec.container.running:  # its end went unseen with a killed shim's
        exec.running, exec.code = False, 137
    config = exec.config
    args = exec.process.args if exec.process else ()
    return ExecInspectResponse(
        id=exec.id,
        running=exec.running,
        exit_code=exec.code,
        process_config=ProcessConfig(
            tty=config.tty,
            entrypoint=args[0] if args else "",
            arguments=args[1:],
            privileged=config.privileged,
            user=config.user,
        ),
        open_stdin=config.attach_stdin,
        open_stdout=config.attach_stdout,
        open_stderr=config.attach_stderr,
        container_id=exec.container.id,
        pid=exec.pid,
    )


def resize(core: Core, exec_id: str, rows: int, columns: int) -> None:
    """Set the size of an exec's terminal."""
    exec = find(core, exec_id)
    ask(exec.container, Verb.RESIZE, messages.Resize(rows=rows, columns=columns, exec_id=exec.id), messages.Done)
