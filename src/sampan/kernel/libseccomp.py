"""Compiles seccomp profiles through libseccomp.so.2; imported at need by `seccomp.compile`.

`seccomp_profile` reads the profile, libseccomp makes the filter, `bpf_classic` makes it small. Before libseccomp's part
stand a few instructions of ours for the newest system calls, which many a libseccomp in use doesn't know:

* a call that the profile names and whose number is 451 or more (the same on every architecture) is judged there;
* one that is newer than all that the profile names gets ENOSYS, as on an older kernel, so that programs fall back.
  With the default EPERM they would fail: glibc's fchmodat and opencontainers/runc#2151.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from ctypes import POINTER, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

from sampan.errors import Failed, InvalidInput, Unsupported
from sampan.kernel import bpf_classic
from sampan.kernel.seccomp_profile import ACTIONS, ERRNO, NATIVE, Profile, Rule, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NEWER = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
"""System calls that libseccomp 2.5.4 doesn't know; arch/*/syscall*.tbl."""

_LAST_NEWER = 511  # 512 and on are x32's own, then arm's private ones

_ATTR_BAD_ARCHITECTURE = 2
_ATTR_NO_NEW_PRIVS = 3
_ATTR_OPTIMIZE = 8
_UNKNOWN = -1  # __NR_SCMP_ERROR
_X32_BIT = 0x40000000


LIBRARY = "libseccomp.so.2"


class _Argument(ctypes.Structure):
    _fields_ = [("arg", c_uint), ("op", c_int), ("datum_a", c_uint64), ("datum_b", c_uint64)]


def compile(
    profile: str | bytes | Mapping[str, Any],
    architecture: str,
    capabilities: frozenset[str],
    kernel: tuple[int, int] | None,
    *,
    installs_all: bool,
) -> bytes:
    """See `seccomp.compile`."""
    if architecture not in NATIVE:
        raise Unsupported(f"can't compile a seccomp profile for {architecture}: libseccomp is not asked for it here")
    library = _library()
    resolved = resolve(profile, architecture, capabilities, kernel or _running_kernel(), installs_all=installs_all)
    return bpf_classic.optimise(_plain(library, resolved), _byte_order(library.token(resolved.architectures[0])))


def _plain(library: _Library, resolved: Profile) -> bytes:
    """Compile without regard to size."""
    by_libseccomp = [r for r in resolved.rules if r.name not in NEWER or r.conditions]
    ours = [r for r in resolved.rules if r.name in NEWER and not r.conditions]
    return _head(library, resolved, ours) + _export(library, resolved, by_libseccomp)


def _running_kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


# ----------------------------------------------------------------------------------------------------------- libseccomp


