"""Running health checks: an exec in the container from time to time, and what follows from how it ends.

Probes are the server's: while there is none, nothing is checked; the next one goes on with what was known.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.engine import execs, health_files, stopping
from sampan.engine.core import encode, now_ns
from sampan.engine.health_policy import after, check_of, is_out_of_retries, wait_ns
from sampan.engine.lifecycle import Verb
from sampan.engine.reaching import ask, must_run
from sampan.errors import Conflict, InvalidInput, SampanError
from sampan.kernel.process import is_ending
from sampan.spec.docker import ExecConfig
from sampan.spec.ending import Sender
from sampan.spec.state import Health, Probe, Status
from sampan.supervise import messages
from sampan.units import format_duration

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.execs import Exec
    from sampan.engine.health_policy import Check
    from sampan.engine.registry import Container

_HEADER = 8
_END_S = 5.0
_KILLED = -1
_OF_ITS_END = (126, 128 + signal.SIGKILL)


class Watch(NamedTuple):
    """One run of a container, checked in one way. The container's `watch` is the one that holds: `is`, not `==`."""

    check: Check
    started_at_ns: int
    lock: threading.Lock  # of what it has learnt


def begin(core: Core, container: Container, *, anew: bool = True) -> None:
    """Have a container that runs checked from now on; `anew`: it has just started, nothing is known of its health."""
    check = check_of(container.body)
    container.watch = watch = Watch(check, container.state.started_at_ns, threading.Lock()) if check else None
    if watch is None:
        return
    if anew or container.state.health is None:
        container.update(health=Health())
        if watch.check.log.directory:  # what it says of the run before is no longer so
            threading.Thread(target=_note, args=(container, watch), name="health", daemon=True).start()
    _later(core, container, watch)


def _later(core: Core, container: Container, watch: Watch, *, at_once: bool = False) -> None:
    health, age_ns = container.state.health or Health(), now_ns() - watch.started_at_ns
    delay_ns = 0 if at_once else wait_ns(watch.check, health, age_ns)

    def due() -> None:
        if _holds(container, watch):
            threading.Thread(target=_look, args=(core, container, watch), name="health", daemon=True).start()

    core.janitor.later(f"check the health of {container.name}", due, delay_ns / 1e9)


def _holds(container: Container, watch: Watch) -> bool:
    same = container.watch is watch and container.state.started_at_ns == watch.started_at_ns
    return same and not container.removed and container.running


def _look(core: Core, container: Container, watch: Watch) -> None:
    starts = watch.check.starts(container.state.health or Health())
    try:
        if container.state.status is Status.RUNNING:  # one that is paused is left alone
            probe = _probe(core, container, watch.check, startup=starts)
            if core.closing or not _tells(container, watch, probe):
                return
            _learn(core, container, watch, probe)
            _note(container, watch)
    except SampanError as e:
        print(f"sampan: can't check the health of {container.name}: {e.message}", file=sys.stderr, flush=True)
    if not core.closing and _holds(container, watch):
        passed = starts and not watch.check.starts(container.state.health or Health())
        _later(core, container, watch, at_once=passed)


def look_now(core: Core, container: Container) -> Health:
    """Run its check out of turn; return what follows from it. Raises Conflict where it does not run."""
    must_run(container, Verb.EXEC)
    watch = container.watch
    if watch is None:
        raise InvalidInput(f"container {container.id} has no defined healthcheck", "give it one: update --health-cmd")
    probe = _probe(core, container, watch.check, startup=watch.check.starts(container.state.health or Health()))
    if not _tells(container, watch, probe):
        raise Conflict(f"container {container.name} has ended, or was changed, while its check ran", "try again")
    health = _learn(core, container, watch, probe)
    _note(container, watch)
    return health


def _tells(container: Container, watch: Watch, probe: Probe) -> bool:
    """Whether a probe says how the container is: one that was killed with it, or found it gone, does not.

    A process that is executed in a PID namespace is killed when the first one of that exits, before that can be waited
    for: zap_pid_ns_processes, pid_namespaces(7).
    """
    state = container.state
    if not _holds(container, watch):
        return False
    return probe.exit_code not in _OF_ITS_END or not is_ending(state.pid, state.start_time)


def _note(container: Container, watch: Watch) -> None:
    """Write down what is known of its health where that is wanted."""
    directory = watch.check.log.directory
    with watch.lock:
        health = container.state.health
        if not directory or health is None or not _holds(container, watch):
            return
        try:
            health_files.write(directory, container.id, health)
        except SampanError as e:
            print(f"sampan: can't note the health of {container.name}: {e.message}", file=sys.stderr, flush=True)


