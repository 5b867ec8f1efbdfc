"""Reads seccomp profiles, in Docker's form or OCI's, and makes their choices for one container: pure.

Docker's form has `archMap`, and in its rules `includes` and `excludes` by capability, architecture and kernel; OCI's
has `architectures` and no choices. What is wrong is said with its place: `syscalls[3].args[0].op: must be one of …`.
"""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NATIVE = {  # ours → libseccomp's, and the JSON's SCMP_ARCH_…
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

ERRNO = 0x00050000
NOTIFY = 0x7FC00000
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": NOTIFY,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
HANDS_OVER = ("write",)
"""What a process calls between the setting of its filter and the moment at which the listener has it."""

_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}


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


def resolve(
    profile: str | bytes | Mapping[str, Any],
    architecture: str,
    capabilities: frozenset[str],
    kernel: tuple[int, int],
    *,
    installs_all: bool = False,
) -> Profile:
    """Read a profile and make its choices; `InvalidInput` names the place that is wrong.

    With `installs_all` the caller installs the filter with the profile's `flags`, and for its listener.
    """
    if isinstance(profile, str | bytes):
        try:
            profile = json.loads(profile)
        except ValueError as e:
            raise InvalidInput(f"can't read the seccomp profile: {e}") from None
    top = _object(profile, "the profile")
    _not_both(top, "architectures", "archMap", "the profile")
    notifies = installs_all and bool(top.get("listenerPath"))
    default = _action(top, "defaultAction", "defaultErrnoRet", "", notifies=False)
    for flag in _list(top, "flags", ""):
        # A container's init has one thread: nothing to synchronise.
        if not installs_all and flag != "SECCOMP_FILTER_FLAG_TSYNC":
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
        rules += _rules(entry, names, place, facts, notifies=notifies)
    return Profile(default, _architectures(top, NATIVE[architecture]), tuple(rules), tuple(named))


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


def _not_both(parent: Mapping[str, Any], one: str, other: str, place: str) -> None:
    if parent.get(one) and parent.get(other):
        raise _wrong(place, f"has '{one}' and '{other}': use either")


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


def _action(parent: Mapping[str, Any], key: str, errno_key: str, place: str, *, notifies: bool) -> int:
    word = parent.get(key)
    where = f"{place}.{key}".lstrip(".")
    if word == "SCMP_ACT_NOTIFY" and not notifies:
        raise Unsupported(
            f"can't use the seccomp profile: {where}: SCMP_ACT_NOTIFY needs a listener, and can't be the default"
        )
    if not isinstance(word, str) or word not in ACTIONS:
        raise _wrong(where, f"must be one of {', '.join(ACTIONS)}")
    data = _number(parent, errno_key, place, 0xFFFF) if parent.get(errno_key) is not None else errno.EPERM
    return ACTIONS[word] | (data if word in _WITH_DATA else 0)


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
    _not_both(entry, "name", "names", place)
    names = _strings(entry, "names", place)
    if isinstance(entry.get("name"), str) and entry["name"]:
        names.append(entry["name"])
    if not names:
        raise _wrong(f"{place}.names", "must name at least one system call")
    return names


def _rules(
    entry: Mapping[str, Any], names: Sequence[str], place: str, facts: _Facts, *, notifies: bool
) -> Iterator[Rule]:
    """Make the rules of one entry, none where it doesn't apply; it is read all the same, so that mistakes show."""
    action = _action(entry, "action", "errnoRet", place, notifies=notifies)
    if action == NOTIFY and not set(names).isdisjoint(HANDS_OVER):
        raise Unsupported(
            f"can't use the seccomp profile: {place}: SCMP_ACT_NOTIFY for write, with which the listener is handed over"
        )
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
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise _wrong(f"{place}.op", f"must be one of {', '.join(OPERATORS)}")
    most = 2**64 - 1
    return Condition(
        _number(entry, "index", place, 5),
        OPERATORS[operator],
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
