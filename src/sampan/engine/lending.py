"""`--preserve-fds`: open files that a client gives for the program which it starts next.

They come beside a message on a connection of their own, and are the client's as long as it keeps that open: a start
that names them takes them, and what none has taken is closed when the client hangs up.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from sampan import ids
from sampan.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sampan.engine.core import Core
    from sampan.spec.runtime import Spec

MOST = 60
"""Fewer than one message may carry."""

_MOST_LENT = 1200
"""Of all clients together: whoever asks this server for something needs a descriptor too."""

_PATIENCE_S = 10
_LONGEST_S = 600
"""A client that lends the other end of its own connection never hangs up."""


class Lent(NamedTuple):
    """Descriptors for a program, from 3 on. `names`: sockets that systemd listens at, as LISTEN_FDNAMES has them."""

    descriptors: tuple[int, ...] = ()
    names: str | None = None

    def told(self, spec: Spec, *, has_init: bool) -> Spec:
        """Return the configuration with which its program knows its sockets; sd_listen_fds(3)."""
        if self.names is None or spec.process is None:
            return spec
        pid = 2 if has_init else 1  # in its own namespace
        words = [f"LISTEN_FDS={len(self.descriptors)}", f"LISTEN_PID={pid}"]
        words += [f"LISTEN_FDNAMES={self.names}"] if self.names else []
        return replace(spec, process=replace(spec.process, env=(*spec.process.env, *words)))


NOTHING = Lent()


class Lender:
    """What a client's connection is handed to, for `count` descriptors: it is told by what name a start takes them."""

    tty = True  # nothing on it is in frames

    def __init__(self, core: Core, count: int, names: str | None) -> None:
        if not 0 < count <= MOST:
            raise InvalidInput(f"invalid number of descriptors: {count}", f"from 1 to {MOST}")
        if names and not names.isprintable():
            raise InvalidInput(f"invalid names of descriptors: {names[:80]!r}")
        self._core = core
        self._count = count
        self._names = names
        if not self._has_room():
            raise Conflict("too many open files are lent already", "try again when what they are for has started")

    def answering(self) -> AbstractContextManager[None]:
        """Nothing goes on before the handover."""
        return nullcontext()

    def abandon(self) -> None:
        """Nothing has come."""

    def hand_over(self, fd: int, already_read: bytes = b"") -> None:  # noqa: ARG002
        """Take them, and keep them until the client has gone, but not for ever."""
        with socket.socket(fileno=os.dup(fd)) as client:
            client.settimeout(_PATIENCE_S)
            lent = self._receive(client)
            name = ids.new_id()
            complete = len(lent.descriptors) == self._count and self._has_room()
            self._core.lent[name] = lent
            try:
                if complete:
                    client.sendall(name.encode() + b"\n")
                    client.settimeout(_LONGEST_S)
                    client.recv(1)
            except OSError:
                pass  # it has gone, or nobody has taken them
            finally:
                _close(self._core.lent.pop(name, NOTHING))

    def _has_room(self) -> bool:
        others = sum(len(lent.descriptors) for lent in tuple(self._core.lent.values()))
        return others + self._count <= _MOST_LENT

    def _receive(self, client: socket.socket) -> Lent:
        room = socket.CMSG_SPACE(self._count * 4)
        try:
            _, ancillary, _, _ = client.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return NOTHING
        return Lent(tuple(fd for _, _, rights in ancillary for fd in memoryview(rights).cast("i")), self._names)


@contextmanager
def taken(core: Core, name: str) -> Iterator[Lent]:
    """Yield the descriptors of this name, none for ""; closed in the end. Raises Conflict for those that have gone."""
    lent = core.lent.pop(name, NOTHING) if name else NOTHING
    if name and not lent.descriptors:
        raise Conflict("the open files that it was to get are gone", "lend them again: --preserve-fds")
    try:
        yield lent
    finally:
        _close(lent)


def _close(lent: Lent) -> None:
    for fd in lent.descriptors:
        os.close(fd)
