"""A line of a container's last output that tells a cause, with what is known of its limits and rights. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sampan.spec.docker.why import Cause
from sampan.spec.runtime import Spec

if TYPE_CHECKING:
    from sampan.spec.docker import ContainerCreate
    from sampan.spec.runtime import Mount

NO_SPEC = Spec(oci_version="")
_UNLIMITED = (-1, 2**64 - 1)
_PATH = re.compile(r"/[\w./@+-]+")


class Told(NamedTuple):
    """One line, and the container that said it. `spec` is empty where it is not there any more."""

    line: str
    body: ContainerCreate
    spec: Spec = NO_SPEC

    def cause(self, kind: str, what: str, *facts: str, fix: str = "") -> Cause:
        """Return a cause that only this line tells of; `what` follows on `its last lines say that`."""
        return Cause(
            kind=kind,
            said=f"its last lines say that {what}",
            facts=(f"it said: {self.line}", *(fact for fact in facts if fact)),
            fixes=(fix,) if fix else (),
            from_output=True,
        )

    @property
    def paths(self) -> list[str]:
        """Absolute paths that it names."""
        return [path.rstrip("./") or "/" for path in _PATH.findall(self.line)]

    @property
    def network(self) -> str:
        """The first word of its network's mode."""
        return self.body.host_config.network_mode.partition(":")[0]

    @property
    def user(self) -> str:
        """Whom its program ran as; "" for root."""
        user = self.spec.process.user if self.spec.process else None
        name = (user.username or str(user.uid)) if user else self.body.user
        return "" if name.partition(":")[0] in ("", "0", "root") else name

    def ulimit(self, name: str) -> tuple[int, int] | None:
        """Return what --ulimit gave it, soft and hard (-1: unlimited); None for one that does not limit."""
        process = self.spec.process
        given = [(n.soft, n.hard) for n in (process.rlimits if process else ()) if n.type == f"RLIMIT_{name.upper()}"]
        asked = [(limit.soft, limit.hard) for limit in self.body.host_config.ulimits or () if limit.name == name]
        soft, hard = next(iter((*given, *asked)), (-1, -1))
        return None if soft in _UNLIMITED else (soft, -1 if hard in _UNLIMITED else hard)

    def mount_of(self, path: str) -> Mount | None:
        """Return the mount that a path is on; None where that is the container's root."""
        return max(
            (mount for mount in self.spec.mounts if mount.destination != "/" and is_in(mount.destination, path)),
            key=lambda mount: len(mount.destination),
            default=None,
        )


def is_in(place: str, path: str) -> bool:
    """Whether `path` is `place`, or below it."""
    return path == place or path.startswith(f"{place.rstrip('/')}/")
