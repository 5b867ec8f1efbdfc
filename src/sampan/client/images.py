"""Images, by the Python client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Unpack

import msgspec

from sampan.client.wire import query, quote
from sampan.errors import from_os_error
from sampan.spec import docker
from sampan.spec.copying import CopyRequest
from sampan.spec.pulling import Policy, PullPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from sampan.client.builds import BuildOptions
    from sampan.client.sdk import Api
    from sampan.spec.build import BuildEvent

_PIECE = 1 << 16


class Image:
    """One image of the store."""

    def __init__(self, api: Api, attributes: docker.ImageInspect) -> None:
        self._api = api
        self.attributes = attributes
        """What `inspect` told when this object was made."""

    def __repr__(self) -> str:
        return f"<Image {', '.join(self.tags) or self.short_id}>"

    @property
    def id(self) -> str:
        """The digest of its configuration, `sha256:…`."""
        return self.attributes.id

    @property
    def short_id(self) -> str:
        """Its id's first twelve digits."""
        return self.id.removeprefix("sha256:")[:12]

    @property
    def tags(self) -> tuple[str, ...]:
        """Its names, `debian:bookworm`."""
        return self.attributes.repo_tags or ()

    def tag(self, reference: str) -> None:
        """Give it one more name."""
        name, tag = split_tag(reference)
        self._api.post(f"/images/{self.id}/tag{query(repo=name, tag=tag)}")

    def untag(self, *names: str) -> None:
        """Take names away, all if none is given; unlike `remove` this leaves the image."""
        self._api.post(f"/sampan/images/{self.id}/untag{query(name=names)}")

    def save(self) -> Iterator[bytes]:
        """Give the bytes of an archive of it, with all its names."""
        yield from Images(self._api).save(*(self.tags or (self.id,)))

    def history(self) -> list[docker.ImageHistoryResponseItem]:
        """Return the steps it was made in, the latest first."""
        return self._api.get_list(docker.ImageHistoryResponseItem, f"/images/{self.id}/history")

    def map(self, *, depth: int = 3, top: int = 10, nodes: int = 0) -> docker.ImageMap:
        """Return where its bytes are: the `top` directories down to `depth`, files, and what is wasted.

        `nodes` directories and as many files are told as a tree, to draw them.
        """
        return self._api.get(docker.ImageMap, f"/sampan/images/{self.id}/map{query(depth=depth, top=top, nodes=nodes)}")

    def remove(self, *, force: bool = False) -> list[docker.ImageDeleteResponseItem]:
        """Remove it with all its names."""
        return _removed(self._api, self.id, force=force)


