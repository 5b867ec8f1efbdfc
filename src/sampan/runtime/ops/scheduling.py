"""When the process runs, on which processors, and where its memory is: what few containers ask for."""

from __future__ import annotations

from typing import ClassVar

from sampan.spec.operation import Operation
from sampan.spec.runtime import IoPriority, MemoryPolicy, Scheduler


class SetScheduler(Operation, frozen=True, tag="set-scheduler"):
    """Choose how the kernel shares out processor time to the process."""

    man: ClassVar[str] = "sched_setattr(2)"
    scheduler: Scheduler

    def say(self) -> str:
        return f"set the scheduling policy {self.scheduler.policy}"

    def shell(self) -> str:
        s = self.scheduler
        if s.policy == "SCHED_DEADLINE":
            times = f"--sched-runtime {s.runtime} --sched-deadline {s.deadline} --sched-period {s.period}"
            return f"chrt --deadline {times} --pid 0 $$"
        nice = f"renice {s.nice} $$; " if s.nice else ""
        return f"{nice}chrt --{s.policy.removeprefix('SCHED_').lower()} --pid {s.priority} $$"


class SetIoPriority(Operation, frozen=True, tag="set-io-priority"):
    """Choose how soon the process's reads and writes are done."""

    man: ClassVar[str] = "ioprio_set(2)"
    io_priority: IoPriority

    def say(self) -> str:
        return f"set the I/O priority {self.io_priority.class_} {self.io_priority.priority}"

    def shell(self) -> str:
        number = {"RT": 1, "BE": 2, "IDLE": 3}[self.io_priority.class_.removeprefix("IOPRIO_CLASS_")]
        level = "" if number == 3 else f" --classdata {self.io_priority.priority}"
        return f"ionice --class {number}{level} --pid $$"


class SetAffinity(Operation, frozen=True, tag="set-affinity"):
    """Say on which processors the process may run."""

    man: ClassVar[str] = "sched_setaffinity(2)"
    processors: tuple[int, ...]

    def say(self) -> str:
        return f"run on the processors {self._list()}"

    def shell(self) -> str:
        return f"taskset --cpu-list --pid {self._list()} $$"

    def _list(self) -> str:
        return ",".join(str(n) for n in self.processors)


class SetMemoryPolicy(Operation, frozen=True, tag="set-memory-policy"):
    """Say from which memory nodes the process gets its memory."""

    man: ClassVar[str] = "set_mempolicy(2)"
    policy: MemoryPolicy
    nodes: tuple[int, ...] = ()

    def say(self) -> str:
        where = f" of the nodes {self.policy.nodes}" if self.nodes else ""
        return f"set the memory policy {self.policy.mode}{where}"

    def shell(self) -> str:
        return f"# numactl(8) starts a program so: set_mempolicy({self.policy.mode}, {self.policy.nodes or 'no nodes'})"


class SetPersonality(Operation, frozen=True, tag="set-personality"):
    """Choose the execution domain: with LINUX32, uname(2) names a machine of 32 bits."""

    man: ClassVar[str] = "personality(2)"
    domain: str

    def say(self) -> str:
        return f"set the personality {self.domain}"

    def shell(self) -> str:
        return f"setarch {'linux32' if self.domain == 'LINUX32' else 'linux64'}"
