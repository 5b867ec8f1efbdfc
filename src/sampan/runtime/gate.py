"""The gate at which a created container waits for its start: a listening socket that its first process has inherited.

Nothing of it is a file of the container's, and whoever starts the container hears why its program could not be
executed. Imports next to nothing: starting a container is all that a process of `sampan-runtime start` does.
"""

from __future__ import annotations

import _socket

from sampan.errors import CLASSES, SampanError

GO = b"g"
_MESSAGE_BYTES = 65536


def listen(address: str) -> _socket.socket:
    """Return a gate; `address` is a path that is not there yet."""
    gate = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    gate.bind(address)
    gate.listen(1)
    return gate


def wait(gate_fd: int) -> int:
    """Wait for who says GO, and return the connection. Who connects and ends has said nothing."""
    gate = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, gate_fd)
    while True:
        fd, _ = gate._accept()  # type: ignore[attr-defined]  # what `socket.socket.accept` wraps
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)
        if connection.recv(1) == GO:
            gate.close()
            return connection.detach()
        connection.close()


def open(address: str) -> None:
    """Let the process behind the gate execute its program; raise what it says went wrong. The exec ends the talk."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(address)
        connection.send(GO)
        said = connection.recv(_MESSAGE_BYTES)
    finally:
        connection.close()
    if said:
        raise error_of(said)


def message_of(error: SampanError) -> bytes:
    """Write an error as it crosses the socket."""
    texts = (type(error).__name__, error.message, error.hint)
    return b"E" + "\0".join(texts).encode("utf-8", "surrogateescape")[:_MESSAGE_BYTES]


def error_of(message: bytes) -> SampanError:
    """Read what `message_of` wrote."""
    name, text, hint = message[1:].decode("utf-8", "surrogateescape").split("\0", 2)
    return CLASSES[name](text, hint)
