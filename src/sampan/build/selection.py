"""Which files a COPY or ADD takes: BuildKit's rules of sources, wildcards, --parents and --exclude.

The rules are those of fsutil's `copy.Copy` as `solver/llbsolver/file` of BuildKit calls it: links in a source's own
path are followed inside the tree, those below it are taken as links; of a directory its contents are taken, not itself;
a wildcard's components match names, hidden ones too, and through no link.

One difference: `--exclude` also holds for what a wildcard matches itself, as the reference has it; BuildKit forgets
that (moby/buildkit#5489).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple, Self

from sampan.build.ignore import Matcher, component, escaped, has_wildcards
from sampan.build.trees import opened, real
from sampan.errors import NotFound
from sampan.rootfs.union import join, split

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from sampan.build.ignore import Above
    from sampan.build.jobs import Item, Place
    from sampan.build.trees import Tree


class Chosen(NamedTuple):
    """A file of a tree. `target` is its path below the source that it belongs to; "" is that itself."""

    target: str
    path: str
    status: os.stat_result
    passing: bool = False  # a directory on the way to what was asked for


class Taken(NamedTuple):
    """What one source, or one match of its wildcards, came to."""

    name: str  # under which a file goes into a directory
    tree: Tree | None  # None: `content` is all of it
    itself: Chosen | None
    below: list[Chosen]  # of a directory
    unpack: bool = False  # if it is an archive
    content: bytes = b""
    identity: str = ""  # says all of its content

    @property
    def chosen(self) -> list[Chosen]:
        """All files that it has."""
        return self.below if self.is_directory or self.itself is None else [self.itself]

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory's contents that were taken."""
        return self.itself is not None and stat.S_ISDIR(self.itself.status.st_mode)


class Trees:
    """The trees of a step, each opened once. Use it in a `with`."""

    def __init__(self) -> None:
        self._open: dict[Place, Tree] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tree in self._open.values():
            tree.close()

    def at(self, place: Place) -> Tree:
        """Return the tree at a place."""
        tree = self._open.get(place)
        if tree is None:
            tree = self._open[place] = opened(place)
        return tree


def take(items: Iterable[Item], trees: Trees, verb: str = "COPY", *, select: bool = False) -> list[Taken]:
    """Find what a step takes, in its order. Raises NotFound for a source that is not there.

    To `select`, items with an identity are that alone: their files may not be here yet.
    """
    taken: list[Taken] = []
    for item in items:
        if item.file is not None:
            taken.append(Taken(item.file[0], None, None, [], content=item.file[1]))
            continue
        if item.identity and select:
            taken.append(Taken("", None, None, [], identity=item.identity))
            continue
        assert item.place is not None
        tree = trees.at(item.place)
        for source in item.sources:
            taken += _of_source(item, tree, source, verb)
    return taken


def beginning(item: Item, source: str) -> str:
    """Return the part of a source's path that is before its first wildcard: what it takes is there or below."""
    path = source.replace("/./", "/") if item.parents else source
    return _cleaned(path) if item.literal else "/".join(_split_wildcards(_cleaned(path))[:1])


def _of_source(item: Item, tree: Tree, source: str, verb: str) -> Iterator[Taken]:
    if item.literal and not item.parents:
        path = _cleaned(source)
        yield _taken(item, tree, path, path, source, verb)
        return
    if item.parents:
        pivot, cut, pattern = ("", "", escaped(source)) if item.literal else source.partition("/./")
        if not cut:
            pivot, pattern = "", pattern or source
        yield _with_parents(item, tree, real(tree, _cleaned(pivot)), _cleaned(pattern), source, verb)
        return
    start, rest = _split_wildcards(_cleaned(source))
    if not rest:
        yield _taken(item, tree, real(tree, start), start, source, verb)
        return
    root = real(tree, start)
    exclude = Matcher(item.exclude)
    for path in _matches(tree, root, rest):
        below = path[len(root) :].lstrip("/")
        if not (exclude and exclude.match(below)[0]):
            yield _taken(item, tree, real(tree, path), path, source, verb)


def _taken(item: Item, tree: Tree, path: str, name: str, source: str, verb: str) -> Taken:
    status = tree.status(path)
    if status is None or stat.S_ISSOCK(status.st_mode):  # it means nothing without who listens
        raise _not_found(tree, path, source, verb)
    itself = Chosen("", path, status)
    below = _below(tree, itself, Matcher(()), Matcher(item.exclude)) if stat.S_ISDIR(status.st_mode) else []
    return Taken(split(name)[1], tree, itself, below, unpack=item.unpack, identity=item.identity)


