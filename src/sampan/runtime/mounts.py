"""The mounts, devices and hidden places of a container, computed from the configuration's words. Pure.

A bind is known by its option, not by its type. What the kernel has a flag for stays an option; the rest is data for the
filesystem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidInput, Unsupported
from sampan.runtime import mount_options, ops
from sampan.runtime.cgroups import NAMED, normal
from sampan.runtime.mount_options import BINDS, IDMAPS, Options, read
from sampan.spec.defaults import devices as defaults
from sampan.spec.host import CgroupMode, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.runtime import Device, Mount, Spec

OPTIONS = mount_options.KNOWN
"""The options of mounts that are not a filesystem's own."""


def is_bind(mount: Mount) -> bool:
    """Whether a place of the host is to appear, and not a filesystem of its own."""
    return mount.type == "bind" or not BINDS.isdisjoint(mount.options)


def _is_root(mount: Mount) -> bool:
    return mount.destination == "/"


def _is_cgroup(mount: Mount) -> bool:
    return mount.type in {"cgroup", "cgroup2"} and not is_bind(mount)


# ------------------------------------------------------------------------------------------------------------- the root


def root(spec: Spec, host: Host) -> Iterator[ops.Inside]:
    """Cut the namespace off from the host's mounts, and mount what becomes `/`."""
    assert spec.root
    user = has_user(spec)
    # Slave: what the host mounts later may still come in through a bind; nothing goes out. mount_namespaces(7).
    yield ops.SetPropagation("/", "rslave")
    found = overlay(spec, host)
    if found and user:
        yield ops.AttachOverlay(spec.root.path)
    yield from () if user else found
    if not found:
        yield ops.BindRoot(spec.root.path)


def overlay(spec: Spec, host: Host, *, detached: bool = False) -> list[ops.MountOverlay]:
    """Return the mount of the root filesystem, if the configuration has one for `/`."""
    assert spec.root
    for mount in spec.mounts:
        if not _is_root(mount):
            continue
        if mount.type != "overlay" or mount is not spec.mounts[0]:
            raise Unsupported(f"can't mount {mount.type or 'anything'} on /: only an overlay, and first")
        return [_overlay(spec, mount, host, spec.root.path, detached=detached)]
    return []


_LAYERS = frozenset({"lowerdir+", "upperdir", "workdir"})


def _overlay(
    spec: Spec, mount: Mount, host: Host, target: str, *, detached: bool, inside: bool = False
) -> ops.MountOverlay:
    pairs = [option.partition("=")[::2] for option in mount.options]
    return ops.MountOverlay(
        target=target,
        lowerdirs=tuple(v for k, v in pairs if k == "lowerdir+"),
        upperdir=next((v for k, v in pairs if k == "upperdir"), ""),
        workdir=next((v for k, v in pairs if k == "workdir"), ""),
        options=(
            *(o for o in mount.options if o.partition("=")[0] not in _LAYERS),
            *host.overlay_off,
            *_label(spec, mount.type),
        ),
        one_by_one=host.overlay_lower_plus,
        detached=detached,
        inside=inside,
        **(_container_ids(spec) if detached else {}),
    )


def _container_ids(spec: Spec) -> dict[str, Any]:
    """Return what maps ids on the disk to those of the container's user namespace."""
    path = next((n.path for n in spec.linux.namespaces if n.type == "user"), "")
    if path:
        return {"user_namespace": path}
    return {"uid_mappings": spec.linux.uid_mappings, "gid_mappings": spec.linux.gid_mappings}


def _is_layered(mount: Mount) -> bool:
    """Whether it is an overlay whose layers are named one by one, which is the form of ours: not one of mount(8)."""
    return mount.type == "overlay" and any(option.startswith("lowerdir+=") for option in mount.options)


def layered(spec: Spec, host: Host) -> Iterator[ops.MountOverlay]:
    """Return the overlays beside the root's, to be made outside a user namespace, where their layers can be read."""
    for mount in spec.mounts:
        if _is_layered(mount) and not _is_root(mount):
            yield _overlay(spec, mount, host, mount.destination, detached=True, inside=True)


