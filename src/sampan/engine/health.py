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
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import execs, stopping
from sampan.engine.core import encode, now_ns
from sampan.engine.health_policy import after, check_of, wait_ns
from sampan.engine.lifecycle import Verb
from sampan.engine.reaching import ask
from sampan.errors import SampanError
from sampan.spec.docker import ExecConfig
from sampan.spec.ending import Sender
from sampan.spec.state import Health, Probe, Status
from sampan.supervise import messages

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.execs import Exec
    from sampan.engine.health_policy import Check
    from sampan.engine.registry import Container

_OUTPUT_MAX = 4096
_HEADER = 8
_END_S = 5.0
_KILLED = -1


def begin(core: Core, container: Container, *, anew: bool = True) -> None:
    """Have a container that runs checked from now on; `anew`: it has just started, nothing is known of its health."""
    check = check_of(container.body)
    if check is None:
        return
    if anew or container.state.health is None:
        container.update(health=Health())
    _later(core, container, check)


def _later(core: Core, container: Container, check: Check) -> None:
    health, started = container.state.health or Health(), container.state.started_at_ns
    delay_ns = wait_ns(check, health, now_ns() - started)

    def due() -> None:
        if _is_same(container, started):
            thread = threading.Thread(target=_look, args=(core, container, check, started), name="health", daemon=True)
            thread.start()

    core.janitor.later(f"check the health of {container.name}", due, delay_ns / 1e9)


def _is_same(container: Container, started_at_ns: int) -> bool:
    return not container.removed and container.running and container.state.started_at_ns == started_at_ns


def _look(core: Core, container: Container, check: Check, started_at_ns: int) -> None:
    try:
        if container.state.status is Status.RUNNING:  # one that is paused is left alone
            probe = _probe(core, container, check)
            if core.closing or not _is_same(container, started_at_ns):
                return
            _learn(core, container, check, probe)
    except SampanError as e:
        print(f"sampan: can't check the health of {container.name}: {e.message}", file=sys.stderr, flush=True)
    if not core.closing and _is_same(container, started_at_ns):
        _later(core, container, check)


def _learn(core: Core, container: Container, check: Check, probe: Probe) -> None:
    before = container.state.health or Health()
    health = after(check, before, probe, container.state.started_at_ns)
    if health.status == before.status:
        container.update(health=health)
        return
    _change(core, container, health)
    core.tell(container, f"health_status: {health.status}")
    if health.status == "unhealthy":
        _act(core, container, check.on_failure)


def _change(core: Core, container: Container, health: Health) -> None:
    """Have it on the disk before anybody sees it: what was told must be so for a next server, too."""
    with container.saving:
        try:
            core.store.set_state(container.id, encode(msgspec.structs.replace(container.state, health=health)))
        finally:
            container.update(health=health)


def _act(core: Core, container: Container, action: str) -> None:
    by = Sender(verb="health check")
    match action:
        case "kill":
            stopping.send_signal(core, container, signal.SIGKILL, by)
        case "stop":
            stopping.stop(core, container, None, None, by)
        case "restart":
            stopping.restart(core, container, None, None, by)
        case _:
            pass


# -------------------------------------------------------------------------------------------------------- one probe


def _probe(core: Core, container: Container, check: Check) -> Probe:
    start_ns = now_ns()
    code, output = 126, b""
    ours, theirs = socket.socketpair()
    try:
        config = ExecConfig(cmd=check.command, attach_stdout=True, attach_stderr=True)
        exec = execs.find(core, execs.create(core, container, config))
        try:
            code, output = _run(core, exec, (ours, theirs), check.timeout / 1e9)
        finally:
            execs.forget(core, exec)
    except SampanError as e:
        code, output = (e.exit_status if e.exit_status in (126, 127) else 126), e.message.encode()
    finally:
        ours.close()
        theirs.close()
    text = output[:_OUTPUT_MAX].decode(errors="replace")
    return Probe(start_ns=start_ns, end_ns=now_ns(), exit_code=code, output=text)


def _run(core: Core, exec: Exec, pair: tuple[socket.socket, socket.socket], timeout_s: float) -> tuple[int, bytes]:
    """Run the exec; return its exit code, or -1 where it was killed for taking too long, and what it said."""
    exec.started = True
    execs.ExecSession(core, exec, None).run(pair[1].fileno(), b"")
    pair[1].close()
    output, ended = _read(pair[0], time.monotonic() + timeout_s)
    if not ended:
        with suppress(SampanError):
            kill = messages.Signal(number=signal.SIGKILL, exec_id=exec.id)
            ask(exec.container, Verb.KILL, kill, messages.Done)
        return _KILLED, b"Health check exceeded timeout (%gs)" % timeout_s
    end = time.monotonic() + _END_S
    while exec.code is None and time.monotonic() < end:  # its event comes right behind the end of its output
        execs.inspect(core, exec.id)
    return (exec.code if exec.code is not None else _KILLED), output


def _read(sock: socket.socket, deadline: float) -> tuple[bytes, bool]:
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
            kept += buffer[_HEADER : min(end, _HEADER + _OUTPUT_MAX - len(kept))] if len(kept) < _OUTPUT_MAX else b""
            del buffer[:end]
