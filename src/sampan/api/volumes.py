"""The handlers of volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import Unsupported
from sampan.spec import docker

if TYPE_CHECKING:
    from sampan.api.call import Call


def list_volumes(call: Call) -> None:
    """GET /volumes."""
    call.answer(call.engine.list_volumes(call.filters()))


def inspect(call: Call) -> None:
    """GET /volumes/{id}."""
    call.answer(call.engine.inspect_volume(call.path["id"]))


def create(call: Call) -> None:
    """POST /volumes/create."""
    call.answer(call.engine.create_volume(call.body(docker.VolumeCreate)), 201)


def remove(call: Call) -> None:
    """DELETE /volumes/{id}."""
    call.engine.remove_volume(call.path["id"], force=call.flag("force"))
    call.done()


def update(call: Call) -> None:
    """PUT /volumes/{id}: there is nothing to change about a volume outside of a swarm."""
    call.engine.inspect_volume(call.path["id"])
    raise Unsupported("unsupported: updating a volume", "only a swarm's cluster volumes can be updated")
