"""The verb `build`, from top to bottom."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import msgspec

from sampan.build import carried, dockerfile as language
from sampan.build.graph import Platforms, plan
from sampan.engine import build_cache, lists
from sampan.engine.building import checking, exchange, results, twice
from sampan.engine.building.bases import Bases
from sampan.engine.building.contexts import Contexts
from sampan.engine.building.failing import StepError
from sampan.engine.building.fetching import Fetching
from sampan.engine.building.layering import Layering
from sampan.engine.building.performing import Performer
from sampan.engine.building.sources import Sources
from sampan.engine.building.stages import Stages
from sampan.engine.building.telling import Telling
from sampan.engine.registries import Visit
from sampan.image import platforms
from sampan.spec.build import Built, BuiltImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sampan.engine.building.stages import At
    from sampan.engine.building.telling import Report
    from sampan.engine.core import Core
    from sampan.image.compression import Readable
    from sampan.image.layers import Pins
    from sampan.spec.build import BuildRequest
    from sampan.spec.distribution import Platform
    from sampan.spec.image import Image


class Building:
    """One build, in a `with`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.RLock()
        self._stops: tuple[Callable[[], None], ...] = ()
        self._stopped = False
        self._difference = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._core.janitor.later("collect the build cache", lambda: build_cache.collect(self._core))

    def stop(self) -> None:
        """Have it fail early, from any thread: what runs is ended, steps that are done stay in the cache."""
        with self._lock:
            self._stopped = True
            for stop in self._stops:
                stop()

    def build(self, request: BuildRequest, report: Report, archive: Readable | None = None) -> Built | None:
        """Build what is asked for; `archive` is the context where that comes with the request.

        What a step fails with is told as `StepFailed`, and then there is no result. What else is wrong is raised.
        """
        start = time.perf_counter_ns()
        telling = Telling(report)
        fetching = Fetching(self._core, archive, {agent.id: agent.socket for agent in request.ssh})
        contexts = Contexts(request, fetching)
        if request.check:
            with fetching, self._stoppable(fetching.stop):
                self._check(request, contexts, telling)
            return None
        wanted = request.platforms or (platforms.own(),)
        done: list[exchange.Done] = []
        with (
            self._core.images.working() as pins,
            Visit(self._core) as visit,
            fetching,
            self._stoppable(visit.stop, fetching.stop),
        ):
            try:
                images = [
                    self._for_platform(request, platform, contexts, (visit, pins, telling), done) for platform in wanted
                ]
            except StepError as e:
                telling.tell(e.event)
                return None
            exchange.export(visit, request, done, wanted[0], telling)
        names = tuple(self._core.reference(tag) for tag in request.tags)
        built = Built(
            images=tuple(
                BuiltImage(id=image.id, platform=str(platform)) for image, platform in zip(images, wanted, strict=True)
            ),
            names=tuple(map(str, names)),
            index=lists.of_images(self._core, names, images) if len(images) > 1 else "",
            ns=time.perf_counter_ns() - start,
            difference=self._difference,
        )
        telling.tell(built)
        return built

    def _check(self, request: BuildRequest, contexts: Contexts, telling: Telling) -> None:
        """Look the Dockerfile over for one platform, and its stages as a build would put them in relation."""
        platform = request.platforms[0] if request.platforms else platforms.own()
        dockerfile = language.parse(*contexts.dockerfile())
        checking.advise(self._core, request, dockerfile, platform, contexts, telling)
        plan(dockerfile, request, Platforms(build=platforms.own(), target=platform))

    def _for_platform(
        self,
        request: BuildRequest,
        platform: Platform,
        contexts: Contexts,
        around: tuple[Visit, Pins, Telling],
        done: list[exchange.Done],
    ) -> Image:
        core = self._core
        visit, pins, telling = around
        dockerfile = language.parse(*contexts.dockerfile())
        if checking.is_decisive(dockerfile):
            checking.advise(core, request, dockerfile, platform, contexts, telling)
        graph = plan(dockerfile, request, Platforms(build=platforms.own(), target=platform))
        bases = Bases(core, pins, request.auths, telling, pull=request.pull, nearest=graph.nearest)
        imports = exchange.Imports(visit, request, platform, pins=pins, telling=telling)
        newest_ns = None if request.epoch_s is None else request.epoch_s * 10**9
        secrets = {secret.id: secret.value for secret in request.secrets}
        with (
            Layering(core, pins, newest_ns, secrets) as layering,
            Sources(core, contexts, bases, layering) as sources,
        ):

            def perform(request: BuildRequest) -> tuple[At, Performer]:
                performer = Performer(
                    core,
                    request,
                    dockerfile,
                    telling=telling,
                    layering=layering,
                    sources=sources,
                    pins=pins,
                    imports=imports,
                )
                wanted = plan(dockerfile, request, Platforms(build=platforms.own(), target=platform))
                stages = Stages(wanted, request, performer, bases, telling)
                sources.end_of = stages.end_of
                with self._stoppable(performer.stop, bases.stop):
                    return stages.build(), performer

            at, performer = perform(request)
            if request.twice:
                again, _ = perform(msgspec.structs.replace(request, no_cache=True))
                self._difference = self._difference or twice.difference(at, again, layering, core.snapshots)
            if request.squash:
                at = results.squashed(at, layering, core.snapshots)
        if not done and not checking.is_decisive(dockerfile):
            checking.advise(core, request, dockerfile, platform, contexts, telling)
        mine = [exchange.Done(step, stage in graph.below) for stage, step in performer.done]
        done += mine
        return self._image(request, at, platform, mine)

    def _image(self, request: BuildRequest, at: At, platform: Platform, done: Sequence[exchange.Done]) -> Image:
        core = self._core
        tags = tuple(core.reference(tag) for tag in request.tags if platform == _first(request))
        for tag in tags:
            core.images.check_name(tag)
        results.check_secrets(at, request)
        config = results.document(at, platform, request.epoch_s, request.labels)
        if exchange.is_inline(request):
            config = carried.carry(config, (each.step for each in done if each.is_below))
        return core.images.add(config, tags=tags)

    @contextmanager
    def _stoppable(self, *stops: Callable[[], None]) -> Iterator[None]:
        """Have `stop` call these in the block."""
        with self._lock:
            before, self._stops = self._stops, (*self._stops, *stops)
            if self._stopped:
                self.stop()
        try:
            yield
        finally:
            with self._lock:
                self._stops = before


def _first(request: BuildRequest) -> Platform:
    """The platform whose image has the names: this machine's, if it is among them. A list has the others."""
    own = platforms.own()
    return own if own in request.platforms or not request.platforms else request.platforms[0]
