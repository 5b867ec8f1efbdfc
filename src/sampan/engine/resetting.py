"""`system reset`: everything that this instance keeps is removed, but for its settings."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.engine import build_cache, imaging, networks, removing, volume_verbs
from sampan.engine.requests import BuildPruneQuery
from sampan.engine.secret_verbs import SecretVerbs
from sampan.errors import NotFound, NotPermitted

if TYPE_CHECKING:
    from sampan.engine.core import Core


def reset(core: Core) -> None:
    """Remove containers first, since they hold the rest."""
    for container in reversed(list(core.registry)):  # those that require others are younger
        removing.remove(core, container, force=True, volumes=True)
    for network in core.networks:
        with suppress(NotFound, NotPermitted):  # those that every instance has
            networks.remove(core, network.id)
    for volume in core.volumes.all():
        volume_verbs.remove(core, volume.name, force=True)
    for secret in core.secrets:
        SecretVerbs(core).remove(secret.id)
    build_cache.prune(core, BuildPruneQuery(all=True))
    for image in core.images.list(all=True):
        if not image.host:
            with suppress(NotFound):  # it went with another one
                imaging.remove(core, image.id, force=True, no_prune=False)
