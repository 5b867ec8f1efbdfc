"""The verbs of secrets: create, inspect, list, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.filtering import check, has_label
from sampan.errors import InvalidInput, Unsupported
from sampan.spec import docker
from sampan.units import format_timestamp

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.requests import Filters
    from sampan.engine.secrets import Secret

_DRIVER = "file"
_FILTERS = frozenset({"id", "label", "name", "names"})


class SecretVerbs:
    """Those of one instance. `ref` is a secret's id, an id's unambiguous beginning, or its name."""

    def __init__(self, core: Core) -> None:
        self._bus = core.bus
        self._secrets = core.secrets

    def create(self, given: docker.SecretCreate, *, replace: bool = False) -> docker.SecretCreateResponse:
        """Make a secret of a name that none has yet, or with `replace` in place of the one that has it."""
        _check(given)
        secret, replaced = self._secrets.put(given.name, given.data, given.labels or {}, replace=replace)
        self._tell(secret, "update" if replaced else "create")
        return docker.SecretCreateResponse(id=secret.id)

    def inspect(self, ref: str, *, show: bool = False) -> docker.Secret:
        """Return everything about a secret; its data only if `show` says so."""
        secret = self._secrets.find(ref)
        return _body(secret, self._secrets.read(secret.id) if show else b"")

    def remove(self, ref: str) -> None:
        """Remove a secret, also one that containers have a copy of."""
        self._tell(self._secrets.remove(ref), "remove")

    def list(self, filters: Filters | None = None) -> list[docker.Secret]:
        """Return those that pass `id`, `label`, `name` and `names`, by name; without their data."""
        check(filters or {}, _FILTERS)
        found = [secret for secret in self._secrets if _passes(secret, filters or {})]
        return [_body(secret) for secret in sorted(found, key=lambda secret: secret.name)]

    def _tell(self, secret: Secret, action: str) -> None:
        self._bus.tell("secret", action, secret.id, {"name": secret.name})


def _check(given: docker.SecretCreate) -> None:
    if given.templating is not None and given.templating.name:
        raise Unsupported(f"unsupported: a template driver ({given.templating.name})", "write what it is to be")
    if given.driver is not None:
        if given.driver.name not in ("", _DRIVER):
            raise InvalidInput(f"invalid driver {given.driver.name!r}", f"there is {_DRIVER}")
        if given.driver.options:
            raise InvalidInput(f"invalid driver option: {', '.join(given.driver.options)}", f"{_DRIVER} has none")


def _body(secret: Secret, data: bytes = b"") -> docker.Secret:
    return docker.Secret(
        id=secret.id,
        created_at=format_timestamp(secret.created_ns),
        updated_at=format_timestamp(secret.updated_ns),
        spec=docker.SecretSpec(name=secret.name, labels=dict(secret.labels)),
        secret_data=data,
    )


def _passes(secret: Secret, filters: Filters) -> bool:
    """Ids and names are told by their beginnings, `names` by all of it: moby, daemon/cluster/filters.go."""
    begins = (("id", secret.id), ("name", secret.name))
    return (
        all(name not in filters or any(text.startswith(value) for value in filters[name]) for name, text in begins)
        and ("names" not in filters or secret.name in filters["names"])
        and all(has_label(secret.labels, value) for value in filters.get("label", ()))
    )
