"""Contexts made by code, where links, modes, owners, devices and attributes matter. Every time in them is TIME."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import zstandard

from support.built import TIME

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service=ep, as setcap(8) writes it."""


def tree(top: Path) -> None:
    """A few files, directories, modes, owners and links."""
    _files(top, "a.txt b.txt c.md run.sh dir/one dir/two dir/.hidden dir/sub/three dir/sub/deep/four other/five")
    (top / "empty").mkdir()
    modes = {"b.txt": 0o600, "run.sh": 0o755, "dir/sub": 0o700, "dir/two": 0o4711, "other": 0o1777}
    for name, mode in modes.items():
        (top / name).chmod(mode)
    os.chown(top / "c.md", 1000, 1000)
    os.chown(top / "dir/sub", 1000, 10)


def links(top: Path) -> None:
    """Symbolic links of every kind, and names that share an inode."""
    _files(top, "file dir/inner dir/deep/most")
    targets = {
        "to-file": "file",
        "to-dir": "dir",
        "dangling": "nowhere",
        "absolute": "/file",
        "out": "../../../../etc/passwd",
        "dir/up": "../file",
        "dir/self": ".",
        "chain": "to-file",
        "dir/deep/abs": "/dir/inner",
        "loop": "loop",
    }
    for name, target in targets.items():
        (top / name).symlink_to(target)
    (top / "hard").mkdir()
    _files(top, "hard/first")
    os.link(top / "hard/first", top / "hard/second")


def special(top: Path) -> None:
    """What is neither a file nor a directory, and files with attributes."""
    _files(top, "s/plain s/capable s/sparse")
    os.mkfifo(top / "s/fifo", 0o620)
    os.mknod(top / "s/null", 0o020666, os.makedev(1, 3))
    os.mknod(top / "s/disk", 0o060640, os.makedev(7, 200))
    os.setxattr(top / "s/capable", "security.capability", CAPABILITY)
    with (top / "s/sparse").open("wb") as file:
        file.truncate(1 << 20)


def names(top: Path) -> None:
    """Names that mean something to the language or to a pattern."""
    _files(top, "n/plain")
    for name in (
        "with space",
        "a[b]c",
        "star*",
        "ques?tion",
        "back\\slash",
        "ünï",
        "$dollar",
        "#hash",
        "quo'te",
        '"d"',
    ):
        (top / "n" / name).write_text(name)


def archives(top: Path) -> None:
    """One archive in each form, and such as only look like one."""
    data = _archive()
    forms: dict[str, Callable[[bytes], bytes]] = {
        "plain.tar": lambda data: data,
        "a.tar.gz": lambda data: gzip.compress(data, mtime=0),
        "a.tar.bz2": bz2.compress,
        "a.tar.xz": lzma.compress,
        "a.tar.zst": zstandard.compress,
        "no-suffix": lambda data: gzip.compress(data, mtime=0),
    }
    for name, packed in forms.items():
        (top / name).write_bytes(packed(data))
    (top / "text.tar.gz").write_text("no archive\n")
    (top / "text.gz").write_bytes(gzip.compress(b"a text\n", mtime=0))
    (top / "cut.tar.gz").write_bytes(gzip.compress(data, mtime=0)[:-40])
    with zipfile.ZipFile(top / "a.zip", "w") as zip:
        zip.writestr(zipfile.ZipInfo("zipped"), "zipped\n")
    (top / "inside").mkdir()
    (top / "inside/plain.tar").write_bytes(data)


def hostile(top: Path) -> None:
    """Archives that want to write elsewhere."""
    _write(top / "up.tar", ("../up", tarfile.REGTYPE, ""), ("ok", tarfile.REGTYPE, ""))
    _write(top / "absolute.tar", ("/abs", tarfile.REGTYPE, ""))
    _write(top / "through.tar", ("out", tarfile.SYMTYPE, "/etc"), ("out/written", tarfile.REGTYPE, ""))
    _write(top / "hard.tar", ("stolen", tarfile.LNKTYPE, "../../../etc/passwd"))


def wood(top: Path) -> None:
    """Names for .dockerignore's patterns."""
    _files(
        top, "a.md b.md README.md src/a.md src/deep/b.md src/deep/c.txt src/x.txt temp tempa temp1/t x/temp/y keep/k"
    )
    _files(top, "node/pkg/i node/pkg/j .git/HEAD .env d/.env foo/bar/f foo/baz/f")


CONTEXTS = {made.__name__: made for made in (tree, links, special, names, archives, hostile, wood)}


def settle(top: Path) -> None:
    """Give everything the same time."""
    for directory, below, files in os.walk(top, topdown=False):
        for name in (*below, *files):
            os.utime(os.path.join(directory, name), (TIME, TIME), follow_symlinks=False)
    os.utime(top, (TIME, TIME))


def _files(top: Path, listed: str) -> None:
    for name in listed.split():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
        path.chmod(0o644)


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "t", tarfile.DIRTYPE, mode=0o750, uid=7, gid=8)
        _add(tar, "t/file", content=b"packed\n", mode=0o640, uid=1000, gid=1000)
        _add(tar, "t/tool", content=b"x", mode=0o4755)
        _add(tar, "t/link", tarfile.SYMTYPE, linkname="file", uid=7)
        _add(tar, "t/absolute", tarfile.SYMTYPE, linkname="/etc/passwd")
        _add(tar, "t/hard", tarfile.LNKTYPE, linkname="t/file", mode=0o640, uid=1000, gid=1000)
        _add(tar, "t/fifo", tarfile.FIFOTYPE, mode=0o600)
        _add(tar, "implied/deep/file", content=b"deep\n")
    return buffer.getvalue()


def _write(path: Path, *members: tuple[str, bytes, str]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, kind, target in members:
            _add(tar, name, kind, linkname=target, content=b"hostile\n" if kind == tarfile.REGTYPE else b"")


def _add(
    tar: tarfile.TarFile, name: str, type: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mtime, member.mode = type, len(content), TIME, 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))
