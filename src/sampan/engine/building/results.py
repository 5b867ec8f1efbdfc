"""The image that a build comes to: its configuration and history, in Docker's form."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from sampan.build.leaks import Searcher
from sampan.engine.building.layering import LEAKED
from sampan.engine.committing import in_order
from sampan.errors import InvalidInput, Unsupported
from sampan.spec.image import HistoryEntry, ImageConfig, RootFS
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.engine.building.stages import At
    from sampan.spec.distribution import Platform
    from sampan.spec.image import ExecutionConfig


def document(
    at: At, platform: Platform, epoch_s: int | None, labels: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """Return the configuration of an image of where a stage is.

    It was made when its last layer was, so that what comes from the cache whole is the same image again; with
    SOURCE_DATE_EPOCH everything was made then.
    """
    if at.host:
        raise Unsupported(
            "can't make an image of a stage FROM host: this machine's own root is no layer of an image",
            "COPY --from it what is wanted, or --squash makes one layer of all its files",
        )
    parent = at.base.config if at.base else ImageConfig(architecture=platform.architecture, os=platform.os)
    history = at.history
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
        os_features=parent.os_features,
        created=created,
        author=at.scope.author or None,
        config=in_order(_without_nothing(execution)),
        rootfs=RootFS(diff_ids=at.diff_ids),
        history=history or None,
    )
    return msgspec.json.encode(config)


def _without_nothing(config: ExecutionConfig) -> ExecutionConfig:
    """Leave out what is empty, as Go does."""
    empty = {name: None for name in config.__struct_fields__ if getattr(config, name) in ((), {}) and name != "cmd"}
    return msgspec.structs.replace(config, **empty)


def _not_after(entry: HistoryEntry, created: str) -> HistoryEntry:
    """RFC 3339 in UTC with the same digits sorts as text."""
    if entry.created is not None and entry.created > created:
        return msgspec.structs.replace(entry, created=created)
    return entry


def check_secrets(at: At, secrets: Mapping[str, bytes]) -> None:
    """Raise InvalidInput where a secret is in what an image would tell of how it was made, and of what it runs with."""
    searcher = Searcher(secrets)
    if not searcher:
        return
    for where, text in _texts(at):
        if leak := searcher.in_text(text, where):
            raise InvalidInput(f"can't build: {leak}", LEAKED)


def _texts(at: At) -> Iterator[tuple[str, str]]:
    for entry in at.history:
        yield "the image's history", entry.created_by or ""
    config = at.scope.config
    for variable in config.env or ():
        yield f"the environment: the variable {variable.partition('=')[0]}", variable
    for name, value in (config.labels or {}).items():
        yield f"the label {name}", value
    for what, words in (("command", config.cmd), ("entrypoint", config.entrypoint)):
        for word in words or ():
            yield f"the image's {what}", word
