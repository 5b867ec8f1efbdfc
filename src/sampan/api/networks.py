"""The handlers of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.api.versions import ENABLE_IPV4, LISTS_WITHOUT_CONTAINERS
from sampan.errors import InvalidInput, NotFound
from sampan.spec import docker

if TYPE_CHECKING:
    from sampan.api.call import Call

_BOOLS = frozenset(("", "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"))


def list_networks(call: Call) -> None:
    """GET /networks. Before 1.28 it told of the containers too."""
    networks = call.engine.list_networks(call.filters())
    if call.version < LISTS_WITHOUT_CONTAINERS:
        networks = [call.engine.inspect_network(network.id) for network in networks]
    call.answer(networks)


def inspect(call: Call) -> None:
    """GET /networks/{id}: there is more with `verbose` for a swarm's networks only, and `local` is the only scope."""
    verbose, scope = call.text("verbose"), call.text("scope")
    if verbose not in _BOOLS:
        raise InvalidInput(f"invalid value for verbose: {verbose[:100]}")
    network = call.engine.inspect_network(call.path["id"])
    if scope not in ("", network.scope):
        raise NotFound(f"network {call.path['id']} not found", f"its scope is {network.scope}")
    call.answer(network)


def create(call: Call) -> None:
    """POST /networks/create."""
    body = call.body(docker.NetworkCreate)
    if call.version < ENABLE_IPV4:
        body = msgspec.structs.replace(body, enable_ipv4=None)
    call.answer(call.engine.create_network(body), 201)


def remove(call: Call) -> None:
    """DELETE /networks/{id}."""
    call.engine.remove_network(call.path["id"])
    call.done()


def connect(call: Call) -> None:
    """POST /networks/{id}/connect."""
    call.engine.connect_network(call.path["id"], call.body(docker.NetworkConnect))
    call.done(200)


def disconnect(call: Call) -> None:
    """POST /networks/{id}/disconnect."""
    call.engine.disconnect_network(call.path["id"], call.body(docker.NetworkDisconnect))
    call.done(200)
