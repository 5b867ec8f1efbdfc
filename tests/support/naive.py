"""Layers unpacked one over another in order, in memory: what an assembly of them must show. The slow and simple way.

A layer is a list of members, each (kind, path, detail). What deletes (whiteout, opaque) is about the layers below only,
wherever in its layer it stands; the OCI image specification, "Whiteouts".
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Member = tuple[str, tuple[str, ...], Any]
USUAL = (0o755, 0, 0)


class Refused(Exception):
    """A member goes through what its own layer says is no directory."""


class Directory(dict):
    """Names with what they are: a Directory, or the text of a file or link."""

    meta = USUAL


def apply(layers: list[list[Member]]) -> Directory:
    """Unpack the layers, the lowest first."""
    root = Directory()
    for members in layers:
        for kind, path, name in members:
            if kind in ("whiteout", "opaque"):
                _delete(root, kind, path, name)
        own: set[tuple[str, ...]] = set()
        for kind, path, detail in members:
            if kind == "whiteout":
                _parent(root, (*path, detail), own)
            elif kind == "opaque":
                _parent(root, (*path, "x"), own)
            else:
                _write(root, kind, path, detail, own)
    return root


def flat(root: Directory, path: str = "") -> dict[str, object]:
    """All paths below, with mode and owner of directories, and the text of others."""
    found: dict[str, object] = {}
    for name, what in root.items():
        found[path + name] = what.meta if isinstance(what, Directory) else what
        if isinstance(what, Directory):
            found |= flat(what, f"{path}{name}/")
    return found


def _delete(root: Directory, kind: str, path: tuple[str, ...], name: str) -> None:
    found: object = root
    for part in path:
        found = found.get(part) if isinstance(found, Directory) else None
    if isinstance(found, Directory):
        if kind == "opaque":
            found.clear()
        else:
            found.pop(name, None)


def _parent(root: Directory, path: tuple[str, ...], own: set[tuple[str, ...]]) -> Directory:
    found = root
    for depth, part in enumerate(path[:-1], 1):
        below = found.get(part)
        if not isinstance(below, Directory):
            if below is not None and path[:depth] in own:
                raise Refused
            below = found[part] = Directory()
        own.add(path[:depth])
        found = below
    return found


def _write(root: Directory, kind: str, path: tuple[str, ...], detail: Any, own: set[tuple[str, ...]]) -> None:
    parent = _parent(root, path, own)
    old = parent.get(path[-1])
    own -= {one for one in own if one[: len(path)] == path} if kind != "directory" else set()
    own.add(path)
    if kind == "directory":
        made = old if isinstance(old, Directory) else Directory()
        made.meta = detail
        parent[path[-1]] = made
    else:
        parent[path[-1]] = f"{kind} {detail}"


_NAMES = st.sampled_from(["a", "b"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(tuple)
_ABOVE = st.lists(_NAMES, max_size=2).map(tuple)
_META = st.tuples(st.sampled_from([0o755, 0o700, 0o1777]), st.sampled_from([0, 5]), st.sampled_from([0, 6]))
_MEMBERS = st.one_of(
    st.tuples(st.just("directory"), _PATHS, _META),
    st.tuples(st.just("file"), _PATHS, st.sampled_from(["", "1", "2", "3"])),
    st.tuples(st.just("file"), _PATHS, st.sampled_from(["", "1", "2", "3"])),
    st.tuples(st.just("link"), _PATHS, st.just("nowhere")),
    st.tuples(st.just("whiteout"), _ABOVE, _NAMES),
    st.tuples(st.just("whiteout"), _ABOVE, _NAMES),
    st.tuples(st.just("opaque"), _ABOVE, st.just("")),
)
stacks = st.lists(st.lists(_MEMBERS, max_size=8), min_size=1, max_size=5)
"""Layers over one another, with few names, so that they get in one another's way."""