def apart(spec: Spec) -> Iterator[ops.MountMapped]:
    """Return the filesystems whose files have other owners in the container: mounted where their devices may be."""
    for mount in spec.mounts:
        if _is_apart(mount, spec):
            options = read(mount.options)
            data = ",".join((*options.data, *_label(spec, mount.type)))
            ids = _container_ids(spec)
            yield ops.MountMapped(mount.type, mount.source, mount.destination, options.flags, data, **ids)


def _is_apart(mount: Mount, spec: Spec) -> bool:
    own = is_bind(mount) or _is_layered(mount) or mount.uid_mappings or mount.gid_mappings
    return not own and "idmap" in mount.options and has_user(spec)


# ---------------------------------------------------------------------------------------------------------- filesystems


def filesystems(spec: Spec, host: Host) -> Iterator[ops.Inside]:
    """Return the mounts in the configuration's order, but for those of control groups and what lies below them."""
    for n, mount in enumerate(spec.mounts):
        if not mount.destination.startswith("/"):
            raise InvalidInput(f"can't mount {mount.destination!r}: mounts[{n}].destination is no absolute path")
        _refuse_in_proc(mount)
        if not _is_root(mount) and not _is_cgroup(mount) and not _below_cgroups(mount, spec):
            yield _any(mount, spec, host)


_STATISTICS = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "uptime")
)
"""What programs like LXCFS show in place of the kernel's own numbers."""


def _refuse_in_proc(mount: Mount) -> None:
    """Nothing but a procfs may be where one is expected: labels and parameters are written to it. CVE-2019-16884."""
    place = normal(mount.destination)
    of_proc = mount.type == "proc" or (is_bind(mount) and normal(mount.source) == place)
    if place == "/proc" and not of_proc:
        raise InvalidInput("can't mount /proc: it must be of type proc")
    if place.startswith("/proc/") and not of_proc and place not in _STATISTICS:
        raise InvalidInput(f"can't mount {mount.destination}: it is inside /proc")


def _any(mount: Mount, spec: Spec, host: Host) -> ops.Inside:
    options = read(mount.options)
    if "remount" in options.words:
        of_mount = not BINDS.isdisjoint(options.words)
        return ops.Remount(mount.destination, options.flags, ",".join(options.data), of_mount)
    if is_bind(mount):
        return _bind(mount, options)
    if _is_layered(mount):
        if any(n.type == "user" for n in spec.linux.namespaces):
            return ops.AttachOverlay(mount.destination, inside=True)
        return _overlay(spec, mount, host, mount.destination, detached=False, inside=True)
    if _is_apart(mount, spec):
        return ops.AttachOverlay(mount.destination, inside=True)
    if mount.uid_mappings or mount.gid_mappings or not IDMAPS.isdisjoint(options.words):
        raise Unsupported(f"can't mount {mount.destination}: the ids of a bind can be mapped, not those of others")
    if mount.type == "mqueue" and not host.mqueue:
        raise Unsupported(f"can't mount {mount.destination}: this kernel has no message queues")
    copies = "tmpcopyup" in options.words
    if copies and mount.type != "tmpfs":
        raise InvalidInput(f"can't mount {mount.destination}: tmpcopyup is an option of a tmpfs")
    return ops.Mount(
        mount.type,
        mount.source or mount.type,
        mount.destination,
        options.flags,
        ",".join((*options.data, *_label(spec, mount.type))),
        options.recursive,
        options.propagation,
        copies,
    )


_UNLABELLED = frozenset({"proc", "sysfs", "mqueue", "cgroup", "cgroup2"})
"""Filesystems that take no context of a mount's."""


def _label(spec: Spec, type: str) -> tuple[str, ...]:
    label = spec.linux.mount_label
    return (f'context="{label}"',) if label and type not in _UNLABELLED else ()


def _below_cgroups(mount: Mount, spec: Spec) -> bool:
    return any(_is_cgroup(m) and mount.destination.startswith(f"{m.destination}/") for m in spec.mounts)


