"""Local volumes: a directory under volumes/NAME/_data, filled at its first use with what the image has there."""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.engine import volume_options
from sampan.engine.store import VolumeRow
from sampan.errors import InvalidInput, NotFound, Unsupported, doing
from sampan.kernel.trees import remove_tree
from sampan.rootfs import limits
from sampan.spec.state import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.dirs import Dirs
    from sampan.engine.mounts import Wanted
    from sampan.engine.registry import Container, Registry
    from sampan.engine.store import Store

_LINKS_MAX = 40
_COPY_BYTES = 1 << 20


def _volume(row: VolumeRow) -> Volume:
    return Volume(
        name=row.name,
        created_ns=row.created_ns,
        anonymous=bool(row.anonymous),
        labels=msgspec.json.decode(row.labels),
        options=msgspec.json.decode(row.options),
    )


class Volumes:
    """The volumes of this instance, in memory and in the store."""

    def __init__(self, dirs: Dirs, store: Store) -> None:
        self._dirs = dirs
        self._store = store
        self.lock = threading.Lock()  # held while volumes are made, or removed
        self._known = {row.name: _volume(row) for row in store.volumes()}

    def all(self) -> list[Volume]:
        """Return every volume."""
        return list(self._known.values())

    def get(self, name: str) -> Volume | None:
        """Return a volume by its name, None where there is none."""
        return self._known.get(name)

    def find(self, name: str) -> Volume:
        """Return a volume by its name. Raises NotFound."""
        volume = self._known.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def directory(self, name: str) -> str:
        """Return where a volume without options has its files."""
        return f"{self._dirs.volumes}/{name}/_data"

    def placed(self, mounts: Iterable[Wanted]) -> tuple[Wanted, ...]:
        """Return the mounts with the options of the volumes that are there, or that are asked for with new ones."""
        return tuple(volume_options.placed(mount, self._options(mount)) for mount in mounts)

    def _options(self, mount: Wanted) -> dict[str, str]:
        volume = self._known.get(mount.name) if mount.type == "volume" else None
        return volume.options if volume else mount.driver_options

    def add(self, row: VolumeRow) -> None:
        """Make a volume of a name that none has, empty. To be called with the lock held."""
        self._make(row)
        self._store.add_volume(row)
        self.learn((row,))

    def _make(self, row: VolumeRow) -> None:
        directory = self.directory(row.name)
        with doing(f"can't make volume {row.name}"):
            remove_tree(os.path.dirname(directory))  # what a crash before the commit left, maybe half a copy
            os.makedirs(directory, 0o755)
        if size := volume_options.size_bytes(msgspec.json.decode(row.options)):
            try:
                limits.set_limit((directory,), size)
            except Unsupported as e:
                remove_tree(os.path.dirname(directory))
                raise Unsupported(f"create {row.name}: quota size requested but no quota support", e.hint) from e

    def missing(self, mounts: Iterable[Wanted]) -> list[VolumeRow]:
        """Return the rows of the volumes among `mounts` that do not exist yet."""
        now = time.time_ns()
        return [
            VolumeRow(
                mount.name,
                now,
                mount.anonymous,
                msgspec.json.encode(mount.labels),
                msgspec.json.encode(mount.driver_options),
            )
            for mount in mounts
            if mount.type == "volume" and mount.name not in self._known
        ]

    def make(self, rows: Sequence[VolumeRow], mounts: Iterable[Wanted], lowerdirs: Sequence[str]) -> None:
        """Make the directories, and fill empty ones from the image. The store hears of them after: see `learn`."""
        for row in rows:
            self._make(row)
        for mount in mounts:
            if mount.type == "volume":
                with doing(f"can't make volume {mount.name}"):
                    os.makedirs(self.directory(mount.name), 0o755, exist_ok=True)
                    if mount.copy and not os.listdir(mount.source):
                        copy_up(lowerdirs, mount.target, mount.source)

    def unmake(self, rows: Sequence[VolumeRow]) -> None:
        """Remove what `make` has made, because the store did not hear of it."""
        for row in rows:
            remove_tree(f"{self._dirs.volumes}/{row.name}")

    def learn(self, rows: Iterable[VolumeRow]) -> None:
        """Take in volumes that are in the store by now."""
        for row in rows:
            self._known[row.name] = _volume(row)

    def remove_of(self, container: Container, registry: Registry) -> list[str]:
        """Remove the anonymous volumes that were made for `container` and that no other uses; return their names."""
        gone: list[str] = []
        if not container.volumes:
            return gone
        with self.lock:
            used = {name for other in registry if other is not container for name in other.volumes}
            for name in container.volumes:
                volume = self._known.get(name)
                if volume is not None and volume.anonymous and name not in used:
                    self.remove(name)
                    gone.append(name)
        return gone

    def remove(self, name: str) -> None:
        """Remove a volume and its content."""
        if self._known.pop(name, None) is None:
            raise NotFound(f"get {name}: no such volume")
        trash = f"{self._dirs.tmp}/volume-{name}"
        with doing(f"can't remove volume {name}"):
            try:
                os.rename(f"{self._dirs.volumes}/{name}", trash)
            except FileNotFoundError:
                trash = ""
        self._store.delete_volume(name)
        if trash:
            with limits.lifted(f"{trash}/_data"):
                remove_tree(trash)

    def sweep(self) -> None:
        """Remove directories that no row names: what a crash between rename and commit, or before a commit, left."""
        try:
            names = os.listdir(self._dirs.volumes)
        except FileNotFoundError:
            return
        for name in names:
            if name not in self._known:
                os.rename(f"{self._dirs.volumes}/{name}", f"{self._dirs.tmp}/volume-{name}")


