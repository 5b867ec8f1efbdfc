"""Indexes that are made here: `sampan manifest`. Their images are at registries or in the store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import copying
from sampan.engine.pushing import held, outgoing
from sampan.engine.registries import given_auth
from sampan.errors import NotFound, doing
from sampan.ids import is_digest
from sampan.image import manifest as manifests, transfer
from sampan.image.manifest import Document, Format, image_of
from sampan.image.outgoing import Options, check_host
from sampan.image.remote import RemoteImage
from sampan.spec import lists
from sampan.spec.distribution import Descriptor, Index, MediaType, Platform, Progress
from sampan.spec.image import decode_config
from sampan.spec.lists import Entry, ManifestList
from sampan.spec.location import Location, Transport
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sampan.engine.core import Core
    from sampan.engine.registries import Visit
    from sampan.image.transfer import OnProgress, Source
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.image import Image


_lock = threading.Lock()  # held while a list is read, changed and kept


def create(visit: Visit, request: lists.ListRequest) -> str:
    """Make a list, or with `amend` add to it; return its name."""
    core = visit.core
    name = core.reference(request.name)
    lists.check_new(_read(core, name) is not None, request.amend)
    entries = _entries(visit, request)
    with _lock:
        known = _read(core, name)
        lists.check_new(known is not None, request.amend)
        made = (known or ManifestList()).annotated(request.annotations)
        _keep(core, name, made.with_entries(entries, request.change))
    return name.familiar()


def of_images(core: Core, names: Sequence[Reference], images: Sequence[Image]) -> str:
    """Make lists of these names of images that are here, in the place of others; return the digest of each."""
    made = ManifestList(entries=tuple(_stored(core, image, f"store:{image.id}") for image in images))
    with _lock:
        for name in names:
            _keep(core, name, made)
    return _document(made).digest


def listed(core: Core) -> frozenset[str]:
    """Return the ids of the images of the store that lists name."""
    places = [Location.parse(e.place) for text in core.images.lists().values() for e in lists.decode(text).entries]
    return frozenset(place.name for place in places if place.transport is Transport.STORE)


def add(visit: Visit, request: lists.ListRequest) -> str:
    """Add images to a list; return the digest that it would have now."""
    core = visit.core
    exists(core, request.name)
    entries = _entries(visit, request)
    return _document(_changed(core, request.name, lambda known: known.with_entries(entries, request.change))).digest


def annotate(core: Core, name: str, request: lists.AnnotateRequest) -> None:
    """Say something else of an image of a list."""
    _changed(core, name, lambda known: known.changed(_find(core, known, request.image, name), request.change))


def remove(core: Core, name: str, image: str) -> str:
    """Take an image out of a list; return the digest that it would have now."""
    return _document(_changed(core, name, lambda known: known.without(_find(core, known, image, name)))).digest


def delete(core: Core, name: str) -> None:
    """Forget a list."""
    if not core.images.drop_list(core.reference(name)):
        raise _no_list(name)


def inspect(visit: Visit, name: str, auth: AuthConfig | None, *, image: str, verbose: bool) -> lists.InspectedList:
    """Describe a list, or with `image` an image of it; where there is no such list, what the registry has."""
    core = visit.core
    reference = core.reference(name)
    known = _read(core, reference)
    if known is None:
        if image:
            raise _no_list(name)
        return _inspect_remote(visit, reference, auth, verbose=verbose)
    if image:
        entry = _find(core, known, image, name)
        one = lists.inspected(entry.reference, entry.descriptor, entry.manifest)
        return lists.InspectedList(document=msgspec.Raw(entry.manifest), manifests=(one,))
    found = tuple(lists.inspected(e.reference, e.descriptor, e.manifest) for e in known.entries)
    return lists.InspectedList(document=msgspec.Raw(_document(known).raw), is_list=True, manifests=found)


def _inspect_remote(
    visit: Visit, reference: Reference, auth: AuthConfig | None, *, verbose: bool
) -> lists.InspectedList:
    source = visit.image(reference, auth)
    try:
        document = source.document()
    except NotFound as e:
        raise NotFound(f"no such manifest: {reference.familiar()}", e.hint or e.message) from e
    found: list[lists.InspectedManifest] = []
    view = document.view()
    if isinstance(view, Index) and verbose:
        for entry in view.manifests:
            name = f"{reference.familiar()}@{entry.digest}"
            found.append(lists.inspected(name, entry, source.document(entry.digest).raw))
    elif verbose:
        descriptor = msgspec.structs.replace(document.descriptor(), platform=_platform(source, document))
        found.append(lists.inspected(reference.familiar(), descriptor, document.raw))
    return lists.InspectedList(
        document=msgspec.Raw(document.raw), is_list=isinstance(view, Index), manifests=tuple(found)
    )


def exists(core: Core, name: str) -> None:
    """Raise NotFound if there is no such list."""
    if _read(core, core.reference(name)) is None:
        raise _no_list(name)


# ------------------------------------------------------------------------------------------------------- the images


def _entries(visit: Visit, request: lists.ListRequest) -> list[Entry]:
    return [entry for text in request.images for entry in _found(visit, text, request)]


def _found(visit: Visit, text: str, request: lists.ListRequest) -> Iterator[Entry]:
    """Look an image up: in the store if it is there and no other place is named, else at its registry."""
    core = visit.core
    location = _location(core, text)
    if location.transport is Transport.STORE:
        yield _stored(core, core.images.resolve(location.name), location.name)
        return
    reference = core.reference(location.name)
    source = visit.image(reference, _auth(request.auths, reference))
    with doing(f"can't add {reference.familiar()}"):
        document = source.document()
        view = document.view()
        if isinstance(view, Index) and request.all:
            for descriptor in view.manifests:
                yield _remote(reference.with_digest(descriptor.digest), descriptor, source)
            return
        wanted = request.change.platform()
        chosen = transfer.chosen(source, document, wanted)
        descriptor = msgspec.structs.replace(chosen.descriptor(), platform=_platform(source, chosen))
        yield _remote(reference, descriptor, source)


def _location(core: Core, text: str) -> Location:
    for start in ("docker://", "store:", "containers-storage:", "docker-daemon:"):
        if text.startswith(start):
            return copying.place(text)
    try:
        core.images.resolve(text)
    except NotFound:
        return Location(Transport.REGISTRY, name=text)
    return Location(Transport.STORE, name=text)


def _remote(reference: Reference, descriptor: Descriptor, source: Source) -> Entry:
    return Entry(
        reference=reference.familiar(),
        place=f"docker://{reference.with_digest(descriptor.digest)}",
        descriptor=descriptor,
        manifest=source.document(descriptor.digest).raw,
    )


def _stored(core: Core, image: Image, name: str) -> Entry:
    """An image of the store: its own manifest, or one of its layers as they are, which a push makes anew."""
    check_host(image)
    if image.manifest_digest is not None:
        document = Document.of(core.images.document(image.manifest_digest))
    else:
        layers = [_plain(core, diff_id) for diff_id in image.diff_ids]
        document = manifests.image_manifest(image.raw_config, layers, Format.OCI)
    descriptor = msgspec.structs.replace(document.descriptor(), platform=image.config.platform)
    return Entry(reference=name, place=f"store:{image.id}", descriptor=descriptor, manifest=document.raw)


def _plain(core: Core, diff_id: str) -> Descriptor:
    record = core.images.layers.find(diff_id)
    if record is None:
        raise NotFound(f"layer {diff_id} is missing", "pull or load its image again")
    return Descriptor(media_type=MediaType.OCI_LAYER, digest=diff_id, size=record.tar_bytes)


def _platform(source: Source, document: Document) -> Platform:
    return decode_config(transfer.small(source, image_of(document).config)).platform


# ------------------------------------------------------------------------------------------------------- push


def push(visit: Visit, name: str, request: lists.PushListRequest, progress: OnProgress) -> str:
    """Push a list, and its images with it; return its digest."""
    core = visit.core
    known = _read(core, core.reference(name))
    if known is None:
        raise _no_list(name)
    target = core.reference(request.destination.removeprefix("docker://") or name)
    format = Format.parse(request.format)
    with doing(f"can't push {target.familiar()}"):
        repository = visit.repository(target, _auth(request.auths, target))
        place = Reference(target.registry, target.repository)  # where manifests have no tag
        entries = []
        for entry in known.entries:
            descriptor = entry.descriptor
            if request.all:
                document = _send(visit, entry, RemoteImage(repository, place), format, request.auths, progress)
                progress(
                    Progress(status=f"Pushed ref {place.with_digest(document.digest)} with digest: {document.digest}")
                )
                descriptor = msgspec.structs.replace(
                    descriptor, media_type=document.media_type, digest=document.digest, size=len(document.raw)
                )
            entries.append(descriptor)
        made = manifests.index(entries, format or _family(entries), known.annotations)
        RemoteImage(repository, target).finish(made)
    if request.purge:
        core.images.drop_list(core.reference(name))
    progress(Progress(status=made.digest))
    return made.digest


def _send(
    visit: Visit,
    entry: Entry,
    sink: RemoteImage,
    format: Format | None,
    auths: Mapping[str, str],
    progress: OnProgress,
) -> Document:
    core = visit.core
    location = Location.parse(entry.place)
    target = sink.reference
    auth = _auth(auths, target)
    if location.transport is Transport.STORE:
        image = core.images.resolve(location.name)
        mover = transfer.Mover(sink, progress, transfer.Words("Pushing", "Pushed"))
        with held(core, image):
            return outgoing(visit, image, Options(format=format), mover, auth, target).send(target.name).document
    reference = core.reference(location.name)
    source = visit.image(reference, _auth(auths, reference))
    return transfer.copy(source, sink, transfer.Choice(format=format), progress).document


def _family(entries: list[Descriptor]) -> Format:
    docker = entries and all(entry.media_type == MediaType.DOCKER_MANIFEST for entry in entries)
    return Format.DOCKER if docker else Format.OCI


# ------------------------------------------------------------------------------------------------------- the database


def _read(core: Core, name: Reference) -> ManifestList | None:
    document = core.images.lists().get(str(name))
    return lists.decode(document) if document is not None else None


def _keep(core: Core, name: Reference, made: ManifestList) -> None:
    core.images.keep_list(name, msgspec.json.encode(made))


def _changed(core: Core, name: str, how: Callable[[ManifestList], ManifestList]) -> ManifestList:
    reference = core.reference(name)
    with _lock:
        known = _read(core, reference)
        if known is None:
            raise _no_list(name)
        new = how(known)
        _keep(core, reference, new)
    return new


def _document(known: ManifestList) -> Document:
    entries = [entry.descriptor for entry in known.entries]
    return manifests.index(entries, _family(entries), known.annotations)


def _find(core: Core, known: ManifestList, image: str, name: str) -> Entry:
    """Find an image by its digest, or by what it was added as."""
    if is_digest(image):
        return known.find(image, image, name)
    bare = _location(core, image).name
    return known.find(bare, core.reference(bare).familiar(), name)


def _no_list(name: str) -> NotFound:
    return NotFound(f"No such manifest: {name}", "`sampan manifest create` makes one")


def _auth(auths: Mapping[str, str], reference: Reference) -> AuthConfig | None:
    return given_auth(auths.get(reference.name, ""))
