"""The /dev of a container: nodes, links, and what the device controller allows."""

from __future__ import annotations

from typing import NamedTuple


class Node(NamedTuple):
    """A character device, mode 0666, owned by root."""

    path: str
    major: int
    minor: int


class Rule(NamedTuple):
    """A rule of the device controller: `type` a, b or c; None is any number; `access` of r, w, m."""

    allow: bool
    type: str
    major: int | None
    minor: int | None
    access: str


NODES = (
    Node("/dev/null", 1, 3),
    Node("/dev/zero", 1, 5),
    Node("/dev/full", 1, 7),
    Node("/dev/random", 1, 8),
    Node("/dev/urandom", 1, 9),
    Node("/dev/tty", 5, 0),
)
"""OCI runtime specification, config-linux, "Default Devices". /dev/console is added where there is a terminal."""

LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
)
"""(link, what it points to): OCI runtime specification, runtime-linux, "Dev symbolic links"."""

RULES = (
    Rule(False, "a", None, None, "rwm"),
    Rule(True, "c", None, None, "m"),  # nodes of any kind may be made (a package may hold some), not opened
    Rule(True, "b", None, None, "m"),
    *(Rule(True, "c", node.major, node.minor, "rwm") for node in NODES),
    Rule(True, "c", 5, 1, "rwm"),  # /dev/console
    Rule(True, "c", 5, 2, "rwm"),  # /dev/ptmx
    Rule(True, "c", 136, None, "rwm"),  # the terminals under /dev/pts
)
"""In order: a later rule wins."""
