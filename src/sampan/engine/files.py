"""The three files in /etc that are a container's own: hosts, hostname, resolv.conf. The texts are pure."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.docker import HostConfig

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(host_config: HostConfig, name: str, host_file: str) -> str:
    """Return /etc/hosts: the host's where its network is shared, else the loopback names, then `--add-host`."""
    text = host_file if host_config.network_mode == "host" else f"{_HOSTS}127.0.1.1\t{name}\n"
    return text + "".join(f"{address}\t{host}\n" for host, address in extra_hosts(host_config.extra_hosts or ()))


def extra_hosts(entries: Iterable[str]) -> list[tuple[str, str]]:
    """Read `--add-host`: "name:address"."""
    result = []
    for entry in entries:
        name, colon, address = entry.partition(":")
        address = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        if address == "host-gateway":
            raise Unsupported("unsupported: --add-host with host-gateway", "networks come later")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidInput(f"invalid IP address in add-host: {address!r}") from None
        if not name or not colon:
            raise InvalidInput(f"bad format for add-host: {entry!r}", "write it as name:address")
        result.append((name, address))
    return result


def resolv_conf(host_config: HostConfig, host_file: str) -> str:
    """Return /etc/resolv.conf: the host's, with what `--dns`, `--dns-search` and `--dns-option` replace."""
    for server in host_config.dns or ():
        try:
            ipaddress.ip_address(server)
        except ValueError:
            raise InvalidInput(f"bad nameserver address: {server}", "--dns takes an IP address") from None
    lines = [line for line in host_file.splitlines() if line.strip() and line.strip()[0] not in "#;"]
    for keyword, values, one_line in (
        ("nameserver", host_config.dns, False),
        ("search", host_config.dns_search, True),
        ("options", host_config.dns_options, True),
    ):
        if values:
            lines = [line for line in lines if line.split()[0] not in (keyword, "domain" if one_line else keyword)]
            given = [v for v in values if v != "."]
            lines += [f"{keyword} {' '.join(given)}"] if one_line and given else []
            lines += [] if one_line else [f"{keyword} {v}" for v in given]
    return "".join(f"{line}\n" for line in lines)


def texts(host_config: HostConfig, name: str) -> dict[str, str]:
    """Return the three files' texts by name, as the host's files are now."""
    return {
        "resolv.conf": resolv_conf(host_config, _read("/etc/resolv.conf")),
        "hostname": f"{name}\n",
        "hosts": hosts(host_config, name, _read("/etc/hosts") if host_config.network_mode == "host" else ""),
    }


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 1 << 16).decode(errors="surrogateescape")
    finally:
        os.close(fd)


def put(path: str, text: str) -> None:
    """Write one of them."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.write(fd, text.encode(errors="surrogateescape"))
    finally:
        os.close(fd)
