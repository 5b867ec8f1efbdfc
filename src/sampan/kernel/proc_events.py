"""The process connector, by which the kernel tells others than its parent how a process ends; its cn_proc.c.

It speaks in the machine's first network namespace only, and to those of its first pid and user namespaces.
"""

from __future__ import annotations

import _socket
import ctypes
import struct

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_MCAST_LISTEN, _MCAST_IGNORE = 1, 2
_EVENT_EXIT = 0x80000000

_REQUEST = struct.Struct("=IHHII IIIIHH I")  # nlmsghdr, cn_msg, enum proc_cn_mcast_op
_KERNEL = 0
_WHAT, _TGID, _EXIT_CODE = 36, 56, 60  # in an event: behind nlmsghdr and cn_msg comes proc_event
_EVENT_BYTES = 128

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06


def listen_to_exits(pid: int) -> _socket.socket:
    """Return a socket that becomes readable each time that a thread of the process `pid` ends. Close it by `close`.

    Raises OSError where the kernel does not tell: it was built without, or this is another network namespace.
    """
    sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
    try:
        sock.setblocking(False)
        _filter(sock, pid)
        sock.bind((0, _CN_IDX_PROC))
        _ask(sock, _MCAST_LISTEN)
    except OSError:
        sock.close()
        raise
    return sock


def last_status(sock: _socket.socket) -> int | None:
    """Read what has come; return the last thread's status, as waitpid(2) has it, None where nothing new has.

    When all of them have ended it is the process's: a thread that ends with its process has that one's.
    """
    status = None
    while True:
        try:
            event, (sender, _) = sock.recvfrom(_EVENT_BYTES)
        except OSError:  # nothing more, or more than the buffer holds: what is in it comes next
            return status
        if sender == _KERNEL and len(event) >= _EXIT_CODE + 4:  # who has CAP_NET_ADMIN can send what looks so
            (status,) = struct.unpack_from("=I", event, _EXIT_CODE)


def close(sock: _socket.socket) -> None:
    """Close it, and let the kernel make no more events than others want: before 6.6 it counts who has asked."""
    try:
        _ask(sock, _MCAST_IGNORE)
    except OSError:
        pass
    sock.close()


def _ask(sock: _socket.socket, operation: int) -> None:
    header = (_REQUEST.size, 3, 0, 0, 0)  # NLMSG_DONE, as connectors have it
    sock.send(_REQUEST.pack(*header, _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0, operation))


def _filter(sock: _socket.socket, pid: int) -> None:
    """Have the kernel drop every event but ends of the process's threads; it loads words in network byte order."""
    program = (
        (_LOAD, 0, 0, _WHAT),
        (_JUMP_EQUAL, 0, 3, _socket.htonl(_EVENT_EXIT)),
        (_LOAD, 0, 0, _TGID),
        (_JUMP_EQUAL, 0, 1, _socket.htonl(pid)),
        (_RETURN, 0, 0, _EVENT_BYTES),
        (_RETURN, 0, 0, 0),
    )
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    sock.setsockopt(_socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
