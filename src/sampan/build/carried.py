"""What an image carries of a cache: which step made which of its layers. Pure.

An image's configuration has it in a field of its own, which others ignore: the image that was built (inline), or one
that is made for it and has the layers of all stages. So a cache lies wherever an image can: at registries, in layouts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.ids import is_digest
from sampan.spec.decoding import decode_json
from sampan.spec.image import RootFS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.distribution import Platform

_FIELD = "org.sampan.buildcache.v1"


class CarriedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step by its key. `diff_id` is "" where it changed no files."""

    key: str
    diff_id: str = ""
    created_ns: int


class _Carrier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    architecture: str
    os: str
    variant: str | None = None
    rootfs: RootFS
    steps: tuple[CarriedStep, ...] = msgspec.field(name=_FIELD, default=())


class _Carried(msgspec.Struct, frozen=True, kw_only=True):
    rootfs: RootFS = RootFS()
    steps: tuple[CarriedStep, ...] = msgspec.field(name=_FIELD, default=())


def carrier(steps: Iterable[CarriedStep], platform: Platform) -> bytes:
    """Return the configuration of an image that is made of the steps' layers, each once."""
    unique = tuple({step.key: step for step in steps}.values())
    diff_ids = tuple(dict.fromkeys(step.diff_id for step in unique if step.diff_id))
    return msgspec.json.encode(
        _Carrier(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            rootfs=RootFS(diff_ids=diff_ids),
            steps=unique,
        )
    )


def carry(config: bytes, steps: Iterable[CarriedStep]) -> bytes:
    """Have an image's configuration tell which steps made its layers."""
    fields = decode_json(config, dict[str, msgspec.Raw])
    return msgspec.json.encode({**fields, _FIELD: tuple({step.key: step for step in steps}.values())})


def carried(config: bytes) -> dict[str, CarriedStep]:
    """Return what a configuration carries, by key; nothing where that is nonsense, or names a layer that it lacks."""
    try:
        found = decode_json(config, _Carried)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    layers = {"", *(found.rootfs.diff_ids or ())}
    return {step.key: step for step in found.steps if step.diff_id in layers and is_digest(step.key)}
