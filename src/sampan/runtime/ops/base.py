"""What all operations have: the three ways to say themselves."""

from __future__ import annotations

from shlex import quote
from typing import ClassVar

import msgspec


class Operation(msgspec.Struct, frozen=True, tag_field="op", omit_defaults=True):
    """One step: frozen data without flag bits, descriptors or kernel objects."""

    man: ClassVar[str] = ""
    """The manual page that explains it."""

    def say(self) -> str:
        """Say what it does: a clause that begins with a verb."""
        raise NotImplementedError

    def shell(self) -> str:
        """Say it as a line of shell; `$root` is the container's root directory, `$pid` its first process."""
        raise NotImplementedError


def inside(path: str) -> str:
    """Quote a path of the container as the host's shell reaches it before the root has changed."""
    return '"$root"' + quote(path)


def ns_options(namespaces: tuple[str, ...]) -> str:
    """Write namespaces as the options of unshare(1) and nsenter(1)."""
    return " ".join("--net" if n == "network" else f"--{n}" for n in namespaces)
