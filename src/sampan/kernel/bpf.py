"""The device controller of cgroup v2: a small BPF program, attached to a group, that answers yes or no.

The kernel calls it for each open and mknod of a device with (access << 16 | type, major, minor); linux/bpf.h,
`bpf_cgroup_dev_ctx`. Every bit of access is judged by the last rule that names the device and that bit.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from ctypes import byref, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p, sizeof
from typing import TYPE_CHECKING, NamedTuple

from sampan.kernel.libc import Syscall

if TYPE_CHECKING:
    from collections.abc import Sequence

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


class DeviceRule(NamedTuple):
    """One rule. `type` is "a" (both), "b" or "c"; a number of None means any; `access` of the letters r, w, m."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


# Opcodes: class, size, mode; linux/bpf_common.h and Documentation/bpf/standardization/instruction-set.rst
_LOAD_WORD = 0x61  # dst = *(u32 *)(src + off)
_MOVE = 0xB7  # dst = imm
_MOVE_REGISTER = 0xBF  # dst = src
_AND = 0x57  # dst &= imm
_SHIFT_RIGHT = 0x77  # dst >>= imm
_JUMP_NOT_EQUAL = 0x55  # if dst != imm skip off
_JUMP_IF_ANY = 0x45  # if dst & imm skip off
_JUMP = 0x05
_EXIT = 0x95

_RESULT, _CONTEXT, _TYPE, _BITS, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def _instruction(opcode: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    registers = src << 4 | dst if sys.byteorder == "little" else dst << 4 | src
    return struct.pack("=BBhi", opcode, registers, off, imm)


_ALLOW = _instruction(_MOVE, _RESULT, imm=1) + _instruction(_EXIT)
_DENY = _instruction(_MOVE, _RESULT, imm=0) + _instruction(_EXIT)
_HEAD = b"".join((
    _instruction(_LOAD_WORD, _TYPE, _CONTEXT, 0),
    _instruction(_MOVE_REGISTER, _BITS, _TYPE),
    _instruction(_AND, _TYPE, imm=0xFFFF),
    _instruction(_SHIFT_RIGHT, _BITS, imm=16),
    _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
    _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
))  # fmt: skip


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """Compile rules, first to last as a user gives them, into a program; what none names is denied."""
    return _HEAD + b"".join(_rule(r) for r in reversed(rules)) + _DENY


def _rule(rule: DeviceRule) -> bytes:
    """Judge the bits that are still open: a denial of one ends it, as does the allowing of the last."""
    bits = sum(_ACCESS[letter] for letter in set(rule.access))
    if rule.allow:
        verdict = _instruction(_AND, _BITS, imm=7 & ~bits) + _instruction(_JUMP_NOT_EQUAL, _BITS, off=2) + _ALLOW
    else:
        # Bits that the rule names lead to the denial, others over it.
        verdict = _instruction(_JUMP_IF_ANY, _BITS, off=1, imm=bits) + _instruction(_JUMP, off=2) + _DENY
    code = verdict
    for register, wanted in ((_MINOR, rule.minor), (_MAJOR, rule.major), (_TYPE, _TYPES.get(rule.type))):
        if wanted is not None:
            code = _instruction(_JUMP_NOT_EQUAL, register, off=len(code) // 8, imm=wanted) + code
    return code


class _LoadAttr(ctypes.Structure):
    _fields_ = [
        ("prog_type", c_uint32),
        ("insn_cnt", c_uint32),
        ("insns", c_uint64),
        ("license", c_uint64),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_uint64),
        ("kern_version", c_uint32),
        ("prog_flags", c_uint32),
    ]


class _AttachAttr(ctypes.Structure):
    _fields_ = [
        ("target_fd", c_uint32),
        ("attach_bpf_fd", c_uint32),
        ("attach_type", c_uint32),
        ("attach_flags", c_uint32),
    ]


_bpf = Syscall("bpf", c_int, c_void_p, c_uint)
_LICENSE = c_char_p(b"Apache-2.0")


def load(program: bytes) -> int:
    """Load a device program; the descriptor holds it until it is attached."""
    code = ctypes.create_string_buffer(program, len(program))
    attr = _LoadAttr(BPF_PROG_TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(code))
    attr.license = ctypes.cast(_LICENSE, c_void_p).value or 0
    return _bpf(BPF_PROG_LOAD, byref(attr), sizeof(attr), path="BPF_PROG_LOAD")


def attach(cgroup_fd: int, program_fd: int) -> None:
    """Attach a program to a group; all programs of the group and of those above it must say yes."""
    attr = _AttachAttr(cgroup_fd, program_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)
    _bpf(BPF_PROG_ATTACH, byref(attr), sizeof(attr), path="BPF_PROG_ATTACH")


def detach(cgroup_fd: int, program_fd: int) -> None:
    """Take a program off a group."""
    attr = _AttachAttr(cgroup_fd, program_fd, BPF_CGROUP_DEVICE, 0)
    _bpf(BPF_PROG_DETACH, byref(attr), sizeof(attr), path="BPF_PROG_DETACH")
