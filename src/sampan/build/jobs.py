"""What a worker is told of a COPY or ADD: where files are, which are taken, and where they go. Pure data.

An engine selects first (`Select`: the digest is a part of the step's key) and has the layer written when no cache has
it (`Lay`). Both are JSON in a message of `supervise.messages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.spec.build import Add, Copy, Remote

if TYPE_CHECKING:
    from collections.abc import Mapping


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tree of files that is read: a directory of this host, or layers put together."""

    directory: str = ""
    identity: tuple[int, int] | None = None  # device and inode that the directory must have
    ignore: tuple[str, ...] = ()  # patterns of its .dockerignore
    layers: tuple[str, ...] = ()  # their directories, topmost first
    keep_owners: bool = False  # else root owns what a `directory` has; of layers they are kept always
    name: str = "the build context"  # in messages


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of a step's sources, which are taken from one place; or a file whose content is given."""

    place: Place | None = None
    sources: tuple[str, ...] = ()  # as written, after substitution
    literal: bool = False  # no wildcards, links not followed, nothing unpacked: a download, a checkout
    unpack: bool = False  # archives, as ADD does
    parents: bool = False
    exclude: tuple[str, ...] = ()
    file: tuple[str, bytes] | None = None  # name and content, of a heredoc


class Select(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Find out which files a step takes, and their digest."""

    items: tuple[Item, ...]
    memory: str = ""  # the directory in which digests of contents are remembered


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. The digest is of names, modes, owners, attributes and contents, not of times."""

    digest: str
    files: int
    content_bytes: int


class Lay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Write a layer of what a step takes, over its parent's layers."""

    target: str  # the directory to make, which must not exist: …/tmp/X, renamed by the server
    items: tuple[Item, ...]
    destination: str  # absolute; with a slash at its end it is a directory
    verb: str = "COPY"
    parent: tuple[str, ...] = ()  # directories of layers, topmost first
    owner: str = ""  # of --chown: `user[:group]`
    mode: str = ""  # of --chmod
    link: bool = False  # nothing of the parent is looked at
    newest_ns: int | None = None  # later times become this
    time_ns: int  # of directories that are made on the way
    memory: str = ""


def items_of(op: Copy | Add, place: Place, fetched: Mapping[Remote, Item] | None = None) -> tuple[Item, ...]:
    """Return a step's sources in their order: those in `place`, those from elsewhere as `fetched`, heredocs."""
    items: list[Item] = []
    unpack = isinstance(op, Add) and op.unpack is not False
    for source in op.sources:
        if isinstance(source, Remote):
            items.append((fetched or {})[source])
            continue
        item = Item(place=place, sources=(source,), unpack=unpack, parents=op.parents, exclude=op.exclude)
        items.append(item)
    items += (Item(file=(file.name, file.text.encode(errors="surrogateescape"))) for file in op.inline)
    return tuple(items)