def _with_parents(item: Item, tree: Tree, root: str, pattern: str, source: str, verb: str) -> Taken:
    status = tree.status(root)
    if status is None or not stat.S_ISDIR(status.st_mode):
        raise _not_found(tree, root, source, verb)
    include = Matcher((pattern,) if pattern else ())
    itself = Chosen("", root, status)
    below = _below(tree, itself, include, Matcher(item.exclude))
    if not below and not has_wildcards(pattern) and tree.status(join(root, pattern)) is None:
        raise _not_found(tree, join(root, pattern), source, verb)
    return Taken("", tree, itself, below)


class _Directory:
    """A directory that is walked through."""

    __slots__ = ("above", "chosen", "excluding", "given", "including")

    def __init__(self, chosen: Chosen, above: _Directory | None, including: Above, excluding: Above) -> None:
        self.chosen = chosen
        self.above = above
        self.including = including
        self.excluding = excluding
        self.given = above is None

    def give(self, found: list[Chosen]) -> None:
        """Put it down, and those above it, unless that is done."""
        waiting = []
        directory: _Directory | None = self
        while directory is not None and not directory.given:
            directory.given = True
            waiting.append(directory.chosen)
            directory = directory.above
        found += reversed(waiting)


def _below(tree: Tree, root: Chosen, include: Matcher, exclude: Matcher) -> list[Chosen]:
    """Return what is below a directory and is included and not excluded; files before the directories beside them.

    A directory that is not asked for itself comes, as one on the way, when something in it does.
    """
    found: list[Chosen] = []
    pending = [_Directory(root, None, (), ())]
    while pending:
        directory = pending.pop()
        inside: list[_Directory] = []
        for name, status in tree.names(directory.chosen.path):
            target, path = join(directory.chosen.target, name), join(directory.chosen.path, name)
            included, including = include.match(target, directory.including) if include else (True, ())
            excluded, excluding = exclude.match(target, directory.excluding) if exclude else (False, ())
            kind = stat.S_IFMT(status.st_mode)
            if kind != stat.S_IFDIR:
                if included and not excluded and kind != stat.S_IFSOCK:
                    directory.give(found)
                    found.append(Chosen(target, path, status))
            elif (included or include.may_match_below(target)) and (not excluded or exclude.may_take_in_again(target)):
                wanted = included and not excluded and tree.is_seen(path)
                inside.append(_Directory(Chosen(target, path, status, not wanted), directory, including, excluding))
        for below in inside:
            if not below.chosen.passing:
                below.give(found)
        pending += reversed(inside)
    return found


def _matches(tree: Tree, root: str, rest: list[str]) -> Iterator[str]:
    """Give the paths that wildcards match, in the order in which one would come upon them."""
    pattern, *others = rest
    matching = component(pattern)
    status = tree.status(root)
    if status is None or not stat.S_ISDIR(status.st_mode):
        return
    for name, status in tree.names(root):
        if matching.match(name) is None:
            continue
        path = join(root, name)
        if not others:
            if tree.status(path) is not None:
                yield path
        elif stat.S_ISDIR(status.st_mode):
            yield from _matches(tree, path, others)


def _split_wildcards(path: str) -> tuple[str, list[str]]:
    """Part a path before its first component with a wildcard."""
    names = path.split("/")
    count = next((count for count, name in enumerate(names) if has_wildcards(name)), len(names))
    return "/".join(names[:count]), names[count:]


def _cleaned(path: str) -> str:
    """Return a source relative to the tree's root, which `..` does not leave: Go's filepath.Clean of `/` and it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def _not_found(tree: Tree, path: str, source: str, verb: str) -> NotFound:
    text = f'can\'t {verb} {source}: "/{_cleaned(source)}": not found in {tree.name}'
    if tree.is_left_out(path):
        return NotFound(text, "its .dockerignore leaves it out")
    if source.startswith("../") or "/../" in source or source == "..":
        return NotFound(text, f"a path does not lead out of {tree.name}")
    near = _nearest(tree, path)
    return NotFound(text, f"did you mean {near}?" if near else "")


def _nearest(tree: Tree, path: str) -> str:
    parent, name = split(path)
    status = tree.status(parent)
    if status is None or not stat.S_ISDIR(status.st_mode):
        return ""
    names = [name for name, _ in tree.names(parent)]
    import difflib

    return next((join(parent, near) for near in difflib.get_close_matches(name, names, 1)), "")
