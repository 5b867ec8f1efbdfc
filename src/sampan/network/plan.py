"""The steps that make and unmake a network's bridge and a container's links, computed from what is decided. Pure.

bridge_up(network)            the host's side; what is there is put right
attach(network, endpoint)     a link into the container's namespace, with addresses and routes
detach(endpoint)              for a container that goes on; one that ends takes its links along
bridge_down(network)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput
from sampan.network import ops

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.spec.network import Endpoint, Network

Steps = tuple[ops.Step, ...]

SYSCTLS = "com.docker.network.endpoint.sysctls"
IPVLAN_FLAG = "ipvlan_flag"
NO_BRIDGE_ADDRESS = "com.docker.network.bridge.inhibit_ipv4"
GATEWAY_MODE = "com.docker.network.bridge.gateway_mode_ipv"

_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.IFNAME\.([a-z0-9_]+)=([^,]*)")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")  # what Go's strconv.ParseBool takes


def alias(link: str, id: str, instance: str = "") -> str:
    """Return what a link of ours says: the instance's id is in its name, unless the user gave the name."""
    return f"sampan {instance or link[2:10]} {id}"


def bridge_up(network: Network, *, instance: str = "") -> Steps:
    """Make the network's bridge with the gateways' addresses, or repair it; or what its links are to be made on.

    `instance` is needed where the user gave the name.
    """
    link = network.link or network.parent
    mark = alias(link, network.id, instance)
    if network.driver != "bridge":
        return _parent_up(network, mark)
    # A MAC of its own: else the bridge takes the lowest of its ports, another one with every container.
    made = ops.MakeBridge(link=link, mac=f"02:{_pairs(network.id[:10])}", mtu=network.mtu, alias=mark)
    addresses = tuple(ops.AddAddress(link, a) for a in _gateways(network))
    return made, *_addressing(link, network.ipv6), *addresses, ops.BringUp(link)


def _parent_up(network: Network, mark: str) -> Steps:
    """Make the parent of the network's links where the host doesn't have it: a VLAN "eth0.50", or one of our own."""
    if not network.parent:
        return (ops.MakeDummy(link=network.link, alias=mark), ops.BringUp(network.link))
    below, dot, number = network.parent.rpartition(".")
    if not dot or not number.isdecimal() or not 1 <= int(number) <= 4094:
        return ()
    made = ops.MakeVlan(link=network.parent, parent=below, number=int(number), alias=mark)
    return (made, ops.BringUp(network.parent))


def _pairs(digits: str) -> str:
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def _gateways(network: Network) -> Iterator[str]:
    for subnet in network.subnets:
        isolated = network.options.get(f"{GATEWAY_MODE}{subnet.version}") == "isolated"
        inhibited = subnet.version == 4 and network.options.get(NO_BRIDGE_ADDRESS) in _TRUE
        if subnet.gateway and not isolated and not inhibited:
            yield subnet.gateway_interface


def _addressing(interface: str, ipv6: bool, *, inside: bool = False) -> Steps:
    """Say how a bridge, or an interface on one, that is not up yet deals with IPv6.

    Router advertisements are never believed: they come from the other containers (CVE-2020-13401). Duplicate addresses
    are not looked for, which takes a second: the engine gives each address once.
    """
    settings = {"disable_ipv6": "0", "accept_ra": "0", "accept_dad": "0"} if ipv6 else {"disable_ipv6": "1"}
    names = {f"net/ipv6/conf/{interface}/{name}": value for name, value in settings.items()}
    return tuple(ops.SetParameter(name, value, inside) for name, value in names.items())


def bridge_down(network: Network) -> Steps:
    """Remove the network's bridge, or the parent that was made for it; not what was there before."""
    link = network.link or network.parent
    return (ops.RemoveLink(link, network.id),) if link else ()


def attach(network: Network, endpoint: Endpoint, *, default_gateway: bool) -> Steps:
    """Make the container's link and all that belongs to it; `default_gateway`: what goes elsewhere goes this way."""
    steps = _LINKS[network.driver](network, endpoint)
    steps += (ops.BringUp("lo", inside=True), *_inside(network, endpoint))
    return steps + (default_routes(network, endpoint) if default_gateway else ())


def _veth(network: Network, endpoint: Endpoint) -> Steps:
    link = endpoint.link
    pair = ops.MakeVeth(link=link, interface=endpoint.interface, mac=endpoint.mac, mtu=network.mtu)
    described = ops.Describe(link, alias(link, endpoint.container))
    return (pair, described, ops.SetAddressing(link), *join_bridge(network, endpoint))


