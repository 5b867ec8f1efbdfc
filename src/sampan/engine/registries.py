"""Registries as the engine reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.image import auth as credentials
from sampan.image.remote import RemoteImage

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.image.registry import Repository
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.reference import Reference


def repository(core: Core, reference: Reference, auth: AuthConfig | None) -> Repository:
    """Open the repository of a reference. `auth` None: what the engine's own user has in config.json."""
    from sampan.image.registry import Repository  # and urllib3, a third of all imports: done behind the server's start

    return Repository(reference, auth, registries=core.settings.read().registries)


def image(core: Core, reference: Reference, auth: AuthConfig | None = None) -> RemoteImage:
    """Open an image, to copy it from or to there."""
    return RemoteImage(repository(core, reference, auth), reference)


def given_auth(header: str) -> AuthConfig | None:
    """Read an X-Registry-Auth header."""
    return credentials.from_header(header) if header else None
