"""Images from place to place, past the store or through it; and what is known of them where they are."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.engine import registries
from sampan.engine.pushing import compression_of, held, outgoing
from sampan.engine.unpacking import Unpacker
from sampan.errors import InvalidInput, doing
from sampan.image import archive_read, incoming, platforms, transfer
from sampan.image.archive_write import ArchiveWriter
from sampan.image.directory import Directory
from sampan.image.layout import Layout
from sampan.image.manifest import Format
from sampan.image.outgoing import Options, check_host
from sampan.kernel.newfile import new_file
from sampan.spec.distribution import Progress
from sampan.spec.location import Location, Transport
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registries import Visit
    from sampan.image.compression import Compression
    from sampan.image.transfer import Copied, OnProgress, Sink, Source
    from sampan.spec.copying import CopyRequest
    from sampan.spec.distribution import AuthConfig, Platform

_COMPRESSED = frozenset({Transport.REGISTRY, Transport.LAYOUT, Transport.OCI_ARCHIVE})
"""Where skopeo puts layers compressed that come plain out of a docker-archive."""


def copy(visit: Visit, request: CopyRequest, progress: OnProgress) -> str:
    """Copy an image; return the digest that it has at its destination: in the store the image's id."""
    source, destination = place(request.source), place(request.destination)
    if destination.transport is Transport.STORE:
        return _into_store(visit, request, source, progress)
    with doing(f"can't {_said(request, source)} to {destination}"):
        if source.transport is Transport.STORE:
            copied = _out_of_store(visit, request, source, destination, progress)
        else:
            copied = _past_the_store(visit, request, source, destination, progress)
    if copied.document.digest != copied.before:
        progress(Progress(status=f"The digest is not {copied.before} any more: {copied.why}"))
    progress(Progress(status=f"Digest: {copied.document.digest}"))
    return copied.document.digest


def _said(request: CopyRequest, source: Location) -> str:
    return f"push {source.name}" if request.verb == "push" else f"copy {source}"


def place(text: str) -> Location:
    """Read where an image is. Raises InvalidInput where a path is not absolute: the server has another directory."""
    location = Location.parse(text)
    if location.is_local and not location.path.startswith("/"):
        raise InvalidInput(f"can't use {text[:300]}: its path is not absolute")
    return location


def _past_the_store(
    visit: Visit, request: CopyRequest, source: Location, destination: Location, progress: OnProgress
) -> Copied:
    choice = transfer.Choice(
        limits=visit.core.settings.read().limits,
        platform=_platform(request),
        all=request.all,
        format=_format(request, destination),
        compression=_compression(request, source, destination),
        force=request.force_compression,
        preserve=request.preserve_digests,
    )
    with opened(visit, source, registries.given_auth(request.source_auth)) as origin:
        origin.document()  # a source that isn't there leaves no new directory
        with _sink(visit, destination, request) as sink:
            return transfer.copy(origin, sink, choice, progress)


def _format(request: CopyRequest, destination: Location) -> Format | None:
    """A layout may hold Docker's manifests, but skopeo and umoci read OCI's only there."""
    oci = destination.transport in (Transport.LAYOUT, Transport.OCI_ARCHIVE) and not request.preserve_digests
    return Format.parse(request.format) or (Format.OCI if oci else None)


def _compression(request: CopyRequest, source: Location, destination: Location) -> Compression | None:
    if request.compression:
        return compression_of(request.compression, request.compression_level)
    plain = source.transport is Transport.DOCKER_ARCHIVE and destination.transport in _COMPRESSED
    return compression_of("gzip", request.compression_level) if plain else None


def _out_of_store(
    visit: Visit, request: CopyRequest, source: Location, destination: Location, progress: OnProgress
) -> Copied:
    core = visit.core
    docker_archive = destination.transport is Transport.DOCKER_ARCHIVE
    options = Options(
        format=_format(request, destination),
        compression=compression_of(
            request.compression or ("none" if docker_archive else "gzip"), request.compression_level
        ),
        force=request.force_compression,
        lengths=not docker_archive or request.preserve_digests,
    )
    image = core.images.resolve(source.name, request.platform or None)
    check_host(image)
    with held(core, image), _sink(visit, destination, request) as sink:
        auth = registries.given_auth(request.destination_auth)
        target = core.reference(destination.name) if destination.transport is Transport.REGISTRY else None
        mover = transfer.Mover(sink, progress, transfer.Words())
        one = outgoing(visit, image, options, mover, auth, target)
        if (why := one.plan()) and request.preserve_digests:
            raise InvalidInput(f"can't preserve digests: {why}", "leave --preserve-digests out")
        sent = one.send(target.name if target is not None else None)
    return transfer.Copied(sent.document, sent.before or sent.document.digest, sent.why)


