"""Compiles seccomp profiles through libseccomp.so.2; imported at need by `seccomp.compile`.

A profile is JSON in Docker's form (`archMap`, `includes` and `excludes` by capability, architecture and kernel) or in
OCI's (`architectures`). libseccomp makes the filter; before it stand a few instructions of ours for the newest system
calls, which many a libseccomp in use doesn't know:

* a call that the profile names and whose number is 451 or more (the same on every architecture) is judged there;
* one that is newer than all that the profile names gets ENOSYS, as on an older kernel, so that programs fall back.
  With the default EPERM they would fail: glibc's fchmodat and opencontainers/runc#2151.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys
from ctypes import POINTER, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.errors import Failed, InvalidInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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

_NATIVE = {  # ours → libseccomp's, and the JSON's SCMP_ARCH_…
    "x86_64": "x86_64",
    "aarch64": "aarch64",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "arm": "arm",
    "i686": "x86",
}
_GO_NAMES = {  # the words of `includes.arches`: Go's
    "x86_64": ("amd64", "x86_64"),
    "aarch64": ("arm64", "aarch64"),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x",),
    "arm": ("arm",),
    "i686": ("386", "x86"),
}
_ALSO_FOR = {"amd64": ("x86", "x32"), "arm64": ("arm",), "s390x": ("s390",)}

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": _ALLOW,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ATTR_BAD_ARCHITECTURE = 2
_ATTR_NO_NEW_PRIVS = 3
_ATTR_OPTIMIZE = 8
_UNKNOWN = -1  # __NR_SCMP_ERROR
_X32_BIT = 0x40000000


class _Argument(ctypes.Structure):
    _fields_ = [("arg", c_uint), ("op", c_int), ("datum_a", c_uint64), ("datum_b", c_uint64)]


class Condition(NamedTuple):
    """One `args` entry."""

    argument: int
    operator: int
    value: int
    value_two: int


class Rule(NamedTuple):
    """One system call of a rule that applies."""

    name: str
    action: int
    conditions: tuple[Condition, ...]


class Profile(NamedTuple):
    """A profile with all choices made: for one architecture, capability set and kernel."""

    default: int
    architectures: tuple[str, ...]  # libseccomp's words, the native one first
    rules: tuple[Rule, ...]  # those that apply
    named: tuple[str, ...]  # every call that the profile names, whether it applies or not


def compile(
    profile: str | bytes | Mapping[str, Any],
    architecture: str,
    capabilities: frozenset[str],
    kernel: tuple[int, int] | None,
) -> bytes:
    """See `seccomp.compile`."""
    if architecture not in _NATIVE:
        raise Unsupported(f"can't compile a seccomp profile for {architecture}: libseccomp is not asked for it here")
    library = _library()
    resolved = resolve(profile, architecture, capabilities, kernel or _running_kernel())
    by_libseccomp = [r for r in resolved.rules if r.name not in NEWER or r.conditions]
    ours = [r for r in resolved.rules if r.name in NEWER and not r.conditions]
    return _head(library, resolved, ours) + _export(library, resolved, by_libseccomp)


def _running_kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


# ----------------------------------------------------------------------------------------------- reading the JSON: pure


def resolve(
    profile: str | bytes | Mapping[str, Any], architecture: str, capabilities: frozenset[str], kernel: tuple[int, int]
) -> Profile:
    """Read a profile and make its choices; `InvalidInput` names the place that is wrong."""
    if isinstance(profile, str | bytes):
        try:
            profile = json.loads(profile)
        except ValueError as e:
            raise InvalidInput(f"can't read the seccomp profile: {e}") from None
    top = _object(profile, "the profile")
    default = _action(top, "defaultAction", "defaultErrnoRet", "")
    for flag in _list(top, "flags", ""):
        if flag != "SECCOMP_FILTER_FLAG_TSYNC":  # a container's init has one thread: nothing to synchronise
            raise Unsupported(
                f"can't use the seccomp profile: flag {flag} is not supported", "remove it from the profile"
            )
    facts = _Facts(_GO_NAMES[architecture], capabilities, kernel)
    rules: list[Rule] = []
    named: list[str] = []
    for i, entry in enumerate(_list(top, "syscalls", "")):
        place = f"syscalls[{i}]"
        names = _names(_object(entry, place), place)
        named += names
        rules += _rules(entry, names, place, facts)
    return Profile(default, _architectures(top, _NATIVE[architecture]), tuple(rules), tuple(named))


class _Facts(NamedTuple):
    architectures: tuple[str, ...]
    capabilities: frozenset[str]
    kernel: tuple[int, int]


def _wrong(place: str, what: str) -> InvalidInput:
    return InvalidInput(f"can't read the seccomp profile: {place}: {what}")


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, "must be an object")
    return value


def _list(parent: Mapping[str, Any], key: str, place: str) -> Sequence[Any]:
    value = parent.get(key)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise _wrong(f"{place}.{key}".lstrip("."), "must be an array")
    return value


def _strings(parent: Mapping[str, Any], key: str, place: str) -> list[str]:
    values = _list(parent, key, place)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise _wrong(f"{place}.{key}[{i}]".lstrip("."), "must be a string")
    return list(values)


def _number(parent: Mapping[str, Any], key: str, place: str, most: int) -> int:
    value = parent.get(key)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _wrong(f"{place}.{key}".lstrip("."), f"must be a number from 0 to {most}")
    return value


def _action(parent: Mapping[str, Any], key: str, errno_key: str, place: str) -> int:
    word = parent.get(key)
    where = f"{place}.{key}".lstrip(".")
    if word == "SCMP_ACT_NOTIFY":
        raise Unsupported(
            f"can't use the seccomp profile: {where}: SCMP_ACT_NOTIFY needs a listener, and there is none"
        )
    if not isinstance(word, str) or word not in _ACTIONS:
        raise _wrong(where, f"must be one of {', '.join(_ACTIONS)}")
    data = _number(parent, errno_key, place, 0xFFFF) if parent.get(errno_key) is not None else errno.EPERM
    return _ACTIONS[word] | (data if word in _WITH_DATA else 0)


def _architectures(top: Mapping[str, Any], native: str) -> tuple[str, ...]:
    """Choose the sub-architectures of Docker's `archMap` for the native one, or all of OCI's `architectures`."""
    words = _strings(top, "architectures", "")
    places = [f"architectures[{i}]" for i in range(len(words))]
    for i, entry in enumerate(_list(top, "archMap", "")):
        place = f"archMap[{i}]"
        mapping = _object(entry, place)
        if _architecture(mapping.get("architecture"), f"{place}.architecture") == native:
            sub = _strings(mapping, "subArchitectures", place)
            words += sub
            places += [f"{place}.subArchitectures[{j}]" for j in range(len(sub))]
    names = [_architecture(word, place) for word, place in zip(words, places, strict=True)]
    return tuple(dict.fromkeys([native, *names]))


def _architecture(word: object, place: str) -> str:
    if not isinstance(word, str) or not word.startswith("SCMP_ARCH_"):
        raise _wrong(place, f"must be an architecture like SCMP_ARCH_X86_64, not {word!r}")
    return word.removeprefix("SCMP_ARCH_").lower()


def _names(entry: Mapping[str, Any], place: str) -> list[str]:
    names = _strings(entry, "names", place)
    if isinstance(entry.get("name"), str) and entry["name"]:
        names.append(entry["name"])
    if not names:
        raise _wrong(f"{place}.names", "must name at least one system call")
    return names


def _rules(entry: Mapping[str, Any], names: Sequence[str], place: str, facts: _Facts) -> Iterator[Rule]:
    """Make the rules of one entry, none where it doesn't apply; it is read all the same, so that mistakes show."""
    action = _action(entry, "action", "errnoRet", place)
    conditions = [
        _condition(_object(a, f"{place}.args[{i}]"), f"{place}.args[{i}]")
        for i, a in enumerate(_list(entry, "args", place))
    ]
    if not _applies(entry, place, facts):
        return
    # Conditions on one argument can't all hold: they are alternatives, as runc reads them.
    indexes = [c.argument for c in conditions]
    alternatives = [(c,) for c in conditions] if len(set(indexes)) < len(indexes) else [tuple(conditions)]
    for name in names:
        for chosen in alternatives:
            yield Rule(name, action, chosen)


