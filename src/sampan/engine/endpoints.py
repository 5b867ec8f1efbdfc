"""A container's places on networks: what its body asks for, checked, and what a start makes of it."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

import msgspec

from sampan import ids
from sampan.engine.merge import joined
from sampan.engine.network_options import PREFIX, is_link
from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.spec.docker import EndpointSettings, NetworkingConfig
from sampan.spec.network import Endpoint, Network

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sampan.engine.network_registry import Networks
    from sampan.engine.registry import Container, Registry
    from sampan.spec.docker import ContainerCreate

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_ALIAS = re.compile(r"[^\s\0]{1,255}")
_INTERFACE_NAME = "com.docker.network.endpoint.ifname"
_DRIVER_OPTS = (_INTERFACE_NAME, "com.docker.network.endpoint.sysctls")

_NO_ADDRESS = "user specified IP address is supported on user defined networks only"
_NO_ALIAS = "network-scoped alias is supported only for containers in user defined networks"

Places = dict[str, EndpointSettings]
"""Settings by the network's name, in the order in which the container gets its interfaces."""


def own_network(mode: str) -> bool:
    """Tell whether a network mode gives a container links of its own."""
    return mode not in ("none", "host") and not joined(mode)


# ------------------------------------------------------------------------------------------------------- at creation


def complete(networks: Networks, body: ContainerCreate) -> ContainerCreate:
    """Return the completed body with its networks by their names, each with its id, checked."""
    mode = "none" if body.network_disabled else body.host_config.network_mode
    given = (body.networking_config.endpoints_config if body.networking_config else None) or {}
    if not own_network(mode):
        _check_no_networks(mode, given)
        return msgspec.structs.replace(body, networking_config=None)
    places = _resolved(networks, mode, given or {mode: EndpointSettings()})
    if body.mac_address:
        first = next(iter(places))
        if places[first].mac_address not in ("", body.mac_address):
            raise InvalidInput(
                "conflicting MAC address in container and endpoint config", "name it with the network only"
            )
        places[first] = msgspec.structs.replace(places[first], mac_address=body.mac_address)
    for name, settings in places.items():
        check(networks.find(name), settings)
    return msgspec.structs.replace(body, networking_config=NetworkingConfig(endpoints_config=places))


def _check_no_networks(mode: str, given: Mapping[str, EndpointSettings]) -> None:
    others = [name for name in given if name not in (mode, "default")]
    if others:
        raise InvalidInput(
            f"conflicting options: a container with network {mode} can't be on {', '.join(others)} too",
            f"leave out one or the other: a network's containers don't have --network {mode}",
        )
    for settings in given.values():
        if settings.ipam_config:
            raise _wrong_settings([_NO_ADDRESS])
        if settings.aliases:
            raise _wrong_settings([_NO_ALIAS])
        if settings.mac_address:
            raise InvalidInput("conflicting options: mac-address and the network mode", "leave one of them out")


def _resolved(networks: Networks, mode: str, given: Mapping[str, EndpointSettings]) -> Places:
    """Return the endpoints asked for, that of the network mode first."""
    found: Places = {}
    for ref, settings in given.items():
        network = _find(networks, mode if ref == "default" else ref)
        if network.name in ("host", "none"):
            raise mixed(network.name)
        if network.name in found:
            raise InvalidInput(f"network {network.name} is given twice: as {ref} too")
        found[network.name] = msgspec.structs.replace(settings, network_id=network.id)
    first = [name for name in found if mode in (name, found[name].network_id)]
    return {name: found[name] for name in (*first, *(name for name in found if name not in first))}


