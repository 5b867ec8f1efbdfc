"""The root filesystem: what a container runs from."""

from __future__ import annotations

from shlex import quote
from typing import ClassVar

from sampan.runtime.ops.base import inside
from sampan.spec.operation import Operation
from sampan.spec.runtime import IdMapping


class SetPropagation(Operation, frozen=True, tag="set-propagation"):
    """Cut the mounts of this namespace off from the host's: nothing mounted here appears there."""

    man: ClassVar[str] = "mount_namespaces(7)"
    target: str
    propagation: str

    def say(self) -> str:
        return f"make {self.target} {self.propagation}"

    def shell(self) -> str:
        return f"mount --make-{self.propagation} {quote(self.target)}"


class MountOverlay(Operation, frozen=True, tag="mount-overlay"):
    """Mount the image's layers, topmost first, under the container's own writable one."""

    man: ClassVar[str] = "mount(2), kernel: filesystems/overlayfs"
    target: str
    lowerdirs: tuple[str, ...]
    upperdir: str = ""
    workdir: str = ""
    options: tuple[str, ...] = ()
    one_by_one: bool = True  # each layer its own parameter (Linux 6.8), else all in one, which a page must hold
    detached: bool = False  # made by the shim, outside a user namespace, and attached by `AttachOverlay`
    inside: bool = False  # no root: `target` is a place inside the container's
    uid_mappings: tuple[IdMapping, ...] = ()  # of the layers' files, and of those that are written
    gid_mappings: tuple[IdMapping, ...] = ()
    user_namespace: str = ""  # whose mappings they are, where none are given

    @property
    def mapped(self) -> bool:
        """Whether its files have other owners than on the disk."""
        return bool(self.user_namespace or self.uid_mappings)

    def say(self) -> str:
        count = f"{len(self.lowerdirs)} layer" + "s" * (len(self.lowerdirs) != 1)
        owners = ", whose files are owned by the user namespace's users" if self.mapped else ""
        return f"mount an overlay of {count} on {self.target}{owners}"

    def shell(self) -> str:
        # A colon separates layers in mount(8)'s option; a backslash takes its meaning away.
        layers = ":".join(d.replace("\\", "\\\\").replace(":", "\\:") for d in self.lowerdirs)
        data = [f"lowerdir={layers}", *self.options]
        if self.inside:
            at, made = inside(self.target), ""
            if self.upperdir:
                data += [f"upperdir={self.upperdir}", f"workdir={self.workdir}"]
                upper, below = quote(self.upperdir), f"--reference={quote(self.lowerdirs[0])}"
                made = f"mkdir -p {upper} {quote(self.workdir)} && chown {below} {upper} && chmod {below} {upper} && "
            return f"{made}mkdir -p {at} && mount -t overlay overlay -o {','.join(map(quote, data))} {at}"
        if self.upperdir:
            data += ['upperdir="$upper"', 'workdir="$work"']
        words = ",".join(d if '"$' in d else quote(d) for d in data)
        return f'mount -t overlay overlay -o {words} "$root"'


class AttachOverlay(Operation, frozen=True, tag="attach-overlay"):
    """Attach what was mounted outside the user namespace: an overlay, whose layers can be read there, or a device."""

    man: ClassVar[str] = "move_mount(2)"
    target: str
    inside: bool = False  # it is a place inside the container's root

    def say(self) -> str:
        return f"attach at {self.target} what was mounted for it"

    def shell(self) -> str:
        return "# done with the mount"


class BindRoot(Operation, frozen=True, tag="bind-root"):
    """Bind the root directory onto itself: pivot_root wants a mount."""

    man: ClassVar[str] = "pivot_root(2)"
    path: str

    def say(self) -> str:
        return f"bind {self.path} onto itself"

    def shell(self) -> str:
        return f'mount --rbind {quote(self.path)} "$root"'


class Mount(Operation, frozen=True, tag="mount"):
    """Mount a filesystem at a place inside the container's root."""

    man: ClassVar[str] = "mount(2)"
    type: str
    source: str
    target: str
    options: tuple[str, ...] = ()
    data: str = ""
    recursive: tuple[str, ...] = ()  # options for all mounts below too, without their r
    propagation: tuple[str, ...] = ()
    copy_up: bool = False  # of what the place holds

    def say(self) -> str:
        words = ",".join((*self.options, *([self.data] if self.data else [])))
        copied = ", with a copy of what is there" if self.copy_up else ""
        return f"mount {self.type} on {self.target}" + (f" ({words})" if words else "") + copied

    def shell(self) -> str:
        words = ",".join((*self.options, *([self.data] if self.data else [])))
        option = f" -o {quote(words)}" if words else ""
        at = inside(self.target)
        made = f"mkdir -p {at} && mount -t {self.type} {quote(self.source)}{option} {at}"
        if self.copy_up:
            made = f'kept=$(mktemp -d) && cp -a {at}/. "$kept" && {made} && cp -a "$kept"/. {at}'
        return " && ".join((made, *_after(at, (), self.recursive, self.propagation)))


