"""Where a build's files come from: its contexts, its stages and images, each as a tree that workers and mounts read."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from sampan.build import jobs
from sampan.engine.building.filing import lay_files
from sampan.spec.build import ContextKind, OriginKind
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.engine.building.bases import Bases
    from sampan.engine.building.contexts import Contexts
    from sampan.engine.building.layering import Layering
    from sampan.engine.building.stages import At
    from sampan.engine.core import Core
    from sampan.spec.build import Add, Origin, Remote
    from sampan.spec.distribution import Platform
    from sampan.spec.image import Image


_TELLING = (
    "/",
    "/etc",
    "/usr/bin",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/local/lib",
    "/var/lib/dpkg/status",
    "/var/lib/rpm",
)
"""Places of a root that change when something is installed."""


class Sources:
    """Those of one build for one platform. In a `with`: what was copied for mounts is removed at the end."""

    def __init__(self, core: Core, contexts: Contexts, bases: Bases, layering: Layering) -> None:
        self._core = core
        self._contexts = contexts
        self._bases = bases
        self._layering = layering
        self._undo = ExitStack()
        self._lock = threading.Lock()
        self._copies: dict[jobs.Item, str] = {}
        self.end_of: Callable[[int], At]  # waits for the end of a stage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def place(self, origin: Origin) -> jobs.Place:
        """Return the tree of an origin."""
        match origin.kind:
            case OriginKind.STAGE:
                end = self.end_of(origin.stage)
                return jobs.Place(layers=self._lowerdirs(end.diff_ids, host=end.host), name=f"stage {origin.stage}")
            case OriginKind.IMAGE:
                image = self._bases.find(origin.name, None)
                return jobs.Place(
                    layers=self._lowerdirs(image.diff_ids, host=image.host or image.on_host), name=origin.name
                )
            case OriginKind.SCRATCH:
                return jobs.Place(layers=self._lowerdirs((), host=False), name="scratch")
            case _:
                named = self.image(origin.name) if origin.kind is OriginKind.NAMED else None
                if named is not None:
                    return jobs.Place(
                        layers=self._lowerdirs(named.diff_ids, host=named.host or named.on_host), name=origin.name
                    )
                return self._contexts.place(origin.name)

    def image(self, name: str, platform: Platform | None = None, step: int = 0) -> Image | None:
        """Return the image that a named context is, None where it is none."""
        source = self._contexts.image(name)
        if source is None:
            return None
        if source.kind is ContextKind.OCI_LAYOUT:
            return self._bases.of_layout(source.value, platform)
        return self._bases.find(source.value, platform, step)

    def fetch(self, remote: Remote, add: Add) -> jobs.Item:
        """Return what an ADD takes from elsewhere, which may not be here yet."""
        return self._contexts.fetching.item(remote, add)

    def whole(self, items: tuple[jobs.Item, ...]) -> tuple[jobs.Item, ...]:
        """Return what a step takes, with all its files here."""
        return self._contexts.fetching.whole(items)

    def below(self, at: At) -> tuple[str, ...]:
        """Return what stands for this machine's own root in keys, where a stage lies on it: all of it nobody reads."""
        if not at.host:
            return ()
        places = [place for place in _TELLING if os.path.exists(place)]
        return ("host", *(f"{place} {os.stat(place).st_mtime_ns}" for place in places))

    def lowerdirs(self, origin: Origin, path: str) -> tuple[str, ...]:
        """Return directories that show the files at a path of an origin, and others of it."""
        place = self.place(origin)
        if place.layers:
            return place.layers
        if not place.ignore:
            return (place.directory,)
        return (self._copied(jobs.Item(place=place, sources=(path,), literal=True, parents=True)),)

    def _copied(self, item: jobs.Item) -> str:
        """Return a directory that has what a .dockerignore leaves of a path of a context."""
        with self._lock:
            if item not in self._copies:
                target = self._undo.enter_context(self._core.images.layers.scratch())
                lay = jobs.Lay(target=target, items=(item,), destination="/", time_ns=0)
                self._layering.ask(lay_files(lay, target), messages.Unpacked)
                self._copies[item] = f"{target}/diff"
            return self._copies[item]

    def _lowerdirs(self, diff_ids: tuple[str, ...], *, host: bool) -> tuple[str, ...]:
        return self._core.snapshots.lowerdirs(diff_ids, host=host)