def mixed(name: str) -> InvalidInput:
    """Return Docker's refusal to put a container on a network beside `host` or `none`."""
    if name == "host":
        text = (
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    else:
        text = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
    return InvalidInput(text, "leave out one or the other")


def _find(networks: Networks, ref: str) -> Network:
    try:
        return networks.find(ref)
    except NotFound as e:  # as a 404 of a create it would have a docker client pull the image
        raise InvalidInput(e.message, e.hint) from None


def check(network: Network, settings: EndpointSettings) -> None:
    """Raise InvalidInput, in Docker's words, with everything that is wrong with what is asked of a network."""
    wrong = [*_wrong_names(network, settings), *_wrong_addresses(network, settings)]
    if settings.mac_address and not _is_mac(settings.mac_address):
        raise InvalidInput(f"invalid MAC address {settings.mac_address[:60]}", "six bytes, and not a group's address")
    for name, value in (settings.driver_opts or {}).items():
        if name not in _DRIVER_OPTS:
            wrong.append(f"unknown driver option {name[:80]}")
        if name == _INTERFACE_NAME and (not is_link(value) or value in ("lo", ".", "..")):
            wrong.append(f"invalid interface name {value[:40]!r}")
    if wrong:
        raise _wrong_settings(wrong)


def _wrong_settings(wrong: list[str]) -> InvalidInput:
    return InvalidInput("invalid endpoint settings:\n" + "\n".join(wrong))


def _wrong_names(network: Network, settings: EndpointSettings) -> Iterable[str]:
    if network.default and settings.aliases:
        yield _NO_ALIAS
    for alias in settings.aliases or ():
        if not _ALIAS.fullmatch(alias):
            yield f"invalid alias {alias[:80]!r}"


def _wrong_addresses(network: Network, settings: EndpointSettings) -> Iterable[str]:
    asked = settings.ipam_config
    if asked is None:
        return
    if network.default and (asked.ipv4_address or asked.ipv6_address):
        yield _NO_ADDRESS
    for version, text in ((4, asked.ipv4_address), (6, asked.ipv6_address)):
        if not text:
            continue
        address = _address(text, version)
        if address is None:
            yield f"invalid IPv{version} address: {text[:60]}"
            continue
        given = [subnet for subnet in network.subnets if subnet.given and subnet.version == version]
        if not given:
            yield "user specified IP address is supported only when connecting to networks with user configured subnets"
        elif not any(address in ipaddress.ip_network(subnet.subnet) for subnet in given):
            yield f"no configured subnet contains the IP address {address}"
    for text in asked.link_local_ips or ():
        if _address(text, 4) is None and _address(text, 6) is None:
            yield f"invalid link-local IP address: {text[:60]}"


def _address(text: str, version: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    usable = address.version == version and not address.is_unspecified and "%" not in text
    return address if usable else None


def _is_mac(text: str) -> bool:
    """Tell whether it is an address that one station can have: not a group's, and not only zeros; IEEE 802."""
    return bool(_MAC.fullmatch(text)) and not int(text[:2], 16) & 1 and set(text) - set("0:-") != set()


# ------------------------------------------------------------------------------------------------------- at a start


def places(container: Container) -> Places:
    """Return the networks that a container is to be on.

    Containers of before there were networks have `none` among their endpoints, as the docker client names it.
    """
    if not own_network(container.body.host_config.network_mode):
        return {}
    config = container.body.networking_config
    return dict((config.endpoints_config if config else None) or {})


def find(networks: Networks, name: str, settings: EndpointSettings) -> Network:
    """Return the network meant: the one of the id it was when it was asked for, else what has its name now."""
    return networks.get(settings.network_id) or networks.find(name)


def names(container: Container, settings: EndpointSettings, *, default: bool) -> tuple[str, ...]:
    """Return the names by which others find it, the first for PTR; on the default bridge there are none."""
    if default:
        return ()
    every = (container.name, *(settings.aliases or ()), ids.short(container.id), container.body.hostname)
    return tuple(dict.fromkeys(name for name in every if name))


def interface(network: Network, settings: EndpointSettings, used: Collection[str]) -> str:
    """Return the name of the container's next interface: the one asked for, else the first that is free."""
    if name := (settings.driver_opts or {}).get(_INTERFACE_NAME, ""):
        return name
    prefix = network.options.get(PREFIX, "") or "eth"
    return next(name for i in range(len(used) + 1) if (name := f"{prefix}{i}") not in used)


def endpoint(container: Container, network: Network, settings: EndpointSettings, interface: str, link: str) -> Endpoint:
    """Return a place without addresses: `Networks.join` gives those."""
    return Endpoint(
        id=ids.new_id(),
        network=network.id,
        container=container.id,
        interface=interface,
        link=link,
        mac=settings.mac_address.lower().replace("-", ":"),
        link_local=tuple((settings.ipam_config and settings.ipam_config.link_local_ips) or ()),
        aliases=settings.aliases or (),
        names=names(container, settings, default=network.default),
        gateway_priority=settings.gw_priority,
        driver_opts=settings.driver_opts or {},
    )


def asked_addresses(settings: EndpointSettings) -> tuple[str, ...]:
    """Return the addresses that the user wants."""
    asked = settings.ipam_config
    return tuple(filter(None, (asked.ipv4_address, asked.ipv6_address))) if asked else ()


def default_routes(networks: Networks, endpoints: Iterable[Endpoint]) -> dict[str, tuple[str, ...]]:
    """Return by endpoint's id the gateways that are a container's default routes: one for each version of IP.

    The highest priority wins, then the network's name in the alphabet's order, as in Docker; internal networks lead
    nowhere.
    """
    found = []
    for each in endpoints:
        network = networks.get(each.network)
        if network is not None and not network.internal:
            found.append((-each.gateway_priority, network.name, each))
    chosen: dict[str, tuple[str, ...]] = {}
    for is_six in (False, True):
        for _, _, each in sorted(found, key=lambda one: one[:2]):
            if gateway := next((g for g in each.gateways if (":" in g) is is_six), ""):
                chosen[each.id] = (*chosen.get(each.id, ()), gateway)
                break
    return chosen


# ------------------------------------------------------------------------------------------------------------ links


def parse_link(text: str) -> tuple[str, str]:
    """Read `--link`: "name:alias", or "name", which is its own alias; older clients write "/name:/this/alias"."""
    name, colon, alias = text.partition(":")
    alias = alias.rpartition("/")[2] if colon else name.removeprefix("/")
    if not name or not alias or ":" in alias:
        raise InvalidInput(f"bad format for links: {text[:80]}", "write it as name:alias")
    return name.removeprefix("/"), alias


def links(registry: Registry, texts: Iterable[str], *, must_run: bool) -> dict[str, str]:
    """Return container ids by alias. Raises in Docker's words for a container that isn't there, or doesn't run."""
    found = {}
    for text in texts:
        name, alias = parse_link(text)
        try:
            other = registry.find(name)
        except NotFound as e:
            raise InvalidInput(f"could not get container for {name}: {e.message}", e.hint) from None
        if must_run and not other.running:
            raise Conflict(
                f"Cannot link to a non running container: /{other.name} AS /{alias}", f"start {other.name} first"
            )
        found[alias] = other.id
    return found