def _after(at: str, words: tuple[str, ...], recursive: tuple[str, ...], propagation: tuple[str, ...]) -> list[str]:
    """Return the commands that change a mount that is there."""
    options = (*words, *(f"{w}=recursive" for w in recursive))
    lines = [f"mount -o remount,bind,{','.join(options)} {at}"] if options else []
    return [*lines, *(f"mount --make-{p} {at}" for p in propagation)]


class Remount(Operation, frozen=True, tag="remount"):
    """Change the options of a mount that is there."""

    man: ClassVar[str] = "mount(2)"
    target: str
    options: tuple[str, ...] = ()
    data: str = ""
    of_mount: bool = False  # those of the mount, not of its filesystem

    def say(self) -> str:
        return f"change {self.target} to {self._words()}"

    def shell(self) -> str:
        return f"mount -o remount,{'bind,' * self.of_mount}{self._words()} {inside(self.target)}"

    def _words(self) -> str:
        return ",".join((*(self.options or ("rw",)), *([self.data] if self.data else [])))


class Bind(Operation, frozen=True, tag="bind"):
    """Make a file or directory of the host appear inside the container's root."""

    man: ClassVar[str] = "open_tree(2), move_mount(2)"
    source: str
    target: str
    options: tuple[str, ...] = ()  # ro nosuid nodev noexec …, and what clears them: rw suid dev exec …
    recursive: bool = True
    propagation: str = "rprivate"
    subpath: str = ""  # of what is in the source, this; it is looked for with the source as the root
    recursive_options: tuple[str, ...] = ()  # those that hold for all mounts below as well

    def say(self) -> str:
        words = ",".join((*self.options, *(f"r{w}" for w in self.recursive_options)))
        return f"bind {self._whole()} on {self.target}" + (f" ({words})" if words else "")

    def _whole(self) -> str:
        return f"{self.source}/{self.subpath}" if self.subpath else self.source

    def shell(self) -> str:
        at, source = inside(self.target), quote(self._whole())
        make = f"{{ [ -d {source} ] && mkdir -p {at} || {{ mkdir -p $(dirname {at}); [ -e {at} ] || : > {at}; }}; }}"
        lines = [make, f"mount --{'r' * self.recursive}bind {source} {at}"]
        return " && ".join(lines + _after(at, self.options, self.recursive_options, (self.propagation,)))


class OpenTree(Operation, frozen=True, tag="open-tree"):
    """Copy a mount of the host while mounts travel between both, or while its path can be walked; to be bound later."""

    man: ClassVar[str] = "open_tree(2)"
    source: str
    target: str  # of the `Bind` that it is for
    recursive: bool = True
    subpath: str = ""  # below the source, without leaving it
    namespace: str = ""  # the mount namespace to do it in, where that is another one

    def say(self) -> str:
        return f"copy the mount {self.source}, to be bound at {self.target}"

    def shell(self) -> str:
        return f"# done by binding {quote(self.source)} before mounts are cut off from the host's"


class MapMount(Operation, frozen=True, tag="map-mount"):
    """Copy a mount, with other owners for its files: those that a user namespace says; to be bound later."""

    man: ClassVar[str] = "mount_setattr(2), ID-mapped mounts"
    source: str
    target: str  # of the `Bind` that it is for
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    user_namespace: str = ""  # whose mappings they are, where none are given
    recursive: bool = True
    below: bool = False  # of all mounts below too
    subpath: str = ""  # below the source, without leaving it

    def say(self) -> str:
        return f"map the ids of {self.source} for {self.target}"

    def shell(self) -> str:
        # Each as mount(8) writes it: id-on-disk:id-in-the-container's-view:count.
        words = [f"u:{m.container_id}:{m.host_id}:{m.size}" for m in self.uid_mappings]
        words += [f"g:{m.container_id}:{m.host_id}:{m.size}" for m in self.gid_mappings]
        how = self.user_namespace or " ".join(words)
        return f"# mount(8) binds and maps at once: mount --bind -o X-mount.idmap={quote(how)} {quote(self.source)} …"


