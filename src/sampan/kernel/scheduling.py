"""A process's scheduling policy, and the policy by which it gets its memory."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_int32, c_uint, c_uint32, c_uint64, c_ulong, c_void_p, sizeof
from typing import TYPE_CHECKING

from sampan.kernel.libc import Syscall

if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/sched.h
SCHED = {"OTHER": 0, "FIFO": 1, "RR": 2, "BATCH": 3, "ISO": 4, "IDLE": 5, "DEADLINE": 6}
SCHED_FLAG = {
    "RESET_ON_FORK": 0x01,
    "RECLAIM": 0x02,
    "DL_OVERRUN": 0x04,
    "KEEP_POLICY": 0x08,
    "KEEP_PARAMS": 0x10,
    "UTIL_CLAMP_MIN": 0x20,
    "UTIL_CLAMP_MAX": 0x40,
}
# linux/mempolicy.h
MPOL = {
    "DEFAULT": 0,
    "PREFERRED": 1,
    "BIND": 2,
    "INTERLEAVE": 3,
    "LOCAL": 4,
    "PREFERRED_MANY": 5,
    "WEIGHTED_INTERLEAVE": 6,
}
MPOL_F = {"NUMA_BALANCING": 1 << 13, "RELATIVE_NODES": 1 << 14, "STATIC_NODES": 1 << 15}
PERSONALITY = {"LINUX": 0, "LINUX32": 8}  # linux/personality.h
IOPRIO_CLASS = {"RT": 1, "BE": 2, "IDLE": 3}  # linux/ioprio.h

_WORD_BITS = 8 * sizeof(c_ulong)


class _SchedAttr(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32),
        ("sched_policy", c_uint32),
        ("sched_flags", c_uint64),
        ("sched_nice", c_int32),
        ("sched_priority", c_uint32),
        ("sched_runtime", c_uint64),
        ("sched_deadline", c_uint64),
        ("sched_period", c_uint64),
    ]


_sched_setattr = Syscall("sched_setattr", c_int, c_void_p, c_uint)
_set_mempolicy = Syscall("set_mempolicy", c_int, c_void_p, c_ulong)
_get_mempolicy = Syscall("get_mempolicy", c_void_p, c_void_p, c_ulong, c_ulong, c_ulong)


def sched_setattr(
    policy: int, flags: int, *, nice: int, priority: int, runtime_ns: int, deadline_ns: int, period_ns: int
) -> None:
    """Set this thread's scheduling policy and its parameters."""
    attr = _SchedAttr(sizeof(_SchedAttr), policy, flags, nice, priority, runtime_ns, deadline_ns, period_ns)
    _sched_setattr(0, byref(attr), 0)


def set_mempolicy(mode: int, nodes: Iterable[int]) -> None:
    """Set this thread's memory policy; `mode` with its flags."""
    bits = 0
    for node in nodes:
        bits |= 1 << node
    words = bits.bit_length() // _WORD_BITS + 1
    mask = (c_ulong * words)(*[bits >> n * _WORD_BITS & (1 << _WORD_BITS) - 1 for n in range(words)])
    # The kernel counts one bit less than it is told; set_mempolicy(2), NOTES of libnuma.
    _set_mempolicy(mode, byref(mask) if bits else None, words * _WORD_BITS + 1 if bits else 0)


def get_mempolicy() -> int:
    """Return this thread's memory policy, with its flags."""
    mode = c_int()
    _get_mempolicy(byref(mode), None, 0, 0, 0)
    return mode.value
