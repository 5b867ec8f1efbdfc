"""One step performed: a RUN in a container, files laid by a worker, a directory made; or what the cache has of it."""

from __future__ import annotations

import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, assert_never

import msgspec

from sampan.build import jobs, keys
from sampan.build.cache import Hit
from sampan.build.carried import CarriedStep
from sampan.build.trees import Layers, real
from sampan.engine.building import emulation, failing, filing
from sampan.engine.building.failing import StepError, Tail
from sampan.engine.building.layering import INTERRUPTED
from sampan.engine.building.run_mounts import RunMounts
from sampan.engine.building.running import HOSTNAME, StepContainer, Surrounding
from sampan.engine.committing import EMPTY_TAR
from sampan.engine.core import now_ns
from sampan.errors import Failed, InvalidInput
from sampan.spec.build import (
    Add,
    BindMount,
    CacheMount,
    Copy,
    NoFiles,
    Run,
    SecretMount,
    SshMount,
    StepOutput,
    TmpfsMount,
    Workdir,
)
from sampan.spec.distribution import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.build.dockerfile.ast import Dockerfile
    from sampan.engine.building.exchange import Imports
    from sampan.engine.building.layering import Layering
    from sampan.engine.building.running import Ended
    from sampan.engine.building.sources import Sources
    from sampan.engine.building.stages import At
    from sampan.engine.building.telling import Telling
    from sampan.engine.core import Core
    from sampan.image.layers import Pins
    from sampan.spec.build import BuildRequest, Mount, Op, Origin, Step
    from sampan.spec.image import Image, Rootfs
    from sampan.supervise import messages

_SOURCES = ""  # what files are read for: those of COPY and ADD, else the target of a mount


class Made(NamedTuple):
    """What a step came to: its layer, "" where it changed no files."""

    diff_id: str
    created_ns: int
    size: int = 0
    cached: bool = False
    miss: str = ""


class Doing(NamedTuple):
    """A step that is being done: the number it is told by, and where its stage is."""

    step: Step
    number: int
    at: At
    platform: str = ""
    no_cache: bool = False


