"""CDI: which devices the files in CDI's directories describe, and what they change in a container."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from sampan.errors import InvalidInput, SampanError, from_os_error
from sampan.spec import cdi, runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LARGEST = 8 << 20
_DIGITS = 10  # of the largest id
_SUFFIXES = (".json", ".yaml")
_STAGES = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}


class Found(NamedTuple):
    """What is there: devices by their full names, each with the file it is in; and what is wrong with files."""

    devices: dict[str, tuple[str, cdi.File, cdi.Device]]
    faults: tuple[str, ...]

    def kinds(self) -> list[str]:
        """Return `vendor.com/class` of all devices."""
        return sorted({name.partition("=")[0] for name in self.devices})

    def of_kind(self, kind: str) -> list[str]:
        """Return the devices of a kind, without it, numbers by their size."""
        names = [name.partition("=")[2] for name in self.devices if name.startswith(f"{kind}=")]
        return sorted(names, key=lambda name: (not name.isdecimal(), len(name) if name.isdecimal() else 0, name))


def find(directories: Iterable[str]) -> Found:
    """Read all files. A later directory's device counts; two of one directory with a name are neither."""
    devices: dict[str, tuple[str, cdi.File, cdi.Device]] = {}
    faults: list[str] = []
    for directory in directories:
        own = defaultdict[str, list[tuple[str, cdi.File, cdi.Device]]](list)
        for path in _files(directory, faults):
            try:
                file = cdi.read(path, _content(path))
            except (SampanError, OSError) as e:
                faults.append((from_os_error(e) if isinstance(e, OSError) else e).message)
                continue
            for device in file.devices:
                own[f"{file.kind}={device.name}"].append((path, file, device))
        for name, described in own.items():
            devices.pop(name, None)
            if len(described) == 1:
                devices[name] = described[0]
            else:
                where = " and in ".join(path for path, _, _ in described)
                faults.append(f"conflicting device {name}: it is in {where}")
    return Found(devices, tuple(faults))


def _files(directory: str, faults: list[str]) -> list[str]:
    try:
        return [f"{directory}/{name}" for name in sorted(os.listdir(directory)) if name.endswith(_SUFFIXES)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        faults.append(from_os_error(e).message)
        return []


def _content(path: str) -> bytes:
    # Without waiting: of a FIFO nobody may ever open the other end.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInput(f"can't read {path}: it is no file")
        return file.read(_LARGEST)


def edits_of(found: Found, names: Iterable[str]) -> cdi.Edits:
    """Return what devices change, with what all of their file do. Raises InvalidInput in Docker's words."""
    names = tuple(dict.fromkeys(names))
    missing = [name for name in names if name not in found.devices]
    if missing:
        there = ", ".join(sorted(found.devices)[:10])
        faults = "; ".join(found.faults[:3])
        raise InvalidInput(
            f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}",
            "; ".join(filter(None, (f"there is {there}" if there else "no CDI file describes a device", faults))),
        )
    parts: list[cdi.Edits] = []
    files: set[str] = set()
    for name in names:
        path, file, device = found.devices[name]
        parts += [] if path in files else [file.container_edits]
        parts.append(device.container_edits)
        files.add(path)
    return cdi.Edits(
        env=tuple(e for part in parts for e in part.env),
        device_nodes=tuple(e for part in parts for e in part.device_nodes),
        net_devices=tuple(e for part in parts for e in part.net_devices),
        mounts=tuple(e for part in parts for e in part.mounts),
        hooks=tuple(e for part in parts for e in part.hooks),
        intel_rdt=next((part.intel_rdt for part in reversed(parts) if part.intel_rdt), None),
        additional_gids=tuple(e for part in parts for e in part.additional_gids),
    )


# ------------------------------------------------------------------------------------------------------- the changes


def look_at(path: str) -> tuple[str, int, int]:
    """Return (type, major, minor) of a device file of the host."""
    try:
        info = os.stat(path)
    except OSError as e:
        raise InvalidInput(f"CDI device injection failed: {from_os_error(e).message}") from None
    kinds = ((stat.S_ISCHR, "c"), (stat.S_ISBLK, "b"), (stat.S_ISFIFO, "p"))
    kind = next((kind for is_it, kind in kinds if is_it(info.st_mode)), "")
    if not kind:
        raise InvalidInput(f"CDI device injection failed: {path} is no device")
    return (kind, 0, 0) if kind == "p" else (kind, os.major(info.st_rdev), os.minor(info.st_rdev))


