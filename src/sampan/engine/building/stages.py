"""The stages of one build for one platform: each in a thread that waits for those it needs."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.build.dockerfile import ast
from sampan.build.resolve import Scope, resolve
from sampan.engine.building import failing
from sampan.engine.building.failing import StepError
from sampan.engine.building.performing import Doing
from sampan.engine.core import now_ns
from sampan.errors import SampanError, from_os_error
from sampan.image import platforms
from sampan.spec.build import COMMENT, Location, OriginKind, StepBegan
from sampan.spec.image import HistoryEntry, Image
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.build.graph import Graph, Stage
    from sampan.build.resolve import Resolved
    from sampan.engine.building.bases import Bases
    from sampan.engine.building.performing import Performer
    from sampan.engine.building.telling import Telling
    from sampan.spec.build import BuildRequest, Step

_SIDE_BY_SIDE = 8


class At(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stage is: the layers that it has so far, and how they came about."""

    scope: Scope
    base: Image | None = None  # the image under all of it; None: scratch
    diff_ids: tuple[str, ...] = ()  # the base's too
    history: tuple[HistoryEntry, ...] = ()  # the base's too
    created_ns: int = 0  # when the last layer was made
    below: str = ""  # what made it, for people

    @property
    def host(self) -> bool:
        """Whether it lies over this machine's own root."""
        return self.base is not None and (self.base.host or self.base.on_host)

    def after(self, diff_id: str) -> tuple[str, ...]:
        """Return the layers with one that a step made. Over this machine's own root it has those before it in it."""
        if not diff_id:
            return self.diff_ids
        return (diff_id,) if self.host else (*self.diff_ids, diff_id)


class Stages:
    """Builds what is needed of a graph."""

    def __init__(
        self, graph: Graph, request: BuildRequest, performer: Performer, bases: Bases, telling: Telling
    ) -> None:
        self._bases = bases
        self._graph = graph
        self._request = request
        self._performer = performer
        self._telling = telling
        self._ends: dict[int, Future[At]] = {}
        self._positions = _positions([graph.stages[index] for index in graph.needed])
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._error: BaseException | None = None  # the first one

    def build(self) -> At:
        """Return the end of the target. The first error of any stage is raised, when all have ended."""
        needed = self._graph.needed
        # A stage needs earlier ones only, which have a thread before it has: none waits for one that has none.
        with ThreadPoolExecutor(min(len(needed), _SIDE_BY_SIDE), "build stage") as self._pool:
            for index in needed:
                self._begin(index)
            try:
                return self._ends[self._graph.target].result()
            except BaseException as e:
                raise self._error or e from None

    def _begin(self, index: int) -> Future[At]:
        assert self._pool
        with self._lock:
            if index not in self._ends:
                self._ends[index] = self._pool.submit(self._stage, self._graph.stages[index])
            return self._ends[index]

    def end_of(self, index: int) -> At:
        """Wait for a stage. One that only an image's ONBUILD needs is built by who needs it: no thread may be free."""
        with self._lock:
            end = self._ends.get(index)
            mine = end is None
            end = end or self._ends.setdefault(index, Future())
        if mine:
            try:
                end.set_result(self._stage(self._graph.stages[index]))
            except BaseException as e:
                end.set_exception(e)
        return end.result()

    def _stage(self, stage: Stage) -> At:
        try:
            return self._walk(stage)
        except BaseException as e:
            with self._lock:
                self._error = self._error or e
            self._performer.stop()  # what others do is of no use any more
            self._bases.stop()
            raise

    def _walk(self, stage: Stage) -> At:
        at = self._base(stage)
        resolved = resolve(self._graph, stage, at.scope, self._request.args)
        position = self._positions.get(stage.index, 0)
        for offset, step in enumerate(resolved.steps, 1):
            at = self._step(stage, resolved, step, at, position + offset)
        return msgspec.structs.replace(at, scope=resolved.end)

    def _base(self, stage: Stage) -> At:
        number, total = _numbers(stage)
        began = StepBegan(
            step=self._telling.number(),
            text=f"FROM {stage.base_text}",
            stage=stage.label,
            number=number,
            total=total,
            platform=self._platform(stage),
            line=stage.location.start,
            position=self._positions.get(stage.index, 0),
            positions=self._positions[-1],
        )
        with self._telling.step(began) as ended:
            at = self._stand_on(stage, began)
            ended.layer = _top(at)
            return at

    def _platform(self, stage: Stage) -> str:
        return str(stage.platform) if len(self._request.platforms) > 1 else ""

    def _stand_on(self, stage: Stage, began: StepBegan) -> At:
        if stage.base.kind is OriginKind.STAGE:
            return self.end_of(stage.base.stage)
        if stage.base.kind is OriginKind.SCRATCH:
            return At(scope=Scope.of_nothing(), below="FROM scratch")
        with self._failing(began, Location(stage.location.start, stage.location.end)):
            # An image that is here serves, whatever it is for, unless somebody asked for a platform.
            asked = self._request.platforms or stage.platform != platforms.own()
            platform = stage.platform if asked else None
            if stage.base.kind is not OriginKind.NAMED:
                return _on_image(stage, self._bases.find(stage.base.name, platform, began.step))
            named = self._performer.named_image(stage.base.name, platform, began.step)
            return _on_image(stage, named) if named is not None else self._on_context(stage)

    def _on_context(self, stage: Stage) -> At:
        diff_id, digest = self._performer.context_layer(stage.base)
        diff_ids = (diff_id,) if diff_id else ()
        return At(scope=Scope.of_nothing(), diff_ids=diff_ids, created_ns=now_ns(), below=f"FROM context {digest}")

    def _step(self, stage: Stage, resolved: Resolved, step: Step, at: At, position: int) -> At:
        began = StepBegan(
            step=self._telling.number(),
            text=step.text,
            written=step.written if step.written != step.text else "",
            stage=stage.label,
            number=step.number,
            total=resolved.total,
            platform=self._platform(stage),
            onbuild=step.onbuild,
            line=step.location.line,
            position=position,
            positions=self._positions[-1],
        )
        self._performer.check()
        with self._telling.step(began) as ended:
            if step.empty_layer:
                ended.layer = _top(at)
                return _after(step, at, "", at.created_ns)
            with self._failing(began, step.location):
                made = self._performer.perform(Doing(step, began.step, at, str(stage.platform), stage.no_cache))
            ended.cached, ended.miss = made.cached, made.miss
            after = _after(step, at, made.diff_id, made.created_ns)
            ended.layer = _top(after)
            return after

    @contextmanager
    def _failing(self, began: StepBegan, location: Location) -> Iterator[None]:
        """Have what goes wrong in the block be the step's failure, with its lines."""
        try:
            yield
        except StepError:
            raise
        except (SampanError, OSError) as e:
            error = from_os_error(e) if isinstance(e, OSError) else e
            raise StepError(failing.failed(began.step, began.text, location, self._graph.dockerfile, error)) from e


