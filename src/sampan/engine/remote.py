"""Images where they are: what a registry, an archive or a directory says of one, without getting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.copying import opened, place
from sampan.errors import InvalidInput, doing
from sampan.image import platforms
from sampan.image.manifest import image_of
from sampan.image.transfer import chosen, small
from sampan.spec import docker
from sampan.spec.copying import LayerData, RemoteImage, RemoteTags
from sampan.spec.distribution import Index
from sampan.spec.image import decode_config
from sampan.spec.location import Location, Transport

if TYPE_CHECKING:
    from sampan.engine.registries import Visit
    from sampan.image.manifest import Document
    from sampan.spec.distribution import AuthConfig, Descriptor
    from sampan.spec.reference import Reference


def inspect(visit: Visit, text: str, auth: AuthConfig | None, platform: str | None, *, tags: bool) -> RemoteImage:
    """Describe an image, of an index this machine's or the platform's; `tags` has the repository's tags told."""
    location = place(text)
    with doing(f"can't inspect {location}"), opened(visit, location, auth) as source:
        top = source.document()
        manifest = image_of(chosen(source, top, platforms.parse(platform) if platform else None))
        config = decode_config(small(source, manifest.config))
        repository = visit.core.reference(location.name) if location.transport is Transport.REGISTRY else None
        names: tuple[str, ...] = ()
        if repository is not None and tags:
            with doing("its registry does not list the tags", "--no-tags leaves them out"):
                names = tuple(visit.repository(repository, auth).tags())
    return RemoteImage(
        name=repository.name if repository is not None else "",
        digest=top.digest,
        repo_tags=names,
        created=config.created,
        docker_version=config.docker_version or "",
        labels=config.execution.labels,
        architecture=config.architecture,
        os=config.os,
        layers=tuple(layer.digest for layer in manifest.layers),
        layers_data=tuple(map(_layer, manifest.layers)),
        env=config.execution.env,
    )


def _layer(layer: Descriptor) -> LayerData:
    return LayerData(mime_type=layer.media_type, digest=layer.digest, size=layer.size, annotations=layer.annotations)


def manifest(visit: Visit, text: str, auth: AuthConfig | None) -> Document:
    """Return the manifest or index that a name means, its bytes as they are."""
    location = place(text)
    with doing(f"can't inspect {location}"), opened(visit, location, auth) as source:
        return source.document()


def config(visit: Visit, text: str, auth: AuthConfig | None, platform: str | None) -> bytes:
    """Return an image's configuration, its bytes as they are."""
    location = place(text)
    with doing(f"can't inspect {location}"), opened(visit, location, auth) as source:
        document = chosen(source, source.document(), platforms.parse(platform) if platform else None)
        return small(source, image_of(document).config)


def tags(visit: Visit, text: str, auth: AuthConfig | None) -> RemoteTags:
    """Return all tags of a repository."""
    reference = _repository(visit, place(text))
    with doing(f"can't list the tags of {reference.familiar_name()}"):
        found = tuple(visit.repository(reference, auth).tags())
    return RemoteTags(repository=reference.name, tags=found)


def delete(visit: Visit, text: str, auth: AuthConfig | None) -> str:
    """Delete what a name means from its registry, with all its tags, as skopeo does; return its digest."""
    reference = _repository(visit, place(text))
    repository = visit.repository(reference, auth)
    with doing(f"can't delete {reference.familiar()}"):
        digest = reference.digest or repository.resolve(reference.tag or "latest").digest
        repository.delete(digest)
    return digest


def _repository(visit: Visit, location: Location) -> Reference:
    if location.transport is not Transport.REGISTRY:
        raise InvalidInput(f"can't use {location}: only a registry has tags", "docker://NAME")
    return visit.core.reference(location.name)


def distribution(visit: Visit, name: str, auth: AuthConfig | None) -> docker.DistributionInspect:
    """Describe what a name means at its registry, as Docker's API does."""
    reference = visit.core.reference(name)
    source = visit.image(reference, auth)
    document = source.document()
    view = document.view()
    if isinstance(view, Index):
        platforms = [entry.platform for entry in view.manifests if entry.platform is not None]
    else:
        platforms = [decode_config(small(source, image_of(document).config)).platform]
    return docker.DistributionInspect(
        descriptor=docker.Descriptor(media_type=document.media_type, digest=document.digest, size=len(document.raw)),
        platforms=tuple(
            docker.Platform(
                architecture=one.architecture,
                os=one.os,
                os_version=one.os_version or "",
                os_features=one.os_features,
                variant=one.variant or "",
            )
            for one in platforms
        ),
    )
