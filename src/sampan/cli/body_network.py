"""The networks of a new container in the API's body; docker/cli, cli/command/container/opts.go, parseNetworkOpts.

The first network is the container's mode; the flags that name no network (`--ip`, `--network-alias` …) are about it.
"""

from __future__ import annotations

from sampan.cli.failure import Failure, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.flags import Options

    Json = dict[str, Any]

_MODES = ("default", "bridge", "host", "none")
_OF_THE_FIRST = (
    ("network-alias", "Aliases", "--network-alias and per-network alias"),
    ("ip", "IPv4Address", "--ip and per-network IPv4 address"),
    ("ip6", "IPv6Address", "--ip6 and per-network IPv6 address"),
    ("mac-address", "MacAddress", "--mac-address and per-network MAC address"),
    ("link-local-ip", "LinkLocalIPs", "--link-local-ip and per-network link-local IP addresses"),
)
_ADDRESSES = ("IPv4Address", "IPv6Address", "LinkLocalIPs")


def join_networks(options: Options, body: Json, host: Json) -> None:
    """Fill the mode, and what is asked of each network."""
    first, *others = options["network"] or [{"Target": "default"}]
    networks = [_with_flags(first, options), *others]
    endpoints: dict[str, Json] = {}
    for network in networks:
        target = network["Target"]
        endpoint = _endpoint(network)
        if target in endpoints:
            raise _refused(f"network {quoted(target)} is specified multiple times")
        endpoints[target] = endpoint
    if len({_is_user_defined(target) for target in endpoints}) > 1:
        raise _refused("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    host["NetworkMode"] = networks[0]["Target"]
    if options["link"]:
        host["Links"] = options["link"]
    if len(endpoints) > 1 or any(endpoints.values()):
        body["NetworkingConfig"] = {"EndpointsConfig": endpoints}


def _with_flags(network: Json, options: Options) -> Json:
    """Return the first network with the flags that are about it."""
    result = dict(network)
    for flag, field, both in _OF_THE_FIRST:
        if options[flag]:
            if field in network:
                raise _refused(f"conflicting options: cannot specify both {both}")
            result[field] = options[flag]
    if options["link"] and _is_user_defined(network["Target"]):
        result["Links"] = options["link"]
    return result


def _endpoint(network: Json) -> Json:
    """Return the API's form of what is asked of one network."""
    target = network["Target"]
    if not target.strip():
        raise _refused("no name set for network", "`sampan network ls` shows those that there are")
    if "Aliases" in network and not _is_user_defined(target):
        raise _refused("network-scoped aliases are only supported for user-defined networks", "sampan network create")
    endpoint = {name: network[name] for name in ("Aliases", "Links", "DriverOpts", "GwPriority") if network.get(name)}
    if addresses := {name: network[name] for name in _ADDRESSES if network.get(name)}:
        endpoint["IPAMConfig"] = addresses
    if network.get("MacAddress"):
        endpoint["MacAddress"] = _mac_address(network["MacAddress"])
    return endpoint


def _is_user_defined(target: str) -> bool:
    """Tell whether a network's name is none of the modes that every engine has."""
    return target not in _MODES and not target.startswith("container:")


def _mac_address(text: str) -> str:
    """Refuse what has none of the forms that Go's ParseMAC reads; the engine has the last word."""
    digits = text.strip().replace("-", ":").split(":")
    dotted = text.strip().split(".")
    if not (_are_hexadecimal(digits, 2, (6, 8, 20)) or _are_hexadecimal(dotted, 4, (3, 4, 10))):
        raise _refused(f"{text} is not a valid mac address", "six bytes: 02:42:ac:11:00:02")
    return text.strip()


def _are_hexadecimal(groups: list[str], width: int, counts: tuple[int, ...]) -> bool:
    return len(groups) in counts and all(
        len(group) == width and all(c in "0123456789abcdefABCDEF" for c in group) for group in groups
    )


def _refused(message: str, hint: str = "") -> Failure:
    return Failure(f"sampan: {message}", hint, 125)
