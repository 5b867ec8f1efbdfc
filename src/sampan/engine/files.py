"""The three files in /etc that are a container's own: hosts, hostname, resolv.conf. The texts are pure, but `texts`."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidInput
from sampan.network import resolvconf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sampan.spec.docker import HostConfig

RESOLVER = "127.0.0.11"
"""Where a container's own name server answers, as Docker's does."""

HOST_GATEWAY = "host-gateway"
"""In `--add-host`: the address by which the container reaches the host."""

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_LOCAL = "127.0.0.1"
_READ = 1 << 16


class Networked(NamedTuple):
    """What a container's networks put into its files."""

    addresses: tuple[str, ...] = ()  # its own
    linked: tuple[tuple[str, tuple[str, ...]], ...] = ()  # of `--link` on the default bridge: (address, names)
    gateways: tuple[str, ...] = ()  # by which it reaches the host
    resolver: bool = False  # a name server of its own answers it
    ipv6: bool = False  # it has an IPv6 address


ALONE = Networked()
"""On no network, or before it is known."""


def full_names(name: str, domain: str) -> str:
    """Return a container's names as /etc/hosts has them: "web.example.org web", however the two were given."""
    full = f"{name}.{domain}" if domain else name
    label, dot, _ = full.partition(".")
    return f"{full} {label}" if dot and label else full


def hosts(host_config: HostConfig, names: str, networked: Networked, host_file: str = "") -> str:
    """Return /etc/hosts: the host's where its network is shared, else loopback, `--add-host` and its own addresses.

    `names` are the container's: `full_names`.
    """
    gateways = (_LOCAL,) if host_config.network_mode == "host" else networked.gateways
    given = [f"{address}\t{name}\n" for name, address in extra_hosts(host_config.extra_hosts or (), gateways)]
    if host_config.network_mode == "host":
        return host_file + "".join(given)
    return _HOSTS + "".join((*given, *linked_lines(networked.linked), *own_lines(networked.addresses, names)))


def linked_lines(linked: Iterable[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Return the lines of /etc/hosts for `Networked.linked`."""
    return [f"{address}\t{' '.join(names)}\n" for address, names in linked]


def own_lines(addresses: Iterable[str], names: str) -> list[str]:
    """Return the lines of /etc/hosts that name a container; without any network, it is at a loopback address."""
    return [f"{address}\t{names}\n" for address in addresses] or [f"127.0.1.1\t{names}\n"]


def with_lines(text: str, gone: Collection[str], linked: Collection[str], new: Sequence[str]) -> str:
    """Return /etc/hosts of a running container with `new` lines, without those `gone` and others of names in `linked`.

    What the container has written itself stays.
    """
    lines = text.splitlines(keepends=True)
    kept = [e for e in lines if e in new or not (e in gone or e.partition("\t")[2].rstrip("\n") in linked)]
    if kept and not kept[-1].endswith("\n"):
        kept.append("\n")
    return "".join((*kept, *(line for line in new if line not in kept)))


def extra_hosts(entries: Iterable[str], gateways: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Read `--add-host`: "name:address", and "name:host-gateway", which is each of `gateways`."""
    result = []
    for entry in entries:
        name, colon, address = entry.partition(":")
        address = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        if not name or not colon or any(c.isspace() or c == "\0" for c in name):
            raise InvalidInput(f"bad format for add-host: {entry!r}", "write it as name:address")
        if address == HOST_GATEWAY:
            result += [(name, gateway) for gateway in gateways]
            continue
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidInput(f"invalid IP address in add-host: {address!r}") from None
        result.append((name, address))
    return result


# -------------------------------------------------------------------------------------------------- resolv.conf


def resolv_conf(host_config: HostConfig, host_file: str, networked: Networked) -> str:
    """Return /etc/resolv.conf: the host's, with what `--dns`, `--dns-search` and `--dns-option` replace.

    With a name server of the container's own, that is the one to ask; without, the host's that can be reached from the
    container. Where a network of its own leaves none of them, the container has a name server (`needs_resolver`).
    """
    check_dns(host_config)
    host = resolvconf.read(host_file)
    servers = host_config.dns or reachable(host.servers, host_config.network_mode, ipv6=networked.ipv6)
    search = [d for d in host_config.dns_search if d != "."] if host_config.dns_search else host.search
    options = list(host_config.dns_options or host.options)
    if networked.resolver:
        servers = (RESOLVER,)
        options = [o for o in options if _is_ndots(o) is not False]
        options += [] if any(map(_is_ndots, options)) else ["ndots:0"]
    lines = [f"nameserver {server}" for server in servers]
    lines += [f"search {' '.join(search)}"] if search else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "".join(f"{line}\n" for line in (*lines, *host.others))


def check_dns(host_config: HostConfig) -> None:
    """Raise InvalidInput where a name server is no address, or another value would be more than one word."""
    for server in host_config.dns or ():
        if not resolvconf.is_address(server):
            raise InvalidInput(f"bad nameserver address: {server}", "--dns takes an IP address")
    for word in (*(host_config.dns_search or ()), *(host_config.dns_options or ())):
        if not word or any(c.isspace() or not c.isprintable() for c in word):
            raise InvalidInput(f"bad line for resolv.conf: {word!r}", "--dns-search and --dns-option take one word")


def reachable(servers: Iterable[str], network_mode: str, *, ipv6: bool) -> tuple[str, ...]:
    """Return which of the host's name servers a container can ask by itself."""
    if network_mode in ("host", "none"):
        return tuple(servers)
    return tuple(s for s in servers if not resolvconf.is_loopback(s) and (ipv6 or resolvconf.is_ipv4(s)))


def needs_resolver(host_config: HostConfig, host_file: str, *, ipv6: bool) -> bool:
    """Whether a container on the default bridge has nobody to ask for names: the host asks on its own loopback."""
    servers = resolvconf.read(host_file).servers
    return not (host_config.dns or reachable(servers, host_config.network_mode, ipv6=ipv6))


def qualified(text: str) -> bool:
    """Whether a resolv.conf has resolvers add a domain to names of one label."""
    ndots = [option for option in resolvconf.read(text).options if _is_ndots(option)]
    return bool(ndots) and int(ndots[-1].partition(":")[2]) > 0


def _is_ndots(option: str) -> bool | None:
    """Tell whether an option is `ndots`; None: another; False: one that is no number."""
    name, _, value = option.partition(":")
    return None if name != "ndots" else value.isascii() and value.isdigit() and len(value) < 4


# ---------------------------------------------------------------------------------------------------------- files


def texts(host_config: HostConfig, name: str, names: str, networked: Networked = ALONE) -> dict[str, str]:
    """Return the three files' texts by name, as the host's files are now; `name` is the container's host name."""
    return {
        "resolv.conf": resolv_conf(host_config, host_resolv_conf(), networked),
        "hostname": f"{name}\n",
        "hosts": hosts(host_config, names, networked, read("/etc/hosts") if host_config.network_mode == "host" else ""),
    }


def host_resolv_conf() -> str:
    """Return the host's resolv.conf as it is now."""
    return read("/etc/resolv.conf")


def read(path: str, size: int = _READ) -> str:
    """Return the beginning of a file; nothing where it can not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, size).decode(errors="surrogateescape")
    finally:
        os.close(fd)


def put(path: str, text: str) -> None:
    """Write one of them."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.write(fd, text.encode(errors="surrogateescape"))
    finally:
        os.close(fd)