SUBPATH = "x-sampan.subpath="
"""Before the path, in a bind's source, of what is to be mounted. Options in x- are nobody else's."""


NAMESPACE = "x-sampan.namespace="
"""Before the mount namespace in which a bind's source is to be looked for."""


def _foreign(mount: Mount) -> str:
    return next((word.removeprefix(NAMESPACE) for word in mount.options if word.startswith(NAMESPACE)), "")


def _bind(mount: Mount, options: Options) -> ops.Bind:
    if not mount.source.startswith("/"):
        raise InvalidInput(f"can't bind {mount.source!r} on {mount.destination}: it is no absolute path")
    subpath = ""
    for word in (*options.data, *({"tmpcopyup"} & options.words)):
        if word.startswith(NAMESPACE):
            continue
        if not word.startswith(SUBPATH):
            raise Unsupported(f"can't bind {mount.source} on {mount.destination}: {word!r} is no option of a bind")
        subpath = word.removeprefix(SUBPATH)
    # What is the filesystem's own is left as it is, as by MS_REMOUNT with MS_BIND: mount(2).
    words = (*(w for w in options.flags if w not in options.superblock), *options.cleared)
    propagation = (options.propagation or ("rprivate",))[-1]
    recursive = _is_recursive(mount)
    return ops.Bind(mount.source, mount.destination, words, recursive, propagation, subpath, options.recursive)


def _is_recursive(mount: Mount) -> bool:
    return "bind" not in mount.options or "rbind" in mount.options


def opened_early(spec: Spec) -> Iterator[ops.OpenTree]:
    """Return the binds through which mounts are to reach the host: copied while the host's mounts are peers."""
    for mount in () if has_user(spec) else spec.mounts:
        shared = is_bind(mount) and read(mount.options).propagation[-1:] in {("shared",), ("rshared",)}
        if shared and not _foreign(mount):
            yield ops.OpenTree(mount.source, mount.destination, _is_recursive(mount))


def opened_outside(spec: Spec) -> Iterator[ops.OpenTree]:
    """Return the other binds of a container with a user namespace, whose root may be barred from the way to them."""
    taken = {op.target for op in mapped(spec)} | {op.source for op in borrowed(spec) if isinstance(op, ops.Borrow)}
    for mount in spec.mounts if has_user(spec) else ():
        if is_bind(mount) and mount.destination not in taken and mount.source not in taken:
            taken.add(mount.destination)
            bind = _bind(mount, read(mount.options))
            yield ops.OpenTree(bind.source, bind.target, bind.recursive, bind.subpath, _foreign(mount))


def has_user(spec: Spec) -> bool:
    """Whether the container has a user namespace that is not the host's."""
    return any(n.type == "user" for n in spec.linux.namespaces)


def mapped(spec: Spec) -> Iterator[ops.MapMount]:
    """Return the binds whose files have other owners in the container: made where the filesystem's own ids count."""
    for mount in spec.mounts:
        asked = IDMAPS & set(mount.options)
        if not (asked or mount.uid_mappings or mount.gid_mappings) or not is_bind(mount):
            continue
        own = {"uid_mappings": mount.uid_mappings, "gid_mappings": mount.gid_mappings}
        ids = own if any(own.values()) else _container_ids(spec)
        if not all(ids.values()):
            raise InvalidInput(
                f"can't map the ids of {mount.destination}: neither the mount nor the container has both mappings"
            )
        subpath = next((w.removeprefix(SUBPATH) for w in mount.options if w.startswith(SUBPATH)), "")
        recursive, below = _is_recursive(mount), "ridmap" in mount.options
        yield ops.MapMount(mount.source, mount.destination, **ids, recursive=recursive, below=below, subpath=subpath)


def borrowed(spec: Spec) -> Iterator[ops.Borrow | ops.OpenTree]:
    """Return what must be fetched out of other mount namespaces before this process has one of its own."""
    for mount in spec.mounts:
        parts = mount.source.split("/")
        if is_bind(mount) and len(parts) > 4 and parts[1] == "proc" and parts[2].isdigit() and parts[3] == "root":
            yield ops.Borrow(mount.source)
        elif is_bind(mount) and _foreign(mount) and not has_user(spec):
            yield ops.OpenTree(mount.source, mount.destination, _is_recursive(mount), namespace=_foreign(mount))


