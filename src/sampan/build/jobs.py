"""What a worker is told of a COPY or ADD: where files are, which are taken, and where they go. Pure data.

An engine selects first (`Select`: the digest is a part of the step's key) and has the layer written when no cache has
it (`Lay`). Both are JSON in a message of `supervise.messages`.
"""

from __future__ import annotations

from typing import Literal

import msgspec


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
    literal: bool = False  # no wildcards, and links not followed: a download, a checkout
    unpack: bool = False  # archives, as ADD does
    parents: bool = False  # with `literal`, which takes a path and what is below it, the path is kept, too
    exclude: tuple[str, ...] = ()
    file: tuple[str, bytes] | None = None  # name and content, of a heredoc
    identity: str = ""  # what says all of its content: then `Select` reads nothing, and needs no `place`


class Select(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Find out which files a step takes, and their digest."""

    items: tuple[Item, ...]
    memory: str = ""  # the directory in which digests of contents are remembered
    selections: str = ""  # the directory in which it is told which files they are: `build.selections`


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
    memory: str = ""  # these two as in `Select`
    selections: str = ""


class Fetch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Get files from elsewhere into a new directory."""

    kind: Literal["archive", "url", "git"]
    target: str  # the directory to make, which must not exist
    value: str = ""  # a URL; of an archive its path, "": it comes through the descriptor beside the message
    checksum: str = ""  # of what a URL gives: sha256:…; of a git repository: the commit, or its beginning
    unpack: bool = False  # what a URL gives, if it is an archive
    keep_git_dir: bool = False
    agent: str = ""  # the socket of an SSH agent
    resolve: bool = False  # of git: only find out which commit it is


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What came."""

    identity: str  # says all of the content: the digest of a file, the commit of a repository
    directory: str = ""  # with the files
    name: str = ""  # of the one file that a URL gave; "": a tree
