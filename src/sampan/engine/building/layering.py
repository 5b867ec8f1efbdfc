"""How a step's files become a layer of the store: the workers of one build, and the pins that keep what they made."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from sampan.build import jobs, selecting
from sampan.engine.building.filing import lay_files
from sampan.engine.changing import WORK_S
from sampan.engine.committing import EMPTY_TAR
from sampan.engine.core import now_ns
from sampan.engine.workers import Workers
from sampan.errors import Failed, InvalidInput, SampanError
from sampan.rootfs.overlay import Metadata
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sampan.engine.core import Core
    from sampan.engine.links import Channel
    from sampan.image.layers import Pins
    from sampan.spec.image import Rootfs

    Job = Callable[[str], messages.Message]  # of the directory to make

_M = TypeVar("_M", bound=messages.Message)

LEAKED = "whoever gets the image can read it: use it without writing it anywhere"
INTERRUPTED = "the build was interrupted"


class Layering:
    """In a `with`. Several threads may use it; a worker that is done with a layer gets the next one."""

    def __init__(self, core: Core, pins: Pins, newest_ns: int | None, secrets: Mapping[str, bytes]) -> None:
        """Times later than `newest_ns` become that. A layer that has one of the `secrets` in it is refused."""
        self._core = core
        self._secrets = dict(secrets)
        self._pins = pins
        self._newest_ns = newest_ns
        self._memory = core.dirs.build_digests
        self._workers = Workers(core)
        self._lock = threading.Lock()
        self._busy: set[Channel] = set()
        self._stopped = False

    def __enter__(self) -> Self:
        os.makedirs(self._memory, 0o700, exist_ok=True)
        self._workers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def stop(self) -> None:
        """Have the workers end, from any thread."""
        with self._lock:
            self._stopped = True
            for channel in self._busy:
                channel.close()

    def of_run(self, rootfs: Rootfs, own: Sequence[str]) -> messages.Unpacked:
        """Make a layer of what a container that has ended wrote, less its mount points."""
        root = self._core.snapshots.root(rootfs)
        kind = messages.Settle if self._is_here(rootfs.upperdir) else messages.Compose
        return self.make(
            lambda target: kind(
                target=target, layers=rootfs.layers, root=root, own=tuple(own), newest_ns=self._newest_ns
            )
        )

    def of_files(self, lay: jobs.Lay, parent: tuple[str, ...]) -> messages.Unpacked:
        """Make a layer of what a COPY, ADD or WORKDIR brings, over the layers in the directories `parent`."""
        time_ns = now_ns() if self._newest_ns is None else self._newest_ns
        lay = msgspec.structs.replace(
            lay,
            parent=parent,
            newest_ns=self._newest_ns,
            time_ns=time_ns,
            memory=self._memory,
            selections=self._core.cache.selections,
        )
        return self.make(lambda target: lay_files(lay, target))

    def digest(self, items: tuple[jobs.Item, ...], *, tell: bool = False) -> str:
        """Return the digest of the files that a step takes. `tell` has it kept which files they are."""
        job = jobs.Select(items=items, memory=self._memory, selections=self._core.cache.selections if tell else "")
        if selecting.is_small(items):
            return selecting.select(job).digest
        return self.ask(messages.SelectFiles(job=msgspec.json.encode(job)), messages.FilesSelected).digest

    def copy(self, layers: Sequence[str], path: str) -> None:
        """Make a new directory of what others, topmost first, show together."""
        with self._core.images.layers.scratch() as target:
            job = messages.Compose(target=target, layers=tuple(layers), root=Metadata(), whole=True)
            self.ask(job, messages.Unpacked)
            os.rename(f"{target}/diff", path)

    def squash(self, layers: tuple[str, ...], count: int, root: Metadata | None = None) -> messages.Unpacked:
        """Make one layer in the place of the `count` topmost ones; with `root` it says what the root directory is."""
        return self.make(lambda target: messages.Squash(target=target, layers=layers, count=count, root=root))

    def whole(self, layers: tuple[str, ...]) -> messages.Unpacked:
        """Make a layer of all files that the layers in some directories show together."""
        root, newest = Metadata(), self._newest_ns
        return self.make(
            lambda target: messages.Compose(target=target, layers=layers, root=root, whole=True, newest_ns=newest)
        )

    def compare(self, first: str, second: str) -> str:
        """Say what differs first in two directories."""
        return self.ask(messages.CompareLayers(first=first, second=second), messages.LayersCompared).difference

    def make(self, job: Job) -> messages.Unpacked:
        """Have a worker make a layer, and keep it unless it is `EMPTY_TAR`."""
        with self._core.images.layers.scratch() as target:
            made = self.ask(job(target), messages.Unpacked)
            if made.diff_id != EMPTY_TAR:
                self._search(f"{target}/diff")
                self._core.images.layers.adopt(target, made, self._pins)
        return made

    def _search(self, directory: str) -> None:
        if self._secrets:
            found = self.ask(messages.FindSecrets(directory=directory, secrets=self._secrets), messages.SecretsFound)
            if found.leak:
                raise InvalidInput(f"{found.leak} of this step's layer", LEAKED)

    def ask(self, job: messages.Message, kind: type[_M]) -> _M:
        """Have a worker do something else."""
        channel = self._workers.take()
        with self._lock:
            self._busy.add(channel)
            if self._stopped:
                channel.close()
        try:
            answer = channel.ask(job, kind, timeout_s=WORK_S)
        except SampanError as e:
            channel.close()
            if self._stopped:
                raise Failed(f"can't build: {INTERRUPTED}") from e
            raise
        finally:
            with self._lock:
                self._busy.discard(channel)
        self._workers.give_back(channel)
        return answer

    def _is_here(self, upperdir: str) -> bool:
        """Tell whether a directory can be moved to where layers are made; one on another filesystem is copied."""
        return os.stat(upperdir).st_dev == os.stat(self._core.dirs.tmp).st_dev
