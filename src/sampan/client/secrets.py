"""Secrets, by the Python client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.client.removable import Removable
from sampan.client.wire import query, quote
from sampan.spec import docker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.client.sdk import Api

_LIST = list  # the class has a verb of that name


class Secret(Removable):
    """One secret. In a `with` it is removed at the end; containers keep what they have of it."""

    def __init__(self, api: Api, attributes: docker.Secret) -> None:
        self._api = api
        self._path = f"/secrets/{quote(attributes.id)}"
        self.attributes = attributes
        """What `inspect` told when it was found."""

    def __repr__(self) -> str:
        return f"<Secret {self.name}>"

    @property
    def id(self) -> str:
        """Its id; one that is replaced gets another."""
        return self.attributes.id

    @property
    def name(self) -> str:
        """Its name."""
        return self.attributes.spec.name

    def data(self) -> bytes:
        """Ask the engine for what it is."""
        return self._api.get(docker.Secret, f"{self._path}{query(showsecret=True)}").secret_data

    def remove(self) -> None:
        """Remove it."""
        self._api.post(self._path, method="DELETE")


class Secrets:
    """The secrets of an instance: `client.secrets`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def create(
        self, name: str, data: bytes, *, labels: Mapping[str, str] | None = None, replace: bool = False
    ) -> Secret:
        """Make a secret of a name that none has, or with `replace` in place of the one that has it."""
        body = docker.SecretCreate(name=name, data=data, labels=dict(labels or {}) or None)
        made = self._api.post(f"/secrets/create{query(replace=replace)}", body)
        return self.get(docker.decode_answer(docker.SecretCreateResponse, made).id)

    def get(self, ref: str) -> Secret:
        """Return a secret by its name, its id or an id's beginning. Raises NotFound."""
        return Secret(self._api, self._api.get(docker.Secret, f"/secrets/{quote(ref)}"))

    def list(self, *, filters: Mapping[str, str | Iterable[str]] | None = None) -> _LIST[docker.Secret]:
        """Return all secrets, by name."""
        from sampan.client.sdk import filter_lists

        return self._api.get_list(docker.Secret, f"/secrets{query(filters=filter_lists(filters))}")