def join_bridge(network: Network, endpoint: Endpoint) -> Steps:
    """Put the host's end of a container's link on the network's bridge; again, where that was removed under it."""
    link = endpoint.link
    steps: Steps = (ops.JoinBridge(link, network.link, isolated=not network.inter_container), ops.BringUp(link))
    if endpoint.ipv4 and endpoint.mac:
        steps += (ops.SetNeighbour(link=network.link, address=endpoint.ipv4, mac=endpoint.mac),)
    return steps


def _macvlan(network: Network, endpoint: Endpoint) -> Steps:
    made = ops.MakeMacvlan(
        interface=endpoint.interface,
        parent=network.parent or network.link,
        mode=network.mode or "bridge",
        mac=endpoint.mac,
        mtu=network.mtu,
    )
    return (made,)


def _ipvlan(network: Network, endpoint: Endpoint) -> Steps:
    made = ops.MakeIpvlan(
        interface=endpoint.interface,
        parent=network.parent or network.link,
        mode=network.mode or "l2",
        flag=network.options.get(IPVLAN_FLAG, "bridge"),
        mtu=network.mtu,
    )
    return (made,)


_LINKS = {"bridge": _veth, "macvlan": _macvlan, "ipvlan": _ipvlan}


def _inside(network: Network, endpoint: Endpoint) -> Steps:
    interface = endpoint.interface
    steps: Steps = ()
    if network.driver == "bridge" or not endpoint.ipv6:  # beyond another link's parent there may be true routers
        steps = _addressing(interface, bool(endpoint.ipv6), inside=True)
    steps += tuple(_sysctls(interface, endpoint.driver_opts.get(SYSCTLS, "")))
    addresses = (*endpoint.addresses, *(f"{a}/{64 if ':' in a else 16}" for a in endpoint.link_local))
    steps += tuple(ops.AddAddress(interface, address, inside=True) for address in addresses)
    return (*steps, ops.BringUp(interface, inside=True))


def _sysctls(interface: str, text: str) -> Iterator[ops.SetParameter]:
    """Read the settings that the user gave for this interface: `net.ipv4.conf.IFNAME.log_martians=1,…`."""
    for setting in text.split(",") if text else ():
        match = _SYSCTL.fullmatch(setting)
        if match is None:
            raise InvalidInput(
                f"can't set {setting!r} for {interface}: not a setting of an interface",
                "it reads net.ipv4.conf.IFNAME.NAME=VALUE, with IFNAME as it stands here",
            )
        family, table, name, value = match.groups()
        yield ops.SetParameter(f"net/{family}/{table}/{interface}/{name}", value, inside=True)


def parameters(given: Mapping[str, str]) -> Steps:
    """Set kernel parameters of the container's network, "net.ipv4.ip_forward", as sysctl(8) writes their names."""
    steps = []
    for key, value in given.items():
        name = key.translate(str.maketrans("./", "/."))
        if not name.startswith("net/") or {"", ".", ".."} & set(name.split("/")):
            raise InvalidInput(f"can't set the kernel parameter {key!r}: it is no name of a network's parameter")
        steps.append(ops.SetParameter(name, value, inside=True))
    return tuple(steps)


def default_routes(network: Network, endpoint: Endpoint) -> Steps:
    """Send what goes elsewhere by this endpoint's gateways, in place of another's."""
    if network.internal:
        return ()
    interface = endpoint.interface
    if network.driver == "ipvlan" and network.mode.startswith("l3"):  # its parent routes: there is no gateway
        everywhere = tuple("::/0" if ":" in a else "0.0.0.0/0" for a in endpoint.addresses)
        return tuple(ops.AddRoute(destination=d, interface=interface, inside=True) for d in everywhere)
    return tuple(
        ops.AddRoute(destination="::/0" if ":" in g else "0.0.0.0/0", interface=interface, gateway=g, inside=True)
        for g in endpoint.gateways
    )


def silence(endpoint: Endpoint) -> Steps:
    """Let nothing come from the container or go to it by its pair of links. It takes a hundredth of `detach`'s time."""
    return (ops.TakeDown(endpoint.link),)


def detach(endpoint: Endpoint) -> Steps:
    """Remove the container's link; both ends of a pair go at once, whatever the container has done to its own."""
    if endpoint.link:
        return (ops.RemoveLink(endpoint.link),)
    return (ops.RemoveLink(endpoint.interface, inside=True),)
