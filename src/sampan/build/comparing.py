"""What differs first between two layers that should be the same: `--twice`."""

from __future__ import annotations

import os
import stat

_PIECE = 1 << 18
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "FIFO",
}


def difference(first: str, second: str) -> str:
    """Compare what is in two directories, names in order; say what is the first that differs, "" if nothing does."""
    pending = [""]
    while pending:
        parent = pending.pop()
        ours, theirs = (set(os.listdir(f"{root}{parent}")) for root in (first, second))
        for name in sorted(ours | theirs):
            path = f"{parent}/{name}"
            if name not in theirs or name not in ours:
                return f"{path} is in the {'first' if name in ours else 'second'} one only"
            found = _of_file(first + path, second + path)
            if found:
                return f"{path}: {found}"
            if stat.S_ISDIR(os.lstat(first + path).st_mode):
                pending.append(path)
    return ""


def _of_file(first: str, second: str) -> str:
    one, two = os.lstat(first), os.lstat(second)
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(two.st_mode):
        return f"a {_kind(one)}, then a {_kind(two)}"
    if one.st_mode != two.st_mode:
        return f"its mode is {stat.S_IMODE(one.st_mode):o}, then {stat.S_IMODE(two.st_mode):o}"
    if (one.st_uid, one.st_gid) != (two.st_uid, two.st_gid):
        return f"its owner is {one.st_uid}:{one.st_gid}, then {two.st_uid}:{two.st_gid}"
    if stat.S_ISLNK(one.st_mode) and os.readlink(first) != os.readlink(second):
        return f"it leads to {os.readlink(first)}, then to {os.readlink(second)}"
    if stat.S_ISREG(one.st_mode) and (found := _of_content(first, second)):
        return found
    if _xattrs(first) != _xattrs(second):
        return "its attributes differ"
    if int(one.st_mtime) != int(two.st_mtime):
        return "its time differs"
    return ""


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "file")


def _of_content(first: str, second: str) -> str:
    at = 0
    with open(first, "rb") as one, open(second, "rb") as two:
        while True:
            ours, theirs = one.read(_PIECE), two.read(_PIECE)
            if ours != theirs:
                same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
                return f"its content differs from byte {at + (min(len(ours), len(theirs)) if same is None else same)}"
            if not ours:
                return ""
            at += len(ours)


def _xattrs(path: str) -> dict[str, bytes]:
    names = (n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("trusted.overlay."))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
