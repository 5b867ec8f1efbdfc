"""Registries as the engine reaches them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from sampan.engine.packing import Packer
from sampan.errors import InvalidInput
from sampan.image import auth as credentials
from sampan.image.patience import check
from sampan.image.remote import RemoteImage
from sampan.spec.credentials import hostname_of
from sampan.spec.pulling import AS_CONFIGURED
from sampan.spec.reference import is_registry

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.image.registry import Repository
    from sampan.image.transport import Transport
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.pulling import Retries
    from sampan.spec.reference import Reference


class Visit:
    """The registries that one verb reaches, and the workers that pack for them, in a `with`: they are let go of at its
    end. Several threads may use it.
    """

    def __init__(self, core: Core, retries: Retries = AS_CONFIGURED) -> None:
        self.core = core
        self._retries = check(retries)
        self.packer = Packer(core)
        self._lock = threading.Lock()
        self._open: list[Repository | Transport] = []
        self._stopped = False

    def repository(self, reference: Reference, auth: AuthConfig | None) -> Repository:
        """Open the repository of a reference. `auth` None: what the engine's own user has in config.json."""
        # And urllib3, a third of all imports: done behind the server's start.
        from sampan.image.registry import Repository

        registries = self.core.settings.read().registries
        repository = Repository(reference, auth, registries=registries, retries=self._retries)
        self._add(repository)
        return repository

    def image(self, reference: Reference, auth: AuthConfig | None = None) -> RemoteImage:
        """Open an image, to copy it from or to there."""
        return RemoteImage(self.repository(reference, auth), reference)

    def log_in(self, server: str, auth: AuthConfig) -> str:
        """Have a registry check credentials, Docker Hub or the configured default where none is named.

        Return the identity token that it grants, "" where it grants none.
        """
        from sampan.image.login import log_in
        from sampan.image.transport import Transport

        registries = self.core.settings.read().registries
        registry = hostname_of(server) if server else registries.default
        if not is_registry(registry):
            raise InvalidInput(f"can't log in at {server[:200]!r}: it is no registry", "name it as host[:port]")
        if not (auth.username or auth.identity_token):
            raise InvalidInput(f"can't log in at {registry}: no user name is given")
        transport = Transport(registries.place(registry), registries)
        self._add(transport)
        return log_in(transport, auth)

    def stop(self) -> None:
        """Make the verb fail early, from any thread."""
        with self._lock:
            self._stopped = True
            for opened in self._open:
                opened.stop()

    def _add(self, opened: Repository | Transport) -> None:
        with self._lock:
            self._open.append(opened)
            if self._stopped:
                opened.stop()

    def __enter__(self) -> Self:
        self.packer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.packer.__exit__()
        for opened in self._open:
            opened.close()


def given_auth(header: str) -> AuthConfig | None:
    """Read an X-Registry-Auth header."""
    return credentials.from_header(header) if header else None
