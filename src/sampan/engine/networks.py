"""The verbs of networks: create, inspect, list, remove, prune, connect, disconnect."""

# ruff: noqa: ARG001

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import Unsupported

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.requests import Filters
    from sampan.spec import docker


def _later() -> Unsupported:
    return Unsupported("unsupported: networks come later")


def create(core: Core, body: docker.NetworkCreate) -> docker.NetworkCreateResponse:
    """Make a network."""
    raise _later()


def inspect(core: Core, ref: str) -> docker.Network:
    """Return a network in Docker's form."""
    raise _later()


def listing(core: Core, filters: Filters) -> list[docker.Network]:
    """Return those that pass `driver`, `id`, `label`, `name`, `scope`, `type` and `dangling`."""
    raise _later()


def remove(core: Core, ref: str) -> None:
    """Remove a network."""
    raise _later()


def prune(core: Core, filters: Filters) -> docker.NetworkPruneResponse:
    """Remove what no container is on."""
    raise _later()


def connect(core: Core, ref: str, body: docker.NetworkConnect) -> None:
    """Put a container on a network."""
    raise _later()


def disconnect(core: Core, ref: str, body: docker.NetworkDisconnect) -> None:
    """Take a container off a network."""
    raise _later()
