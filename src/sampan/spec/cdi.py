"""CDI files: what a vendor says has to be changed in a container for a device to work in it. Pure.

The Container Device Interface's specification, 1.1.0, in JSON or YAML. A field that is not known is an error: a device
without all that it needs would be one that fails in the container.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.cdi_names import is_device, is_kind
from sampan.spec.decoding import convert
from sampan.spec.document import UNREADABLE
from sampan.spec.runtime import Uint32

HookName = Literal["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Variable = Annotated[str, msgspec.Meta(pattern="^[^=]+=")]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Any object of a file."""


class DeviceNode(Part, frozen=True, kw_only=True):
    """A device file. What it does not say is as the host's file at `host_path`, else at `path`, is."""

    path: Text
    host_path: str = ""
    type: Literal["", "b", "c", "u", "p"] = ""
    major: Number = 0
    minor: Number = 0
    file_mode: Uint32 | None = None
    permissions: Annotated[str, msgspec.Meta(pattern="^([rwm]*|none)$")] = ""
    uid: Uint32 | None = None
    gid: Uint32 | None = None


class NetDevice(Part, frozen=True, kw_only=True):
    """A network device of the host that moves into the container."""

    host_interface_name: Text
    name: Text


class Mount(Part, frozen=True, kw_only=True):
    """A file or directory of the host."""

    host_path: Text
    container_path: Text
    options: tuple[str, ...] = ()
    type: str = ""


class Hook(Part, frozen=True, kw_only=True):
    """A program to run at a point of the container's life."""

    hook_name: HookName
    path: Text
    args: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()
    timeout: Annotated[int, msgspec.Meta(ge=0)] | None = None


class IntelRdt(Part, frozen=True, kw_only=True):
    """Cache and memory bandwidth."""

    clos_id: Annotated[str, msgspec.Meta(pattern=r"^(/|(?!\.\.?$)[^/\n]{0,4095})$")] = msgspec.field(
        default="", name="closID"
    )
    l3_cache_schema: str = msgspec.field(default="", name="l3CacheSchema")
    mem_bw_schema: str = ""
    schemata: tuple[str, ...] = ()
    enable_monitoring: bool = False
    enable_cmt: bool = msgspec.field(default=False, name="enableCMT")  # until 1.0
    enable_mbm: bool = msgspec.field(default=False, name="enableMBM")


class Edits(Part, frozen=True, kw_only=True):
    """What changes in the container."""

    env: tuple[Variable, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    intel_rdt: IntelRdt | None = None
    additional_gids: tuple[Uint32, ...] = ()


class Device(Part, frozen=True, kw_only=True):
    """One device, or what several are together: `all`."""

    name: str
    annotations: dict[str, str] = {}
    container_edits: Edits = Edits()


class File(Part, frozen=True, kw_only=True):
    """One file: devices of one kind. Its own edits are made once, with the first of its devices."""

    cdi_version: str
    kind: str
    annotations: dict[str, str] = {}
    devices: tuple[Device, ...] = ()
    container_edits: Edits = Edits()


def read(path: str, document: bytes) -> File:
    """Read a file, YAML unless its name ends in .json. Raises InvalidInput that names it and what is wrong."""
    try:
        content = msgspec.json.decode(document) if path.endswith(".json") else _from_yaml(document)
        file = convert(_without_nulls(content), File)
    except (*UNREADABLE, ValueError) as e:  # msgspec.ValidationError is a DecodeError
        raise InvalidInput(f"can't read {path}: {' '.join(str(e).split())[:200]}") from None
    if fault := _fault(file):
        raise InvalidInput(f"can't use {path}: {fault}")
    return file


def _from_yaml(document: bytes) -> Any:
    import yaml  # where a file is YAML, and in nobody's memory else

    # libyaml's loader where there is one: the other takes a second for 100 KB.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if b"*" in document and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(document, loader)):
            raise ValueError("it has aliases (*x), of which a few fill a memory: write out what they mean")
        return yaml.load(document, loader)  # noqa: S506
    except yaml.YAMLError as e:
        raise ValueError(str(e)) from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


def _fault(file: File) -> str:
    names = [device.name for device in file.devices]
    if file.cdi_version.split(".")[0] not in ("0", "1"):
        return f"its cdiVersion is {file.cdi_version[:20]!r}, and must be 0.x or 1.x"
    if not is_kind(file.kind):
        return f"its kind is {file.kind[:80]!r}, and must read vendor.com/class"
    if not names:
        return "it has no devices"
    seen: set[str] = set()
    for name in names:
        if not is_device(name):
            return f"no device can be called {name[:80]!r}"
        if name in seen:
            return f"it has two devices called {name}"
        seen.add(name)
    return ""
