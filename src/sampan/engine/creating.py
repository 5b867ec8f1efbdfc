"""A container's making: everything that can be refused is refused here, before anything runs."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan import ids
from sampan.engine import (
    device_requests,
    directory_roots,
    endpoints,
    health_files,
    image_mounts,
    log_options,
    mounts,
    network_modes,
    overlay_mounts,
    passwd_files,
    required,
    resources,
    restart_policy,
    secret_files,
    secret_uses,
    security,
    systemd,
    timeouts,
    user_modes,
    user_namespaces,
    without_effect,
)
from sampan.engine.block_io import block_io
from sampan.engine.core import encode, now_ns
from sampan.engine.merge import JOINABLE, complete, image_volume, joined
from sampan.engine.own_files import shared_host_name, write_files
from sampan.engine.port_bindings import check as check_ports
from sampan.engine.registry import Container
from sampan.engine.seccomp import seccomp_for
from sampan.engine.store import ContainerRow
from sampan.engine.translate import Surroundings, translate
from sampan.engine.unbuilt import refuse_unbuilt
from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.rootfs.union import real_path
from sampan.spec.distribution import go_architecture
from sampan.spec.docker import ContainerCreateResponse
from sampan.spec.runtime import Device, DeviceRule
from sampan.spec.state import State

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.directory_roots import DirectoryRoot
    from sampan.spec.docker import ContainerCreate, HostConfig
    from sampan.spec.image import Image, Rootfs
    from sampan.spec.runtime import Spec


def create(core: Core, name: str | None, body: ContainerCreate, platform: str | None) -> ContainerCreateResponse:
    """Make a container that can be started."""
    body = _checked(core, body)
    directory = directory_roots.wanted(body)
    image = directory_roots.image(core.host.architecture) if directory else core.images.resolve(body.image, platform)
    try:
        return _create(core, name, body, image, directory, _platform_warnings(core, image, platform))
    except NotFound as e:  # as a 404 it would have a docker client pull the image
        raise InvalidInput(e.message, e.hint) from e


def _create(
    core: Core,
    name: str | None,
    body: ContainerCreate,
    image: Image,
    directory: DirectoryRoot | None,
    warnings: list[str],
) -> ContainerCreateResponse:
    wanted_name = ids.check_name(name) if name else core.registry.unused_name()
    full = endpoints.complete(core.networks, complete(body, image.config.execution))
    endpoints.links(core.registry, full.host_config.links or (), must_run=False)
    warnings += check_ports(body, full)
    warnings += without_effect.words(body, full, core.host, _own_oom_score())
    full = health_files.placed(full)
    log_options.check(full.host_config.log_config.type, full.host_config.log_config.config or {})
    limit_bytes = resources.writable_bytes(full.host_config)
    joins = _joins(core, full.host_config)
    mounts.check_driver(full.host_config.volume_driver)
    uses = secret_uses.asked(full.host_config.annotations)
    secrets = secret_files.look_up(core, uses)
    boots = systemd.mode(full, lambda path: real_path(_layers(core, image, directory), path))
    full = systemd.applied(body, full, boots) if boots else full
    wanted = _mounts(core, full, image, systemd.in_memory(boots))
    own_groups = bool(boots) and systemd.owns_groups(full, boots, wanted, core.host, warnings)
    container = Container(ids.new_id(), wanted_name, now_ns(), (image.id, body.image), full, State())
    container.mounts = wanted
    with container.lock, ExitStack() as undo:  # whoever finds it by its name waits until it is whole
        core.registry.add(container)
        undo.callback(container.vanish)
        undo.callback(core.registry.remove, container)
        container.mounts = image_mounts.placed(core, container.mounts)
        rootfs = _rootfs(core, container.id, image, directory)
        undo.callback(core.snapshots.remove, container.id)
        container.mounts = overlay_mounts.placed(container.mounts, rootfs, core.dirs.container(container.id))
        container.mounts = secret_files.placed(container.mounts, core.dirs.container(container.id))
        if limit_bytes:
            core.snapshots.limit(rootfs, limit_bytes)
        given = _with_users(core, container, surroundings(core, container, rootfs, joins))
        blocks = block_io(full.host_config, core.host, warnings)
        given = replace(given, block_io=blocks, systemd=bool(boots), own_groups=own_groups)
        container.spec = translate(full, given, warnings)
        device_requests.given(core, full.host_config, container.spec)  # to refuse now what a start would
        secret_files.write(core.dirs.container(container.id), uses, secrets)
        write_files(core, container)
        _write(core, container, container.spec, rootfs)
        undo.pop_all()
    if image.id:
        core.images.used(image.id)
    core.tell(container, "create")
    return ContainerCreateResponse(id=container.id, warnings=tuple(warnings))


def _checked(core: Core, body: ContainerCreate) -> ContainerCreate:
    """Refuse what no image makes sensible; return the body with what it says of other things resolved."""
    refuse_unbuilt(body)
    body = user_namespaces.asked(core, body)
    body = required.resolved(core.registry, body)
    timeouts.timeout_s(body.host_config)
    restart_policy.check(body.host_config.restart_policy, auto_remove=body.host_config.auto_remove)
    network_modes.check(body)
    return body


def _mounts(core: Core, full: ContainerCreate, image: Image, in_memory: dict[str, str]) -> tuple[mounts.Wanted, ...]:
    """Return the mounts of a completed body, with the tmpfs that it does not name: those of `in_memory` the last."""
    if image_volume(full.host_config) == "tmpfs":
        in_memory = {**dict.fromkeys(image.config.execution.volumes or (), "exec"), **in_memory}
    asked = mounts.wanted(full, _inherited(core, full.host_config), in_memory)
    wanted = core.volumes.placed(mounts.name_volumes(asked, core.dirs.volumes))
    wanted = image_mounts.resolved(core, wanted)
    _check_sources(wanted)
    overlay_mounts.check(wanted)
    return wanted


def _layers(core: Core, image: Image, directory: DirectoryRoot | None) -> tuple[str, ...]:
    """Return the directories that show what it will run from, to be read."""
    if directory is not None:
        return (directory.path,)
    return core.snapshots.lowerdirs(image.diff_ids, host=image.host or image.on_host)


def _rootfs(core: Core, id: str, image: Image, directory: DirectoryRoot | None) -> Rootfs:
    if directory is not None:
        return core.snapshots.prepare_directory(id, directory.path, overlaid=directory.overlaid)
    core.images.resolve(image.id)  # from here on it is in use; was it removed before that?
    return core.snapshots.prepare(id, image)


def _with_users(core: Core, container: Container, given: Surroundings) -> Surroundings:
    """Add who its users are on the host, and its own lists of them."""
    body = container.body
    users = user_namespaces.choose(core, container, given.joins)
    if users:
        user_modes.check_user(users, body.user)
    if users and not given.rootfs.upperdir:
        user_namespaces.check_directory(users, given.rootfs.path)
    names = passwd_files.NAMES if passwd_files.are_asked(body) else ()
    if names:
        passwd_files.write(body, given.rootfs, given.own)
    return replace(
        given,
        users=users,
        passwd_files=names,
        device_sources=_device_sources(body.host_config) if users else {},
    )


def _write(core: Core, container: Container, spec: Spec, rootfs: Rootfs) -> None:
    """Make the volumes, then commit everything at once: a directory without a record is swept, never the reverse."""
    with core.volumes.lock, ExitStack() as undo:
        volumes = core.volumes.missing(container.mounts)
        undo.callback(core.volumes.unmake, volumes)
        core.volumes.make(volumes, container.mounts, rootfs.lowerdirs)
        overlay_mounts.make(container.mounts)
        row = ContainerRow(
            container.id,
            container.name,
            container.created_ns,
            container.image_id,
            container.image_name,
            encode(container.body),
            encode(container.mounts),
            encode(container.state),
        )
        core.store.add(row, encode(spec), volumes)
        core.volumes.learn(volumes)
        undo.pop_all()
    for volume in volumes:
        core.bus.tell("volume", "create", volume.name, {"driver": "local"})


def _own_oom_score() -> int:
    with open("/proc/self/oom_score_adj") as file:
        return int(file.read())


def _platform_warnings(core: Core, image: Image, platform: str | None) -> list[str]:
    ours, _ = go_architecture(core.host.architecture)
    if platform is None and image.architecture and image.architecture != ours:
        text = (
            f"The requested image's platform ({image.os}/{image.architecture}) does not match the detected host "
            f"platform (linux/{ours}) and no specific platform was requested"
        )
        return [text]
    return []


def _joins(core: Core, host_config: HostConfig) -> dict[str, str]:
    """Return the ids of the containers whose namespaces are to be joined."""
    found = {}
    for field in JOINABLE:
        name = joined(getattr(host_config, field))
        if not name:
            continue
        other = core.registry.find(name)
        if field == "ipc_mode" and other.body.host_config.ipc_mode != "shareable":
            raise Conflict(
                f"cannot join IPC of container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor "
                "container)"
            )
        found[field] = other.id
    return found


def _inherited(core: Core, host_config: HostConfig) -> list[mounts.Wanted]:
    """Return the mounts of the containers of --volumes-from."""
    found = []
    for text in host_config.volumes_from or ():
        name, readonly = mounts.volumes_from(text)
        other = core.registry.find(name)
        found += mounts.inherit(other.mounts, readonly=readonly)
    return found


def _check_sources(wanted: tuple[mounts.Wanted, ...]) -> None:
    for mount in wanted:
        if mount.type == "bind" and not mount.create_source and not os.path.lexists(mount.source):
            raise InvalidInput(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}',
                "create it, or let sampan do it with -v, which makes a missing directory",
            )


def surroundings(core: Core, container: Container, rootfs: Rootfs, joins: dict[str, str]) -> Surroundings:
    """Look up what a container's request is translated in."""
    host_config = container.body.host_config
    options = security.parse(host_config.security_opt or ())
    security.check_label(options, host_config, core.host)
    capabilities = security.capabilities(host_config, core.host)
    devices, rules = _devices(host_config)
    return Surroundings(
        id=container.id,
        host=core.host,
        machine=core.machine,
        host_name=shared_host_name(core, host_config),
        rootfs=rootfs,
        mounts=container.mounts,
        own=core.dirs.container(container.id),
        files=core.dirs.container(joins.get("network_mode", container.id)),
        cgroup_parent=core.cgroup_parent,
        seccomp=seccomp_for(core.dirs, security.seccomp_of(options, host_config), capabilities.bounding),
        apparmor=security.apparmor_of(options, host_config, core.host, core.apparmor),
        joins=joins,
        devices=devices,
        device_rules=rules,
    )


