"""The images of one instance: their names, configurations and layers, in SQLite and in files named by digest.

Order is what makes it safe against being killed: first the layers are there (renamed from tmp/), then the documents,
then one transaction makes the image exist; going the other way the transaction comes first. What a crash leaves is
named by no row, and `sweep` removes it. Layers of work in progress are pinned in memory meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Conflict, Failed, InvalidInput, NotFound, SampanError
from sampan.ids import short
from sampan.image import lineage, platforms, removal, unfinished
from sampan.image.blobs import Blobs
from sampan.image.catalog import Catalog
from sampan.image.database import Database, Row
from sampan.image.layers import Layers, boot_id
from sampan.kernel.trees import remove_tree, sync_filesystem
from sampan.spec.distribution import Manifest, Platform, decode_manifest, go_architecture
from sampan.spec.image import BlobFact, Image, Removal, decode_config
from sampan.spec.reference import DEFAULT_REGISTRY, Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence, Set as AbstractSet
    from typing import BinaryIO

    from sampan.dirs import Dirs
    from sampan.image.layers import Keeper, Pins
    from sampan.spec.distribution import Descriptor
    from sampan.spec.image import Use

    InUse = Callable[[str], Sequence[Use]]  # the containers that are made of the image with this id

_USED_AFTER_S = 1  # many containers are made of one image in a second


class Images:
    """The image store: called by the server only, from any thread. `builtins` are images that need no row."""

    def __init__(
        self,
        dirs: Dirs,
        builtins: Sequence[Image] = (),
        default_registry: Callable[[], str] = lambda: DEFAULT_REGISTRY,
        keeper: Keeper | None = None,
    ) -> None:
        """`default_registry` tells where names without a registry are sought first; docker.io's are found, too."""
        self._dirs = dirs
        self._keeper = keeper
        self._builtins = {image.id: image for image in builtins}
        self._lock = threading.RLock()
        self._closed = False
        self._closing = threading.Event()
        self._used: dict[str, int] = {}  # when containers were made of images, not on the disk yet
        os.makedirs(dirs.images, mode=0o700, exist_ok=True)
        self.layers = Layers(dirs)
        self._blobs = Blobs(f"{dirs.images}/blobs", dirs.tmp)
        self._database = Database(f"{dirs.images}/images.db")
        self._catalog = Catalog(self._database, self._blobs, builtins, default_registry)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._used and not self._closed:
                with suppress(Failed):
                    self._database.used(self._used)
            self._closed = True
            self._closing.set()
            self._database.close()

    def resolve(self, name: str, platform: str | None = None) -> Image:
        """Find an image by name, name and digest, id or beginning of an id. Raises NotFound in Docker's words."""
        with self._lock:
            image = self._catalog.find(name)
        if platform is not None and not _is_for(image, platforms.parse(platform)):
            raise NotFound(
                f"image with reference {name} was found but its platform ({image.config.platform}) does not match the "
                f"specified platform ({platform})",
                f"sampan pull --platform {platform} {name}",
            )
        return image

    def list(self, all: bool = False) -> tuple[Image, ...]:  # noqa: ARG002  # there are no intermediate images
        """Every image, the newest first and the built-in ones last."""
        with self._lock:
            images = [*self._catalog.images.values()]
        return tuple(sorted(images, key=lambda image: (not image.host, image.created_ns), reverse=True))

    def tag(self, image: Image, reference: Reference) -> None:
        """Give an image one more name; another image that had it loses it."""
        if reference.digest is not None:
            raise InvalidInput("refusing to create a tag with a digest reference")
        self.check_name(reference)
        with self._lock:
            if image.id not in self._catalog.images:
                raise NotFound(f"No such image: {image.id}")
            self._database.name(image.id, [str(reference)], time.time_ns())
            self._catalog.load()

    def untag(self, image: Image, names: Sequence[str]) -> tuple[Reference, ...]:
        """Take names of an image away, all if none is given; it stays, even without any. Return what went."""
        own = self._builtins[image.id].repo_tags if image.id in self._builtins else ()
        with self._lock:
            known = [r for r in self._catalog.references(image.id) if r.familiar() not in own]
            wanted = [self._catalog.reference(name) for name in names] or known
            for reference in wanted:
                if reference not in known:
                    raise NotFound(f"can't untag {reference.familiar()}: it is no name of image {short(image.id)}")
            self._database.remove(image.id, [str(reference) for reference in wanted], delete=False)
            self._catalog.load()
        return tuple(wanted)

    def layers_of_all(self) -> dict[str, dict[str, int]]:
        """The layers of each image and their bytes; also of images that are kept for their containers only."""
        with self._lock:
            return {row.id: dict(row.layers) for row in self._database.rows()}

    def check_name(self, reference: Reference) -> None:
        """Refuse to give an image the name of a built-in one."""
        for image in self._builtins.values():
            if reference.familiar() in image.repo_tags:
                raise InvalidInput(f"can't use the name {reference.familiar()}: it is a built-in image's")

    def remove(self, name: str, in_use: InUse, *, force: bool = False, no_prune: bool = False) -> tuple[Removal, ...]:
        """Take a name away, and the image too if it was the last one. Docker's rules: `removal.decide`.

        With an image goes the one it was made from, if that has no name and nothing else needs it, unless `no_prune`.
        """
        with self._lock:
            image = self._catalog.find(name)
            named = None if _is_id(name, image.id) else self._catalog.reference(name)
            if image.host:
                return self._untag_builtin(image, named)
            references = self._catalog.references(image.id)
            parents = lineage.parents(self._catalog.images.values())
            decision = removal.decide(
                image.id,
                references,
                in_use(image.id),
                named=named,
                force=force,
                typed=name,
                parent=image.id in parents.values(),
            )
            said = [Removal("Untagged", _shown(r, named, name)) for r in decision.untag]
            unused = {image.id: self._forget(image, decision, in_use)}
            if not decision.delete:
                return tuple(said)
            doomed = [image]
            for id in () if no_prune else lineage.orphans(image.id, parents, partial(self._is_kept, in_use)):
                doomed.append(self._catalog.images[id])
                unused[id] = self._forget(self._catalog.images[id], decision, in_use)
            self._drop_documents()
        for gone in doomed:
            sizes = dict(zip(gone.diff_ids, gone.layer_sizes, strict=True))
            said.append(Removal("Deleted", gone.id))
            said += [Removal("Deleted", d, sizes[d]) for d in reversed(unused[gone.id]) if self._discard(d)]
        return tuple(said)

    def _forget(self, image: Image, decision: removal.Decision, in_use: InUse) -> tuple[str, ...]:
        """Write down that names or the image are gone; return the layers that nothing needs any more, lowest first."""
        names = [str(reference) for reference in decision.untag]
        hide = decision.delete and bool(in_use(image.id))
        self._database.remove(image.id, names, delete=decision.delete, hide=hide)
        self._catalog.load()
        return self._unused(image.diff_ids)

    def _is_kept(self, in_use: InUse, id: str) -> bool:
        image = self._catalog.images.get(id)
        return image is None or image.host or bool(image.repo_tags or image.repo_digests or in_use(id))

    @contextmanager
    def working(self) -> Iterator[Pins]:
        """Work with layers that no image has yet; at the end of the block those that none got are removed."""
        with self.layers.working() as pins:
            try:
                yield pins
            finally:
                mine = pins.release()
                with self._lock:
                    unused = self._unused(mine)
                for diff_id in unused:
                    self._discard(diff_id)

    def add(
        self,
        config: bytes,
        *,
        manifest: bytes | None = None,
        tags: Iterable[Reference] = (),
        digests: Iterable[Reference] = (),
        origin: str | None = None,
    ) -> Image:
        """Make an image exist, the layers of which are here and pinned. Return it with its names.

        `origin` is the registry/repository that has the manifest's blobs.
        """
        view = decode_config(config)
        names = [str(reference) for reference in (*tags, *digests)]
        layers = []
        for diff_id in view.diff_ids:
            record = self.layers.find(diff_id)
            if record is None:
                raise NotFound(f"can't add image: its layer {diff_id} is missing")
            layers.append((diff_id, record.content_bytes))
        with self._lock:
            blobs = tuple(self._seen(manifest, view.diff_ids, origin)) if manifest is not None else ()
            row = Row(
                id=self._blobs.put(config),
                manifest=self._blobs.put(manifest) if manifest is not None else None,
                hidden=False,
                unsynced=boot_id(),
                layers=tuple(layers),
            )
            self._database.add(row, names, time.time_ns(), blobs)
            self._catalog.load()
            image = self._catalog.images[row.id]
        threading.Thread(target=self._sync, args=((row.id,),), daemon=True, name="sync").start()
        return image

    def blobs_of(self, diff_id: str) -> tuple[BlobFact, ...]:
        """The forms in which a layer was seen at registries and in archives, or was packed."""
        with self._lock:
            return self._database.blobs(diff_id)

    def open_blob(self, digest: str) -> BinaryIO | None:
        """Open a layer as it was transferred, if it was kept; it is not verified again."""
        with self._lock:
            diff_id = self._database.diff_id(digest)
        return self.layers.open_blob(diff_id, digest) if diff_id is not None else None

    def note_blob(self, diff_id: str, blob: Descriptor, origin: str | None) -> None:
        """Put down what a layer was packed as, and the registry/repository it was pushed to."""
        with self._lock:
            self._database.note(_fact(diff_id, blob, origin))

    def used(self, image_id: str) -> None:
        """Put down that a container is made of the image now. It is on the disk a second later, or at `close`."""
        with self._lock:
            image = self._catalog.images.get(image_id)
            if image is None or image.host or self._closed:
                return
            if not self._used:
                threading.Thread(target=self._write_used, daemon=True, name="used").start()
            self._used[image_id] = now_ns = time.time_ns()
            self._catalog.used(image, now_ns)

    def lists(self) -> dict[str, bytes]:
        """The indexes that are made here, by canonical name."""
        with self._lock:
            return self._database.lists()

    def keep_list(self, name: Reference, document: bytes) -> None:
        """Keep an index that is being made, in the place of one of the same name."""
        with self._lock:
            self._database.keep_list(str(name), document)

    def drop_list(self, name: Reference) -> bool:
        """Forget an index; return whether it was there."""
        with self._lock:
            return self._database.drop_list(str(name))

    def document(self, digest: str) -> bytes:
        """Read a manifest or configuration that is kept."""
        return self._blobs.get(digest)

    def collect(self, in_use: InUse) -> None:
        """Remove what was kept for containers that are gone now: images removed by force."""
        with self._lock:
            free = [id for id in self._catalog.hidden if not in_use(id)]
            if not free:
                return
            layers = {d for row in self._database.rows() if row.id in free for d, _ in row.layers}
            for id in free:
                self._database.remove(id, (), delete=True)
            self._catalog.load()
            unused = self._unused(layers)
            self._drop_documents()
        for diff_id in unused:
            self._discard(diff_id)

    def sweep(self, in_use: InUse) -> tuple[str, ...]:
        """Remove what a crash has left, and images whose parts are damaged; return a sentence for each of these.

        Called at the server's start, before anything else works with images.
        """
        unfinished.sweep(self._dirs.tmp)
        with self._lock:
            damaged = [(row, why) for row in self._database.rows() if (why := self._damage(row))]
            said = tuple(self._drop_damaged(row, why) for row, why in damaged)
            self._catalog.load()
            self.collect(in_use)
            rows = self._database.rows()
            self.layers.keep_only({diff_id for row in rows for diff_id, _ in row.layers} | self._kept_elsewhere())
            self._drop_documents()
        unsynced = tuple(row.id for row in rows if row.unsynced)
        if unsynced:
            threading.Thread(target=self._sync, args=(unsynced,), daemon=True, name="sync").start()
        return said

    def _seen(self, raw: bytes, diff_ids: Sequence[str], origin: str | None) -> Iterator[BlobFact]:
        """The blobs that a manifest names and that are known to be what it says."""
        manifest = decode_manifest(raw)
        if not isinstance(manifest, Manifest) or len(manifest.layers) != len(diff_ids):
            return
        for diff_id, blob in zip(diff_ids, manifest.layers, strict=True):
            record = self.layers.find(diff_id)
            known = {fact.digest for fact in self._database.blobs(diff_id)}
            if (record is not None and record.blob == blob.digest) or blob.digest in known:
                yield _fact(diff_id, blob, origin)

    def _write_used(self) -> None:
        self._closing.wait(_USED_AFTER_S)
        with self._lock:
            if not self._closed:
                with suppress(Failed):  # a full disk: not worth a word
                    self._database.used(self._used)
            self._used.clear()

    def _discard(self, diff_id: str) -> bool:
        """Remove a layer that nothing needed a moment ago: somebody may have made an image of it since."""
        with self._lock:
            trash = self.layers.take_away(diff_id) if self._unused((diff_id,)) else None
        if trash is not None:
            remove_tree(trash)
        return trash is not None

    def discard(self, diff_ids: Iterable[str]) -> tuple[str, ...]:
        """Remove those of some layers that nothing needs any more; return them."""
        return tuple(diff_id for diff_id in diff_ids if self._discard(diff_id))

    def _kept_elsewhere(self) -> AbstractSet[str]:
        return self._keeper.diff_ids() if self._keeper is not None else frozenset()

    def _unused(self, diff_ids: Iterable[str]) -> tuple[str, ...]:
        used = {diff_id for row in self._database.rows() for diff_id, _ in row.layers} | self._kept_elsewhere()
        return tuple(diff_id for diff_id in dict.fromkeys(diff_ids) if diff_id not in used)

    def _drop_documents(self) -> None:
        rows = self._database.rows()
        self._blobs.keep_only({row.id for row in rows} | {row.manifest for row in rows if row.manifest})

    def _untag_builtin(self, image: Image, named: Reference | None) -> tuple[Removal, ...]:
        if named is None or str(named) not in {name for name, _, _ in self._database.names()}:
            raise Conflict(f"can't remove {image.repo_tags[0]}: it is built in")
        self._database.remove(image.id, [str(named)], delete=False)
        self._catalog.load()
        return (Removal("Untagged", named.familiar()),)

    def _damage(self, row: Row) -> str | None:
        if row.unsynced is not None and row.unsynced != boot_id():
            return "the machine went down before its layers were on the disk"
        try:
            self._blobs.get(row.id)
            if row.manifest is not None:
                self._blobs.get(row.manifest)
        except SampanError as e:
            return e.message
        missing = [diff_id for diff_id, _ in row.layers if self.layers.find(diff_id) is None]
        return f"its layer {missing[0]} is missing or damaged" if missing else None

    def _drop_damaged(self, row: Row, why: str) -> str:
        names = [name for name, id, _ in self._database.names() if id == row.id]
        self._database.remove(row.id, names, delete=True)
        shown = Reference.parse(names[0]).familiar() if names else row.id
        return f"image {shown} is gone: {why}; pull, load or import it again"

    def _sync(self, ids: tuple[str, ...]) -> None:
        """Wait until the layers are on the disk, behind the answer: it writes what all programs have written."""
        begun_ns = time.time_ns()
        fd = os.open(self._dirs.layers, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync_filesystem(fd)
        except OSError:
            return
        finally:
            os.close(fd)
        with self._lock:
            if not self._closed:
                with suppress(Failed):  # a full disk: the next start does it
                    self._database.synced(ids)
                    if self._keeper is not None:
                        self._keeper.synced(begun_ns)


def _fact(diff_id: str, blob: Descriptor, origin: str | None) -> BlobFact:
    return BlobFact(
        digest=blob.digest,
        diff_id=diff_id,
        size=blob.size,
        media_type=blob.media_type,
        origins=(origin,) if origin else (),
    )


def _is_id(name: str, id: str) -> bool:
    """Tell whether `name`, by which the image was found, is its id or the beginning of it."""
    return name == id or (len(name) <= 64 and id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")))


def _shown(reference: Reference, named: Reference | None, typed: str) -> str:
    """The name that was given is repeated with the tag it may have had beside its digest, as Docker does."""
    if reference == named and reference.digest is not None:
        reference = msgspec.structs.replace(reference, tag=Reference.parse(typed).tag)
    return reference.familiar()


def _is_for(image: Image, wanted: Platform) -> bool:
    offered, variant = image.config.platform, image.config.platform.variant
    same = (offered.os, go_architecture(offered.architecture)[0]) == (wanted.os, wanted.architecture)
    return same and (variant is None or wanted.variant is None or variant == wanted.variant)
