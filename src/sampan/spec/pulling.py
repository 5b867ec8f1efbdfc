"""What is asked of a pull, and what `/sampan/images/plan` answers: what one would do."""

from __future__ import annotations

import enum

import msgspec

from sampan.spec.docker.body import Body, always


class Policy(enum.StrEnum):
    """When to pull an image that may be here, in podman's words."""

    ALWAYS = "always"
    MISSING = "missing"  # unless it is here
    NEWER = "newer"  # if the name means another one at the registry; what is here serves if that can't be found out
    NEVER = "never"


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """How often more a registry is asked that fails, and the nanoseconds between; None: as it is configured."""

    count: int | None = None
    delay_ns: int | None = None


AS_CONFIGURED = Retries()


class LayerState(enum.StrEnum):
    """What a pull would do about a layer."""

    HERE = "here"
    COMING = "coming"  # another pull is fetching it, and this one would get it from there
    INTERRUPTED = "interrupted"  # some of it came with an earlier pull: the rest is fetched
    FETCHED = "fetched"


class LayerPlan(Body, frozen=True, kw_only=True):
    """One layer of an image, lowest first."""

    digest: str = always("")  # as transferred
    diff_id: str = always("")
    media_type: str = always("")
    size: int = always(0)  # as transferred
    state: LayerState = always(LayerState.FETCHED)
    fetched: int = always(0)  # bytes that are still to come of it
    images: tuple[str, ...] = always(())  # those here that have it


class PullPlan(Body, frozen=True, kw_only=True):
    """One image."""

    name: str = always("")
    digest: str = always("")
    id: str = always("")
    platform: str = always("")
    is_here: bool = always(False)  # by this name, and nothing is to be done
    layers: tuple[LayerPlan, ...] = always(())
