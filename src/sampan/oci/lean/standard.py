"""What is used of five modules of the standard library that import much, over the C modules which do their work.

Each class here stands for a module.
"""

from __future__ import annotations

import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ITEM_BYTES = 4


class contextlib:
    """`suppress`."""

    class suppress:
        """End a block where one of these is raised, and go on behind it."""

        __slots__ = ("_errors",)

        def __init__(self, *errors: type[BaseException]) -> None:
            self._errors = errors

        def __enter__(self) -> None:
            """Nothing happens before the block."""

        def __exit__(self, cls: type[BaseException] | None, error: object, traceback: object) -> bool:
            """Swallow what is named."""
            return cls is not None and issubclass(cls, self._errors)


class shlex:
    """`quote` and `join`, which only an explanation calls."""

    @staticmethod
    def quote(text: str) -> str:
        """Quote a word for a shell."""
        return "'" + text.replace("'", "'\"'\"'") + "'"

    @staticmethod
    def join(words: Sequence[str]) -> str:
        """Quote words for a shell."""
        return " ".join(shlex.quote(word) for word in words)


class enum:
    """Classes whose members are plain numbers and strings."""

    class IntFlag:
        """Bits: `FLAGS.ONE | FLAGS.TWO` is a number."""

    class IntEnum:
        """Numbers."""

    class StrEnum:
        """Words; calling the class finds the member of a word."""

        def __new__(cls, word: str) -> Any:
            return next(value for value in vars(cls).values() if value == word)


class _Socket(_socket.socket):
    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class socket:
    """The C module, and what a block and passing descriptors take."""

    socket = _Socket

    @staticmethod
    def socketpair(family: int, type: int) -> tuple[_Socket, _Socket]:
        """Return two sockets that are connected."""
        one, other = _socket.socketpair(family, type)
        return _Socket(family, type, 0, one.detach()), _Socket(family, type, 0, other.detach())

    @staticmethod
    def send_fds(sock: _Socket, buffers: list[bytes], fds: Sequence[int]) -> int:
        """Send descriptors beside bytes; unix(7)."""
        items = b"".join(fd.to_bytes(_ITEM_BYTES, sys.byteorder) for fd in fds)
        return sock.sendmsg(buffers, [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, items)])


for _name in ("AF_UNIX", "SOCK_SEQPACKET", "SOCK_STREAM", "SOCK_CLOEXEC", "MSG_DONTWAIT", "CMSG_LEN", "SHUT_RDWR"):
    setattr(socket, _name, getattr(_socket, _name))
