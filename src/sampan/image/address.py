"""Addresses that registries name: whether one is this machine, whether two are one server's, and where not to go."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

from sampan.errors import Failed

_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Tell whether `host` (with a port or not) is this machine's loopback."""
    name = host
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_here(host: str) -> bool:
    """Like `is_loopback`, for what somebody else names: 0.0.0.0 leads here too, and there are odd spellings."""
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        first = socket.inet_aton(name)[0]  # 127.1, 2130706433, 0x7f000001
    except OSError:
        return _is_here_by_ipv6(name)
    return first in (0, 127)


def _is_here_by_ipv6(host: str) -> bool:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped  # ::ffff:127.0.0.1 is connected to by IPv4
    return address.is_loopback or address.is_unspecified or (mapped is not None and mapped.packed[0] in (0, 127))


def shown(url: str) -> str:
    """Return an address for a message: without a query, which may be a secret."""
    return url.partition("?")[0][:200]


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return what two addresses of one server have in common: scheme, host and port."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:  # out of range
        port = -1
    return parts.scheme, parts.hostname, _PORTS.get(parts.scheme) if port is None else port


def leads_to(source: str, location: str) -> str:
    """Return the address that an answer of `source` names. Raises Failed where going there would be less safe."""
    try:
        target = urljoin(source, location)
        old, new = urlsplit(source), urlsplit(target)
        cause = "that is no address to go to" if new.port == 0 else ""
    except ValueError:
        raise Failed(f"can't follow {source[:200]} to {location[:200]!r}: that is no address") from None
    if new.scheme not in ("http", "https") or not new.hostname or new.username is not None:
        cause = "that is no address to go to"
    elif old.scheme == "https" and new.scheme != "https":
        cause = "it leads from https to http"
    elif _is_here(new.hostname) and not is_loopback(old.netloc):
        cause = "it leads from another machine to this one's loopback"
    if cause:
        raise Failed(
            f"can't follow {old.netloc} to {shown(target)}: {cause}",
            "a proxy before the registry may have to be told to set X-Forwarded-Proto and X-Forwarded-Host",
        )
    return target