class Images:
    """The images of an instance: `client.images`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(
        self,
        *,
        all: bool = False,
        filters: Mapping[str, str | Iterable[str]] | None = None,
        shared_size: bool = False,
    ) -> Sequence[docker.ImageSummary]:
        """Return a line for each image, as `sampan images` shows. `shared_size` of each is -1 unless asked for."""
        from sampan.client.sdk import filter_lists

        options = query(all=all, filters=filter_lists(filters), **{"shared-size": shared_size})
        return self._api.get_list(docker.ImageSummary, f"/images/json{options}")

    def tree(self, name: str = "") -> Sequence[docker.ImageTree]:
        """Return images with their layers, who shares these and who uses them: one, or all."""
        return self._api.get_list(docker.ImageTree, f"/sampan/images/tree{query(name=name)}")

    def get(self, name: str, *, manifests: bool = False) -> Image:
        """Return an image by name or id, with `manifests` its attributes tell of that too. Raises NotFound."""
        target = f"/images/{quote(name, '/:@')}/json{query(manifests=manifests)}"
        return Image(self._api, self._api.get(docker.ImageInspect, target))

    def build(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        text: str | None = None,
        archive: BinaryIO | None = None,
        progress: Callable[[BuildEvent], None] | None = None,
        **options: Unpack[BuildOptions],
    ) -> Image:
        """Build the Dockerfile of a directory, of an `archive` of one, or a Dockerfile's `text`; with that one as well.

        The directory is of the server's machine, and read where it is. `progress` is called with each event, a struct
        of `spec.build`. Raises `client.BuildFailed` where a step fails.

            client.images.build("app", tags="app:1", args={"VERSION": "1"})
        """
        from sampan.client import builds

        return self.get(builds.build(self._api, path, text=text, archive=archive, options=options, progress=progress))

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        policy: Policy | str = Policy.ALWAYS,
        progress: Callable[[docker.ProgressMessage], None] | None = None,
    ) -> Image:
        """Fetch an image from its registry, unless `policy` is content with what is here.

        `progress` is called with each line of progress.
        """
        name, tag = split_tag(reference)
        asked = None if policy == Policy.ALWAYS else str(policy)
        target = f"/images/create{query(fromImage=name, tag=tag or 'latest', platform=platform, policy=asked)}"
        self._api.progress(target, None, progress)
        return self.get(reference)

    def plan_pull(self, reference: str, *, platform: str | None = None) -> PullPlan:
        """Return what `pull` would fetch of an image, and what is here; no layer is fetched for it."""
        name, tag = split_tag(reference)
        whole = f"{name}@{tag}" if ":" in tag else f"{name}:{tag or 'latest'}"
        return self._api.get_list(PullPlan, f"/sampan/images/plan{query(name=whole, platform=platform)}")[0]

    def load(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        progress: Callable[[docker.ProgressMessage], None] | None = None,
    ) -> Sequence[Image]:
        """Load an archive made by `docker save`, `podman save` or skopeo, by its path or open file."""
        lines = self._api.progress(f"/images/load{query(quiet='0')}", _pieces(source), progress, _TAR)
        names = [line.stream.strip().partition(": ")[2] for line in lines if line.stream.startswith("Loaded image")]
        return [self.get(name) for name in names]

    def push(
        self,
        reference: str,
        *,
        format: Literal["oci", "docker"] | None = None,
        compression: Literal["gzip", "zstd"] | None = None,
        progress: Callable[[docker.ProgressMessage], None] | None = None,
    ) -> str:
        """Push a tag to its registry; return the digest that it has there. `compression` is of what is packed anew."""
        name, tag = split_tag(reference)
        options = query(tag=tag or "latest", format=format, compressionFormat=compression)
        return _digest(self._api.progress(f"/images/{quote(name, '/:')}/push{options}", None, progress))

    def save(self, *names: str, format: Literal["docker-archive", "oci-archive"] = "docker-archive") -> Iterator[bytes]:
        """Give the bytes of an archive of these images, as `sampan save` writes it. Close the iterator to stop."""
        with self._api.exchange("GET", f"/images/get{query(names=list(names), format=format)}") as answer:
            yield from answer.pieces()

    def copy(
        self,
        source: str,
        destination: str,
        *,
        platform: str | None = None,
        progress: Callable[[docker.ProgressMessage], None] | None = None,
        **options: Any,
    ) -> str:
        """Copy an image from place to place, `docker://NAME`, `oci:/PATH:TAG` …; return its digest there.

        Paths are absolute, and the server's. `options` are the other fields of `spec.copying.CopyRequest`.
        """
        request = CopyRequest(source=source, destination=destination, platform=platform or "", **options)
        headers = {"Content-Type": "application/json"}
        body = (msgspec.json.encode(request),)
        return _digest(self._api.progress("/sampan/copy", body, progress, headers))

    def import_(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        reference: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | None = None,
    ) -> Image:
        """Make an image of a root filesystem: a tar (by path or open file) or a directory of the server's machine."""
        name, tag = split_tag(reference)
        directory = _directory(source)
        options = query(
            fromSrc=directory or "-", repo=name, tag=tag, changes=list(changes), message=message, platform=platform
        )
        body = None if directory else _pieces(source)
        lines = self._api.progress(f"/images/create{options}", body, None, _TAR)
        return self.get(lines[-1].status)

    def remove(self, name: str, *, force: bool = False) -> Sequence[docker.ImageDeleteResponseItem]:
        """Remove a name, and the image with its last one."""
        return _removed(self._api, name, force=force)

    def prune(
        self, *, all: bool = False, filters: Mapping[str, str | Iterable[str]] | None = None
    ) -> docker.ImagePruneResponse:
        """Remove the images without a name, or `all`, that no container uses: `filters={"unused-for": "720h"}`."""
        from sampan.client.sdk import filter_lists

        given = {**(filter_lists(filters) or {}), "dangling": ["false" if all else "true"]}
        return self._api.ask(docker.ImagePruneResponse, f"/images/prune{query(filters=given)}")


def _digest(lines: Sequence[docker.ProgressMessage]) -> str:
    """Return what the last `aux` of a push or copy tells."""
    return str(next(line.aux["Digest"] for line in reversed(lines) if line.aux and "Digest" in line.aux))


_TAR = {"Content-Type": "application/x-tar"}


def _removed(api: Api, name: str, *, force: bool) -> list[docker.ImageDeleteResponseItem]:
    data = api.post(f"/images/{quote(name, '/:@')}{query(force=force)}", method="DELETE")
    return [docker.decode_answer(docker.ImageDeleteResponseItem, bytes(item)) for item in _items(data)]


def _items(data: bytes) -> Sequence[msgspec.Raw]:
    return msgspec.json.decode(data, type=list[msgspec.Raw])


def _directory(source: str | os.PathLike[str] | BinaryIO) -> str | None:
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        return os.path.abspath(os.fspath(source))
    return None


def _pieces(source: str | os.PathLike[str] | BinaryIO) -> Iterator[bytes]:
    if isinstance(source, (str, os.PathLike)):
        try:
            with open(source, "rb") as file:
                yield from _pieces(file)
        except OSError as e:
            raise from_os_error(e) from e
        return
    while piece := source.read(_PIECE):
        yield piece


def split_tag(reference: str) -> tuple[str, str]:
    """Return the name and the tag or digest of a reference, "" where it has none: `host:5000/x@sha256:…`."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    slash = reference.rfind("/")
    colon = reference.rfind(":")
    return (reference[:colon], reference[colon + 1 :]) if colon > slash else (reference, "")
