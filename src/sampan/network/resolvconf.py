"""resolv.conf(5), read. Pure."""

from __future__ import annotations

import socket
from typing import NamedTuple

_SERVERS = 3  # MAXNS of resolv.h
_LOCAL = "127.0.0.1"


class ResolvConf(NamedTuple):
    """What a file says; later lines of `search` replace earlier ones, options add up."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # lines of other keywords


def read(text: str) -> ResolvConf:
    """Read a file's text. What is no address is no server."""
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    others: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        match words:
            case ["nameserver", server, *_]:
                servers += [server] if is_address(server) else []
            case ["search" | "domain", *domains]:
                search = domains
            case ["options", *more]:
                options += more
            case _:
                others.append(line)
    return ResolvConf(tuple(servers), tuple(search), tuple(options), tuple(others))


def asked(text: str) -> tuple[str, ...]:
    """Return the servers that a resolver asks: the first three, and where there is none the one on this machine."""
    return read(text).servers[:_SERVERS] or (_LOCAL,)


def is_address(text: str) -> bool:
    """Whether it is an IP address; IPv6 with or without a zone."""
    return is_ipv4(text) or _parses(socket.AF_INET6, text.partition("%")[0])


def is_ipv4(text: str) -> bool:
    """Whether it is an IPv4 address."""
    return _parses(socket.AF_INET, text)


def is_loopback(text: str) -> bool:
    """Whether only this machine, or namespace, reaches it."""
    return text.startswith("127.") or text.partition("%")[0] in {"::1", "0:0:0:0:0:0:0:1"}


def _parses(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: a NUL in it
        return False
    return True
