"""Causes that are of the network: what was not found, not reached, or taken already. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.engine.causes_told import Told
    from sampan.spec.docker.why import Cause

TAKEN = re.compile(r"address (?:is )?(?:already )?in use|\bEADDRINUSE\b|port \d+ is (?:already )?in use", re.IGNORECASE)
UNRESOLVED = re.compile(
    r"temporary failure in name resolution|name or service not known|name does not resolve|no such host|"
    r"could not resolve host|bad address '|can't resolve|unknown host|UnknownHostException|nodename nor servname|"
    r"\bEAI_AGAIN\b|getaddrinfo ENOTFOUND|failed to lookup address information|server misbehaving|"
    r"could not translate host name",
    re.IGNORECASE,
)
UNREACHABLE = re.compile(
    r"network is (?:unreachable|down)|no route to host|\bE(?:NETUNREACH|HOSTUNREACH)\b", re.IGNORECASE
)
REFUSED = re.compile(r"connection refused|\bECONNREFUSED\b", re.IGNORECASE)

# Names behind or before what is said of them, the most certain first.
_NAMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"bad address '([\w.-]+)'",
        r"(?:could not resolve host|unknown host|UnknownHostException|getaddrinfo \w+|can't resolve)[:' ]+([\w.-]+)",
        r"lookup ([\w.-]+)",
        r"host name \"([\w.-]+)\"",
        r"(?:ping|ssh|curl|host|connect to|resolve) '?([\w.-]+\w)'?:",
    )
)
_PORT = re.compile(r"(?:(?<=:)|(?<=port ))(?<!\d\d:\d\d:)(\d{1,5})\b(?!:\d\d)")  # no part of a time
_HERE = re.compile(r"\b(?:localhost|127\.0\.0\.\d+)\b|\[?::1\]?(?=[:\s)]|$)", re.IGNORECASE)


def taken(told: Told) -> Cause:
    """Tell of an address that another process listens at."""
    number = port(told.line)
    where = f"port {number}" if number else "the address it wanted to listen at"
    what = f"{where} is taken already"
    if told.network == "host":
        return told.cause(
            "address-in-use",
            what,
            "it is on the host's own network: --network host",
            fix=f"find who listens there: ss -ltnp 'sport = :{number or 'PORT'}'; or leave out --network host, "
            "and publish another port with -p",
        )
    if told.network == "container":
        other = told.body.host_config.network_mode.partition(":")[2]
        return told.cause(
            "address-in-use",
            what,
            f"it shares the network of the container {other[:12]}",
            fix="have one of the two listen at another port, or give each a network of its own",
        )
    return told.cause(
        "address-in-use",
        what,
        "it has a network of its own, so it is one of its own processes that listens there",
        fix="have it start that server once: a script and its last command may both do it",
    )


def unresolved(told: Told) -> Cause:
    """Tell of a name without an address."""
    name = next((found[1] for pattern in _NAMES if (found := pattern.search(told.line))), "")
    what = f"the name {name} was not found" if name else "a host name was not found"
    if told.network == "none":
        return told.cause("no-network", what, _NONE, fix=_LEAVE_OUT)
    if name and "." not in name and told.network in ("", "default", "bridge"):
        return told.cause(
            "name-resolution",
            what,
            "on the default network containers have no names for one another",
            fix=f"put both on a network of their own: sampan network create NET, then --network NET; the other one "
            f"with --name {name}",
        )
    servers = told.body.host_config.dns
    return told.cause(
        "name-resolution",
        what,
        f"it asks the name servers of --dns: {', '.join(servers)}" if servers else "",
        fix="see that the name is right and its container runs, and whom it asks: /etc/resolv.conf; --dns names others",
    )


def unreachable(told: Told) -> Cause | None:
    """Tell of a container without a network. Why else a host can't be reached is the network's to tell."""
    if told.network != "none":
        return None
    return told.cause("no-network", "it wanted to reach another host", _NONE, fix=_LEAVE_OUT)


_NONE = "it has no network: --network none"
_LEAVE_OUT = "leave out --network none"


def refused(told: Told) -> Cause:
    """Tell of a connection that nobody took; to itself, that is most times meant to be the host or its neighbour."""
    number = port(told.line)
    where = f" at port {number}" if number else ""
    if _HERE.search(told.line) and told.network not in ("host", "container"):
        return told.cause(
            "connection-refused",
            f"nobody listens{where} on localhost, which in a container is the container itself",
            fix="name the other container, on a network with both: --network NET; or the host: "
            "--add-host host.docker.internal:host-gateway",
        )
    return told.cause(
        "connection-refused",
        f"nobody listens{where} where it wanted to connect to",
        fix="start what it needs before it, and have it try again: --restart on-failure",
    )


def port(line: str) -> int:
    """Return the last port that a line names; 0 for none."""
    numbers = [number for text in _PORT.findall(line) if 0 < (number := int(text)) < 1 << 16]
    return numbers[-1] if numbers else 0
