"""Terminals: handing a master to a console socket, and being a program's terminal in the foreground."""

from __future__ import annotations

import os
import socket
import termios
import tty
from typing import TYPE_CHECKING, Self

from sampan.kernel import tty as pty

if TYPE_CHECKING:
    from types import TracebackType


def send_master(path: str, master: int) -> None:
    """Send a terminal's master to the unix socket at `path`, as runc's console protocol has it: one message."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        socket.send_fds(sock, [b"/dev/ptmx"], [master])


class Raw:
    """This process's terminal, if its input is one, passing every key on while it lasts."""

    def __init__(self) -> None:
        self._before: list[object] | None = None

    def __enter__(self) -> Self:
        """Turn line editing and echo off."""
        if os.isatty(0):
            self._before = termios.tcgetattr(0)
            tty.setraw(0)
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Turn them on again."""
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]


def own_size() -> tuple[int, int] | None:
    """Return this process's terminal's size, if it has one."""
    return pty.get_size(0) if os.isatty(0) else None


def pass_size(master: int) -> None:
    """Give the program's terminal the size of this process's."""
    size = own_size()
    if size:
        pty.set_size(master, *size)
