"""Session keyrings: a container gets its own, or it could read the host user's keys; session-keyring(7)."""

from __future__ import annotations

import os
from ctypes import c_char_p, c_int, c_ulong

from sampan.kernel.libc import Syscall

KEYCTL_JOIN_SESSION_KEYRING = 1

_keyctl = Syscall("keyctl", c_int, c_char_p, c_ulong, c_ulong, c_ulong)


def join_session_keyring(name: str | None = None) -> int:
    """Make, or join, the session keyring of that name; None: a new one without a name. Return its serial number."""
    return _keyctl(KEYCTL_JOIN_SESSION_KEYRING, None if name is None else os.fsencode(name), 0, 0, 0, path=name)
