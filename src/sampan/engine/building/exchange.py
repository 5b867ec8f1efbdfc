"""Caches of elsewhere: `--cache-from` and `--cache-to`, at registries and in directories (OCI layouts).

Where a cache is looked for and can't be read, the build goes on without it and says so. A layer comes when a step needs
it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from sampan.build import carried
from sampan.build.cache import Hit
from sampan.engine.building.bases import auth_of
from sampan.engine.pushing import compression_of, outgoing
from sampan.engine.unpacking import Unpacker
from sampan.errors import InvalidInput, SampanError, doing
from sampan.image.blobs import digest_of
from sampan.image.incoming import Incoming, Step, hold, layers_of
from sampan.image.layout import Layout
from sampan.image.manifest import Format, image_of
from sampan.image.outgoing import Options
from sampan.image.transfer import Mover, Words, chosen, small
from sampan.spec.build import StepBegan, Transfer, Warned
from sampan.spec.image import Image, decode_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampan.build.carried import CarriedStep
    from sampan.engine.building.telling import Telling
    from sampan.engine.registries import Visit
    from sampan.image.layers import Pins
    from sampan.image.transfer import Sink, Source
    from sampan.spec.build import BuildRequest, CacheLocation
    from sampan.spec.distribution import Descriptor, Platform, Progress

_TAG = "latest"
_WORDS = Words(moving="Pushing", moved="Pushed")


class _Place(NamedTuple):
    """A cache that can be read: its steps, and where their layers are."""

    steps: Mapping[str, CarriedStep]
    layers: Mapping[str, Descriptor]
    source: Source


class Imports:
    """What a build may take from elsewhere, for one platform. Any thread may use it."""

    def __init__(
        self, visit: Visit, request: BuildRequest, platform: Platform, *, pins: Pins, telling: Telling
    ) -> None:
        self._visit = visit
        self._request = request
        self._platform = platform
        self._pins = pins
        self._telling = telling
        self._lock = threading.Lock()
        self._places: list[_Place] | None = None

    def find(self, key: str, number: int) -> Hit | None:
        """Return what some place has for a key; its layer is here then, and pinned. `number` is the step's.

        Where the layer can't be had after all, that is said, and the step is to be performed.
        """
        if not self._request.cache_from:
            return None
        with self._lock:
            if self._places is None:
                self._places = [place for each in self._request.cache_from if (place := self._open(each)) is not None]
        for place in self._places:
            step = place.steps.get(key)
            if step is not None:
                try:
                    return self._take(place, step, number)
                except SampanError as e:
                    self._telling.tell(Warned(message=e.message, step=number))
        return None

    def _open(self, location: CacheLocation) -> _Place | None:
        """Read what a place carries: its configuration, and no layer."""
        if location.type == "inline":
            raise InvalidInput("can't import a cache of type inline", "name the image: --cache-from type=registry,ref=")
        name = location.attributes.get("ref") or location.attributes.get("src", "")
        began = StepBegan(step=self._telling.number(), text=f"importing cache manifest from {name}")
        with self._telling.step(began):
            try:
                source = _source(self._visit, location, self._request)
                document = chosen(source, source.document(), self._platform)
                manifest = image_of(document)
                config = small(source, manifest.config)
                return _Place(carried.carried(config), layers_of(document, manifest, decode_config(config)), source)
            except SampanError as e:
                self._telling.tell(Warned(message=f"failed to import cache from {name}: {e.message}", step=began.step))
                return None

    def _take(self, place: _Place, step: CarriedStep, number: int) -> Hit:
        core = self._visit.core
        if not step.diff_id:
            return Hit("", 0, step.created_ns)
        wanted = {step.diff_id: place.layers[step.diff_id]}
        here = hold(self._pins, wanted)

        def say(what: Step, layer: Descriptor, count: int) -> None:
            if what is Step.MOVING:
                self._telling.tell(
                    Transfer(step=number, what=layer.digest, current=count, total=layer.size, status="Downloading")
                )

        with Unpacker(core) as unpacker, doing(f"can't take {step.diff_id} from a cache"):
            Incoming(core.images.layers, place.source.blob, unpack=unpacker, resume=unpacker.resume, say=say).fetch(
                wanted, here
            )
        record = core.images.layers.find(step.diff_id)
        return Hit(step.diff_id, record.content_bytes if record else 0, step.created_ns)


class Done(NamedTuple):
    """A step that a build has made or found; `is_below` where the image has its layer. Its layer is pinned."""

    step: CarriedStep
    is_below: bool


def export(visit: Visit, request: BuildRequest, done: Sequence[Done], platform: Platform, telling: Telling) -> None:
    """Leave what was done at all places but inline ones: with `mode=max` all of it, else what the image is made of."""
    for location in request.cache_to:
        if location.type == "inline":
            continue
        whole = location.attributes.get("mode") == "max"
        steps = [each.step for each in done if whole or each.is_below]
        began = StepBegan(step=telling.number(), text=f"exporting cache to {_called(location)}")
        with telling.step(began):
            try:
                _send(visit, request, location, carried.carrier(steps, platform), began.step, telling)
            except SampanError as e:
                if location.attributes.get("ignore-error") != "true":
                    raise
                telling.tell(Warned(message=e.message, step=began.step))


def is_inline(request: BuildRequest) -> bool:
    """Tell whether the image itself is to carry the cache."""
    return any(location.type == "inline" for location in request.cache_to)


def _called(location: CacheLocation) -> str:
    return "registry" if location.type == "registry" else f"directory {location.attributes.get('dest', '')}"


def _send(
    visit: Visit, request: BuildRequest, location: CacheLocation, config: bytes, number: int, telling: Telling
) -> None:
    core, attributes = visit.core, location.attributes
    level = attributes.get("compression-level", "")
    options = Options(
        format=Format.OCI,
        compression=compression_of(attributes.get("compression", ""), int(level) if level.isdigit() else None),
        force=attributes.get("force-compression") == "true",
    )
    view = decode_config(config)
    image = Image(id=digest_of(config), config=view, raw_config=config, diff_ids=view.diff_ids)

    def progress(told: Progress) -> None:
        if told.id:
            telling.tell(
                Transfer(
                    step=number, what=told.id, current=told.current or 0, total=told.total or 0, status=told.status
                )
            )

    if location.type == "registry":
        reference = core.reference(_given(location, "ref"))
        auth = auth_of(request.auths, reference)
        with doing(f"can't export a cache to {reference.familiar()}"):
            sink: Sink = visit.image(reference, auth)
            outgoing(visit, image, options, Mover(sink, progress, _WORDS), auth, reference).send(reference.name)
        return
    path = _given(location, "dest")
    with doing(f"can't export a cache to {path}"):
        sink = Layout.made(path, attributes.get("tag", _TAG))
        outgoing(visit, image, options, Mover(sink, progress, _WORDS)).send()


def _source(visit: Visit, location: CacheLocation, request: BuildRequest) -> Source:
    if location.type == "registry":
        reference = visit.core.reference(_given(location, "ref"))
        return visit.image(reference, auth_of(request.auths, reference))
    return Layout.opened(_given(location, "src"), location.attributes.get("tag", _TAG))


def _given(location: CacheLocation, name: str) -> str:
    value = location.attributes.get(name, "")
    if not value:
        raise InvalidInput(f"a cache of type {location.type} needs {name}=", f"type={location.type},{name}=…")
    return value