class _Library:
    """libseccomp's functions, bound."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path, use_errno=True)
        self.init = _bind(library, "seccomp_init", c_void_p, c_uint32)
        self.release = _bind(library, "seccomp_release", None, c_void_p)
        self.attr_set = _bind(library, "seccomp_attr_set", c_int, c_void_p, c_int, c_uint32)
        self.arch_add = _bind(library, "seccomp_arch_add", c_int, c_void_p, c_uint32)
        self.arch_remove = _bind(library, "seccomp_arch_remove", c_int, c_void_p, c_uint32)
        self.arch_native = _bind(library, "seccomp_arch_native", c_uint32)
        self.arch_resolve = _bind(library, "seccomp_arch_resolve_name", c_uint32, c_char_p)
        self.resolve = _bind(library, "seccomp_syscall_resolve_name", c_int, c_char_p)
        self.resolve_arch = _bind(library, "seccomp_syscall_resolve_name_arch", c_int, c_uint32, c_char_p)
        self.rule_add = _bind(
            library, "seccomp_rule_add_array", c_int, c_void_p, c_uint32, c_int, c_uint, POINTER(_Argument)
        )
        self.export = _bind(library, "seccomp_export_bpf", c_int, c_void_p, c_int)

    def token(self, architecture: str) -> int:
        """Return an architecture's AUDIT_ARCH_… number (with a bit of libseccomp's own for x32)."""
        token: int = self.arch_resolve(architecture.encode())
        if token == 0:
            name = f"SCMP_ARCH_{architecture.upper()}"
            raise InvalidInput(f"can't read the seccomp profile: architectures: {name} is unknown")
        return token


def syscall_name(number: int, architecture: int) -> str:
    """Return the name of a system call of AUDIT_ARCH_…; "" where it is not known, or libseccomp is not installed."""
    try:
        resolve = _bind(ctypes.CDLL(LIBRARY), "seccomp_syscall_resolve_num_arch", c_void_p, c_uint32, c_int)
    except (OSError, AttributeError):
        return ""
    found = resolve(architecture, number)
    if not found:
        return ""
    try:
        return (ctypes.string_at(found)).decode()
    finally:
        _bind(ctypes.CDLL(None), "free", None, c_void_p)(found)


def _bind(library: ctypes.CDLL, name: str, restype: Any, *argtypes: Any) -> Any:
    function = library[name]
    function.restype, function.argtypes = restype, argtypes
    return function


def _library() -> _Library:
    try:
        return _Library(LIBRARY)
    except (OSError, AttributeError):
        raise Unsupported(
            "can't compile a seccomp profile: libseccomp.so.2 is not installed",
            "install it: apt install libseccomp2 (Debian, Ubuntu) or dnf install libseccomp (Fedora)",
        ) from None


def _check(result: int, what: str) -> None:
    if result < 0:
        raise Failed(f"can't compile the seccomp profile: {what}: {os.strerror(-result).lower()}")


def _export(library: _Library, profile: Profile, rules: Sequence[Rule]) -> bytes:
    context = library.init(profile.default)
    if not context:
        raise Failed("can't compile the seccomp profile: seccomp_init failed")
    try:
        _check(library.attr_set(context, _ATTR_NO_NEW_PRIVS, 0), "seccomp_attr_set")
        _check(library.attr_set(context, _ATTR_BAD_ARCHITECTURE, ACTIONS["SCMP_ACT_KILL_PROCESS"]), "seccomp_attr_set")
        # A tree instead of a list, which is quicker to make small; libseccomp before 2.5 refuses it, and that's fine.
        library.attr_set(context, _ATTR_OPTIMIZE, 2)
        _set_architectures(library, context, profile)
        for rule in rules:
            _add(library, context, rule, profile)
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            _check(library.export(context, fd), "seccomp_export_bpf")
            return _with_actions_in_order(os.pread(fd, os.fstat(fd).st_size, 0), library, profile)
        finally:
            os.close(fd)
    finally:
        library.release(context)


def _set_architectures(library: _Library, context: int, profile: Profile) -> None:
    tokens = [library.token(a) for a in profile.architectures]
    native = library.arch_native()
    # Those of another endianness can be added only when ours is gone, and the last one can't be removed.
    if native not in tokens:
        _check(library.arch_remove(context, native), "seccomp_arch_remove")
    for token in tokens:
        if token != native:
            _check(library.arch_add(context, token), "seccomp_arch_add")


def _with_actions_in_order(bpf: bytes, library: _Library, profile: Profile) -> bytes:
    """Turn return values round where libseccomp 2.5 left them in this machine's byte order, not the filter's."""
    order = _byte_order(library.token(profile.architectures[0]))
    if order == ("<" if sys.byteorder == "little" else ">"):
        return bpf
    actions = {ACTIONS["SCMP_ACT_KILL_PROCESS"], profile.default, *(r.action for r in profile.rules)}
    turned = b""
    for code, jt, jf, k in struct.iter_unpack(f"{order}HBBI", bpf):
        other = int.from_bytes(k.to_bytes(4, "little"), "big")
        wrong = code == _RETURN and k not in actions and other in actions
        turned += struct.pack(f"{order}HBBI", code, jt, jf, other if wrong else k)
    return turned


def _byte_order(token: int) -> str:
    return "<" if token & _LITTLE_ENDIAN else ">"


def _add(library: _Library, context: int, rule: Rule, profile: Profile) -> None:
    if rule.action == profile.default:  # libseccomp refuses what changes nothing
        return
    number = library.resolve(rule.name.encode())
    if number == _UNKNOWN:
        if rule.name in NEWER:
            raise Unsupported(
                f"can't compile the seccomp profile: libseccomp is too old for conditions on {rule.name}", "update it"
            )
        return  # a call of another architecture, or newer than this libseccomp: the default holds, as with runc
    arguments = (_Argument * len(rule.conditions))(*[_Argument(*c) for c in rule.conditions])
    _check(library.rule_add(context, rule.action, number, len(arguments), arguments), f"the rule for {rule.name}")


# --------------------------------------------------------------------------------------------------- what stands before

# Classic BPF by hand. Offsets in struct seccomp_data: 0 the number, 4 the architecture; seccomp(2).

_LOAD = 0x20
_AND = 0x54
_JUMP_EQUAL = 0x15
_JUMP_GREATER = 0x25
_JUMP_GREATER_EQUAL = 0x35
_RETURN = 0x06
_LITTLE_ENDIAN = 0x40000000  # of an AUDIT_ARCH_… number


def _head(library: _Library, profile: Profile, rules: Sequence[Rule]) -> bytes:
    """Judge the newest calls for each architecture of the filter; any other goes on to libseccomp's part."""
    head = b""
    for architecture in profile.architectures:
        if architecture != "x32":  # has x86_64's number, and its calls are told by a bit of theirs
            head += _head_for(library, architecture, profile, rules)
    return head


def _head_for(library: _Library, architecture: str, profile: Profile, rules: Sequence[Rule]) -> bytes:
    token = library.token(architecture)
    order = _byte_order(token)

    def instruction(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
        return struct.pack(f"{order}HBBI", code, jt, jf, k)

    judged = b""
    for name, action in {r.name: r.action for r in reversed(rules)}.items():
        judged += instruction(_JUMP_EQUAL, NEWER[name], 0, 1) + instruction(_RETURN, action)
    numbers = [NEWER.get(name) or library.resolve_arch(token, name.encode()) for name in profile.named]
    newest = max([0, *(n for n in numbers if n <= _LAST_NEWER)])
    if profile.default < ACTIONS["SCMP_ACT_TRACE"] and profile.default != ERRNO | errno.ENOSYS:
        judged += instruction(_JUMP_GREATER, newest, 0, 1) + instruction(_RETURN, ERRNO | errno.ENOSYS)
    if not judged:
        return b""
    number = instruction(_LOAD, 0)
    if architecture == "x86_64" and "x32" in profile.architectures:
        number += instruction(_AND, 0xFFFFFFFF & ~_X32_BIT)
    # Numbers over the common table (x32's own, arm's private) skip what is judged.
    body = number + instruction(_JUMP_GREATER, _LAST_NEWER, len(judged) // 8, 0) + judged
    return instruction(_LOAD, 4) + instruction(_JUMP_EQUAL, token, 0, len(body) // 8) + body
