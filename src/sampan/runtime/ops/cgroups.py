"""Control groups: what a container may use."""

from __future__ import annotations

from shlex import quote
from typing import ClassVar

from sampan.spec.operation import Operation
from sampan.spec.runtime import DeviceRule


class MakeCgroup(Operation, frozen=True, tag="make-cgroup"):
    """Make a control group, and those above it."""

    man: ClassVar[str] = "cgroups(7)"
    directory: str

    def say(self) -> str:
        return f"make the control group {self.directory}"

    def shell(self) -> str:
        return f"mkdir -p {quote(self.directory)}"


class DelegateControllers(Operation, frozen=True, tag="delegate-controllers"):
    """Let the groups below a v2 group have controllers of their own."""

    man: ClassVar[str] = "cgroups(7)"
    directory: str
    controllers: tuple[str, ...]

    def say(self) -> str:
        return f"give the groups below {self.directory} the controllers {', '.join(self.controllers)}"

    def shell(self) -> str:
        text = " ".join(f"+{c}" for c in self.controllers)
        return f"echo '{text}' > {quote(self.directory)}/cgroup.subtree_control"


class InheritCpuset(Operation, frozen=True, tag="inherit-cpuset"):
    """Copy processors and memory nodes from the group above: a v1 cpuset is born empty and takes no process so."""

    man: ClassVar[str] = "cpuset(7)"
    directory: str

    def say(self) -> str:
        return f"give {self.directory} the processors and memory nodes of the group above it"

    def shell(self) -> str:
        d = quote(self.directory)
        return f"for f in cpus mems; do cat {d}/../cpuset.$f > {d}/cpuset.$f; done"


class GrantRealtime(Operation, frozen=True, tag="grant-realtime"):
    """Give v1 groups so much more of each second for real-time processes as one in the last of them is to get.

    A new group has none, and gives none away: kernel, scheduler/sched-rt-group.
    """

    man: ClassVar[str] = "sched(7)"
    directories: tuple[str, ...]  # from the outermost inward
    share_us: int

    def say(self) -> str:
        return f"give {self.directories[-1]} {self.share_us} µs more of each second for real-time processes"

    def shell(self) -> str:
        files = " ".join(quote(f"{d}/cpu.rt_runtime_us") for d in self.directories)
        return f"for f in {files}; do echo $(($(cat $f) + {self.share_us})) > $f; done"


class WriteCgroup(Operation, frozen=True, tag="write-cgroup"):
    """Write a control file: set one limit."""

    man: ClassVar[str] = "cgroups(7)"
    directory: str
    file: str
    text: str

    def say(self) -> str:
        return f"set {self.file} to {self.text!r} in {self.directory}"

    def shell(self) -> str:
        return f"echo {quote(self.text)} > {quote(f'{self.directory}/{self.file}')}"


class FilterDevices(Operation, frozen=True, tag="filter-devices"):
    """Attach a program to a v2 group that says which devices may be opened or made."""

    man: ClassVar[str] = "bpf(2)"
    directory: str
    rules: tuple[DeviceRule, ...]

    def say(self) -> str:
        return f"attach a device filter of {len(self.rules)} rules to {self.directory}"

    def shell(self) -> str:
        return f"# no tool does this: bpf(BPF_PROG_LOAD), bpf(BPF_PROG_ATTACH, {self.directory}, BPF_CGROUP_DEVICE)"


class OwnCgroup(Operation, frozen=True, tag="own-cgroup"):
    """Let the container's user have groups below its own: without the files of its limits; v1: where there are none."""

    man: ClassVar[str] = "cgroups(7), Cgroups delegation"
    directory: str
    uid: int

    def say(self) -> str:
        return f"give {self.directory} to the user {self.uid}, but for its limits"

    def shell(self) -> str:
        d = quote(self.directory)
        files = "tasks $(cat /sys/kernel/cgroup/delegate)"
        return f"chown {self.uid} {d}; for f in {files}; do [ ! -e {d}/$f ] || chown {self.uid} {d}/$f; done"


class JoinResctrl(Operation, frozen=True, tag="join-resctrl"):
    """Put the process into a class of service: its part of the cache and of the memory's bandwidth."""

    man: ClassVar[str] = "kernel: filesystems/resctrl"
    directory: str
    schemata: tuple[str, ...] = ()
    shared: bool = False  # a class that was named: it may be there, and stays; without schemata it must be
    monitor: str = ""  # the group in which it is watched

    def say(self) -> str:
        return f"put the process into the class of service {self.directory}"

    def shell(self) -> str:
        d = quote(self.directory)
        lines = [f"mkdir -p {d}", *(f"echo {quote(s)} > {d}/schemata" for s in self.schemata)]
        return "; ".join((*lines, f"echo $$ > {d}/tasks"))


class MoveIntoCgroup(Operation, frozen=True, tag="move-into-cgroup"):
    """Move this process, of one thread, into a v1 group.

    A thread that moves itself waits for nobody: 0.03 ms. Who moves another, or goes by `cgroup.procs`, waits until no
    process of the machine forks or ends (cgroup_threadgroup_rwsem, a grace period of RCU): 4 to 17 ms; since Linux 5.5.
    """

    man: ClassVar[str] = "cgroups(7)"
    directory: str

    def say(self) -> str:
        return f"move into {self.directory}"

    def shell(self) -> str:
        return f"echo $$ > {quote(self.directory)}/tasks"


class EnterCgroup(Operation, frozen=True, tag="enter-cgroup"):
    """Move the new process into a group."""

    man: ClassVar[str] = "cgroups(7)"
    directory: str

    def say(self) -> str:
        return f"put the process into {self.directory}"

    def shell(self) -> str:
        return f"echo $$ > {quote(self.directory)}/cgroup.procs"
