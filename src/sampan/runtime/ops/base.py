"""How the container's operations are written as shell."""

from __future__ import annotations

from shlex import quote


def inside(path: str) -> str:
    """Quote a path of the container as the host's shell reaches it before the root has changed."""
    return '"$root"' + quote(path)


def ns_options(namespaces: tuple[str, ...]) -> str:
    """Write namespaces as the options of unshare(1) and nsenter(1)."""
    return " ".join("--net" if n == "network" else f"--{n}" for n in namespaces)
