"""The image that a build comes to: its configuration and history, in Docker's form."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from sampan.build.leaks import Searcher
from sampan.engine.building.layering import LEAKED
from sampan.engine.committing import in_order
from sampan.errors import InvalidInput
from sampan.image.blobs import digest_of
from sampan.rootfs.overlay import root_of
from sampan.spec.image import ON_HOST, HistoryEntry, ImageConfig, RootFS
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.engine.building.layering import Layering
    from sampan.engine.building.stages import At
    from sampan.rootfs.snapshots import Snapshots
    from sampan.spec.build import BuildRequest
    from sampan.spec.distribution import Platform
    from sampan.spec.image import ExecutionConfig
    from sampan.supervise.messages import Unpacked


def document(
    at: At, platform: Platform, epoch_s: int | None, labels: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """Return the configuration of an image of where a stage is.

    It was made when its last layer was, so that what comes from the cache whole is the same image again; with
    SOURCE_DATE_EPOCH everything was made then.
    """
    parent = at.base.config if at.base else ImageConfig(architecture=platform.architecture, os=platform.os)
    history = _of_one_layer(at.history) if at.host else at.history
    created = format_timestamp(at.created_ns)
    if epoch_s is not None:
        created = format_timestamp(epoch_s * 10**9)
        history = tuple(_not_after(entry, created) for entry in history)
    execution = at.scope.config
    if labels:
        execution = msgspec.structs.replace(execution, labels={**(execution.labels or {}), **labels})
    config = ImageConfig(
        architecture=parent.architecture,
        os=parent.os,
        variant=parent.variant if at.base else platform.variant,
        os_version=parent.os_version,
        os_features=(ON_HOST,) if at.host else parent.os_features,
        created=created,
        author=at.scope.author or None,
        config=in_order(_without_nothing(execution)),
        rootfs=RootFS(diff_ids=at.diff_ids),
        history=history or None,
    )
    return msgspec.json.encode(config)


def squashed(at: At, layering: Layering, snapshots: Snapshots) -> At:
    """Return where a stage is with one layer in the place of all that were made over its base.

    Over this machine's own root, which is no layer of an image, that one has all files.
    """
    base = at.base.diff_ids if at.base and not at.host else ()
    count = len(at.diff_ids) - len(base)
    layers = snapshots.lowerdirs(at.diff_ids, host=at.host)
    if at.host:
        made = layering.whole(layers)
        at = msgspec.structs.replace(at, base=None, history=_of_one_layer(at.history))
    elif count > 1:
        made = _over(at, base, layering, snapshots)
    else:
        return at
    said = f"merge {digest_of(b''.join(map(str.encode, at.diff_ids)))} to {base[-1] if base else 'scratch'}"
    entry = HistoryEntry(created=format_timestamp(at.created_ns), comment=said)
    kept = len(at.base.config.history or ()) if at.base else 0
    emptied = (msgspec.structs.replace(step, empty_layer=True) for step in at.history[kept:])
    return msgspec.structs.replace(at, diff_ids=(*base, made.diff_id), history=(*at.history[:kept], *emptied, entry))


def _over(at: At, base: tuple[str, ...], layering: Layering, snapshots: Snapshots) -> Unpacked:
    """Squash the layers over a base, which each lie in a directory of their own."""
    every = [snapshots.content(diff_id) for diff_id in reversed(at.diff_ids)]
    root, before = root_of(every), root_of(every[len(at.diff_ids) - len(base) :])
    return layering.squash(tuple(every), len(at.diff_ids) - len(base), root if root != before else None)


def _of_one_layer(history: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    """Have the last step that made files be the one that has the layer of all of them."""
    made = [number for number, step in enumerate(history) if not step.empty_layer]
    return tuple(
        msgspec.structs.replace(step, empty_layer=True) if number in made[:-1] else step
        for number, step in enumerate(history)
    )


def _without_nothing(config: ExecutionConfig) -> ExecutionConfig:
    """Leave out what is empty, as Go does."""
    empty = {name: None for name in config.__struct_fields__ if getattr(config, name) in ((), {}) and name != "cmd"}
    return msgspec.structs.replace(config, **empty)


def _not_after(entry: HistoryEntry, created: str) -> HistoryEntry:
    """RFC 3339 in UTC with the same digits sorts as text."""
    if entry.created is not None and entry.created > created:
        return msgspec.structs.replace(entry, created=created)
    return entry


def check_secrets(at: At, request: BuildRequest) -> None:
    """Raise InvalidInput where a secret is in what an image would tell of how it was made, and of what it runs with."""
    searcher = Searcher({secret.id: secret.value for secret in request.secrets})
    if not searcher:
        return
    for where, text in _texts(at, request):
        if leak := searcher.in_text(text, where):
            raise InvalidInput(f"can't build: {leak}", LEAKED)


def _texts(at: At, request: BuildRequest) -> Iterator[tuple[str, str]]:
    for entry in at.history:
        yield "the image's history", entry.created_by or ""
    config = at.scope.config
    for variable in config.env or ():
        yield f"the environment: the variable {variable.partition('=')[0]}", variable
    for trigger in config.on_build or ():
        yield "ONBUILD, which has no entry in the history", trigger
    for name, value in {**(config.labels or {}), **request.labels}.items():
        yield f"the label {name}", f"{name}={value}"
    for name, value in request.annotations.items():
        yield f"the annotation {name}", f"{name}={value}"
