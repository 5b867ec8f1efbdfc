"""What the handlers work on: the shared blobs, the uploads, and which repository has what.

Two forms are served, a directory of our own (directory.py) and an OCI layout (layout.py). Both have
blobs/ALGORITHM/HEX.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sampan.errors import Conflict, InvalidInput, doing
from sampan.registry import durable
from sampan.registry.blobs import ALGORITHMS, Blobs
from sampan.registry.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from sampan.registry.document import Manifest
    from sampan.spec.distribution import Descriptor


class Stored(NamedTuple):
    """A manifest that a repository has. Its bytes are a blob."""

    digest: str
    media_type: str


class Repositories(Protocol):
    """Which repository has which blobs, manifests, tags and referrers. Whoever adds something holds Store.linking."""

    def knows(self, name: str) -> bool:
        """Tell whether there is such a repository."""

    def names(self) -> Iterator[str]:
        """Give the repositories that have a manifest, in any order."""

    def has_blob(self, name: str, digest: str, *, used: bool = False) -> bool:
        """Tell whether the repository has a blob. `used`: a client counts on it now, so gc leaves it for a while."""

    def link_blob(self, name: str, digest: str) -> None:
        """Give the repository a blob that is there."""

    def unlink_blob(self, name: str, digest: str) -> bool:
        """Take it away; tell whether it had it."""

    def manifest(self, name: str, reference: str, *, used: bool = False) -> Stored | None:
        """Return the manifest of that tag or digest; `used` as above."""

    def put_manifest(self, name: str, manifest: Manifest) -> None:
        """Give the repository a manifest whose bytes are there."""

    def put_tag(self, name: str, tag: str, manifest: Manifest) -> None:
        """Let a tag name a manifest that the repository has."""

    def delete_manifest(self, name: str, digest: str) -> bool:
        """Remove a manifest with its tags; tell whether it was there."""

    def tags(self, name: str) -> Iterable[str]:
        """Give the tags, in any order."""

    def delete_tag(self, name: str, tag: str) -> bool:
        """Remove a tag; tell whether it was there."""

    def referrers(self, name: str, digest: str) -> Iterable[str]:
        """Give the digests of the manifests whose subject that is, in any order."""

    def referrer(self, name: str, subject: str, digest: str) -> Descriptor | None:
        """Return what is listed of one of them."""


class Store:
    """One directory that is served; `repositories` makes what knows its form."""

    def __init__(self, root: str, private: str, repositories: Callable[[Store], Repositories]) -> None:
        self.root = root
        self.private = private  # where uploads, unfinished files and locks are
        self.blobs = Blobs(f"{root}/blobs", f"{private}/tmp")
        self.uploads = Uploads(f"{private}/uploads")
        self.repositories = repositories(self)

    def linking(self) -> AbstractContextManager[None]:
        """Keep gc from removing anything in the meantime: a blob is found to be there, then linked."""
        return durable.locked(f"{self.private}/lock", shared=True)

    def removing(self) -> AbstractContextManager[None]:
        """Keep everybody from linking anything in the meantime."""
        return durable.locked(f"{self.private}/lock", shared=False)

    def claim(self) -> int:
        """Become the one process that serves the directory for writing; return the descriptor that holds it.

        Unfinished files of whoever served it before are removed. Raises Conflict.
        """
        self.check()
        durable.make_directory(f"{self.private}/tmp")
        fd = durable.try_lock(f"{self.private}/serving.lock")
        if fd is None:
            raise Conflict(
                f"can't serve {self.root}: another registry serves it",
                "end that one, or serve the directory also from here with --read-only",
            )
        for name in os.listdir(f"{self.private}/tmp"):
            if durable.is_temporary(name):
                os.unlink(f"{self.private}/tmp/{name}")
        return fd

    def check(self) -> None:
        """Refuse to write where a link leads: a layout may come from anybody. Raises InvalidInput."""
        inside = ("blobs", *(f"blobs/{algorithm}" for algorithm in ALGORITHMS))
        ours = (self.private, *(f"{self.private}/{name}" for name in ("tmp", "uploads", "lock", "serving.lock")))
        for path in (*(f"{self.root}/{name}" for name in inside), *ours):
            if path != self.root and os.path.islink(path):
                raise InvalidInput(f"can't write to {self.root}: {path} is a symbolic link")


def open_store(root: str, *, name: str = "", create: bool = True) -> Store:
    """Open a directory in whichever form it is; an empty or missing one becomes our own form.

    `name` is the repository of a layout's bare tags. Raises InvalidInput for what is neither.
    """
    from sampan.registry import directory, layout

    root = os.path.abspath(root)
    with doing(f"can't open {root}"):
        if os.path.isfile(f"{root}/oci-layout"):
            return layout.open_layout(root, name)
        if name:
            raise InvalidInput("it is no OCI layout, so --name means nothing")
        if os.path.isfile(f"{root}/{directory.MARK}"):
            return directory.open_directory(root)
        if os.path.isdir(root) and os.listdir(root):
            raise InvalidInput(
                "it is neither a registry's directory nor an OCI layout, and not empty",
                "name an empty or a new directory",
            )
        if not create:
            raise InvalidInput("there is no registry in it")
        directory.create(root)
        return directory.open_directory(root)
