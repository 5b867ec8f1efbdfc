"""The handlers of secrets: a swarm's paths in Docker's API, which need no swarm here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.spec import docker

if TYPE_CHECKING:
    from sampan.api.call import Call


def list_secrets(call: Call) -> None:
    """GET /secrets."""
    call.answer(call.engine.secrets.list(call.filters()))


def inspect(call: Call) -> None:
    """GET /secrets/{id}. `showsecret`, Podman's, has it tell the data."""
    call.answer(call.engine.secrets.inspect(call.path["id"], show=call.flag("showsecret")))


def create(call: Call) -> None:
    """POST /secrets/create. `replace` is Podman's."""
    call.answer(call.engine.secrets.create(call.body(docker.SecretCreate), replace=call.flag("replace")), 201)


def remove(call: Call) -> None:
    """DELETE /secrets/{id}."""
    call.engine.secrets.remove(call.path["id"])
    call.done()
