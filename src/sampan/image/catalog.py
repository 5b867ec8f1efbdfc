"""The images as they are known in memory: by id, by each of their names, and found by what a user types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.errors import NotFound, SampanError
from sampan.ids import is_digest
from sampan.spec.image import Image, decode_config
from sampan.spec.reference import DEFAULT_REGISTRY, Reference, has_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sampan.image.blobs import Blobs
    from sampan.image.database import Database, Row

_HEX = frozenset("0123456789abcdef")


class Catalog:
    """What the database's rows and the documents that they name say. Its user holds a lock around every call."""

    def __init__(
        self, database: Database, blobs: Blobs, builtins: Sequence[Image], default_registry: Callable[[], str]
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._builtins = tuple(builtins)
        self._default_registry = default_registry
        self._by_name: dict[str, str] = {}
        self.images: Mapping[str, Image] = {}  # by id; not the hidden ones
        self.hidden: frozenset[str] = frozenset()  # kept for their containers only
        self.load()

    def load(self) -> None:
        """Read the database anew: it is small, and the store is its only writer."""
        by_name: dict[str, str] = {}
        tags: dict[str, list[str]] = {}
        digests: dict[str, list[str]] = {}
        times: dict[str, int] = {}
        for name, id, named_ns in self._database.names():
            by_name[name] = id
            reference = Reference.parse(name)
            (tags if reference.digest is None else digests).setdefault(id, []).append(reference.familiar())
            times[id] = max(times.get(id, 0), named_ns)
        rows = self._database.rows()
        images = {row.id: known for row in rows if not row.hidden and (known := self._read(row)) is not None}
        for builtin in self._builtins:
            images[builtin.id] = builtin
            by_name |= {str(Reference.parse(name)): builtin.id for name in builtin.repo_tags}
        self._by_name = by_name
        self.images = {id: _named(image, tags, digests, times) for id, image in images.items()}
        self.hidden = frozenset(row.id for row in rows if row.hidden)

    def _read(self, row: Row) -> Image | None:
        known = self.images.get(row.id)
        if known is not None and known.manifest_digest == row.manifest:
            return known
        try:
            raw = self._blobs.get(row.id)
        except SampanError:  # `Images.sweep` says so
            return None
        return Image(
            id=row.id,
            config=decode_config(raw),
            raw_config=raw,
            diff_ids=tuple(diff_id for diff_id, _ in row.layers),
            layer_sizes=tuple(size for _, size in row.layers),
            size=sum(size for _, size in row.layers),
            manifest_digest=row.manifest,
            last_used_ns=row.last_used_ns or 0,
        )

    def find(self, name: str) -> Image:
        """Find an image by name, name and digest, id or beginning of an id. Raises NotFound in Docker's words."""
        id = self._by_name.get(name)  # a built-in's name, or a canonical one
        if id is None and (name in self.images or f"sha256:{name}" in self.images):
            id = name if name in self.images else f"sha256:{name}"
        if id is None and not is_digest(name) and not (len(name) == 64 and _HEX.issuperset(name)):
            id = self._by_name.get(str(self.reference(name)))
        if id is None:
            prefix = name.removeprefix("sha256:")
            found = [id for id in self.images if id[7:].startswith(prefix)] if _HEX.issuperset(prefix) else []
            id = found[0] if len(found) == 1 else None
        if id is None or id not in self.images:
            bare = len(name) == 64 and _HEX.issuperset(name)
            shown = f"sha256:{name}" if bare else name if is_digest(name) else self.reference(name).familiar()
            raise NotFound(
                f"No such image: {shown}", "`sampan images` lists those that are here, `sampan pull` gets one"
            )
        return self.images[id]

    def reference(self, name: str) -> Reference:
        """Return what a name means here: without a registry, the default one's if that is known, else docker.io's."""
        reference = _without_tag_of_digest(Reference.parse(name))
        if not has_registry(name) and (default := self._default_registry()) != DEFAULT_REGISTRY:
            preferred = _without_tag_of_digest(Reference.parse(name, default))
            if str(preferred) in self._by_name or str(reference) not in self._by_name:
                return preferred
        return reference

    def references(self, id: str) -> list[Reference]:
        """Return all names of an image."""
        return [Reference.parse(name) for name, named in self._by_name.items() if named == id]

    def used(self, image: Image, now_ns: int) -> None:
        """Put down that a container was made of an image; the database may learn it later."""
        self.images = {**self.images, image.id: msgspec.structs.replace(image, last_used_ns=now_ns)}


def _named(image: Image, tags: dict[str, list[str]], digests: dict[str, list[str]], times: dict[str, int]) -> Image:
    own = image.repo_tags if image.host else ()
    return msgspec.structs.replace(
        image,
        repo_tags=(*own, *tags.get(image.id, ())),
        repo_digests=tuple(digests.get(image.id, ())),
        last_tagged_ns=times.get(image.id, 0),
    )


def _without_tag_of_digest(reference: Reference) -> Reference:
    return reference.with_digest(reference.digest) if reference.digest else reference
