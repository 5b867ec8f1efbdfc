"""Namespaces: what a container can see."""

from __future__ import annotations

from shlex import quote
from typing import ClassVar, Literal

from sampan.runtime.ops.base import ns_options
from sampan.spec.operation import Operation
from sampan.spec.runtime import IdMapping


class Join(Operation, frozen=True, tag="join"):
    """Enter an existing namespace; a pid namespace only takes in the children to come."""

    man: ClassVar[str] = "setns(2)"
    namespace: str
    path: str
    foreign: bool = False  # refuse this process's own: what is set in it would be set for the whole host

    def say(self) -> str:
        return f"enter the {self.namespace} namespace {self.path}"

    def shell(self) -> str:
        return f"nsenter {ns_options((self.namespace,))}={quote(self.path)}"


class JoinContainer(Operation, frozen=True, tag="join-container"):
    """Enter several namespaces of the container's first process at once."""

    man: ClassVar[str] = "setns(2)"
    namespaces: tuple[str, ...]

    def say(self) -> str:
        return f"enter the container's {', '.join(self.namespaces)} namespaces"

    def shell(self) -> str:
        return f"nsenter --target $pid {ns_options(self.namespaces)}"


class OffsetClocks(Operation, frozen=True, tag="offset-clocks"):
    """Make a time namespace whose clocks are so many (seconds, nanoseconds) off."""

    man: ClassVar[str] = "time_namespaces(7)"
    offsets: tuple[tuple[str, int, int], ...] = ()

    def say(self) -> str:
        return "make a time namespace" + "".join(f", {clock} {seconds:+}s" for clock, seconds, _ in self.offsets)

    def shell(self) -> str:
        return "unshare --time" + "".join(f" --{clock} {seconds}" for clock, seconds, _ in self.offsets)


class Clone(Operation, frozen=True, tag="clone"):
    """Make the process that becomes the container's first, in these namespaces from its birth."""

    man: ClassVar[str] = "clone(2)"
    namespaces: tuple[str, ...] = ()
    cgroup: str = ""  # v2: born in this group

    def say(self) -> str:
        where = f" in new {', '.join(self.namespaces)} namespaces" if self.namespaces else ""
        return f"make a process{where}" + (f", born in {self.cgroup}" if self.cgroup else "")

    def shell(self) -> str:
        return f"unshare --fork {ns_options(self.namespaces)}".rstrip()


class BeBornAgain(Operation, frozen=True, tag="be-born-again"):
    """Make the process once more, as its own sibling, now that it is in the user namespace that is to own these."""

    man: ClassVar[str] = "clone(2), CLONE_PARENT"
    namespaces: tuple[str, ...]

    def say(self) -> str:
        return f"make the process again, in new {', '.join(self.namespaces)} namespaces"

    def shell(self) -> str:
        return f"unshare --fork {ns_options(self.namespaces)}"


class Unshare(Operation, frozen=True, tag="unshare"):
    """Move the process into new namespaces."""

    man: ClassVar[str] = "unshare(2)"
    namespaces: tuple[str, ...]

    def say(self) -> str:
        return f"move into new {', '.join(self.namespaces)} namespaces"

    def shell(self) -> str:
        return f"unshare {ns_options(self.namespaces)}"


class MapIds(Operation, frozen=True, tag="map-ids"):
    """Say which ids of the host the ids of a user namespace are."""

    man: ClassVar[str] = "user_namespaces(7)"
    kind: Literal["uid", "gid"]
    mappings: tuple[IdMapping, ...]

    def text(self) -> str:
        return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in self.mappings)

    def say(self) -> str:
        ranges = ", ".join(f"{m.container_id}+{m.size} are {m.host_id}+{m.size}" for m in self.mappings)
        return f"map {self.kind}s of the container to those of the host: {ranges}"

    def shell(self) -> str:
        return f"printf {quote(self.text())} > /proc/$pid/{self.kind}_map"


class OwnStreams(Operation, frozen=True, tag="own-streams"):
    """Give the program's pipes to the root of its user namespace: nobody there could open them by name otherwise."""

    man: ClassVar[str] = "chown(2), user_namespaces(7)"
    uid: int
    gid: int

    def say(self) -> str:
        return f"give the program's pipes to user {self.uid}"

    def shell(self) -> str:
        return f"# chown {self.uid}:{self.gid} the pipes, if its streams are any"


class Await(Operation, frozen=True, tag="await"):
    """Wait for what the other process does meanwhile."""

    man: ClassVar[str] = "unix(7)"
    what: Literal["maps", "cgroups", "runtime", "mounts", "rebirth"]

    def say(self) -> str:
        return {
            "maps": "wait until the ids are mapped",
            "cgroups": "wait until its control groups are ready",
            "runtime": "wait until what is done outside for its namespaces is done",
            "mounts": "wait until the process has its namespaces and mounts",
            "rebirth": "wait until the process is born in the user namespace",
        }[self.what]

    def shell(self) -> str:
        return f"# {self.say()}"


class BecomeMappedRoot(Operation, frozen=True, tag="become-mapped-root"):
    """Take the ids 0 of the user namespace."""

    man: ClassVar[str] = "user_namespaces(7)"

    def say(self) -> str:
        return "become user 0 of the user namespace"

    def shell(self) -> str:
        return "setpriv --reuid 0 --regid 0 --clear-groups"
