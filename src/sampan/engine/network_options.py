"""What a request for a network comes to: its driver's options read, everything that can be refused refused. Pure."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, NotFound, NotPermitted, Unsupported
from sampan.network import ipam
from sampan.spec.network import DEFAULT, PREDEFINED, Network, Subnet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampan.spec import docker
    from sampan.spec.network import Driver

BRIDGE = "com.docker.network.bridge."
PREFIX = "com.docker.network.container_iface_prefix"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_LINK = re.compile(r"[^\s/:%]{1,15}")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")  # Go's strconv.ParseBool
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_ALL = (
    "com.docker.network.driver.mtu", PREFIX, "com.docker.network.enable_ipv4",
    "com.docker.network.enable_ipv6",
)  # fmt: skip
_KNOWN = {
    "bridge": (
        *_ALL, f"{BRIDGE}name", f"{BRIDGE}default_bridge", f"{BRIDGE}enable_icc", f"{BRIDGE}enable_ip_masquerade",
        f"{BRIDGE}host_binding_ipv4", f"{BRIDGE}inhibit_ipv4", f"{BRIDGE}gateway_mode_ipv4",
        f"{BRIDGE}gateway_mode_ipv6",
    ),
    "macvlan": (*_ALL, "parent", "macvlan_mode"),
    "ipvlan": (*_ALL, "parent", "ipvlan_mode", "ipvlan_flag"),
}  # fmt: skip
_CHOICES = {
    "macvlan_mode": ("bridge", "private", "vepa", "passthru"),
    "ipvlan_mode": ("l2", "l3", "l3s"),
    "ipvlan_flag": ("bridge", "private", "vepa"),
    f"{BRIDGE}gateway_mode_ipv4": ("nat", "isolated"),
    f"{BRIDGE}gateway_mode_ipv6": ("nat", "isolated"),
}


class Surroundings:
    """What a new network is made in: its id and moment, a name for its bridge, and the subnets that are not free."""

    def __init__(self, id: str, created_ns: int, link: str, taken: Sequence[str], seed: str) -> None:
        self.id = id
        self.created_ns = created_ns
        self.link = link
        self.taken = taken
        self.seed = seed


def default_network(given: Surroundings) -> Network:
    """Return the network that every instance has for who names none."""
    options = {
        f"{BRIDGE}default_bridge": "true",
        f"{BRIDGE}enable_icc": "true",
        f"{BRIDGE}enable_ip_masquerade": "true",
        f"{BRIDGE}host_binding_ipv4": "0.0.0.0",
        f"{BRIDGE}name": given.link,
        "com.docker.network.driver.mtu": "1500",
    }
    subnets = ipam.subnets((), (4,), given.taken, given.seed)
    return Network(
        id=given.id, name=DEFAULT, created_ns=given.created_ns, subnets=subnets, options=options, link=given.link
    )


def check(body: docker.NetworkCreate) -> Driver:
    """Raise for what needs no look at other networks; return the driver."""
    if body.name in (*PREDEFINED, "default"):
        raise NotPermitted(f"operation is not permitted on predefined {body.name} network ", "choose another name")
    if not body.name.strip():
        raise InvalidInput("invalid name: name is empty")
    if not _NAME.fullmatch(body.name):
        raise InvalidInput(f"invalid network name ({body.name[:80]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    driver = _driver(body.driver)
    if body.scope not in ("", "local") or body.ingress:
        raise Unsupported("unsupported: networks of a swarm", "leave --scope and --ingress out")
    if body.config_only or (body.config_from and body.config_from.network):
        raise Unsupported("unsupported: networks that only hold a configuration", "give the options to the network")
    if body.ipam and body.ipam.driver not in ("", "default"):
        raise NotFound(f"could not find plugin {body.ipam.driver}: there is no such IPAM driver", "leave it out")
    if body.ipam and body.ipam.options:
        raise Unsupported(f"unsupported: IPAM option {next(iter(body.ipam.options))}", "leave --ipam-opt out")
    _check_options(driver, body.options or {})
    return driver


def _driver(name: str) -> Driver:
    match name:
        case "" | "default" | "bridge":
            return "bridge"
        case "macvlan":
            return "macvlan"
        case "ipvlan":
            return "ipvlan"
        case "host" | "null":
            raise NotPermitted(f'only one instance of "{name}" network is allowed', "there is one already")
        case "overlay":
            raise NotPermitted(
                "This node is not a swarm manager. overlay networks are a swarm's", "use bridge, macvlan or ipvlan"
            )
        case _:
            raise NotFound(
                f"could not find plugin {name[:80]} in v1 plugin registry: plugin not found",
                "the drivers are bridge, macvlan and ipvlan",
            )


def _check_options(driver: Driver, options: Mapping[str, str]) -> None:
    for name, value in options.items():
        if name not in _KNOWN[driver]:
            raise Unsupported(f"unsupported: option {name} of {driver} networks", "leave it out")
        if value not in _CHOICES.get(name, (value,)):
            raise InvalidInput(f"invalid value {value!r} for {name}", f"it is one of {', '.join(_CHOICES[name])}")
        if name == PREFIX and value and not is_link(f"{value}00"):
            raise InvalidInput(f"invalid value {value[:40]!r} for {name}", "13 bytes at most, no space, no slash")


def network(body: docker.NetworkCreate, driver: Driver, given: Surroundings) -> Network:
    """Return the network that a checked request asks for."""
    options = body.options or {}
    ipv4 = _switch(body.enable_ipv4, options, "com.docker.network.enable_ipv4", default=True)
    ipv6 = _switch(body.enable_ipv6, options, "com.docker.network.enable_ipv6", default=False)
    if not ipv4 and not ipv6:
        raise InvalidInput("IPv4 or IPv6 must be enabled", "leave --ipv4=false out, or add --ipv6")
    versions = [version for version, wanted in ((4, ipv4), (6, ipv6)) if wanted]
    subnets = _subnets(body, driver, versions, given)
    parent = _parent(options) if driver != "bridge" else ""
    mtu = _mtu(options.get("com.docker.network.driver.mtu", ""), ipv6=ipv6)
    mode = options.get(f"{driver}_mode", {"macvlan": "bridge", "ipvlan": "l2"}.get(driver, ""))
    return Network(
        id=given.id,
        name=body.name,
        created_ns=given.created_ns,
        driver=driver,
        subnets=subnets,
        ipv4=ipv4,
        ipv6=ipv6,
        internal=body.internal or (driver != "bridge" and not parent),  # what is made in its place leads nowhere
        attachable=body.attachable,
        options=options,
        labels=body.labels or {},
        ipam_options={},
        link="" if parent else _link(options) or given.link,
        mtu=mtu,
        parent=parent,
        mode=mode,
        inter_container=_truth(options, f"{BRIDGE}enable_icc", default=True),
        masquerade=_truth(options, f"{BRIDGE}enable_ip_masquerade", default=True),
        host_address=_host_address(options.get(f"{BRIDGE}host_binding_ipv4", "")),
    )


def _subnets(
    body: docker.NetworkCreate, driver: Driver, versions: Sequence[int], given: Surroundings
) -> tuple[Subnet, ...]:
    asked = tuple(
        Subnet(
            subnet=config.subnet,
            gateway=config.gateway,
            ip_range=config.ip_range,
            auxiliary=config.auxiliary_addresses or {},
        )
        for config in (body.ipam and body.ipam.config) or ()
        if config.subnet or config.gateway or config.ip_range or config.auxiliary_addresses
    )
    ipam.check(asked, ipv6=6 in versions)
    subnets = ipam.subnets(asked, versions, given.taken, given.seed)
    for version in versions if driver == "bridge" else ():
        if sum(subnet.version == version for subnet in subnets) > 1:
            raise NotPermitted("bridge driver doesn't support multiple subnets", f"give one of IPv{version}")
    for subnet in subnets:
        if ipam.overlap(subnet.subnet, [other.subnet for other in subnets if other is not subnet]):
            raise NotPermitted("invalid pool request: Pool overlaps with other one on this address space")
    return subnets


def _switch(given: bool | None, options: Mapping[str, str], name: str, *, default: bool) -> bool:
    return _truth(options, name, default=default) if given is None else given


def _truth(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = options.get(name, "")
    if value and value not in _TRUE + _FALSE:
        raise InvalidInput(f'driver-opt "{name}" is not a valid bool', f"{value!r} is neither true nor false")
    return value in _TRUE if value else default


def _mtu(text: str, *, ipv6: bool) -> int:
    """Return the MTU: 0 for the default. The bounds are the kernel's: ETH_MIN_MTU, ETH_MAX_MTU, IPV6_MIN_MTU."""
    if not text:
        return 0
    least = 1280 if ipv6 else 68
    if not text.isascii() or not text.isdigit() or not (int(text) == 0 or least <= int(text) <= 65535):
        raise InvalidInput(f"invalid MTU {text[:20]!r}", f"it is a number from {least} to 65535, or 0 for the default")
    return int(text)


def _link(options: Mapping[str, str]) -> str:
    name = options.get(f"{BRIDGE}name", "")
    if name and (not is_link(name) or name in (".", "..")):
        raise InvalidInput(f"invalid bridge name {name[:40]!r}", "15 bytes at most, no space, no slash")
    return name


def is_link(name: str) -> bool:
    """Whether a link can have the name: IFNAMSIZ of netdevice(7) counts bytes."""
    return bool(_LINK.fullmatch(name)) and len(os.fsencode(name)) <= 15


def _parent(options: Mapping[str, str]) -> str:
    name = options.get("parent", "")
    if name and not is_link(name):
        raise InvalidInput(f"invalid parent interface {name[:40]!r}", "it is a link of the host, as in -o parent=eth0")
    return name


def _host_address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text)) if text else ""
    except ValueError:
        raise InvalidInput(f"invalid host address {text[:40]!r}", "it is an IPv4 address of this host") from None
