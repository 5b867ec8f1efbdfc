"""`images`: the list of images, its filters, what they share, who uses them and when they were last used."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.engine.filtering import check, duration_ns, labels_pass, moment_ns, truth
from sampan.errors import InvalidInput
from sampan.ids import short
from sampan.image import lineage
from sampan.rootfs.snapshots import tree_bytes
from sampan.spec import docker
from sampan.spec.decoding import decode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sampan.engine.core import Core
    from sampan.engine.requests import Filters, ImagesQuery
    from sampan.spec.image import Image

    Test = Callable[[Image], bool]

_DOCKERS = ("before", "dangling", "label", "label!", "reference", "since", "until")
_PODMANS = ("containers", "digest", "id", "intermediate", "readonly")
_FILTERS = frozenset((*_DOCKERS, *_PODMANS, "unused-for"))
_YES_OR_NO = ("containers", "dangling", "intermediate", "readonly")


class Surroundings(NamedTuple):
    """What is told of an image because of what else there is."""

    users: Mapping[str, Sequence[str]]  # image id → ids of its containers
    running: frozenset[str]  # images that run
    parents: Mapping[str, str]
    intermediate: frozenset[str]
    images_of_layer: Counter[str]


def surroundings(core: Core, without: Collection[str] = ()) -> Surroundings:
    """Look at all images and containers once, `without` containers of these ids."""
    images = core.images.list(all=True)
    users: defaultdict[str, list[str]] = defaultdict(list)
    running: set[str] = set()
    for container in core.registry:
        if container.id in without:
            continue
        for id in dict.fromkeys(container.image_ids):
            users[id].append(container.id)
        if container.active:
            running.update(container.image_ids)
    parents = lineage.parents(images)
    return Surroundings(
        users=users,
        running=frozenset(running),
        parents=parents,
        intermediate=lineage.intermediate(images, parents),
        images_of_layer=Counter(diff_id for image in images for diff_id in set(image.diff_ids)),
    )


def images(core: Core, query: ImagesQuery) -> list[docker.ImageSummary]:
    """Return the newest first."""
    around = surroundings(core)
    return [_summary(core, image, around, query) for image in chosen(core, around, query)]


def chosen(core: Core, around: Surroundings, query: ImagesQuery) -> list[Image]:
    """Return the images that a query asks for, the newest first, with the names that it asks for."""
    check(query.filters, _FILTERS)
    tests = [_test(core, around, name, query.filters) for name, values in query.filters.items() if values]
    found = []
    for image in core.images.list(all=True):
        if query.all or image.id not in around.intermediate:
            named = _with_names(image, query.filters.get("reference"))
            if named is not None and all(test(image) for test in tests):
                found.append(named)
    return sorted(found, key=lambda image: image.created_ns, reverse=True)


def _with_names(image: Image, patterns: Collection[str] | None) -> Image | None:
    """Return the image with those of its names only that a reference filter asks for; None if there are none."""
    if not patterns:
        return image
    tags = tuple(tag for tag in image.repo_tags if matches_any(patterns, tag))
    digests = tuple(name for name in image.repo_digests if matches_any(patterns, name))
    return msgspec.structs.replace(image, repo_tags=tags, repo_digests=digests) if tags or digests else None


def last_used_ns(image: Image, around: Surroundings) -> int:
    """When a container of it last ran or was made: now for one that runs, 0 for never."""
    return time.time_ns() if image.id in around.running else image.last_used_ns


def shared_bytes(image: Image, around: Surroundings) -> int:
    """Bytes of the layers that other images have too."""
    sizes = zip(image.diff_ids, image.layer_sizes, strict=True)
    return sum(size for diff_id, size in sizes if around.images_of_layer[diff_id] > 1)


def _summary(core: Core, image: Image, around: Surroundings, query: ImagesQuery) -> docker.ImageSummary:
    return docker.ImageSummary(
        id=image.id,
        parent_id=around.parents.get(image.id, ""),
        created=image.created_ns // 10**9,
        labels=image.config.execution.labels,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size,
        shared_size=shared_bytes(image, around) if query.shared_size else -1,
        containers=len(around.users.get(image.id, ())),
        manifests=(manifest_summary(core, image, around.users.get(image.id, ())),) if query.manifests else None,
        last_used=last_used_ns(image, around) // 10**9,
    )


def tree(core: Core, query: ImagesQuery, name: str = "") -> list[docker.ImageTree]:
    """Return images with their layers, and who else has these; of one image by its name or id, or of many."""
    if name:
        query = msgspec.structs.replace(query, all=True, filters={"id": (core.images.resolve(name).id,)})
    around = surroundings(core)
    holders: defaultdict[str, list[Image]] = defaultdict(list)
    for image in core.images.list(all=True):
        for diff_id in dict.fromkeys(image.diff_ids):
            holders[diff_id].append(image)
    query = msgspec.structs.replace(query, shared_size=True)
    return [_with_layers(core, image, around, query, holders) for image in chosen(core, around, query)]


def _with_layers(
    core: Core, image: Image, around: Surroundings, query: ImagesQuery, holders: Mapping[str, Sequence[Image]]
) -> docker.ImageTree:
    layers = [
        docker.ImageLayer(
            diff_id=diff_id,
            size=size,
            created_by=step,
            shared_with=tuple(shown_name(other) for other in holders[diff_id] if other.id != image.id),
        )
        for diff_id, size, step in zip(image.diff_ids, image.layer_sizes, layer_steps(image), strict=True)
    ]
    found = (core.registry.get(id) for id in around.users.get(image.id, ()))
    users = tuple(docker.ImageUser(id=c.id, name=c.name, state=c.state.status.value) for c in found if c is not None)
    summary = _summary(core, image, around, query)
    given = {field: getattr(summary, field) for field in summary.__struct_fields__}
    platform = str(image.config.platform)
    return docker.ImageTree(**given, platform=platform, layers=tuple(layers), users=users)


def shown_name(image: Image) -> str:
    """Return a name of an image, or its short id where it has none."""
    return next(iter((*image.repo_tags, *image.repo_digests)), short(image.id))


def layer_steps(image: Image) -> list[str]:
    """Return the line of the history that made each layer; "" where the history does not fit the layers."""
    steps = [step for step in image.config.history or () if not step.empty_layer]
    if len(steps) != len(image.diff_ids):
        return [""] * len(image.diff_ids)
    return [step.created_by or step.comment or "" for step in steps]


def manifest_summary(core: Core, image: Image, users: Sequence[str]) -> docker.ImageManifestSummary:
    """Return the image's manifest as it came; of one that was made here, which has none, the image itself."""
    document = core.images.document(image.manifest_digest) if image.manifest_digest else image.raw_config
    digest = image.manifest_digest or image.id
    platform = docker.Platform(
        architecture=image.architecture, os=image.os or "linux", variant=image.config.variant or ""
    )
    content = len(image.raw_config) + (len(document) if image.manifest_digest else 0)
    return docker.ImageManifestSummary(
        id=digest,
        descriptor=docker.Descriptor(
            media_type=_media_type(document), digest=digest, size=len(document), platform=platform
        ),
        size=docker.ImageManifestSize(content=content, total=content + image.size),
        image_data=docker.ImageProperties(
            platform=platform, containers=tuple(users), size=docker.ImageUnpackedSize(unpacked=image.size)
        ),
    )


