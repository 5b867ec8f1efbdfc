"""`pull`: images from their registries, by a policy; and what a pull would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.registries import Visit, given_auth
from sampan.engine.tasks import Task
from sampan.engine.unpacking import Unpacker
from sampan.errors import InvalidInput, NotFound, SampanError
from sampan.image import platforms
from sampan.spec.distribution import Progress
from sampan.spec.pulling import AS_CONFIGURED, Policy
from sampan.spec.reference import is_whole

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.tasks import Report
    from sampan.image.registry import Repository
    from sampan.spec.image import Image
    from sampan.spec.pulling import PullPlan, Retries


def pull(
    core: Core, name: str, *, platform: str | None, auth: str, policy: str, retries: Retries = AS_CONFIGURED
) -> Task:
    """Bring an image, or with a bare repository's name those of all its tags."""
    visit = Visit(core, retries)
    work = _Pull(visit, name, platform, auth, Policy(policy) if policy in list(Policy) else _unknown(policy))
    return Task(work.run, visit.stop)


def _unknown(policy: str) -> Policy:
    raise InvalidInput(f"unknown pull policy {policy[:100]!r}", f"there are {', '.join(Policy)}")


class _Pull:
    """One call of `pull`."""

    def __init__(self, visit: Visit, name: str, platform: str | None, auth: str, policy: Policy) -> None:
        self._visit = visit
        self._core = visit.core
        self._reference = self._core.reference(name)
        self._all = not is_whole(name)
        self._platform_text = platform
        self._platform = platforms.parse(platform) if platform else None
        self._policy = policy
        self._repository: Repository = visit.repository(self._reference, given_auth(auth))
        if self._all and policy is not Policy.ALWAYS:
            raise InvalidInput(f"can't pull all tags of {self._reference.familiar_name()} with the policy {policy}")

    def run(self, report: Report) -> None:
        """Pull, unless the policy is content with what is here."""
        with self._visit:
            self._run(report)

    def _run(self, report: Report) -> None:
        here = self._here()
        familiar = self._reference.familiar()
        if self._policy is Policy.NEVER and here is None:
            raise NotFound(f"No such image: {familiar}", "the policy is never to pull it")
        if here is not None and self._policy in (Policy.NEVER, Policy.MISSING):
            report(Progress(status=f"Status: Image is present for {familiar}"))
            return
        if here is not None and self._policy is Policy.NEWER:
            self._pull_newer(here, report)
        else:
            self._pull(report)

    def _here(self) -> Image | None:
        if self._policy is Policy.ALWAYS:
            return None
        try:
            return self._core.images.resolve(str(self._reference), self._platform_text)
        except NotFound:
            return None

    def _pull_newer(self, here: Image, report: Report) -> None:
        """Pull if the registry has another one. That it can't be asked is said, and no failure."""
        reference = self._reference
        try:
            digest = reference.digest or self._repository.resolve(reference.tag or "latest").digest
            if reference.with_digest(digest).familiar() not in here.repo_digests:
                self._pull(report)
                return
            report(Progress(status=f"Digest: {digest}"))
        except SampanError as e:
            report(Progress(status=f"WARNING: can't look for a newer image, the one that is here is used: {e.message}"))
        report(Progress(status=f"Status: Image is up to date for {reference.familiar()}"))

    def _pull(self, report: Report) -> None:
        from sampan.image.pull import Puller  # and urllib3, a third of all imports: done behind the server's start

        with Unpacker(self._core) as unpacker:
            puller = Puller(
                self._core.images,
                self._repository,
                unpack=unpacker,
                resume=unpacker.resume,
                progress=report,
                platform=self._platform,
            )
            images = puller.pull_all(self._reference) if self._all else (puller.pull(self._reference),)
        name = self._reference.familiar_name() if self._all else self._reference.familiar()
        for image in images:
            attributes = {"name": self._reference.familiar_name(), "image": image.id}
            self._core.bus.tell("image", "pull", name, attributes)


def plan(visit: Visit, name: str, *, platform: str | None, auth: str) -> list[PullPlan]:
    """Say what a pull would do: for one image, or with a bare repository's name for all its tags."""
    from sampan.image import pull_plan

    core = visit.core
    reference = core.reference(name)
    repository = visit.repository(reference, given_auth(auth))
    wanted = platforms.parse(platform) if platform else None
    references = [reference] if is_whole(name) else [reference.with_tag(tag) for tag in repository.tags()]
    return [
        pull_plan.plan(core.images, repository, one, platform=wanted, resume=Unpacker(core).resume)
        for one in references
    ]
