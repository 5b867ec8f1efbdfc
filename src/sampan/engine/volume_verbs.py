"""The verbs of volumes: create, inspect, list, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan import ids
from sampan.engine import volume_options
from sampan.engine.core import encode, now_ns
from sampan.engine.filtering import check, has_label, search, truth
from sampan.engine.mounts import check_volume_name, unknown_driver
from sampan.engine.store import VolumeRow
from sampan.errors import Conflict, InvalidInput, NotFound, Unsupported, doing
from sampan.rootfs.snapshots import tree_bytes
from sampan.spec import docker
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.requests import Filters
    from sampan.spec.state import Volume

_FILTERS = frozenset({"dangling", "driver", "label", "name"})
ANONYMOUS = "com.docker.volume.anonymous"
"""The label by which Docker's clients know a volume that nobody named."""


def create(core: Core, given: docker.VolumeCreate) -> docker.Volume:
    """Make a volume; one of this name that is there already is returned as it is."""
    name = check_volume_name(given.name) if given.name else ids.new_id()
    if given.driver not in ("", "local"):
        raise unknown_driver(given.driver).within(f"create {name}")
    if given.cluster_volume_spec is not None:
        raise Unsupported("unsupported: ClusterVolumeSpec", "sampan is an engine for one machine")
    options = given.driver_opts or {}
    with doing(f"create {name}"):
        volume_options.check(options)
    row = VolumeRow(name, now_ns(), not given.name, encode(given.labels or {}), encode(options))
    with core.volumes.lock:
        fresh = core.volumes.get(name) is None
        if fresh:
            core.volumes.add(row)
    if fresh:
        core.bus.tell("volume", "create", name, {"driver": "local"})
    volume = core.volumes.find(name)
    if not fresh and given.driver_opts and given.driver_opts != volume.options:
        raise Conflict(
            f"volume {name} already exists with other options", "remove it first, or choose another name; see inspect"
        )
    return body(core, volume)


def body(core: Core, volume: Volume, usage: docker.VolumeUsage | None = None) -> docker.Volume:
    """Return a volume in Docker's form."""
    return docker.Volume(
        name=volume.name,
        created_at=format_timestamp(volume.created_ns),
        labels={**({ANONYMOUS: ""} if volume.anonymous else {}), **volume.labels} or None,
        mountpoint=core.volumes.directory(volume.name),
        options=volume.options or None,
        usage_data=usage,
    )


def inspect(core: Core, name: str) -> docker.Volume:
    """Return everything about a volume."""
    return body(core, core.volumes.find(name))


def listing(core: Core, filters: Filters) -> docker.VolumeListResponse:
    """Return those that pass `dangling`, `driver`, `label` and `name`."""
    check(filters, _FILTERS)
    dangling = truth(filters, "dangling")
    used = {name for container in core.registry for name in container.volumes}
    found = [
        body(core, volume)
        for volume in sorted(core.volumes.all(), key=lambda volume: volume.name)
        if (dangling is None or (volume.name not in used) is dangling) and _passes(volume, filters)
    ]
    return docker.VolumeListResponse(volumes=tuple(found))


def _passes(volume: Volume, filters: Filters) -> bool:
    names, drivers = filters.get("name"), filters.get("driver")
    return (
        (names is None or any(search(value, volume.name) for value in names))
        and (drivers is None or "local" in drivers)
        and all(has_label(volume.labels, value) for value in filters.get("label", ()))
    )


def remove(core: Core, name: str, *, force: bool) -> None:
    """Remove a volume that no container uses; with `force` one that is not there is no error."""
    if not name:
        raise InvalidInput("invalid volume name: value is empty")
    with core.volumes.lock:
        if core.volumes.get(name) is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        users = [container.id for container in core.registry if name in container.volumes]
        if users:
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(users)}]",
                f"remove what uses it first: `sampan ps -a --filter volume={name}`",
            )
        core.volumes.remove(name)
    core.bus.tell("volume", "destroy", name, {"driver": "local"})


def usages(core: Core) -> Iterator[docker.Volume]:
    """Return all of them, with how large they are and how many containers use each."""
    for volume in core.volumes.all():
        users = sum(volume.name in container.volumes for container in core.registry)
        size = tree_bytes(core.volumes.directory(volume.name))
        yield body(core, volume, docker.VolumeUsage(size=size, ref_count=users))