def _condition(entry: Mapping[str, Any], place: str) -> Condition:
    operator = entry.get("op")
    if not isinstance(operator, str) or operator not in _OPERATORS:
        raise _wrong(f"{place}.op", f"must be one of {', '.join(_OPERATORS)}")
    most = 2**64 - 1
    return Condition(
        _number(entry, "index", place, 5),
        _OPERATORS[operator],
        _number(entry, "value", place, most),
        _number(entry, "valueTwo", place, most),
    )


def _applies(entry: Mapping[str, Any], place: str, facts: _Facts) -> bool:
    """Say whether all of `includes` and none of `excludes` holds."""
    includes = _object(entry.get("includes") or {}, f"{place}.includes")
    excludes = _object(entry.get("excludes") or {}, f"{place}.excludes")
    return all(_holds(includes, f"{place}.includes", facts)) and not any(
        _holds(excludes, f"{place}.excludes", facts, every=False)
    )


def _holds(filter: Mapping[str, Any], place: str, facts: _Facts, *, every: bool = True) -> list[bool]:
    """Judge each part that a filter has: `includes` wants every capability that it lists, `excludes` any."""
    found = []
    if caps := _strings(filter, "caps", place):
        held = [c in facts.capabilities for c in caps]
        found.append(all(held) if every else any(held))
    if arches := _strings(filter, "arches", place):
        found.append(any(a in facts.architectures or _also(a, facts) for a in arches))
    if (least := filter.get("minKernel")) is not None:
        found.append(facts.kernel >= _kernel(least, f"{place}.minKernel"))
    return found


