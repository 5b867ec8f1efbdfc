"""The launcher: a shim's child that makes the container and ends, so that the shim stays small.

Making a container touches a megabyte of the interpreter's pages (they are shared with all other forks until somebody
writes, and counting references is writing). The shim lives as long as its container; this process lives for some
milliseconds. While it does, the shim is a subreaper: the container's init becomes the shim's child when this one ends.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sampan.errors import CLASSES, Failed, SampanError, from_os_error
from sampan.kernel import fds, process as kernel
from sampan.runtime import container as runtime
from sampan.runtime.plan import decode
from sampan.supervise import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence


class Launcher:
    """The shim's end: forked at once, long before the container is asked for."""

    def __init__(self) -> None:
        kernel.set_child_subreaper()
        self._sock, theirs = socket.socketpair()
        self._decoder = m.Decoder()
        self._pid = os.fork()
        if self._pid == 0:
            _be(theirs)
        theirs.close()

    def make(
        self, plan: bytes, stdio: Sequence[int], console_size: tuple[int, int] | None
    ) -> tuple[m.Made, int, int | None]:
        """Make the container; return what it is, its pidfd and its terminal's master."""
        frame = self._ask(m.Make(plan=plan, console_size=console_size), stdio)
        made = frame.message
        assert isinstance(made, m.Made)
        pidfd, *console = frame.fds
        return made, pidfd, console[0] if console else None

    def go(self) -> None:
        """Execute the program."""
        self._ask(m.Go())

    def end(self) -> None:
        """Wait for its end, which is near: from then on the init is the shim's own child."""
        self._sock.close()
        self._decoder.close()
        os.waitpid(self._pid, 0)
        kernel.set_child_subreaper(False)

    def _ask(self, message: m.Message, descriptors: Sequence[int] = ()) -> m.Frame:
        try:
            m.send(self._sock, message, 1, descriptors)
            frame = m.receive(self._sock, self._decoder)
        except OSError as e:
            raise Failed(f"the launcher ended: {(e.strerror or str(e)).lower()}") from e
        if frame is None:
            raise Failed("the launcher ended before the container was made")
        if isinstance(frame.message, m.Refused):
            raise CLASSES.get(frame.message.error, Failed)(frame.message.message, frame.message.hint)
        return frame


def _be(sock: socket.socket) -> None:
    """Be the launcher: one container, then the end."""
    try:
        fds.close_range(3, sock.fileno() - 1)
        fds.close_range(sock.fileno() + 1)
        kernel.set_name("sampan-launcher")
        _launch(sock)
    finally:
        os._exit(0)


def _launch(sock: socket.socket) -> None:
    decoder = m.Decoder()
    frame = m.receive(sock, decoder)
    if frame is None or not isinstance(frame.message, m.Make):
        return
    make, stdio = frame.message, frame.fds
    try:
        streams = (stdio[0], stdio[1], stdio[2]) if stdio else None
        running = runtime.create(decode(make.plan), streams, console_size=make.console_size, gated=True)
    except (SampanError, OSError) as e:
        m.send(sock, refusal(e), frame.seq)
        return
    for fd in stdio:
        os.close(fd)
    made = m.Made(
        pid=running.pid,
        start_time=running.start_time,
        cgroups=tuple(running.cgroups),
        steps=tuple(m.Step(index=i, ns=ns) for i, ns in running.steps),
        warnings=tuple(running.warnings),
    )
    console = () if running.console is None else (running.console,)
    m.send(sock, made, frame.seq, (running.pidfd, *console))
    for fd in console:
        os.close(fd)
    go = m.receive(sock, decoder)
    if go is None:  # the shim was killed: at this end's close the init ends too
        return
    try:
        runtime.start(running)
        m.send(sock, m.Done(), go.seq)
    except (SampanError, OSError) as e:
        m.send(sock, refusal(e), go.seq)


def refusal(error: SampanError | OSError) -> m.Refused:
    """Return the error as it crosses to another process."""
    known = from_os_error(error) if isinstance(error, OSError) else error
    return m.Refused(error=type(known).__name__, message=known.message, hint=known.hint)
