"""Volumes, by the Python client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.client.removable import Removable
from sampan.client.wire import query, quote
from sampan.spec import docker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sampan.client.sdk import Api


class Volume(Removable):
    """One volume. In a `with` it is removed at the end; its containers have to be gone by then."""

    def __init__(self, api: Api, attributes: docker.Volume) -> None:
        self._api = api
        self._path = f"/volumes/{quote(attributes.name)}"
        self.attributes = attributes
        """What `inspect` told when it was last asked; `reload` asks again."""

    def __repr__(self) -> str:
        return f"<Volume {self.name}>"

    @property
    def name(self) -> str:
        """Its name; of one that nobody named, 64 digits."""
        return self.attributes.name

    def reload(self) -> docker.Volume:
        """Ask the engine for everything about it."""
        self.attributes = self._api.get(docker.Volume, self._path)
        return self.attributes

    inspect = reload

    def remove(self, *, force: bool = False) -> None:
        """Remove it, with its files. Raises Conflict while a container has it."""
        self._api.post(f"{self._path}{query(force=force)}", method="DELETE")


class Volumes:
    """The volumes of an instance: `client.volumes`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def create(
        self, name: str = "", *, labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        """Make a volume, or find the one of this name. `options` are those of the local driver: type, device, o."""
        body = docker.VolumeCreate(
            name=name, labels=dict(labels or {}) or None, driver_opts=dict(options or {}) or None
        )
        return Volume(self._api, docker.decode_answer(docker.Volume, self._api.post("/volumes/create", body)))

    def get(self, name: str) -> Volume:
        """Return a volume by its name. Raises NotFound."""
        return Volume(self._api, self._api.get(docker.Volume, f"/volumes/{quote(name)}"))

    def list(self, *, filters: Mapping[str, str | Iterable[str]] | None = None) -> Sequence[docker.Volume]:
        """Return all volumes."""
        from sampan.client.sdk import filter_lists

        return self._api.get(docker.VolumeListResponse, f"/volumes{query(filters=filter_lists(filters))}").volumes

    def prune(
        self, *, all: bool = False, filters: Mapping[str, str | Iterable[str]] | None = None
    ) -> docker.VolumePruneResponse:
        """Remove the anonymous volumes, or `all`, that no container uses."""
        from sampan.client.sdk import filter_lists

        given = {**(filter_lists(filters) or {}), **({"all": ["true"]} if all else {})}
        return self._api.ask(docker.VolumePruneResponse, f"/volumes/prune{query(filters=given or None)}")