def cgroup_filesystems(spec: Spec, host: Host, own: tuple[tuple[str, str], ...]) -> Iterator[ops.Inside]:
    """Show the container its own control groups, and none of the host's where it has a namespace for that."""
    new_namespace = any(n.type == "cgroup" for n in spec.linux.namespaces)
    for mount in spec.mounts:
        if not _is_cgroup(mount) or not own:
            continue
        options = read(mount.options).flags
        if host.cgroup_mode is CgroupMode.V2:
            yield ops.Mount("cgroup2", "cgroup", mount.destination, options)
        else:
            yield from _v1_hierarchies(mount.destination, options, host, own, new_namespace=new_namespace)
    for mount in spec.mounts:
        if _below_cgroups(mount, spec):
            yield _any(mount, spec, host)
    # Last: what lies below is mounted on directories that are made there.
    for mount in spec.mounts if own and host.cgroup_mode is CgroupMode.V1 else ():
        if _is_cgroup(mount) and "ro" in read(mount.options).flags:
            yield ops.MakeReadOnly(mount.destination, mounted=True)


def _v1_hierarchies(
    place: str, options: tuple[str, ...], host: Host, own: tuple[tuple[str, str], ...], *, new_namespace: bool
) -> Iterator[ops.Inside]:
    """Mount one hierarchy for each group that the container has; the others would show the host's."""
    yield ops.Mount("tmpfs", "tmpfs", place, tuple(o for o in options if o != "ro"), "mode=755,size=64k")
    points = dict(host.cgroup_mounts)
    for controller, directory in own:
        # Controllers that share a mount are mounted together, or not at all: cgroups(7).
        together = [c for c, point in host.cgroup_mounts if point == points[controller]]
        name = ",".join(together)
        target, allowed = f"{place}/{name.removeprefix('name=')}", options
        if together == [NAMED]:  # it limits nothing, and is there for the container to arrange
            allowed = tuple(o for o in options if o != "ro")
        if new_namespace:
            yield ops.Mount("cgroup", "cgroup", target, allowed, name)
        else:
            yield ops.Bind(directory, target, allowed)
        if len(together) > 1:
            for one in together:
                yield ops.MakeLink(f"{place}/{one}", name)


# ---------------------------------------------------------------------------------------------------- devices and masks


def devices(spec: Spec) -> Iterator[ops.Inside]:
    """Make the standard nodes and links in a /dev of the container's own; in one that is bound they are there."""
    if any(m.destination.rstrip("/") == "/dev" and is_bind(m) for m in spec.mounts):
        return
    user = has_user(spec)
    named = {d.path for d in spec.linux.devices}
    for path, major, minor in defaults.NODES:
        if path in named:
            continue
        # Nobody may make nodes inside a user namespace: mknod(2), EPERM.
        yield ops.Bind(path, path, (), recursive=False) if user else ops.MakeNode(path, "c", major, minor)
    for n, device in enumerate(spec.linux.devices):
        if not device.path.startswith("/"):
            raise InvalidInput(f"can't make {device.path!r}: linux.devices[{n}].path is no absolute path")
        yield _device(device, user=user)
    for path, target in defaults.LINKS:
        yield ops.MakeLink(path, target)


def _device(device: Device, *, user: bool) -> ops.Inside:
    if user:
        return ops.Bind(device.path, device.path, (), recursive=False)
    kind = "c" if device.type == "u" else device.type
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    return ops.MakeNode(device.path, kind, device.major, device.minor, mode, device.uid, device.gid)


def masks(spec: Spec) -> Iterator[ops.Inside]:
    """Make places read-only and hide others; after the parameters, which are among them."""
    for path in spec.linux.readonly_paths:
        yield ops.MakeReadOnly(path)
    for path in spec.linux.masked_paths:
        yield ops.Mask(path)
