"""Registries as the engine reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import InvalidInput
from sampan.image import auth as credentials
from sampan.image.remote import RemoteImage
from sampan.spec.credentials import hostname_of
from sampan.spec.reference import is_registry

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


def log_in(core: Core, server: str, auth: AuthConfig) -> str:
    """Have a registry check credentials, Docker Hub or the configured default where none is named.

    Return the identity token that it grants, "" where it grants none.
    """
    from sampan.image.login import log_in

    registries = core.settings.read().registries
    registry = hostname_of(server) if server else registries.default
    if not is_registry(registry):
        raise InvalidInput(f"can't log in at {server[:200]!r}: it is no registry", "name it as host[:port]")
    if not (auth.username or auth.identity_token):
        raise InvalidInput(f"can't log in at {registry}: no user name is given")
    return log_in(registry, auth, registries)