# ------------------------------------------------------------------------------------- reading merged layers


class _Found(NamedTuple):
    """A path of the merged view: for a directory all of its parts, topmost first, else the one file."""

    parts: list[str]
    is_directory: bool


def copy_up(lowerdirs: Sequence[str], path: str, target: str) -> None:
    """Copy what the layers, merged as overlayfs would, have at `path` into the empty directory `target`.

    Owner, mode, times, links, extended attributes and kinds of files are kept. Nothing is mounted: the layers are plain
    directories. Nothing happens where the image has no directory at `path`.
    """
    found = _resolve(list(lowerdirs), path)
    if found is None or not found.is_directory:
        return
    _copy_directory(found.parts, target, {})


def _resolve(roots: list[str], path: str) -> _Found | None:
    """Follow `path` component by component in the merged view; links stay inside it."""
    here: list[list[str]] = [roots]
    todo = [part for part in path.split("/") if part]
    links = 0
    while todo:
        name = todo.pop(0)
        if name in (".", ".."):
            if name == ".." and len(here) > 1:
                here.pop()
            continue
        found = _look_up(here[-1], name)
        if found is None:
            return None
        if found.is_directory:
            here.append(found.parts)
        elif os.path.islink(found.parts[0]):
            links += 1
            if links > _LINKS_MAX:
                raise InvalidInput(f"can't resolve {path} in the image: too many levels of symbolic links")
            to = os.readlink(found.parts[0])
            here = [roots] if to.startswith("/") else here
            todo = [part for part in to.split("/") if part] + todo
        else:
            return found if not todo else None
    return _Found(here[-1], is_directory=True)


def _look_up(parts: list[str], name: str) -> _Found | None:
    """Return the entry `name` of a merged directory."""
    directories: list[str] = []
    for part in parts:
        path = f"{part}/{name}"
        try:
            info = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(info.st_mode):
            if directories:
                break
            return None if _is_whiteout(info) else _Found([path], is_directory=False)
        directories.append(path)
        if _is_opaque(path):
            break
    return _Found(directories, is_directory=True) if directories else None


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _copy_directory(parts: list[str], target: str, links: dict[tuple[int, int], str]) -> None:
    names: dict[str, None] = {}
    for part in parts:
        names.update(dict.fromkeys(os.listdir(part)))
    for name in names:
        found = _look_up(parts, name)
        if found is None:
            continue
        to = f"{target}/{name}"
        if found.is_directory:
            os.mkdir(to)
            _copy_directory(found.parts, to, links)
        else:
            _copy_entry(found.parts[0], to, links)
    _copy_metadata(parts[0], target, os.lstat(parts[0]))


def _copy_entry(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    info = os.lstat(source)
    key = (info.st_dev, info.st_ino)
    if info.st_nlink > 1 and key in links:
        os.link(links[key], target, follow_symlinks=False)
        return
    if stat.S_ISREG(info.st_mode):
        _copy_content(source, target)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    else:
        os.mknod(target, info.st_mode, info.st_rdev)
    links[key] = target
    _copy_metadata(source, target, info)


def _copy_content(source: str, target: str) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while os.sendfile(write, read, None, _COPY_BYTES):  # copy_file_range(2) refuses some pairs of filesystems
            pass
    finally:
        os.close(read)
        os.close(write)


def _copy_metadata(source: str, target: str, info: os.stat_result) -> None:
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
