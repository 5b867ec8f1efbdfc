"""Overlays of a test: layers made by doing things in a real mount of them, and trees told as they show."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from sampan.kernel import mount
from support.child import in_child

Do = tuple[str, str, str]  # what is done, with which path, and another one

WORDS = (
    "mkdir", "write", "append", "chmod", "chown", "remove", "rename", "symlink", "link", "fifo", "socket", "attribute",
    "touch", "open", "again", "replace", "opaque",
)  # fmt: skip
_names = st.sampled_from(["a", "b", "c"])
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
actions = st.lists(st.tuples(st.sampled_from(WORDS), _paths, _paths), max_size=12)


class Overlay:
    """A chain of layers in one directory, the topmost of which is written through a mount."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.layers: list[str] = []  # topmost first

    def add(self, do: Callable[[], Any] = lambda: None, *options: str) -> Any:
        """Mount a new layer over those that are there, call `do` in the root; return what it returned."""
        number = len(self.layers)
        for kind in ("upper", "work", "merged"):
            (self.directory / f"{kind}{number}").mkdir()
        below = tuple(self.layers)
        self.layers.insert(0, str(self.directory / f"upper{number}"))
        return self._mounted(number, below, do, options)

    def again(self, do: Callable[[], Any]) -> Any:
        """Mount the topmost layer over the others once more, call `do` in the root."""
        return self._mounted(len(self.layers) - 1, tuple(self.layers[1:]), do)

    def _mounted(self, number: int, below: Sequence[str], do: Callable[[], Any], options: Sequence[str] = ()) -> Any:
        merged = str(self.directory / f"merged{number}")

        def inside() -> Any:
            if below:
                upper, work = (str(self.directory / f"{kind}{number}") for kind in ("upper", "work"))
                _mount(merged, [f"lowerdir+={d}" for d in below] + [f"upperdir={upper}", f"workdir={work}", *options])
                os.chdir(merged)
            else:
                os.chdir(self.directory / f"upper{number}")
            return do()

        return in_child(inside)


def _mount(target: str, options: Sequence[str]) -> None:
    fd = mount.fsopen("overlay")
    for option in options:
        key, _, value = option.partition("=")
        mount.fsconfig_string(fd, key, value)
    mount.fsconfig_create(fd)
    mount.move_mount(mount.fsmount(fd), "", mount.AT_FDCWD, target, mount.MOVE_MOUNT.F_EMPTY_PATH)


def populate() -> None:
    """Make a tree in the current directory in which most of `actions` find something to do."""
    for base in ("a", "b"):
        os.makedirs(f"{base}/c")
        for path in ("a", "b", "c/a", "c/b"):
            Path(f"{base}/{path}").write_text(f"{base}/{path}")
    os.link("a/a", "b/d")
    os.symlink("a", "c")


def perform(things: Sequence[Do]) -> None:
    """Do things in the current directory; what can't be done is left."""
    for number, (word, path, other) in enumerate(things):
        with suppress(OSError, shutil.Error):
            _one(word, path, other, f"{number}".encode())


def _one(word: str, path: str, other: str, content: bytes) -> None:
    match word:
        case "mkdir":
            os.makedirs(path, exist_ok=True)
        case "write":
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            _write(path, os.O_CREAT | os.O_TRUNC, content)
        case "append":
            _write(path, os.O_APPEND, content)
        case "chmod":
            os.chmod(path, 0o700)
        case "chown":
            os.chown(path, 12, 34, follow_symlinks=False)
        case "remove":
            _remove(path)
        case "rename":
            os.rename(path, other)
        case "symlink":
            os.symlink(other, path)
        case "link":
            os.link(path, other, follow_symlinks=False)
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(path)
        case "attribute":
            os.setxattr(path, "user.x", content, follow_symlinks=False)
        case "touch":
            os.utime(path, (1, 1), follow_symlinks=False)
        case "open":
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        case "again":
            _make_again(path)
        case "replace":
            _remove(path)
            os.mkdir(path) if len(other) < 3 else os.mkfifo(path)
        case "opaque":
            _remove(path)
            os.makedirs(path)


def _write(path: str, flags: int, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags)  # it may be a FIFO
    os.write(fd, content)
    os.close(fd)


def _remove(path: str) -> None:
    # rmtree(3.11) opens what it is given, and would wait for somebody to write to a FIFO.
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def _make_again(path: str) -> None:
    """Replace a directory by a copy in which all is as it was."""
    shutil.copytree(path, f"{path}.copy", symlinks=True)
    shutil.rmtree(path)
    os.rename(f"{path}.copy", path)


def tree(*, times: bool = True) -> dict[str, tuple[Any, ...]]:
    """Tell everything below the current directory as it shows: kind and mode, owner, device, content, time, names.

    Times are those of files only. The names are the other paths of the same file.
    """
    found: dict[str, tuple[Any, ...]] = {}
    names: dict[tuple[int, int], list[str]] = {}
    for base, directories, files in os.walk("."):
        for name in (*directories, *files):
            path = os.path.normpath(f"{base}/{name}")
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                names.setdefault((status.st_dev, status.st_ino), []).append(path)
            found[path] = _told(path, status, times=times)
    for together in names.values():
        for path in together:
            found[path] = (*found[path], tuple(sorted(set(together) - {path})))
    return found


def _told(path: str, status: os.stat_result, *, times: bool) -> tuple[Any, ...]:
    kind = stat.S_IFMT(status.st_mode)
    content: Any = None
    if kind == stat.S_IFREG:
        content = Path(path).read_bytes()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    xattrs = tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in os.listxattr(path, follow_symlinks=False))
    moment = status.st_mtime_ns if times and kind != stat.S_IFDIR else 0
    return (kind, status.st_mode, status.st_uid, status.st_gid, status.st_rdev, content, moment, xattrs)


def naive(old: dict[str, tuple[Any, ...]], new: dict[str, tuple[Any, ...]]) -> set[tuple[str, str]]:
    """Compare two trees as Docker's own way without overlayfs does: (kind, path) of all that it tells."""
    found = {}
    for path, told in new.items():
        if path not in old or not _is_below_directories(path, old):
            found[path] = "A"
        elif told[:8] != old[path][:8]:
            found[path] = "C"
    for path in old:
        if path not in new and _is_below_directories(path, new):
            found[path] = "D"
    for path in [*found]:
        while path := os.path.dirname(path):
            found.setdefault(path, "C")
    return {(kind, path) for path, kind in found.items()}


def _is_below_directories(path: str, tree: dict[str, tuple[Any, ...]]) -> bool:
    parent = os.path.dirname(path)
    return not parent or (parent in tree and tree[parent][0] == stat.S_IFDIR)
