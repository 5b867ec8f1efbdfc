"""What moves images in and out of the store, and past it: the verbs, as `engine` has the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from sampan.engine import copying, lists, pulling, pushing, registries, remote, saving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.engine.core import Core
    from sampan.engine.pushing import Leaving, Pushed
    from sampan.image.archive_write import Writable
    from sampan.image.manifest import Document
    from sampan.image.transfer import OnProgress
    from sampan.spec import docker
    from sampan.spec.copying import CopyRequest, RemoteImage, RemoteTags
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.lists import AnnotateRequest, InspectedList, ListRequest, PushListRequest
    from sampan.spec.pulling import PullPlan, Retries


class Moving:
    """The verbs of one call, in a `with`. `auth` is an X-Registry-Auth header as it came; places are written as
    `spec.location` says.
    """

    def __init__(self, core: Core, retries: Retries) -> None:
        self._core = core
        self._visit = registries.Visit(core, retries)

    def __enter__(self) -> Self:
        self._visit.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._visit.__exit__()

    def stop(self) -> None:
        """Make what waits for a registry fail early, from any thread."""
        self._visit.stop()

    def plan_pull(self, name: str, *, platform: str | None, auth: str) -> list[PullPlan]:
        """Say what a pull would do."""
        return pulling.plan(self._visit, name, platform=platform, auth=auth)

    def log_in(self, server: str, auth: AuthConfig) -> str:
        """Have a registry check credentials; return the identity token that it grants, "" where there is none."""
        return self._visit.log_in(server, auth)

    def push(self, name: str, tag: str, leaving: Leaving, *, auth: str, progress: OnProgress, pushed: Pushed) -> None:
        """Push a tag of a repository, or all with "". `pushed` is called for each that is there then."""
        given = registries.given_auth(auth)
        pushing.push(self._visit, name, tag, leaving, auth=given, progress=progress, pushed=pushed)

    def save(
        self, names: Sequence[str], leaving: Leaving, *, docker: bool, out: Callable[[tuple[str, ...]], Writable]
    ) -> None:
        """Write images into an archive. `out` opens it, and gets sentences on digests that can't be kept."""
        saving.save(self._visit, names, leaving, docker=docker, out=out)

    def copy(self, request: CopyRequest, progress: OnProgress) -> str:
        """Copy an image from place to place; return its digest there, in the store its id."""
        return copying.copy(self._visit, request, progress)

    def inspect(self, place: str, *, auth: str, platform: str | None, tags: bool) -> RemoteImage:
        """Describe an image where it is."""
        return remote.inspect(self._visit, place, registries.given_auth(auth), platform, tags=tags)

    def manifest(self, place: str, *, auth: str) -> Document:
        """Return the manifest or index that is at a place."""
        return remote.manifest(self._visit, place, registries.given_auth(auth))

    def config(self, place: str, *, auth: str, platform: str | None) -> bytes:
        """Return the configuration of an image where it is."""
        return remote.config(self._visit, place, registries.given_auth(auth), platform)

    def tags(self, place: str, *, auth: str) -> RemoteTags:
        """Return all tags of a repository."""
        return remote.tags(self._visit, place, registries.given_auth(auth))

    def delete(self, place: str, *, auth: str) -> str:
        """Delete an image from its registry; return its digest."""
        return remote.delete(self._visit, place, registries.given_auth(auth))

    def distribution(self, name: str, *, auth: str) -> docker.DistributionInspect:
        """Describe what a name means at its registry, as Docker's API does."""
        return remote.distribution(self._visit, name, registries.given_auth(auth))

    # ------------------------------------------------------------------------------------------------ lists

    def create_list(self, request: ListRequest) -> str:
        """Make an index of some images; return its name."""
        return lists.create(self._visit, request)

    def add_to_list(self, request: ListRequest) -> str:
        """Add images to an index that is being made; return its digest."""
        return lists.add(self._visit, request)

    def annotate_list(self, name: str, request: AnnotateRequest) -> None:
        """Say something else of an image of an index."""
        lists.annotate(self._core, name, request)

    def remove_from_list(self, name: str, image: str) -> str:
        """Take an image out of an index; return its digest."""
        return lists.remove(self._core, name, image)

    def delete_list(self, name: str) -> None:
        """Forget an index."""
        lists.delete(self._core, name)

    def check_list(self, name: str) -> None:
        """Raise NotFound if no such index is being made."""
        lists.exists(self._core, name)

    def inspect_list(self, name: str, *, auth: str, image: str, verbose: bool) -> InspectedList:
        """Describe an index that is being made, an image of it, or what a registry has."""
        return lists.inspect(self._visit, name, registries.given_auth(auth), image=image, verbose=verbose)

    def push_list(self, name: str, request: PushListRequest, progress: OnProgress) -> str:
        """Push an index with its images; return its digest."""
        return lists.push(self._visit, name, request, progress)
