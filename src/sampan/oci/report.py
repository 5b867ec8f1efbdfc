"""A container's state as others are told it: by `state` and by `list`."""

from __future__ import annotations

from sampan.client.jsontext import dumps
from sampan.oci.version import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sampan.oci.store import Record


def state_of(record: Record) -> dict[str, Any]:
    """Return the specification's state, and what runc adds to it."""
    status = record.status
    state = {
        "ociVersion": OCI_VERSION,
        "id": record.id,
        "pid": 0 if status == "stopped" else record.pid,
        "status": status,
        "bundle": record.facts["bundle"],
        "rootfs": record.facts["rootfs"],
        "created": record.facts["created"],
        "owner": "",
    }
    if annotations := record.facts["annotations"]:
        state["annotations"] = annotations
    return state


def lines(value: dict[str, Any] | list[Any], indent: str = "  ") -> Iterator[str]:
    """Write JSON over several lines, as runc does: the C encoder knows only one."""
    pairs = [(f"{dumps(k)}: ", v) for k, v in value.items()] if isinstance(value, dict) else [("", v) for v in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield opening
    for number, (key, inner) in enumerate(pairs, 1):
        comma = "," if number < len(pairs) else ""
        if inner and isinstance(inner, (dict, list)):
            first, *middle, last = lines(inner, indent)
            yield f"{indent}{key}{first}"
            yield from (f"{indent}{line}" for line in middle)
            yield f"{indent}{last}{comma}"
        else:
            yield f"{indent}{key}{dumps(inner)}{comma}"
    yield closing
