"""`RUN --device=NAME[,required]`: a device of the Container Device Interface."""

from __future__ import annotations

import msgspec

from sampan.build.dockerfile.errors import Fault, suggest
from sampan.build.dockerfile.mounts import boolean, fields


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """`vendor.com/class=name`; one that is not `required` may be missing."""

    name: str = ""
    required: bool = False


def parse_device(value: str) -> Device:
    """Read one `--device` value. Raises Fault."""
    name = ""
    required = False
    for key, text, given in fields(value):
        field = f"{key}={text}" if given else key
        if key == "required":
            required = boolean(key, text if given else None)
        elif key == "name" and given:
            if name:
                raise Fault(f"device name already set to {name}", field)
            name = text
        elif not name:
            name = field  # a name may have an equals sign in it
        elif given:
            cause = f"unexpected key '{key}' in '{field}'{suggest(key, ('name', 'required'))}"
            raise Fault(cause, field, "name or required")
        else:
            raise Fault(f"invalid field '{field}' must be a key=value pair", field)
    return Device(name=name, required=required)
