"""Seccomp filters: the shipped default where it fits the capabilities, else one compiled once and kept by digest."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from sampan.errors import doing
from sampan.kernel import seccomp as kernel
from sampan.kernel.libc import ARCHITECTURE
from sampan.spec.defaults import seccomp as defaults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.dirs import Dirs


def seccomp_for(dirs: Dirs, wanted: str, capabilities: Sequence[str]) -> str:
    """Return what the OCI configuration says: "default", "unconfined", or the path of a compiled filter.

    `wanted` is "default", "unconfined" or a profile's JSON. A profile may depend on the capabilities, so both are in
    the digest, with sampan's version: a newer one may compile differently.
    """
    if wanted == "unconfined":
        return wanted
    if wanted == "default":
        if defaults.variant(capabilities) is not None:
            return wanted
        profile = kernel.default_profile()
    else:
        profile = wanted.encode()
    from sampan import __version__

    key = b"\0".join([__version__.encode(), ARCHITECTURE.encode(), ",".join(sorted(capabilities)).encode(), profile])
    path = f"{dirs.seccomp}/{hashlib.sha256(key).hexdigest()}.bpf"
    if not os.path.exists(path):
        compiled = kernel.compile(profile, ARCHITECTURE, capabilities)
        with doing("can't keep the compiled seccomp profile"):
            _keep(path, compiled)
    return path


def _keep(path: str, filter: bytes) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    new = f"{path}.{os.getpid()}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, filter)
        os.fsync(fd)  # a path that a container's configuration names must hold what it names after a power cut
    finally:
        os.close(fd)
    os.rename(new, path)