def _also(word: str, facts: _Facts) -> bool:
    """Docker lists "x86" and "x32" beside "amd64" where a sub-architecture is meant; the native one decides."""
    return any(word in _ALSO_FOR.get(a, ()) for a in facts.architectures)


def _kernel(text: object, place: str) -> tuple[int, int]:
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise _wrong(place, 'must be a version like "4.8"')
    return int(parts[0]), int(parts[1])


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
            raise InvalidInput(f"can't read the seccomp profile: unknown architecture SCMP_ARCH_{architecture.upper()}")
        return token


def _bind(library: ctypes.CDLL, name: str, restype: Any, *argtypes: Any) -> Any:
    function = library[name]
    function.restype, function.argtypes = restype, argtypes
    return function


def _library() -> _Library:
    try:
        return _Library("libseccomp.so.2")
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
        _check(library.attr_set(context, _ATTR_BAD_ARCHITECTURE, _ACTIONS["SCMP_ACT_KILL_PROCESS"]), "seccomp_attr_set")
        # A binary tree over the numbers: a few comparisons for each call instead of hundreds (libseccomp 2.5).
        _check(library.attr_set(context, _ATTR_OPTIMIZE, 2), "seccomp_attr_set")
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
    actions = {_ACTIONS["SCMP_ACT_KILL_PROCESS"], profile.default, *(r.action for r in profile.rules)}
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
    if profile.default < _ACTIONS["SCMP_ACT_TRACE"] and profile.default != _ERRNO | errno.ENOSYS:
        judged += instruction(_JUMP_GREATER, newest, 0, 1) + instruction(_RETURN, _ERRNO | errno.ENOSYS)
    if not judged:
        return b""
    number = instruction(_LOAD, 0)
    if architecture == "x86_64" and "x32" in profile.architectures:
        number += instruction(_AND, 0xFFFFFFFF & ~_X32_BIT)
    # Numbers over the common table (x32's own, arm's private) skip what is judged.
    body = number + instruction(_JUMP_GREATER, _LAST_NEWER, len(judged) // 8, 0) + judged
    return instruction(_LOAD, 4) + instruction(_JUMP_EQUAL, token, 0, len(body) // 8) + body