def _on_image(stage: Stage, image: Image) -> At:
    config = image.config
    return At(
        scope=Scope.of_image(config.execution, config.author or ""),
        base=image,
        diff_ids=image.diff_ids,
        history=config.history or (),
        created_ns=image.created_ns,
        below=f"FROM {stage.base_text}",
    )


def _top(at: At) -> str:
    """Return what a stage stands on: its base image's id while it has no layer of its own, then the last one's."""
    if at.base is not None and at.diff_ids == at.base.diff_ids:
        return at.base.id
    return at.diff_ids[-1] if at.diff_ids else ""


def _after(step: Step, at: At, diff_id: str, created_ns: int) -> At:
    """Return where a stage is after a step, which made a layer unless the diff id is ""."""
    entry = HistoryEntry(
        created=format_timestamp(created_ns),
        created_by=step.created_by,
        comment=COMMENT,
        empty_layer=None if diff_id else True,
    )
    return msgspec.structs.replace(
        at,
        scope=msgspec.structs.replace(at.scope, config=step.after, author=step.author),
        diff_ids=at.after(diff_id),
        history=(*at.history, entry) if step.created_by else at.history,
        created_ns=created_ns,
        below=at.below if step.empty_layer else step.text,
    )


def _numbers(stage: Stage) -> tuple[int, int]:
    """Return FROM's number, 0 where no image is fetched, and how many there are, if the base brings no ONBUILD."""
    number = 0 if stage.base.kind in (OriginKind.SCRATCH, OriginKind.STAGE) else 1
    makers = (ast.Run, ast.Copy, ast.Add, ast.Workdir)
    return number, number + sum(isinstance(instruction, makers) for instruction in stage.instructions)


def _positions(stages: list[Stage]) -> dict[int, int]:
    """Number what is performed as the classic builder does: by stage the position of its FROM; at -1 their number."""
    found, position = {}, 1
    for stage in stages:
        found[stage.index] = position
        position += 1 + len(stage.instructions)
    return {**found, -1: position - 1}
