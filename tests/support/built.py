"""What a build has made, as text that two builders' results can be compared by: configuration, history, files."""

from __future__ import annotations

import hashlib
import itertools
import json
import tarfile
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

TIME = 1_700_000_000
"""The modification time of every file of the contexts: a file that still has it has kept its time."""

CONFIG = (
    "User Env Cmd Entrypoint WorkingDir ExposedPorts Volumes Labels StopSignal Shell Healthcheck OnBuild ArgsEscaped"
).split()
LONGEST = 300
_inodes = itertools.count()


class Node(NamedTuple):
    """One name of the root filesystem. `text` is all of it but who shares its inode."""

    text: str
    inode: int
    directory: bool = False


class Image(NamedTuple):
    config: dict[str, Any]
    history: list[str]
    tree: dict[str, Node]

    def told(self, base: Image) -> dict[str, Any]:
        """Return what differs from the image below it, ready for JSON."""
        above = self.history[len(base.history) :] if self._on(base) else self.history
        names, before = names_of(self.tree), names_of(base.tree)
        files = {name: text for name, text in names.items() if before.get(name) != text}
        files |= dict.fromkeys(before.keys() - names.keys(), "gone") if self._on(base) else {}
        return {"config": self.config, "history": above, "files": dict(sorted(files.items()))}

    def _on(self, base: Image) -> bool:
        return self.history[: len(base.history)] == base.history


def names_of(tree: dict[str, Node]) -> dict[str, str]:
    """Return each name's text; a further name of an inode says which one."""
    first: dict[int, str] = {}
    shown = {}
    for name, node in sorted(tree.items()):
        other = first.setdefault(node.inode, name)
        shown[name] = node.text if other == name else f"hard link to {other}"
    return shown


def read_archive(file: IO[bytes]) -> Image:
    """Read the only image of an archive as `docker save` writes it."""
    with tarfile.open(fileobj=file) as archive:
        (item,) = json.load(_member(archive, "manifest.json"))
        document = json.load(_member(archive, item["Config"]))
        tree: dict[str, Node] = {}
        for layer in item["Layers"]:
            with tarfile.open(fileobj=_member(archive, layer)) as opened:
                _apply(opened, tree)
    return Image(_config(document), _history(document, len(item["Layers"])), tree)


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    opened = archive.extractfile(name)
    assert opened, name
    return opened


def _config(document: dict[str, Any]) -> dict[str, Any]:
    config = document.get("config") or {}
    told = {key: config[key] for key in CONFIG if config.get(key)}
    return told | {key: document[key] for key in ("author", "variant") if document.get(key)}


def _history(document: dict[str, Any], layers: int) -> list[str]:
    entries = document.get("history") or []
    assert sum(not entry.get("empty_layer") for entry in entries) == layers, (entries, layers)
    return [("" if entry.get("empty_layer") else "+ ") + entry.get("created_by", "") for entry in entries]


# ------------------------------------------------------------------------------------------------------------- layers


def _apply(layer: tarfile.TarFile, tree: dict[str, Node]) -> None:
    """Change the tree as one layer says; what it removes are names of the layers below only."""
    added: dict[str, Node] = {}
    for member in layer:
        name = _absolute(member.name)
        path = PurePosixPath(name)
        if path.name == ".wh..wh..opq":
            _remove(tree, str(path.parent), itself=False)
        elif path.name.startswith(".wh."):
            _remove(tree, str(path.parent / path.name[4:]))
        elif name != "/.":
            _imply(name, tree, added)
            node = _node(layer, member, added)
            if not node.directory:
                _remove(tree, name)
            added[name] = node
    tree |= added


def _imply(name: str, tree: dict[str, Node], added: dict[str, Node]) -> None:
    """Make the directories that a layer has something in and does not have itself, as whoever unpacks it does."""
    for parent in map(str, PurePosixPath(name).parents[:-1]):
        if parent not in tree and parent not in added:
            added[parent] = Node("directory 755 0:0", next(_inodes), directory=True)


def _absolute(name: str) -> str:
    return "/" + str(PurePosixPath(name.lstrip("/")))


def _remove(tree: dict[str, Node], name: str, *, itself: bool = True) -> None:
    below = name.rstrip("/") + "/"
    for other in [other for other in tree if other.startswith(below) or (itself and other == name)]:
        del tree[other]


def _node(layer: tarfile.TarFile, member: tarfile.TarInfo, added: dict[str, Node]) -> Node:
    if member.islnk():
        return added[_absolute(member.linkname)]
    owner = f"{member.mode & 0o7777:o} {member.uid}:{member.gid}"
    kept = " time kept" if member.mtime == TIME else ""
    more = "".join(f" {key[13:]}={_xattr(value)}" for key, value in sorted(member.pax_headers.items())
                   if key.startswith("SCHILY.xattr."))  # fmt: skip
    match member.type:
        case tarfile.DIRTYPE:
            return Node(f"directory {owner}{more}", next(_inodes), directory=True)
        case tarfile.SYMTYPE:
            return Node(f"link {member.uid}:{member.gid} -> {member.linkname}", next(_inodes))
        case tarfile.CHRTYPE | tarfile.BLKTYPE:
            kind = "character" if member.type == tarfile.CHRTYPE else "block"
            return Node(f"{kind} device {owner} {member.devmajor}:{member.devminor}{more}", next(_inodes))
        case tarfile.FIFOTYPE:
            return Node(f"fifo {owner}{more}", next(_inodes))
        case _:
            opened = layer.extractfile(member)
            assert opened
            return Node(f"file {owner}{kept}{more} {_content(opened.read())}", next(_inodes))


def _xattr(value: str) -> str:
    return value.encode("utf-8", "surrogateescape").hex()


def _content(data: bytes) -> str:
    try:
        text = json.dumps(data.decode(), ensure_ascii=False)
    except UnicodeDecodeError:
        text = ""
    return text if text and len(text) <= LONGEST else f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"
