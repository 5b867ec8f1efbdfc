"""Scheduling, processors, memory nodes and personality, as the container's program finds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import SampanError
from sampan.runtime import ops, resctrl
from sampan.spec.runtime import CpuAffinity, IoPriority, MemoryPolicy, Personality, Scheduler
from support.containers import Box, facts, left_behind, remove_parents, with_linux, with_process


@pytest.fixture(scope="module")
def module_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    yield Box(tmp_path_factory.mktemp("box"))
    remove_parents()


@pytest.fixture
def box(module_box: Box) -> Iterator[Box]:
    before = facts(module_box.directory)
    yield module_box
    assert not left_behind(before, module_box.directory)


def policy_of(said: str) -> tuple[str, str]:
    """Find the fields `policy` and `nice` of /proc/self/stat: 41 and 19."""
    fields = said.rpartition(")")[2].split()
    return fields[38], fields[16]


@pytest.mark.parametrize(
    ("scheduler", "found"),
    [
        (Scheduler(policy="SCHED_BATCH", nice=5), ("3", "5")),
        (Scheduler(policy="SCHED_IDLE"), ("5", "0")),
        (Scheduler(policy="SCHED_OTHER", nice=-3, flags=("SCHED_FLAG_RESET_ON_FORK",)), ("0", "-3")),
    ],
)
def test_a_scheduling_policy_is_the_programs(box: Box, scheduler: Scheduler, found: tuple[str, str]) -> None:
    spec = with_process(box.spec("cat", "/proc/self/stat"), scheduler=scheduler)

    assert policy_of(box.run(spec).out) == found


def test_an_io_priority_is_the_programs(box: Box) -> None:
    priority = IoPriority(class_="IOPRIO_CLASS_BE", priority=6)

    said = box.run(with_process(box.spec("busybox", "ionice", "-p", "1"), io_priority=priority))

    assert said.out == "best-effort: prio 6\n"


def test_a_personality_of_32_bits_names_such_a_machine(box: Box) -> None:
    spec = with_linux(box.spec("busybox", "uname", "-m"), personality=Personality(domain="LINUX32"))

    assert (
        box.run(spec).out == {"x86_64": "i686", "aarch64": "armv8l"}.get(os.uname().machine, os.uname().machine) + "\n"
    )


def test_memory_comes_from_the_nodes_that_were_named(box: Box) -> None:
    policy = MemoryPolicy(mode="MPOL_BIND", nodes="0", flags=("MPOL_F_STATIC_NODES",))

    said = box.run(with_linux(box.spec("cat", "/proc/self/numa_maps"), memory_policy=policy))

    assert "bind=static:0" in said.out


def test_a_node_that_is_not_there_is_refused_by_name(box: Box) -> None:
    spec = with_linux(box.spec("true"), memory_policy=MemoryPolicy(mode="MPOL_BIND", nodes="63"))

    with pytest.raises(SampanError, match="set the memory policy MPOL_BIND of the nodes 63"):
        box.run(spec)


def test_an_exec_ends_up_on_its_final_processors(box: Box) -> None:
    last = max(os.sched_getaffinity(0))
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        said = box.exec(
            spec, running, "grep", "Cpus_allowed_list", "/proc/self/status",
            exec_cpu_affinity=CpuAffinity(initial="0", final=str(last)),
        )  # fmt: skip

    assert said.out.split()[1] == str(last)


# ---------------------------------------------------- classes of service, on directories that look like resctrl's


def test_a_class_of_service_that_is_there_must_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "schemata").write_text("    L3:0=0ff;1=00f\n    MB:0= 20;1=100\n")
    (tmp_path / "tasks").touch()

    resctrl.join(ops.JoinResctrl(str(tmp_path), ("L3:1=f;0=ff", "MB:0=20;1=100"), shared=True), 7)
    with pytest.raises(SampanError, match="has another schema than L3:0=1"):
        resctrl.join(ops.JoinResctrl(str(tmp_path), ("L3:0=1",), shared=True), 7)

    assert (tmp_path / "tasks").read_text() == "7"


def test_a_class_of_service_without_a_schema_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SampanError, match="there is no class of service"):
        resctrl.join(ops.JoinResctrl(str(tmp_path / "x"), shared=True), 7)