class Performer:
    """Performs the steps of one build. Any thread may use it."""

    def __init__(
        self,
        core: Core,
        request: BuildRequest,
        dockerfile: Dockerfile,
        *,
        telling: Telling,
        layering: Layering,
        sources: Sources,
        pins: Pins,
        imports: Imports,
    ) -> None:
        self._core = core
        self._request = request
        self._dockerfile = dockerfile
        self._telling = telling
        self._layering = layering
        self._sources = sources
        self._pins = pins
        self._imports = imports
        self.done: list[tuple[int, CarriedStep]] = []  # what was made or found, by its stage
        self._around = Surrounding(network=request.network, add_hosts=request.add_hosts, limits=request.limits)
        self._secrets = {secret.id: secret.value for secret in request.secrets}
        self._agents = {agent.id: agent.socket for agent in request.ssh}
        self._lock = threading.Lock()
        self._made: set[str] = set()  # keys
        self._running: set[StepContainer] = set()
        self._stopped = False

    def stop(self) -> None:
        """End what is being done, from any thread; nothing begins any more."""
        with self._lock:
            self._stopped = True
            running = tuple(self._running)
        for container in running:
            container.stop()
        self._layering.stop()

    def check(self) -> None:
        """Raise where the build was stopped."""
        if self._stopped:
            raise Failed(f"can't build: {INTERRUPTED}")

    def perform(self, doing: Doing) -> Made:
        """Make a step's layer, or find it. Of several steps that are the same, one is made."""
        op = doing.step.op
        taken: tuple[jobs.Item, ...] = ()
        if isinstance(op, Copy | Add):
            taken = filing.items(op, self._sources.place, self._sources.fetch)
        key = self._key(doing, self._digests(op, taken))
        if key is None:
            return Made("", doing.at.created_ns)
        with self._core.build_turns.of(self._own(key.id) if doing.no_cache else key.id, self.check):
            hit = self._find(doing, key)
            if hit is not None:
                made = Made(hit.diff_id, hit.created_ns, cached=True)
            else:
                made, files = self._make(doing, taken)
                if files:  # what was read may be other than what was looked at
                    key = self._key(doing, ((_SOURCES, files),)) or key
                self._keep(doing, key, Hit(made.diff_id, made.size, made.created_ns))
                made = made._replace(miss=self._why(doing, key))
            step = CarriedStep(key=key.id, diff_id=made.diff_id, created_ns=made.created_ns)
            self.done.append((doing.step.stage, step))
            return made

    def _find(self, doing: Doing, key: keys.Key) -> Hit | None:
        """Look for a step here, then at the places of --cache-from."""
        if doing.no_cache and key.id not in self._made:
            return None
        hit = self._core.cache.find(key.id, self._pins)
        if hit is None and not doing.no_cache:
            hit = self._imports.find(key.id, doing.number)
            if hit is not None:
                self._keep(doing, key, hit)
        return hit

    def _keep(self, doing: Doing, key: keys.Key, hit: Hit) -> None:
        self._core.cache.keep(key, hit, doing.at.after(hit.diff_id))
        self._made.add(key.id)

    def _why(self, doing: Doing, key: keys.Key) -> str:
        if not self._request.why:
            return ""
        return "the cache is not to be used" if doing.no_cache else self._core.cache.why(key)

    def _key(self, doing: Doing, files: tuple[keys.Fact, ...]) -> keys.Key | None:
        inputs = keys.Inputs(
            parent=(*self._sources.below(doing.at), *doing.at.diff_ids),
            below=doing.at.below,
            files=files,
            platform=doing.platform,
            epoch_s=self._request.epoch_s,
            add_hosts=self._request.add_hosts,
        )
        return keys.key(doing.step, inputs)

    def _digests(self, op: Op, taken: tuple[jobs.Item, ...]) -> tuple[keys.Fact, ...]:
        """Return the digests of the files that a step reads, by what for."""
        found = [(_SOURCES, self._layering.digest(taken))] if taken else []
        for mount in op.mounts if isinstance(op, Run) else ():
            origin = getattr(mount, "origin", None)
            if isinstance(mount, BindMount | CacheMount) and origin is not None:
                place = self._sources.place(origin)
                if place.layers and mount.source == "/":  # all of it, which its layers say without being read
                    digest = keys.digest(*place.layers)
                else:
                    item = jobs.Item(place=place, sources=(mount.source,), literal=True)
                    digest = self._layering.digest((item,), tell=True)
                found.append((mount.target, digest))
        return tuple(found)

    def _own(self, key: str) -> str:
        """Return a key for what is made without the cache: that other builds make it as well is nothing to wait for."""
        return f"{id(self)} {key}"

    def _make(self, doing: Doing, taken: tuple[jobs.Item, ...]) -> tuple[Made, str]:
        """Return what was made, and of files the digest of those that were read."""
        op = doing.step.op
        match op:
            case Run():
                layer = self._run(doing, op)
            case Copy() | Add():
                layer = self._lay(filing.laying(op, self._sources.whole(taken)), doing.at)
            case Workdir():
                if self._is_directory(op.path, doing.at):
                    return Made("", doing.at.created_ns), ""
                layer = self._lay(filing.laying(op, ()), doing.at)
            case NoFiles():
                return Made("", doing.at.created_ns), ""
            case _:
                assert_never(op)
        diff_id = "" if layer.diff_id == EMPTY_TAR else layer.diff_id
        created_ns = now_ns() if self._request.epoch_s is None else self._request.epoch_s * 10**9
        return Made(diff_id, created_ns, layer.content_bytes), layer.selection if taken else ""

    # ------------------------------------------------------------------------------------------------ files

    def named_image(self, name: str, platform: Platform | None, number: int) -> Image | None:
        """Return the image that a named context is, None where it is none."""
        return self._sources.image(name, platform, number)

    def context_layer(self, origin: Origin) -> tuple[str, str]:
        """Return the diff id of a layer of all files of a named context, "" where it has none, and their digest."""
        items = (jobs.Item(place=self._sources.place(origin), sources=("/",), literal=True),)
        layer = self._layering.of_files(jobs.Lay(target="", items=items, destination="/", verb="FROM", time_ns=0), ())
        return "" if layer.diff_id == EMPTY_TAR else layer.diff_id, layer.selection

    def _lay(self, lay: jobs.Lay, at: At) -> messages.Unpacked:
        parent = self._core.snapshots.lowerdirs(at.diff_ids, host=at.host)
        layer = self._layering.of_files(lay, parent)
        if not at.host or not at.diff_ids or layer.diff_id == EMPTY_TAR:
            return layer
        both = (self._core.snapshots.content(layer.diff_id), *parent)
        squashed = self._layering.squash(both, len(at.diff_ids) + 1)
        return msgspec.structs.replace(squashed, selection=layer.selection)

    def _is_directory(self, path: str, at: At) -> bool:
        tree = Layers(self._core.snapshots.lowerdirs(at.diff_ids, host=at.host), "the image")
        try:
            status = tree.status(real(tree, path))
            return status is not None and stat.S_ISDIR(status.st_mode)
        finally:
            tree.close()

    # ------------------------------------------------------------------------------------------------ RUN

    def _run(self, doing: Doing, run: Run) -> messages.Unpacked:
        self._check_allowed(run)
        emulation.check(Platform.parse(doing.platform))
        tail = Tail()

        def output(stream: str, data: bytes) -> None:
            tail.add(data)
            self._telling.tell(StepOutput(step=doing.number, stream=stream, data=data))  # type: ignore[arg-type]

        with self._container(run) as container:
            rootfs = container.prepare(doing.at.diff_ids, host=doing.at.host)
            with RunMounts(self._core, run, container.directory, id=container.id) as mounts:
                mounts.add_files()
                for mount in run.mounts:
                    self._mount(mounts, mount)
                ended = container.run(rootfs, mounts.in_order(), (*run.env, *mounts.env), output)
            self.check()
            if ended.exit_code:
                raise self._failed(doing, run, ended, rootfs, tail)
            return self._layering.of_run(rootfs, container.own_mounts)

    def _check_allowed(self, run: Run) -> None:
        wanted = ("network.host", run.network == "host"), ("security.insecure", run.security == "insecure")
        for entitlement, asked in wanted:
            if asked and entitlement not in self._request.allow:
                raise InvalidInput(f"{entitlement} is not allowed", f"--allow {entitlement}")

    @contextmanager
    def _container(self, run: Run) -> Iterator[StepContainer]:
        with StepContainer(self._core, run, self._around) as container:
            with self._lock:
                self._running.add(container)
            self.check()
            try:
                yield container
            finally:
                with self._lock:
                    self._running.discard(container)

    def _mount(self, mounts: RunMounts, mount: Mount) -> None:
        match mount:
            case BindMount():
                mounts.add_bind(mount, self._sources.lowerdirs)
            case CacheMount():
                mounts.add_cache(mount, self._sources.lowerdirs, self._layering.copy, self.check)
            case TmpfsMount():
                mounts.add_tmpfs(mount)
            case SecretMount():
                mounts.add_secret(mount, self._secrets)
            case SshMount():
                mounts.add_agent(mount, self._agents)
            case _:
                assert_never(mount)

    def _failed(self, doing: Doing, run: Run, ended: Ended, rootfs: Rootfs, tail: Tail) -> StepError:
        code, hint = ended.exit_code, ""
        if ended.oom_killed:
            hint = "it was killed for want of memory: give it more with --memory"
        cause = Failed(f'process "{" ".join(run.argv)}" did not complete successfully: exit code: {code}', hint)
        event = failing.failed(doing.number, doing.step.text, doing.step.location, self._dockerfile, cause)
        kept = ""
        if self._request.on_failure == "keep":
            kept = failing.keep(self._core, doing.at, doing.step, rootfs, HOSTNAME)
        return StepError(msgspec.structs.replace(event, exit_code=code, output=tail.text(), container=kept))
