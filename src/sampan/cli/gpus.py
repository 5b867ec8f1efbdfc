"""The value of `--gpus`: all, a number, or `device=0,driver=nvidia,capabilities=compute`."""

from __future__ import annotations

from sampan.cli.flags import parse_int
from sampan.cli.values import parse_pair, split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_gpus(text: str) -> dict[str, Any]:
    """Read one request for the API's DeviceRequests; docker/cli, opts/gpus.go."""
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
