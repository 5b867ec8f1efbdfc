"""Capabilities of this process, by name; capabilities(7)."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_uint32, c_ulong, c_void_p
from typing import TYPE_CHECKING, NamedTuple

from sampan.kernel.libc import Call

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPABILITIES: dict[str, int] = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_LINUX_IMMUTABLE": 9,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_BROADCAST": 11,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_IPC_OWNER": 15,
    "CAP_SYS_MODULE": 16,
    "CAP_SYS_RAWIO": 17,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_PACCT": 20,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_BOOT": 22,
    "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYS_TIME": 25,
    "CAP_SYS_TTY_CONFIG": 26,
    "CAP_MKNOD": 27,
    "CAP_LEASE": 28,
    "CAP_AUDIT_WRITE": 29,
    "CAP_AUDIT_CONTROL": 30,
    "CAP_SETFCAP": 31,
    "CAP_MAC_OVERRIDE": 32,
    "CAP_MAC_ADMIN": 33,
    "CAP_SYSLOG": 34,
    "CAP_WAKE_ALARM": 35,
    "CAP_BLOCK_SUSPEND": 36,
    "CAP_AUDIT_READ": 37,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
"""Number of each capability by its name; linux/capability.h."""


class CapabilitySets(NamedTuple):
    """The three sets that capset(2) sets."""

    effective: frozenset[str]
    permitted: frozenset[str]
    inheritable: frozenset[str]


class _Header(ctypes.Structure):
    _fields_ = [("version", c_uint32), ("pid", c_int)]


class _Words(ctypes.Structure):
    _fields_ = [("effective", c_uint32), ("permitted", c_uint32), ("inheritable", c_uint32)]


_VERSION_3 = 0x20080522
_Data = _Words * 2
_capset = Call("capset", c_void_p, c_void_p)
_capget = Call("capget", c_void_p, c_void_p)
_prctl = Call("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)

PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4


def mask(names: Iterable[str]) -> int:
    """Return the set as bits, bit n for capability n."""
    bits = 0
    for name in names:
        bits |= 1 << CAPABILITIES[name]
    return bits


def names(mask: int) -> frozenset[str]:
    """Return the set of bits as names; bits that have no name here are left out."""
    return frozenset(name for name, number in CAPABILITIES.items() if mask >> number & 1)


def capset(effective: Iterable[str], permitted: Iterable[str], inheritable: Iterable[str]) -> None:
    """Set this thread's effective, permitted and inheritable capabilities."""
    e, p, i = mask(effective), mask(permitted), mask(inheritable)
    low = _Words(e & 0xFFFFFFFF, p & 0xFFFFFFFF, i & 0xFFFFFFFF)
    data = _Data(low, _Words(e >> 32, p >> 32, i >> 32))
    header = _Header(_VERSION_3, 0)
    _capset(ctypes.byref(header), ctypes.byref(data))


def capget(pid: int = 0) -> CapabilitySets:
    """Return the capabilities of a process; 0 is this one."""
    header, data = _Header(_VERSION_3, pid), _Data()
    _capget(ctypes.byref(header), ctypes.byref(data), path=f"pid {pid}")
    low, high = data[0], data[1]
    return CapabilitySets(
        names(low.effective | high.effective << 32),
        names(low.permitted | high.permitted << 32),
        names(low.inheritable | high.inheritable << 32),
    )


def bounding_has(name: str) -> bool:
    """Say whether a capability is in the bounding set: whether an exec may ever give it again."""
    return _prctl(PR_CAPBSET_READ, CAPABILITIES[name], 0, 0, 0, path=name) == 1


def drop_bounding(name: str) -> None:
    """Take a capability out of the bounding set, for good."""
    _prctl(PR_CAPBSET_DROP, CAPABILITIES[name], 0, 0, 0, path=name)


def ambient_raise(name: str) -> None:
    """Add a capability, which must be permitted and inheritable, to those that survive an exec without set-id bits."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAPABILITIES[name], 0, 0, path=name)


def ambient_clear() -> None:
    """Empty the ambient set."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
