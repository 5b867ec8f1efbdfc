"""`RUN --mount=type=…`: a mount's options, their defaults, and what each type allows."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import msgspec

from sampan.build.dockerfile.errors import Fault, quoted, suggest
from sampan.errors import InvalidInput
from sampan.spec.decoding import convert
from sampan.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = (
    "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid", "env",
    "src", "dst", "destination", "ro", "rw", "readwrite",
)  # fmt: skip
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One mount of a RUN. `type` is bind, cache, tmpfs, secret or ssh.

    `from_` is a stage, image or named context, empty for the context of the build (bind) or an empty directory (cache).
    `id` names a cache, secret or ssh socket; `env` a variable that gets a secret. `mode`, `uid`, `gid` None are the
    type's default. `size_bytes` 0 is no limit.
    """

    type: str = "bind"
    from_: str = ""
    source: str = ""
    target: str = ""
    readonly: bool = False
    id: str = ""
    sharing: str = "shared"
    required: bool = False
    size_bytes: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def check_mount(value: str) -> None:
    """Refuse what can't be right whatever the variables in it are. Raises Fault."""
    for key, text, _given in fields(value):
        if key == "from" and re.search(r"\$.", text):
            raise Fault("'from' doesn't support variable expansion, define alias stage instead", text)
    if not any(character in value for character in "$'\"\\`"):
        parse_mount(value)


def parse_mount(value: str, expand: Callable[[str], str] = lambda text: text) -> Mount:
    """Read one `--mount` value; `expand` substitutes the variables in each option's value. Raises Fault."""
    reader = _Reader()
    for key, text, given in fields(value):
        reader.take(key, expand(text) if given else None, f"{key}={text}" if given else key)
    return reader.mount()


def origin_name(value: str) -> str:
    """Return the `from` of one `--mount` value, in which there are no variables; "" without one. Raises Fault."""
    return next((text for key, text, _given in fields(value) if key == "from"), "")


def fields(value: str) -> list[tuple[str, str, bool]]:
    """Split at commas, with quotes as in CSV: lower-case name, value, and whether there was one. Raises Fault."""
    try:
        row = next(csv.reader([value], strict=True))
    except (csv.Error, StopIteration) as e:
        raise Fault(f"failed to parse csv mounts: {str(e) or 'EOF'}", value) from e
    if not row:
        raise Fault("failed to parse csv mounts: EOF", "--mount=")
    parts = (field.partition("=") for field in row)
    return [(key.lower(), text, bool(equals)) for key, equals, text in parts]


class _Reader:
    """Options one after another: some are allowed only after the `type` that they are for, as in BuildKit."""

    def __init__(self) -> None:
        self.values: dict[str, str | int | bool] = {}
        self.type = "bind"

    def take(self, key: str, value: str | None, field: str) -> None:
        match key:
            case "readonly" | "ro":
                self.values["readonly"] = boolean(key, value)
            case "readwrite" | "rw":
                self.values["readonly"] = not boolean(key, value)
            case "required":
                self.only_for(key, field, "secret", "ssh")
                self.values["required"] = boolean(key, value)
            case _ if value is None:
                raise Fault(f"invalid field '{field}' must be a key=value pair", field)
            case _ if key not in _KEYS:
                raise Fault(
                    f"unexpected key '{key}' in '{field}'{suggest(key, _KEYS)}", field, f"one of {', '.join(_KEYS)}"
                )
            case "type":
                self.type = _one_of(value, _TYPES, "mount type")
            case "source" | "src":
                self.values["source"] = value
            case "target" | "dst" | "destination":
                self.values["target"] = value
            case "sharing":
                self.values["sharing"] = _one_of(value, _SHARING, "sharing value")
            case "size":
                self.only_for(key, field, "tmpfs")
                self.values["size_bytes"] = _size(value)
            case "mode" | "uid" | "gid":
                self.values[key] = _number(key, value)
            case "env":
                self.only_for(key, field, "secret")
                self.values["env"] = value
            case _:
                self.values["from_" if key == "from" else key] = value

    def only_for(self, key: str, field: str, *types: str) -> None:
        if self.type not in types:
            raise Fault(f"unexpected key '{key}' for mount type '{self.type}'", field)

    def mount(self) -> Mount:
        type_, values = self.type, self.values
        for key in ("mode", "uid", "gid"):
            if key in values and type_ not in {"secret", "ssh", "cache"}:
                raise Fault(f'{key} not allowed for "{type_}" type mounts', key)
        if type_ == "secret":
            _check_secret(values)
        if "sharing" in values and type_ != "cache":
            raise Fault(f"invalid cache sharing set for {type_} mount", "sharing")
        values.setdefault("readonly", type_ not in {"cache", "tmpfs"})
        return convert({"type": type_, **values}, Mount)


def _check_secret(values: dict[str, str | int | bool]) -> None:
    if values.get("from_"):
        raise Fault("secret mount should not have a from", "from")
    if "sharing" in values:
        raise Fault("secret mount should not define sharing", "sharing")
    if not any(values.get(key) for key in ("source", "target", "id")):
        raise Fault("invalid secret mount. one of source, target required", "secret")
    if values.get("source") and values.get("id"):
        raise Fault("both source and id can't be set", "id")


def _one_of(value: str, known: tuple[str, ...], what: str) -> str:
    if value.lower() not in known:
        raise Fault(f"unsupported {what} {quoted(value)}{suggest(value, known)}", value, f"one of {', '.join(known)}")
    return value.lower()


def boolean(key: str, value: str | None) -> bool:
    """Read an option's truth value; the option alone is true. Raises Fault."""
    if value is None:
        return True
    if value not in _BOOLEANS:
        raise Fault(f"invalid value for {key}: {value}", value)
    return _BOOLEANS[value]


def _size(value: str) -> int:
    try:
        return parse_bytes(value)
    except InvalidInput as e:
        raise Fault(f"invalid value for size: {value}", value) from e


def _number(key: str, value: str) -> int:
    octal = key == "mode"
    if not re.fullmatch("[0-7]{1,11}" if octal else "[0-9]{1,10}", value) or int(value, 8 if octal else 10) >= 1 << 32:
        raise Fault(f"invalid value {value} for {key}", value)
    return int(value, 8 if octal else 10)
