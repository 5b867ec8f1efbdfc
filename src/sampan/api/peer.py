"""Who is at the other end of a connection: the kernel knows; unix(7), SO_PEERCRED."""

from __future__ import annotations

import socket
import struct

from sampan.spec.ending import Sender

_CREDENTIALS = struct.Struct("=iII")


def sender(client: socket.socket, verb: str) -> Sender:
    """Return the process that has connected, as the one that wants `verb`. It may be gone, which leaves no name."""
    pid, uid, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            program = file.read(64).rstrip(b"\n").decode("utf-8", "replace")
    except OSError:
        program = ""
    return Sender(verb=verb, pid=pid, uid=uid, program=program)
