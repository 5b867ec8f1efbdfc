"""Readers of the rarer kinds of flags, as those in cli/values: text in, the API's value out."""

from __future__ import annotations

from sampan.cli.failure import quoted
from sampan.cli.flags import parse_int
from sampan.cli.values import parse_pair, split_csv
from sampan.errors import InvalidInput
from sampan.units import parse_bytes, parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def parse_gpus(text: str) -> dict[str, Any]:
    """Read `all`, a number, or `device=0,driver=nvidia,capabilities=compute` of --gpus; docker/cli, opts/gpus.go."""
    request: dict[str, Any] = {}
    seen = set()
    if not text:
        raise ValueError("EOF")  # what Go's reader of CSV says
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not equals:
            key, value = "count", key
        _set(request, key, value, field)
    if "Count" not in request and "DeviceIDs" not in request:
        request["Count"] = 1
    return {"Capabilities": [["gpu"]], "Options": {}, **request}


def _set(request: dict[str, Any], key: str, value: str, field: str) -> None:
    match key:
        case "driver":
            request["Driver"] = value
        case "count":
            request["Count"] = _count(value)
        case "device":
            request["DeviceIDs"] = value.split(",")
        case "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        case "options":
            request["Options"] = dict(parse_pair(option) for option in split_csv(value))
        case _:
            raise ValueError(f"unexpected key '{key}' in '{field}'")


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return parse_int(text if text.lstrip("+-").isdigit() else "")
    except ValueError as e:
        cause = str(e).rpartition(": ")[2]
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: {cause}') from None


def parse_rate_in_bytes(text: str) -> dict[str, Any]:
    """Read `/dev/sda:10mb` of --device-read-bps and its like; docker/cli, opts/throttledevice.go."""
    device, number = _of_device(text)
    try:
        rate = parse_bytes(number)
    except InvalidInput:
        rate = -1
    if rate < 0:
        unit = ". Unit is optional and can be kb, mb, or gb"
        raise _bad_rate(text, "<device-path>:<number>[<unit>]", unit)
    return {"Path": device, "Rate": rate}


def parse_rate(text: str) -> dict[str, Any]:
    """Read `/dev/sda:1000` of --device-read-iops and its like."""
    device, number = _of_device(text)
    if not (number.isascii() and number.isdigit()):
        raise _bad_rate(text, "<device-path>:<number>", "")
    return {"Path": device, "Rate": int(number)}


def _bad_rate(text: str, form: str, unit: str) -> ValueError:
    return ValueError(
        f"invalid rate for device: {text}. The correct format is {form}. Number must be a positive integer{unit}"
    )


def parse_weight(text: str) -> dict[str, Any]:
    """Read `/dev/sda:500` of --blkio-weight-device; docker/cli, opts/weightdevice.go."""
    device, number = _of_device(text)
    if not (number.isascii() and number.isdigit()) or (int(number) and not 10 <= int(number) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": device, "Weight": int(number)}


def _of_device(text: str) -> tuple[str, str]:
    device, colon, number = text.partition(":")
    if not device or not colon:
        raise ValueError(f"bad format: {text}")
    if not device.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return device, number


def parse_nanoseconds(text: str) -> int:
    """Read `1m30s`."""
    try:
        return parse_duration(text)
    except InvalidInput:
        raise ValueError(f"time: invalid duration {quoted(text)}") from None


READERS: dict[str, Callable[[str], object]] = {
    "gpus": parse_gpus,
    "rate-in-bytes": parse_rate_in_bytes,
    "rate": parse_rate,
    "weight": parse_weight,
    "duration": parse_nanoseconds,
}
"""Kind of a flag to its reader; `Flag.kind`."""
