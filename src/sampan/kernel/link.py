"""Network links: the loopback of a new network namespace; netdevice(7)."""

from __future__ import annotations

import _socket
import struct
from ctypes import c_char_p, c_int, c_ulong, create_string_buffer

from sampan.kernel.libc import Call

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

_ioctl = Call("ioctl", c_int, c_ulong, c_char_p)


def loopback_up() -> None:
    """Bring `lo` of this network namespace up; 127.0.0.1 and ::1 come with it."""
    request = create_string_buffer(struct.pack("16sH22x", b"lo", 0), 40)
    # _socket, because socket costs several milliseconds and is not needed for this.
    s = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        _ioctl(s.fileno(), SIOCGIFFLAGS, request, path="lo")
        (flags,) = struct.unpack_from("H", request, 16)
        struct.pack_into("H", request, 16, flags | IFF_UP)
        _ioctl(s.fileno(), SIOCSIFFLAGS, request, path="lo")
    finally:
        s.close()
