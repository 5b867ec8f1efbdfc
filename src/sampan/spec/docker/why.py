"""Bodies of sampan's own about why a container is as it is."""

from __future__ import annotations

from sampan.spec.docker.body import Body, always
from sampan.spec.ending import Ending


class Cause(Body, frozen=True, kw_only=True):
    """One thing that ended a container, or ails it: in a sentence, from which facts, and what would help.

    `kind` is one word for programs: out-of-memory, signal, stopped, seccomp, crash, command-not-found, not-executable,
    start-failed, pids-limit, ulimit, file-too-long, disk-full, read-only, not-permitted, access-denied, address-in-use,
    name-resolution, connection-refused, no-network, unhealthy, restarting, timeout, exited, unknown, never-started.
    `from_output`: nothing was recorded of it, but the container's last lines say so.
    """

    kind: str = always("exited")
    said: str = always("")
    facts: tuple[str, ...] = always(())
    fixes: tuple[str, ...] = always(())
    from_output: bool = always(value=False)


class Why(Body, frozen=True, kw_only=True):
    """How a container is, why, the facts that were recorded at its latest end, and its last output."""

    id: str = always("", "Id")
    name: str = always("")
    status: str = always("")
    said: str = always("")
    causes: tuple[Cause, ...] = always(())  # the first is what ended it; none where all is well
    ending: Ending | None = None
    output: tuple[str, ...] = always(())