class MountMapped(Operation, frozen=True, tag="mount-mapped"):
    """Mount a filesystem outside a user namespace, whose root may mount none of a device; to be attached later."""

    man: ClassVar[str] = "mount(2), mount_setattr(2), ID-mapped mounts"
    type: str
    source: str
    target: str  # of the `AttachOverlay` that it is for
    options: tuple[str, ...] = ()
    data: str = ""
    uid_mappings: tuple[IdMapping, ...] = ()  # of its files
    gid_mappings: tuple[IdMapping, ...] = ()
    user_namespace: str = ""  # whose mappings they are, where none are given

    def say(self) -> str:
        return f"mount {self.type} for {self.target}, whose files are owned by the user namespace's users"

    def shell(self) -> str:
        words = ",".join((*self.options, *([self.data] if self.data else [])))
        option = f" -o {quote(words)}" if words else ""
        return f"# mount(8) maps too: mount -t {self.type}{option},X-mount.idmap=… {quote(self.source)} …"


class Borrow(Operation, frozen=True, tag="borrow"):
    """Copy a mount out of another container, to be bound here: only a process in that container can name it."""

    man: ClassVar[str] = "open_tree(2), setns(2)"
    source: str  # /proc/PID/root/…: as a `Bind` of this plan names it

    def namespace(self) -> str:
        """Return the mount namespace it is in."""
        return "/".join((*self.source.split("/")[:3], "ns", "mnt"))

    def path(self) -> str:
        """Return the place there."""
        return "/" + "/".join(self.source.split("/")[4:])

    def say(self) -> str:
        return f"copy the mount {self.source} out of its namespace"

    def shell(self) -> str:
        return f"# no tool does this: setns({self.namespace()}), open_tree({self.path()}, OPEN_TREE_CLONE)"


class MakeDirectory(Operation, frozen=True, tag="make-directory"):
    """Make a directory inside the container's root, unless it is there."""

    man: ClassVar[str] = "mkdir(2)"
    path: str

    def say(self) -> str:
        return f"make the directory {self.path} where it is missing"

    def shell(self) -> str:
        return f"mkdir -p {inside(self.path)}"


class MakeNode(Operation, frozen=True, tag="make-node"):
    """Make a device node."""

    man: ClassVar[str] = "mknod(2)"
    path: str
    type: str
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    def say(self) -> str:
        return f"make the device {self.path} ({self.type} {self.major}:{self.minor})"

    def shell(self) -> str:
        numbers = "" if self.type == "p" else f" {self.major} {self.minor}"
        line = f"mknod -m {self.mode:o} {inside(self.path)} {self.type}{numbers}"
        return line + (f" && chown {self.uid}:{self.gid} {inside(self.path)}" if self.uid or self.gid else "")


class MakeLink(Operation, frozen=True, tag="make-link"):
    """Make a symbolic link."""

    man: ClassVar[str] = "symlink(2)"
    path: str
    target: str

    def say(self) -> str:
        return f"link {self.path} to {self.target}"

    def shell(self) -> str:
        return f"ln -s {quote(self.target)} {inside(self.path)}"


class Mask(Operation, frozen=True, tag="mask"):
    """Hide a file behind /dev/null, or a directory behind an empty one; nothing where there is neither."""

    man: ClassVar[str] = "mount(2)"
    path: str

    def say(self) -> str:
        return f"hide {self.path}"

    def shell(self) -> str:
        at = inside(self.path)
        empty = f"mount -t tmpfs -o ro,nosuid,nodev,noexec,nr_inodes=2,mode=755 tmpfs {at}"
        null = f"mount --bind /dev/null {at} && mount -o remount,bind,ro {at}"
        return f"if [ -d {at} ]; then {empty}; elif [ -e {at} ]; then {null}; fi"


class MakeReadOnly(Operation, frozen=True, tag="make-read-only"):
    """Make a place inside the container's root read-only; nothing where there is none."""

    man: ClassVar[str] = "mount_setattr(2)"
    path: str
    mounted: bool = False  # it is a mount already and needs no bind onto itself

    def say(self) -> str:
        return f"make {self.path} read-only"

    def shell(self) -> str:
        at = inside(self.path) if self.path != "/" else '"$root"'
        if self.mounted:
            return f"mount -o remount,bind,ro {at}"
        return f"if [ -e {at} ]; then mount --rbind {at} {at} && mount -o remount,bind,ro {at}; fi"