def edited(spec: runtime.Spec, edits: cdi.Edits, look: Callable[[str], tuple[str, int, int]] = look_at) -> runtime.Spec:
    """Return the configuration with the edits made. Pure, but for `look`, which is asked about files of the host."""
    assert spec.process
    nodes = [_node(node, spec.process.user, look) for node in edits.device_nodes]
    ours = {node.path for node in nodes}
    devices = tuple(device for device in spec.linux.devices if device.path not in ours)
    mounts = _mounts(spec.mounts, edits.mounts)
    if spec.linux.uid_mappings:  # a user namespace's root may make no nodes
        mounts = (*mounts, *map(_bound, edits.device_nodes))
    else:
        devices = (*devices, *nodes)
    resources = spec.linux.resources or runtime.Resources()
    rules = (*resources.devices, *_rules(nodes, edits.device_nodes))
    moved = {device.host_interface_name: runtime.NetDevice(name=device.name) for device in edits.net_devices}
    linux = replace(
        spec.linux,
        devices=devices,
        resources=replace(resources, devices=rules),
        net_devices={**spec.linux.net_devices, **moved},
        intel_rdt=_rdt(edits.intel_rdt) if edits.intel_rdt else spec.linux.intel_rdt,
    )
    process = replace(spec.process, env=_environment(spec.process.env, edits.env))
    return replace(
        spec,
        process=process,
        mounts=mounts,
        hooks=_hooks(spec.hooks or runtime.Hooks(), edits.hooks) if edits.hooks else spec.hooks,
        annotations=_with_groups(spec.annotations, edits.additional_gids),
        linux=linux,
    )


def _bound(node: cdi.DeviceNode) -> runtime.Mount:
    source = node.host_path or node.path
    return runtime.Mount(destination=node.path, type="bind", source=source, options=("bind", "rprivate"))


def _environment(given: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    values = dict(text.partition("=")[::2] for text in (*given, *added))
    return tuple(f"{name}={value}" for name, value in values.items())


def _with_groups(annotations: dict[str, str], gids: tuple[int, ...]) -> dict[str, str]:
    """The container's user is looked up by name in the container, and these are added there."""
    added = [str(gid) for gid in gids if gid]
    if not added:
        return annotations
    before = [name for name in annotations.get(runtime.GROUP_ADD, "").split(",") if name]
    return {**annotations, runtime.GROUP_ADD: ",".join((*before, *added))}


def _node(node: cdi.DeviceNode, user: runtime.User, look: Callable[[str], tuple[str, int, int]]) -> runtime.Device:
    type, major, minor = node.type, node.major, node.minor
    if not type or (type != "p" and not (major or minor)):
        seen, major, minor = look(node.host_path or node.path)
        if type and type.replace("u", "c") != seen:
            raise InvalidInput(f"CDI device injection failed: {node.host_path or node.path} is not of type {type}")
        type = seen  # type: ignore[assignment]  # one of them
    uid, gid = _numbers(user.username)
    return runtime.Device(
        type=type or "c",
        path=node.path,
        major=major,
        minor=minor,
        file_mode=node.file_mode,
        uid=uid if node.uid is None else node.uid,
        gid=gid if node.gid is None else node.gid,
    )


def _numbers(user: str) -> tuple[int, int]:
    """Return the ids of a user that is given by number: such a device is that user's, where nothing else is said."""
    uid, _, gid = user.partition(":")
    return _number(uid), _number(gid)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0


def _rules(nodes: list[runtime.Device], asked: tuple[cdi.DeviceNode, ...]) -> list[runtime.DeviceRule]:
    return [
        runtime.DeviceRule(
            allow=True,
            type="b" if node.type == "b" else "c",
            major=node.major,
            minor=node.minor,
            access=given.permissions or "rwm",
        )
        for node, given in zip(nodes, asked, strict=True)
        if node.type != "p" and given.permissions != "none"
    ]


def _mounts(before: tuple[runtime.Mount, ...], added: tuple[cdi.Mount, ...]) -> tuple[runtime.Mount, ...]:
    """Put them in place of what is mounted there already, and all in an order in which none hides another."""
    if not added:
        return before
    ours = {mount.container_path for mount in added}
    kept = [mount for mount in before if mount.destination not in ours]
    new = [_mount(mount) for mount in added]
    return tuple(sorted((*kept, *new), key=lambda mount: os.path.normpath(mount.destination).count("/")))


def _mount(mount: cdi.Mount) -> runtime.Mount:
    binds = mount.type == "bind" or {"bind", "rbind"} & set(mount.options)
    options = mount.options if binds or mount.type else ("bind", *mount.options)
    return runtime.Mount(
        destination=mount.container_path, source=mount.host_path, type=mount.type or "bind", options=options
    )


def _hooks(before: runtime.Hooks, added: tuple[cdi.Hook, ...]) -> runtime.Hooks:
    stages: dict[str, tuple[runtime.Hook, ...]] = {}
    for hook in added:
        stage = _STAGES[hook.hook_name]
        made = runtime.Hook(path=hook.path, args=hook.args, env=hook.env, timeout=hook.timeout or None)
        stages[stage] = (*stages.get(stage, getattr(before, stage)), made)
    return replace(before, **stages)


def _rdt(rdt: cdi.IntelRdt) -> runtime.IntelRdt:
    return runtime.IntelRdt(
        clos_id=rdt.clos_id,
        schemata=rdt.schemata,
        l3_cache_schema=rdt.l3_cache_schema,
        mem_bw_schema=rdt.mem_bw_schema,
        enable_monitoring=rdt.enable_monitoring or rdt.enable_cmt or rdt.enable_mbm,
    )