class _Typed(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType", default="application/vnd.oci.image.config.v1+json")


def _media_type(document: bytes) -> str:
    return decode_json(document, _Typed).media_type


# -------------------------------------------------------------------------------------------------------- filters


def _test(core: Core, around: Surroundings, name: str, filters: Filters) -> Test:
    """Return what an image must pass because of one filter."""
    values = filters[name]
    if name in ("id", "digest") and "" in values:
        raise InvalidInput(f"invalid filter '{name}='", "it is an id or a digest, or the beginning of one")
    yes = truth(filters, name) is True if name in _YES_OR_NO else False
    match name:
        case "label" | "label!":
            return lambda image: labels_pass({name: values}, image.config.execution.labels)
        case "dangling" if yes:
            return lambda image: not image.repo_tags and image.id not in around.intermediate
        case "dangling":
            return lambda image: bool(image.repo_tags or image.repo_digests)
        case "intermediate":
            return lambda image: (image.id in around.intermediate) is yes
        case "readonly":
            return lambda image: image.host is yes
        case "containers":
            return lambda image: bool(around.users.get(image.id)) is yes
        case "before":
            latest = max(core.images.resolve(value).created_ns for value in values)
            return lambda image: image.created_ns < latest
        case "since":
            earliest = min(core.images.resolve(value).created_ns for value in values)
            return lambda image: image.created_ns > earliest
        case "until":
            moment = min(map(moment_ns, values))
            return lambda image: image.created_ns <= moment
        case "unused-for":
            least = duration_ns(values, name)
            return lambda image: unused_ns(image, around) >= least
        case "id":
            starts = tuple(value.removeprefix("sha256:") for value in values)
            return lambda image: image.id.removeprefix("sha256:").startswith(starts)
        case "digest":
            return lambda image: any(digest.startswith(values) for digest in _digests(image))
        case _:  # reference: `_with_names` has looked
            return lambda _: True


def _digests(image: Image) -> list[str]:
    return [name.partition("@")[2] for name in image.repo_digests] + [image.manifest_digest or ""]


def unused_ns(image: Image, around: Surroundings) -> int:
    """How long nobody has run it, or given it a name; since ever where neither was done."""
    return time.time_ns() - max(last_used_ns(image, around), image.last_tagged_ns)


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Match `name[:tag]` or `name@digest`; a bare name matches each of its tags and digests. * stops at a slash."""
    bare = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
    return any(_matches(pattern.split("/"), text.split("/")) for pattern in patterns for text in (name, bare))


def _matches(pattern: list[str], text: list[str]) -> bool:
    return len(pattern) == len(text) and all(map(fnmatchcase, text, (part.replace("[^", "[!") for part in pattern)))


def reclaimable_bytes(core: Core) -> tuple[int, int]:
    """Return the bytes of all layers, each counted once, and of those that no container needs.

    What an interrupted pull has of a layer is among both: the next one may go on with it, `prune` removes it.
    """
    sizes: dict[str, int] = {}
    free: dict[str, int] = {}
    used: set[str] = set()
    users = {id for container in core.registry for id in container.image_ids}
    for id, layers in core.images.layers_of_all().items():
        sizes.update(layers)
        if id in users:
            used.update(layers)
        else:
            free.update(layers)
    begun = sum(map(tree_bytes, core.images.layers.waiting()))
    unused = sum(size for diff_id, size in free.items() if diff_id not in used)
    return sum(sizes.values()) + begun, unused + begun
