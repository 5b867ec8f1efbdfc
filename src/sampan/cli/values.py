"""Values of flags: what each kind accepts, with the words of Docker's client when it is refused.

A reader takes the text and returns what goes into the API's body; it raises ValueError with the cause.
"""

from __future__ import annotations

import os

from sampan.cli.failure import quoted
from sampan.cli.flags import parse_bool, parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_NANO = 10**9


def parse_bytes(text: str) -> int:
    """Read "512m", "1.5g", "64KiB": powers of 1024; docker/go-units, RAMInBytes."""
    end = max((i for i, c in enumerate(text) if c in "0123456789. "), default=-1)
    if end < 0:
        raise ValueError(f"invalid size: '{text}'")
    number = _rational(text[: end + 1].rstrip(" "), "strconv.ParseFloat")
    if number[0] < 0:
        raise ValueError(f"invalid size: '{text}'")
    suffix = text[end + 1 :].lower()
    unit = _UNITS.get(suffix[:1], 0)
    if suffix in ("", "b"):
        unit = 1
    elif not unit or suffix[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{suffix}'")
    size = number[0] * unit // number[1]
    if size >= 1 << 63:
        raise ValueError(f"invalid size: '{text}': value out of range")
    return size


def parse_swap(text: str) -> int:
    """Read a size, or -1: no limit."""
    return -1 if text == "-1" else parse_bytes(text)


def parse_cpus(text: str) -> int:
    """Read "1.5" CPUs as billionths."""
    try:
        numerator, denominator = _rational(text, "")
    except ValueError:
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if numerator * _NANO % denominator:
        raise ValueError("value is too precise")
    return numerator * _NANO // denominator


def _rational(text: str, reader: str) -> tuple[int, int]:
    """Return a decimal as numerator and denominator, exactly."""
    sign = -1 if text[:1] == "-" else 1
    mantissa, _, exponent = text.lstrip("+-").lower().partition("e")
    power = int(exponent) if exponent.lstrip("+-").isdigit() and len(exponent) < 4 else 0
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    if not digits.isascii() or not digits.isdigit() or len(text) - len(text.lstrip("+-")) > 1:
        raise ValueError(f"{reader}: parsing {quoted(text)}: invalid syntax")
    power -= len(fraction)
    return sign * int(digits) * 10 ** max(power, 0), 10 ** max(-power, 0)


def parse_swappiness(text: str) -> int:
    """Read a whole number; the range is looked at when the body is made."""
    return parse_int(text)


_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip


def parse_ulimit(text: str) -> dict[str, Any]:
    """Read `nofile=1024:2048`; docker/go-units, ParseUlimit."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = limits.split(":")
    if len(parts) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    soft = parse_int(parts[0])
    hard = parse_int(parts[1]) if len(parts) == 2 else soft
    if hard != -1:
        if soft == -1:
            raise ValueError(
                f"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            )
        if soft > hard:
            raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


_SYSCTLS = (
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
    "kernel.shmmni", "kernel.shm_rmid_forced",
)  # fmt: skip


def parse_sysctl(text: str) -> tuple[str, str]:
    """Read `net.core.somaxconn=1024`: only sysctls that have a namespace."""
    name, equals, value = text.partition("=")
    if not equals or not (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return name, value


def parse_label(text: str) -> tuple[str, str]:
    """Read `name=value` or `name`."""
    name, _, value = text.partition("=")
    if not name.strip():
        raise ValueError(f"invalid label '{text}': empty name")
    return name, value


def parse_pair(text: str) -> tuple[str, str]:
    """Read `name=value`, and `name` as one without a value."""
    name, _, value = text.partition("=")
    return name, value


def parse_attach(text: str) -> str:
    """Read the name of a stream, in either case."""
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def parse_filter(text: str) -> tuple[str, str]:
    """Read `name=value` of --filter."""
    name, equals, value = text.partition("=")
    if text and not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), value.strip()


def parse_device_rule(text: str) -> str:
    """Read `c 1:3 rwm`: the type (a, b, c), major:minor or *, and the access."""
    parts = text.split(" ")
    numbers = parts[1].split(":") if len(parts) == 3 else []
    if (
        len(numbers) != 2
        or parts[0] not in ("a", "b", "c")
        or not all(n == "*" or (n.isascii() and n.isdigit()) for n in numbers)
        or not (1 <= len(parts[2]) <= 3 and all(c in "rwm" for c in parts[2]))
    ):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def parse_ip(text: str) -> str:
    """Read an address."""
    if not _is_address(text):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def _is_address(text: str) -> bool:
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text.strip())
        except (OSError, ValueError):
            continue
        return True
    return False


def parse_domain(text: str) -> str:
    """Read a search domain; `.` is none at all."""
    name = text.strip()
    labels = name.rstrip(".").split(".")
    if name != "." and not all(label and label.replace("-", "a").replace("_", "a").isalnum() for label in labels):
        raise ValueError(f"{text} is not a valid domain")
    return name


def parse_host(text: str) -> str:
    """Read `name:address` or `name=address` of --add-host; an IPv6 address may be in brackets."""
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name:
        raise ValueError(f"bad format for add-host: {quoted(text)}")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not _is_address(address):
        raise ValueError(f"invalid IP address in add-host: {quoted(address)}")
    return f"{name}:{address}"


def parse_link(text: str) -> str:
    """Read `CONTAINER[:ALIAS]` of --link."""
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


_NETWORK_FIELDS = {
    "ip": "IPv4Address",
    "ip6": "IPv6Address",
    "mac-address": "MacAddress",
    "alias": "Aliases",
    "link-local-ip": "LinkLocalIPs",
}


def parse_network(text: str) -> dict[str, Any]:
    """Read a network's name or mode, or the long form `name=…,alias=…`; docker/cli, opts/network.go.

    Docker's client puts all of the long form into lower case; here names and values are taken as they are written.
    """
    if "=" not in text:
        return {"Target": text}
    import re

    if not re.search(r"\w+=\w+", text):
        return {"Target": text}
    network: dict[str, Any] = {"Target": ""}
    for field in split_csv(text):
        key, equals, value = (part.strip() for part in field.partition("="))
        key = key.lower()
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        match key:
            case "name":
                network["Target"] = value
            case "alias" | "link-local-ip":
                network.setdefault(_NETWORK_FIELDS[key], []).append(value)
            case "driver-opt":
                name, option = parse_driver_option(value)
                network.setdefault("DriverOpts", {})[name] = option
            case "gw-priority":
                network["GwPriority"] = _gateway_priority(value)
            case _ if key in _NETWORK_FIELDS:
                network[_NETWORK_FIELDS[key]] = value.lower() if key == "mac-address" else value
            case _:
                raise ValueError(f"invalid field key {key}")
    if not network["Target"]:
        raise ValueError("network name/id is not specified")
    return network


def parse_driver_option(text: str) -> tuple[str, str]:
    """Read `name=value`."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ValueError("invalid key value pair format in driver options")
    return name, value


def _gateway_priority(text: str) -> int:
    try:
        return parse_int(text)
    except ValueError as e:
        raise ValueError(f"invalid gw-priority ({text}): {str(e).rpartition(': ')[2]}") from None


_TRUE_ALONE = (
    "readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src", "idmap", "u", "chown", "tmpcopyup",
    "notmpcopyup", "rw", "readwrite",
)  # fmt: skip
_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")


def parse_mount(text: str) -> dict[str, Any]:
    """Read `type=bind,src=/a,dst=/b,ro`; docker/cli, opts/mount.go."""
    if not text.strip():
        raise ValueError("EOF" if not text else "value is empty")
    mount: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {}
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals:
            if key not in _TRUE_ALONE:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        _mount_field(mount, options, key, value, field)
    return _whole_mount(mount, options)


def _mount_field(mount: dict[str, Any], options: dict[str, dict[str, Any]], key: str, value: str, field: str) -> None:
    match key:
        case "type":
            mount["Type"] = value.lower()
        case "source" | "src":
            mount["Source"] = os.path.abspath(value) if value.startswith(".") else value
        case "target" | "dst" | "destination":
            mount["Target"] = value
        case "readonly" | "ro":
            if _flag(key, value):
                mount["ReadOnly"] = True
        case "consistency":
            mount["Consistency"] = value.lower()
        case _ if key.startswith("bind-"):
            _bind_option(options.setdefault("BindOptions", {}), key, value)
        case _ if key.startswith("volume-"):
            _volume_option(options.setdefault("VolumeOptions", {}), key, value, field)
        case "image-subpath":
            options.setdefault("ImageOptions", {})["Subpath"] = value
        case "rw" | "readwrite":  # this and the next three are Podman's words
            mount["Writable"] = _flag(key, value)
        case "idmap":
            mount["IDMap"] = field if value != "true" else "idmap"
        case "u" | "chown":
            mount["Chown"] = _flag(key, value)
        case "tmpcopyup":
            options.setdefault("TmpfsOptions", {})["Options"] = [["tmpcopyup"]]
        case "notmpcopyup":  # it is so unless said otherwise
            options.setdefault("TmpfsOptions", {})
        case "subpath":
            options["Subpath"] = {"Subpath": value}
        case _ if key.startswith("tmpfs-"):
            _tmpfs_option(options.setdefault("TmpfsOptions", {}), key, value, field)
        case _:
            raise _unexpected(key, field)


def _unexpected(key: str, field: str) -> ValueError:
    return ValueError(f"unexpected key '{key}' in '{field}'")


def _flag(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _bind_option(options: dict[str, Any], key: str, value: str) -> None:
    match key:
        case "bind-propagation":
            options["Propagation"] = value.lower()
        case "bind-nonrecursive":
            options["NonRecursive"] = _flag(key, value)
        case "bind-create-src":
            options["CreateMountpoint"] = _flag(key, value)
        case "bind-recursive":
            settings = {"enabled": {}, "disabled": {"NonRecursive": True}, "writable": {"ReadOnlyNonRecursive": True}}
            settings["readonly"] = {"ReadOnlyForceRecursive": True}
            if value not in settings:
                raise ValueError(
                    f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
                )
            options.update(settings[value])
        case _:
            raise _unexpected(key, f"{key}={value}")


def _volume_option(options: dict[str, Any], key: str, value: str, field: str) -> None:
    match key:
        case "volume-subpath":
            options["Subpath"] = value
        case "volume-nocopy":
            options["NoCopy"] = _flag(key, value)
        case "volume-label":
            name, label = parse_pair(value)
            options.setdefault("Labels", {})[name] = label
        case "volume-driver":
            options.setdefault("DriverConfig", {})["Name"] = value
        case "volume-opt":
            name, option = parse_pair(value)
            options.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = option
        case _:
            raise _unexpected(key, field)


def _tmpfs_option(options: dict[str, Any], key: str, value: str, field: str) -> None:
    try:
        if key == "tmpfs-size":
            options["SizeBytes"] = parse_bytes(value)
        elif key == "tmpfs-mode":
            options["Mode"] = int(value, 8)
        else:
            raise _unexpected(key, field)
    except ValueError as e:
        if str(e).startswith("unexpected"):
            raise
        raise ValueError(f"invalid value for {key}: {value}") from None


def _whole_mount(mount: dict[str, Any], options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Check what belongs together, as Docker's client does."""
    kind = mount["Type"]
    if not kind:
        raise ValueError("type is required")
    if subpath := options.pop("Subpath", None):
        if kind not in ("volume", "image"):
            raise ValueError(f"cannot mix 'subpath' with mount type '{kind}'")
        options.setdefault(f"{kind.capitalize()}Options", {}).update(subpath)
    if not mount.get("Target"):
        raise ValueError("target is required")
    for name, wanted in (
        ("BindOptions", "bind"),
        ("VolumeOptions", "volume"),
        ("TmpfsOptions", "tmpfs"),
        ("ImageOptions", "image"),
    ):
        if name in options and kind != wanted:
            raise ValueError(f"cannot mix '{wanted}-*' options with mount type '{kind}'")
    if mount.get("Writable") and kind != "image":
        raise ValueError(f"cannot mix 'rw' with mount type '{kind}'")
    if mount.get("Writable") and mount.get("ReadOnly"):
        raise ValueError("cannot mix 'rw' with 'readonly'")
    bind = options.get("BindOptions", {})
    if bind.get("ReadOnlyNonRecursive") and not mount.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive"):
        if not mount.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )
    return mount | {name: value for name, value in options.items() if value or name != "BindOptions"}


def split_csv(text: str) -> list[str]:
    """Split at commas; a field in double quotes may hold commas, and `""` for a quote: RFC 4180, one record."""
    fields: list[str] = []
    rest: str | None = text
    while rest is not None:
        if rest.startswith('"'):
            field, i = "", 1
            while True:
                end = rest.find('"', i)
                if end < 0:
                    raise _bad_csv(len(text) + 1, 'extraneous or missing " in quoted-field')
                field += rest[i:end]
                if rest[end + 1 : end + 2] != '"':
                    break
                field += '"'
                i = end + 2
            after = rest[end + 1 :]
            if after and after[0] != ",":
                raise _bad_csv(len(text) - len(rest) + end + 2, 'extraneous or missing " in quoted-field')
            rest = after[1:] if after else None
        else:
            field, comma, tail = rest.partition(",")
            if '"' in field:
                raise _bad_csv(len(text) - len(rest) + field.index('"') + 1, 'bare " in non-quoted-field')
            rest = tail if comma else None
        fields.append(field)
    return fields


def parse_csv(text: str) -> list[str]:
    """Read a list at whose commas it is split: one flag may give several."""
    return split_csv(text) if text else []


def _bad_csv(column: int, cause: str) -> ValueError:
    return ValueError(f"parse error on line 1, column {column}: {cause}")


READERS: dict[str, Callable[[str], object]] = {
    "bytes": parse_bytes,
    "swap": parse_swap,
    "cpus": parse_cpus,
    "ulimit": parse_ulimit,
    "sysctl": parse_sysctl,
    "label": parse_label,
    "map": parse_pair,
    "attach": parse_attach,
    "filter": parse_filter,
    "device-rule": parse_device_rule,
    "network": parse_network,
    "link": parse_link,
    "csv": parse_csv,
    "mount": parse_mount,
    "ip": parse_ip,
    "domain": parse_domain,
    "host": parse_host,
}
"""Kind of a flag to its reader; `Flag.kind`."""