def _learn(core: Core, container: Container, watch: Watch, probe: Probe) -> Health:
    check = watch.check
    with watch.lock:
        before = container.state.health or Health()
        health = after(check, before, probe, watch.started_at_ns)
        if _matters(before, health):
            _change(core, container, health)
        else:
            container.update(health=health)
    if check.log.events:
        core.tell(container, f"health_status: {health.status}", health_files.attributes(health))
    elif health.status != before.status:
        core.tell(container, f"health_status: {health.status}")
    if container.state.stopped_by_user or not _holds(container, watch):
        return health
    if health.status == "unhealthy":  # also one that was so before: a server may have been killed just then
        _act(core, container, check.on_failure, Sender(verb="health check"))
    elif is_out_of_retries(check, health):
        _act(core, container, "restart", Sender(verb="startup check"))
    return health


def _matters(before: Health, after: Health) -> bool:
    """Whether a next server must know it: all but the log, and how long it has been unhealthy."""
    if after.status == before.status == "unhealthy":
        return False
    return msgspec.structs.replace(before, log=()) != msgspec.structs.replace(after, log=())


def _change(core: Core, container: Container, health: Health) -> None:
    """Have it on the disk before anybody sees it: what was told must be so for a next server, too."""
    with container.saving:
        try:
            core.store.set_state(container.id, encode(msgspec.structs.replace(container.state, health=health)))
        finally:
            container.update(health=health)


def _act(core: Core, container: Container, action: str, by: Sender) -> None:
    match action:
        case "kill":
            stopping.send_signal(core, container, signal.SIGKILL, by)
        case "stop":
            stopping.stop(core, container, None, None, by)
        case "restart":
            _restart(core, container, by)
        case _:
            pass


def restart_soon(core: Core, container: Container) -> None:
    """Go on with a restart that a server before this one has begun."""
    unhealthy = container.state.health is not None and container.state.health.status == "unhealthy"
    by = Sender(verb="health check" if unhealthy else "startup check")

    def restart() -> None:
        try:
            _restart(core, container, by)
        except SampanError as e:
            print(f"sampan: can't restart {container.name}: {e.message}", file=sys.stderr, flush=True)

    threading.Thread(target=restart, name="health", daemon=True).start()


def _restart(core: Core, container: Container, by: Sender) -> None:
    """Nobody asks for it a second time: where this server is killed meanwhile, the next one starts it.

    Who stops the container meanwhile calls it off.
    """
    container.update(again=True)
    core.save(container)
    try:
        stopping.restart(core, container, None, None, by, own=True)
    finally:
        if container.state.again and not core.closing:
            container.update(again=False)
            core.save(container)


# -------------------------------------------------------------------------------------------------------- one probe


def _probe(core: Core, container: Container, check: Check, *, startup: bool) -> Probe:
    start_ns, most = now_ns(), check.log.output_bytes
    run = check.startup if startup and check.startup else check
    code, output = 126, b""
    ours, theirs = socket.socketpair()
    try:
        config = ExecConfig(cmd=run.command, attach_stdout=True, attach_stderr=True)
        exec = execs.find(core, execs.create(core, container, config))
        try:
            code, output = _run(core, exec, (ours, theirs), run.timeout, most)
        finally:
            execs.forget(core, exec)
    except SampanError as e:
        code, output = (e.exit_status if e.exit_status in (126, 127) else 126), e.message.encode()
    finally:
        ours.close()
        theirs.close()
    text = output[:most].decode(errors="replace")
    return Probe(start_ns=start_ns, end_ns=now_ns(), exit_code=code, output=text)


def _run(
    core: Core, exec: Exec, pair: tuple[socket.socket, socket.socket], timeout_ns: int, most: int
) -> tuple[int, bytes]:
    """Run the exec; return its exit code, or -1 where it was killed for taking too long, and what it said."""
    exec.started = True
    execs.ExecSession(core, exec, None).run(pair[1].fileno(), b"")
    pair[1].close()
    output, ended = _read(pair[0], time.monotonic() + timeout_ns / 1e9, most)
    if not ended:
        with suppress(SampanError):
            kill = messages.Signal(number=signal.SIGKILL, exec_id=exec.id)
            ask(exec.container, Verb.KILL, kill, messages.Done)
        return _KILLED, f"Health check exceeded timeout ({format_duration(timeout_ns)})".encode()
    end = time.monotonic() + _END_S
    while exec.code is None and time.monotonic() < end:  # its event comes right behind the end of its output
        execs.inspect(core, exec.id)
    return (exec.code if exec.code is not None else _KILLED), output


def _read(sock: socket.socket, deadline: float, most: int) -> tuple[bytes, bool]:
    """Read Docker's frames to their end, of which only the beginning is kept; False: the time was over before."""
    kept, buffer = bytearray(), bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            return bytes(kept), False
        data = os.read(sock.fileno(), 1 << 14)
        if not data:
            return bytes(kept), True
        buffer += data
        while len(buffer) >= _HEADER and len(buffer) >= (end := _HEADER + int.from_bytes(buffer[4:_HEADER], "big")):
            kept += buffer[_HEADER : min(end, _HEADER + most - len(kept))] if len(kept) < most else b""
            del buffer[:end]