def _into_store(visit: Visit, request: CopyRequest, source: Location, progress: OnProgress) -> str:
    core = visit.core
    reference = core.reference(place(request.destination).name)
    if reference.tag is None or reference.digest is not None:
        raise InvalidInput(f"can't copy to store:{reference.familiar()}: a name there is no digest", "name a tag")
    if request.format or request.compression or request.force_compression or request.preserve_digests:
        raise InvalidInput(
            f"can't copy to store:{reference.familiar()} in another form: the store keeps images as they come"
        )
    with doing(f"can't copy {source} to store:{reference.familiar()}"):
        if source.transport is Transport.STORE:
            image = core.images.resolve(source.name, request.platform or None)
            core.images.tag(image, reference)
        else:
            auth = registries.given_auth(request.source_auth)
            with Unpacker(core) as unpacker, opened(visit, source, auth) as origin:
                document = transfer.chosen(origin, origin.document(), _platform(request))
                image = incoming.take(
                    core.images,
                    origin,
                    document,
                    tags=(reference,),
                    unpack=unpacker,
                    resume=unpacker.resume,
                    progress=progress,
                    keep=source.transport is not Transport.DOCKER_ARCHIVE,  # its manifest is one that was made up
                )
    core.bus.tell("image", "load", image.id, {"name": reference.familiar()})
    progress(Progress(status=f"Image: {image.id}"))
    return image.id


def _platform(request: CopyRequest) -> Platform | None:
    return platforms.parse(request.platform) if request.platform else None


# ------------------------------------------------------------------------------------------------------- places


@contextmanager
def opened(visit: Visit, location: Location, auth: AuthConfig | None) -> Iterator[Source]:
    """Open an image that is outside of the store, to read it."""
    match location.transport:
        case Transport.REGISTRY:
            yield visit.image(visit.core.reference(location.name), auth)
        case Transport.LAYOUT:
            yield Layout.opened(location.path, location.name)
        case Transport.DIRECTORY:
            yield Directory.opened(location.path)
        case Transport.DOCKER_ARCHIVE | Transport.OCI_ARCHIVE:
            with archive_read.opened(location, visit.core.dirs.tmp, visit.core.settings.read().limits) as archive:
                yield archive
        case Transport.STORE:
            raise InvalidInput(f"can't use {location} here: it is in the store", "name it without store:")


@contextmanager
def _sink(visit: Visit, location: Location, request: CopyRequest) -> Iterator[Sink]:
    match location.transport:
        case Transport.REGISTRY:
            auth = registries.given_auth(request.destination_auth)
            yield visit.image(visit.core.reference(location.name), auth)
        case Transport.LAYOUT:
            yield Layout.made(location.path, location.name)
        case Transport.DIRECTORY:
            yield Directory.made(location.path)
        case Transport.DOCKER_ARCHIVE | Transport.OCI_ARCHIVE:
            with _archive(visit.core, location) as sink:
                yield sink
        case Transport.STORE:
            raise AssertionError


@contextmanager
def _archive(core: Core, location: Location) -> Iterator[Sink]:
    """An archive of one image, which takes the place of a file of its name once it is whole."""
    docker = location.transport is Transport.DOCKER_ARCHIVE
    references = (Reference.parse(location.name),) if docker and location.name else ()
    path = os.path.realpath(location.path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise InvalidInput(
            f"can't write {location.path}: it is no regular file", "`sampan save` writes to pipes and devices"
        )
    with doing(f"can't write {location.path}"), new_file(path) as new:
        writer = ArchiveWriter(new, docker=docker, scratch=core.dirs.tmp)
        yield writer.image(references, "" if docker else location.name)
        writer.close()
