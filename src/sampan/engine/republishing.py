"""Changing which ports a container publishes, while it runs and for its next starts."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine import ports as publishing
from sampan.engine.core import encode
from sampan.engine.network_settings import published
from sampan.engine.port_changes import change
from sampan.errors import Conflict, NotFound, doing
from sampan.spec.docker import PortsUpdateResponse
from sampan.spec.state import Status

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.port_changes import Change
    from sampan.engine.registry import Container
    from sampan.spec.docker import PortsUpdate

_ANSWER_S = 10


def update(core: Core, container: Container, update: PortsUpdate) -> PortsUpdateResponse:
    """Publish what is to be added and no longer what is to go: all of it, or nothing."""
    with container.lock:
        if container.removed or container.state.status is Status.REMOVING:
            raise NotFound(f"No such container: {container.name}")
        with doing(f"can't change the ports of {container.name}"):
            changed = change(container.body, container.state.ports, update)
            if container.running and (changed.gone or changed.added):
                _change_now(core, container, changed)
            else:
                core.store.set_body(container.id, encode(changed.body), encode(container.state))
                container.body = changed.body
        ports = published(container)
    core.tell(container, "update")
    return PortsUpdateResponse(ports=ports)


def _change_now(core: Core, container: Container, changed: Change) -> None:
    """Bind, change the firewall, write it down; then the shim takes the new ones, and lets go of the others."""
    sandbox = container.sandbox
    kept = tuple(port for port in container.state.ports if port not in changed.gone)
    with closing(publishing.reserve_more(core, container, changed.added, kept)) as reserved:
        if sandbox is None or (changed.added and not reserved.ports):
            raise Conflict("it is on no network that the host leads to", "it takes a bridge that is not internal")
        ports = (*kept, *reserved.ports)
        with sandbox.kept(), ExitStack() as undo:
            addresses, _ = sandbox.published
            core.firewall.unpublish(addresses, changed.gone)
            undo.callback(core.firewall.publish, addresses, changed.gone)
            core.firewall.publish(addresses, reserved.ports)
            undo.callback(core.firewall.unpublish, addresses, reserved.ports)
            core.store.set_body(container.id, encode(changed.body), encode(replace(container.state, ports=ports)))
            undo.pop_all()
            sandbox.ports = ports
        container.body = changed.body
        if container.running:
            container.update(ports=ports)
        if container.shim:  # else it was killed, and its successor is reminded
            publishing.tell(container, container.shim, reserved.sockets).wait_quietly(_ANSWER_S)