def _device_sources(host_config: HostConfig) -> dict[str, str]:
    """Return where on the host each of `--device` is, by its place in the container."""
    found = {}
    for mapping in host_config.devices or ():
        source, target = os.path.realpath(mapping.path_on_host), mapping.path_in_container or mapping.path_on_host
        found.update({d.path: source + d.path.removeprefix(target) for d in _tree(source, target)})
    return found


def _devices(host_config: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """Look at the host's device files: those of `--device`, all of them for `--privileged`."""
    devices = [*_tree("/dev", "/dev")] if host_config.privileged else []
    rules = []
    for mapping in host_config.devices or ():
        access = mapping.cgroup_permissions or "rwm"
        target = mapping.path_in_container or mapping.path_on_host
        found = list(_tree(os.path.realpath(mapping.path_on_host), target))
        if not found:
            raise InvalidInput(
                f'error gathering device information while adding custom device "{mapping.path_on_host}": '
                + ("not a device node" if os.path.exists(mapping.path_on_host) else "no such file or directory")
            )
        if not set(access) <= set("rwm") or not target.startswith("/"):
            raise InvalidInput(f"invalid device: {mapping.path_on_host}:{target}:{access}")
        devices += found
        rules += [DeviceRule(allow=True, type=d.type, major=d.major, minor=d.minor, access=access) for d in found]
    return tuple(devices), tuple(rules)


def _tree(path: str, target: str) -> list[Device]:
    """Return the device node at `path`, or those in the directory `path`."""
    try:
        info = os.lstat(path)
    except OSError:
        return []
    if stat.S_ISDIR(info.st_mode):
        skipped = {"pts", "shm", "mqueue", "fd", "console", "ptmx", ".lxc", ".udev"}
        names = [name for name in sorted(os.listdir(path)) if not (target == "/dev" and name in skipped)]
        return [device for name in names for device in _tree(f"{path}/{name}", f"{target}/{name}")]
    if not (stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)) or info.st_rdev == 0:
        return []
    return [
        Device(
            type="c" if stat.S_ISCHR(info.st_mode) else "b",
            path=target,
            major=os.major(info.st_rdev),
            minor=os.minor(info.st_rdev),
            file_mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
        )
    ]
