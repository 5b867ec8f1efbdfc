"""`--preserve-fds`: open files of this process, for the program that is started."""

from __future__ import annotations

import os
import sys

from sampan.cli.failure import Failure
from sampan.cli.session import ServerError
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Options
    from sampan.cli.session import Session
    from sampan.client.wire import Hijacked

_FIRST = 3
_LONGEST = 100


def take_sockets(options: Options) -> None:
    """Have those be given that systemd listens at for this very process, if no others; sd_listen_fds(3)."""
    count = os.environ.get("LISTEN_FDS", "")
    if "preserve-fds" not in options and count.isdecimal() and os.environ.get("LISTEN_PID") == str(os.getpid()):
        options.values["preserve-fds"] = int(count)


def check(count: int, *, explained: bool = False) -> None:
    """Raise Failure unless so many are open from 3 on. To be called before this process opens any."""
    if count and explained:
        raise Failure("sampan: conflicting options: --preserve-fds and --explain", "", 125)
    if count < 0:
        raise Failure("sampan: --preserve-fds cannot be negative", "", 125)
    for fd in range(_FIRST, _FIRST + count):
        if not _is_inherited(fd):
            raise Failure(
                f"sampan: file descriptor {fd} is not available - the preserve-fds option requires that file "
                "descriptors must be passed",
                f"open it in the shell: {fd}<FILE",
                125,
            )


def _is_inherited(fd: int) -> bool:
    """Whether it was there when this program began: what Python opens is closed at an execve(2)."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


class Loan:
    """Descriptors that the server has, until a start takes them or `end`. A start's path gets `parameters` for them."""

    def __init__(self, connection: Hijacked, parameters: str) -> None:
        self._connection = connection
        self.parameters = parameters

    def end(self) -> None:
        """Have those closed that no start has taken."""
        self._connection.socket.close()


def lend(session: Session, options: Options) -> Loan:
    """Give the server as many descriptors from 3 on as --preserve-fds says, or `take_sockets`."""
    import _socket

    count, listening = options["preserve-fds"], "preserve-fds" not in options
    names = os.environ.get("LISTEN_FDNAMES") if listening else None
    connection = session.hijack(f"/sampan/descriptors{query(count=count, listening=listening, names=names)}")
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in range(_FIRST, _FIRST + count))
    connection.socket.sendmsg([b"d"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    name = connection.read
    while not name.endswith(b"\n"):
        piece = connection.socket.recv(_LONGEST)
        if not piece:
            raise ServerError("can't pass the descriptors on: the server did not take them", "", 500, 125)
        name += piece
    return Loan(connection, query(descriptors=name.decode().strip()))
