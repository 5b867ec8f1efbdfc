"""The verbs of networks: create, inspect, list, remove, connect, disconnect; and their repair at a start."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from sampan import ids
from sampan.engine import bridges, endpoints, naming, network_bodies, network_options, sandbox
from sampan.engine.core import encode, now_ns
from sampan.errors import Conflict, InvalidInput, NotFound, NotPermitted, SampanError
from sampan.network import host, plan
from sampan.network.ops import RemoveLink
from sampan.network.perform import perform
from sampan.spec import docker
from sampan.spec.network import DEFAULT
from sampan.spec.state import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.engine.requests import Filters
    from sampan.spec.network import Driver, Network


def create(core: Core, body: docker.NetworkCreate) -> docker.NetworkCreateResponse:
    """Make a network, with its bridge."""
    driver = network_options.check(body)
    routes = host.routes()
    network = core.networks.add(
        lambda subnets: network_options.network(body, driver, _surroundings(core, (*subnets, *routes), driver))
    )
    try:
        _check_parent(network)
        core.networks.ensure_up(network, lambda network: bridges.bring_up(core, network))
    except SampanError as e:
        core.networks.remove(network)
        bridges.clear(core, network)
        raise bridges.refusal(e, f"can't create network {network.name}") from e
    core.tell_network(network, "create")
    unused = [config.subnet for config in (body.ipam and body.ipam.config) or () if ":" in config.subnet]
    warning = f"IPv6 is not enabled: {', '.join(unused)} is not used" if unused and not network.ipv6 else ""
    return docker.NetworkCreateResponse(id=network.id, warning=warning)


def _check_parent(network: Network) -> None:
    """Raise InvalidInput where the parent is neither there nor a VLAN that can be made."""
    name, dot, number = network.parent.rpartition(".")
    below = name if dot and number.isdecimal() else network.parent
    if network.parent and not host.exists(network.parent) and not host.exists(below):
        raise InvalidInput(
            f"invalid subinterface vlan name {network.parent}, example formatting is eth0.10",
            f"this host has no link {below}",
        )


def _surroundings(core: Core, taken: tuple[str, ...], driver: Driver = "bridge") -> network_options.Surroundings:
    link = host.new_link_name(core.instance, "b" if driver == "bridge" else "m")
    return network_options.Surroundings(ids.new_id(), now_ns(), link, taken, core.instance)


def make_default(core: Core) -> None:
    """Write the default network down, in an instance that has none yet; its bridge is made when somebody needs it."""
    if all(network.name != DEFAULT for network in core.networks):
        routes = host.routes()
        core.networks.add(lambda subnets: network_options.default_network(_surroundings(core, (*subnets, *routes))))


def inspect(core: Core, ref: str) -> docker.Network:
    """Return a network in Docker's form."""
    network = core.networks.find(ref)
    return network_bodies.body(network, _containers(core, network))


def _containers(core: Core, network: Network) -> dict[str, docker.NetworkContainer]:
    if network.driver in ("host", "null"):
        return {
            c.id: docker.NetworkContainer(name=c.name, endpoint_id=c.id)
            for c in core.registry
            if c.running and c.body.host_config.network_mode == network.name
        }
    found = {}
    for endpoint in core.networks.endpoints(network.id):
        other = core.registry.get(endpoint.container)
        if other is not None and other.running:  # of one that has ended the links are taken away behind the answer
            found[other.id] = network_bodies.container(endpoint, other.name)
    return found


def listing(core: Core, filters: Filters) -> list[docker.Network]:
    """Return those that pass `driver`, `id`, `label`, `name`, `scope`, `type` and `dangling`."""
    networks = list(core.networks)
    used = frozenset(network.id for network in networks if _containers(core, network))
    return [network_bodies.body(network) for network in network_bodies.passing(networks, used, filters)]


def remove(core: Core, ref: str) -> None:
    """Remove a network that no running container is on."""
    network = core.networks.find(ref)
    if network.predefined:
        raise NotPermitted(f"{network.name} is a pre-defined network and cannot be removed", "every instance has it")
    sandbox.release_ended(core)
    core.networks.remove(network)
    bridges.take_down(core, network)
    core.tell_network(network, "destroy")


# ------------------------------------------------------------------------------------------------- connect, disconnect


def connect(core: Core, ref: str, body: docker.NetworkConnect) -> None:
    """Put a container on one more network, at once if it runs."""
    container = core.registry.find(body.container)
    network = core.networks.find(ref)
    settings = msgspec.structs.replace(body.endpoint_config or docker.EndpointSettings(), network_id=network.id)
    with container.lock:
        _check_change(container)
        mode = container.body.host_config.network_mode
        places = endpoints.places(container)
        if network.driver in ("host", "null"):
            raise _never(network, connecting=True)
        if not endpoints.own_network(mode):
            raise endpoints.mixed("none" if mode == "none" else "host")
        if network.name in places:
            raise NotPermitted(f"endpoint with name {container.name} already exists in network {network.name}")
        endpoints.check(network, settings)
        if container.running:
            sandbox.running(core, container).connect(network, settings)
        _keep(core, container, {**places, network.name: settings})
        if container.running:
            core.tell_network(network, "connect", {"container": container.id})


def disconnect(core: Core, ref: str, body: docker.NetworkDisconnect) -> None:
    """Take a container off a network, at once if it runs."""
    container = core.registry.find(body.container)
    with container.lock:
        _check_change(container)
        places = endpoints.places(container)
        name = _place(core, container, ref, force=body.force)
        settings = places.pop(name)
        network = core.networks.get(settings.network_id)
        if container.running and network:
            networks = sandbox.running(core, container)
            for endpoint in networks.endpoints:
                if endpoint.network == network.id:
                    networks.disconnect(endpoint)
        _keep(core, container, places)
        if container.running and network:
            core.tell_network(network, "disconnect", {"container": container.id})


def _place(core: Core, container: Container, ref: str, *, force: bool) -> str:
    """Return the name by which the container knows a network, which may be gone."""
    places = endpoints.places(container)
    try:
        network = core.networks.find(ref)
    except NotFound:
        if force and ref in places:
            return ref
        raise
    if network.driver in ("host", "null") and container.body.host_config.network_mode == network.name:
        raise _never(network, connecting=False)
    if network.name not in places:
        text = f"container {container.id} is not connected to network {network.name}"
        raise Conflict(text, f"it is on {', '.join(places) or 'none'}")
    return network.name


def _never(network: Network, *, connecting: bool) -> InvalidInput:
    if network.driver == "null":
        return endpoints.mixed("none")
    if connecting:
        return InvalidInput(
            "cannot connect container to host network - container must be created in host network mode",
            "make a new container with --network host",
        )
    return InvalidInput(
        "cannot disconnect container from host network - container was created in host network mode",
        "make a new container with another --network",
    )


def _check_change(container: Container) -> None:
    if container.removed or container.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict(
            f"Container {container.id} is marked for removal and cannot be connected or disconnected to the network"
        )


def _keep(core: Core, container: Container, places: Mapping[str, docker.EndpointSettings]) -> None:
    """Write down which networks a container is on."""
    config = docker.NetworkingConfig(endpoints_config=dict(places))
    container.body = msgspec.structs.replace(container.body, networking_config=config)
    core.store.set_body(container.id, encode(container.body))


# ------------------------------------------------------------------------------------------- the server's life


def put_away(core: Core) -> None:
    """Take back what was changed of the host, where no container is on a network: it is made again at need."""
    sandbox.release_ended(core)
    up = core.networks.up()
    if not up or any(container.sandbox for container in core.registry):
        return
    try:
        for network in up:
            perform(plan.bridge_down(network))
            core.networks.is_down(network)
        core.firewall.forget_all()
    except (SampanError, OSError) as e:
        print(f"sampan: can't take the networks back: {e}", file=sys.stderr, flush=True)


def rest(core: Core) -> None:
    """Leave nothing of networks on the host while no container is on one: the next that is has them made again."""
    try:
        names = {link.name for link in host.links(core.instance)}
        if not names or any(container.sandbox for container in core.registry):
            return
        for network in core.networks:
            if network.link in names:
                core.networks.is_down(network)
                perform(plan.bridge_down(network))
        core.firewall.forget_all()
    except (SampanError, OSError) as e:
        print(f"sampan: can't take down the networks: {e}", file=sys.stderr, flush=True)


def repair(core: Core) -> None:
    """Leave what running containers have, and nothing of those that ended while no server was there.

    Bridges that are there stay, are put right, and keep their part of the firewall; so do those that containers are on,
    whoever removed them. Others, which a reboot took, are made again when somebody needs them.
    """
    try:
        naming.repair(core)
        links = host.links(core.instance)
        sandboxes = [c.sandbox for c in core.registry if c.sandbox]
        if not links and not sandboxes:
            return
        wanted = {endpoint.link for each in sandboxes for endpoint in each.endpoints}
        names = {link.name for link in links}
        bridges = {network.link or network.parent: network for network in core.networks}
        for name in names - wanted - bridges.keys():
            perform((RemoveLink(name),))
        used = {endpoint.network for each in sandboxes for endpoint in each.endpoints}
        up = [network for name, network in bridges.items() if name in names or network.id in used]
        for network in up:
            core.networks.ensure_up(network, lambda network: _put_right(core, network, there=network.link in names))
        core.firewall.sync(up, [each.published for each in sandboxes if each.ports])
    except (SampanError, OSError) as e:
        print(f"sampan: can't repair the networks: {e}", file=sys.stderr, flush=True)


def _put_right(core: Core, network: Network, *, there: bool) -> None:
    perform(plan.bridge_up(network, instance=core.instance))
    if not there:
        bridges.put_back(core, network)
