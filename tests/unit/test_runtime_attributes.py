"""Scheduling, processors, memory nodes and personality: which steps they become, and what is refused."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidInput, SampanError, Unsupported
from sampan.runtime import attributes, ops
from sampan.runtime.plan import plan, plan_exec
from sampan.spec.runtime import (
    CpuAffinity,
    IoPriority,
    Linux,
    MemoryPolicy,
    Namespace,
    Personality,
    Process,
    Root,
    Scheduler,
    Spec,
)
from unit.test_runtime_plan import V1, V2, inside, kinds, outside


def steps(linux: Linux | None = None, **process: object) -> list[ops.Operation]:
    return list(attributes.steps(Process(args=("x",), **process), linux or Linux()))


def test_each_attribute_is_a_step() -> None:
    fifo, idle = Scheduler(policy="SCHED_FIFO", priority=3), IoPriority(class_="IOPRIO_CLASS_IDLE")
    linux = Linux(
        memory_policy=MemoryPolicy(mode="MPOL_BIND", nodes="0-1,4", flags=("MPOL_F_STATIC_NODES",)),
        personality=Personality(domain="LINUX32"),
    )

    assert steps(linux, scheduler=fifo, io_priority=idle) == [
        ops.SetScheduler(fifo),
        ops.SetIoPriority(idle),
        ops.SetMemoryPolicy(linux.memory_policy, (0, 1, 4)),
        ops.SetPersonality("LINUX32"),
    ]
    assert steps() == steps(Linux(personality=Personality(domain="LINUX"), memory_policy=MemoryPolicy())) == []


def test_they_are_set_in_the_control_groups_and_before_the_rights_are_given_up() -> None:
    spec = Spec(
        oci_version="1.2.0",
        root=Root(path="/r"),
        process=Process(args=("x",), scheduler=Scheduler(policy="SCHED_BATCH")),
        linux=Linux(
            namespaces=(Namespace(type="mount"), Namespace(type="pid")), personality=Personality(domain="LINUX32")
        ),
    )
    for made in (plan(spec, V1, id="c"), plan_exec(spec.process, spec, V1, id="c")):
        story = kinds(inside(made))

        assert story.index("MoveIntoCgroup") < story.index("SetScheduler") < story.index("DropBounding")
        assert "SetPersonality" in story


@pytest.mark.parametrize("host", [V1, V2])
def test_an_exec_starts_on_the_initial_processors_and_ends_up_on_the_final_ones(host: object) -> None:
    spec = Spec(oci_version="1.2.0", linux=Linux(namespaces=(Namespace(type="pid"),)))
    process = Process(args=("x",), exec_cpu_affinity=CpuAffinity(initial="0", final="1-2"))
    made = plan_exec(process, spec, host, id="c")

    story = inside(made)
    assert story[0] == ops.SetAffinity((0,))
    entered = max(n for n, op in enumerate(story) if isinstance(op, ops.MoveIntoCgroup | ops.Await))
    assert entered < story.index(ops.SetAffinity((1, 2)))
    if host is V2:
        assert outside(made)[-2:] == [ops.Clone(()), ops.EnterCgroup("/cg/c")]


@pytest.mark.parametrize(
    ("text", "found"), [("0", (0,)), ("0-2,7", (0, 1, 2, 7)), (" 3 , 1 - 2", (1, 2, 3)), ("5,5", (5,))]
)
def test_lists_of_numbers(text: str, found: tuple[int, ...]) -> None:
    assert attributes.numbers(text, "x") == found


@pytest.mark.parametrize("text", ["x", "1-", "-1", "2-1", "1,,2", "0-99999999999", "1;2", ""])
def test_lists_that_are_none_are_refused_with_the_fields_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"linux\.memoryPolicy\.nodes"):
        attributes.numbers(text, "linux.memoryPolicy.nodes")


@pytest.mark.parametrize(
    ("linux", "process", "error", "place"),
    [
        ({}, {"scheduler": Scheduler(policy="SCHED_OTHER", nice=20)}, InvalidInput, "process.scheduler.nice"),
        ({}, {"scheduler": Scheduler(policy="SCHED_OTHER", priority=1)}, InvalidInput, "process.scheduler.priority"),
        ({}, {"scheduler": Scheduler(policy="SCHED_RR", runtime=1)}, InvalidInput, "process.scheduler.runtime"),
        ({}, {"scheduler": Scheduler(policy="SCHED_ISO")}, Unsupported, "process.scheduler.policy"),
        ({}, {"io_priority": IoPriority(class_="IOPRIO_CLASS_BE", priority=8)}, InvalidInput, "process.ioPriority"),
        ({"personality": Personality(domain="LINUX", flags=("X",))}, {}, Unsupported, "linux.personality.flags"),
        ({"memory_policy": MemoryPolicy(mode="MPOL_BIND")}, {}, InvalidInput, "linux.memoryPolicy.nodes"),
        ({"memory_policy": MemoryPolicy(mode="MPOL_LOCAL", nodes="0")}, {}, InvalidInput, "linux.memoryPolicy.nodes"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    linux: dict[str, object], process: dict[str, object], error: type[SampanError], place: str
) -> None:
    with pytest.raises(error, match=place):
        steps(Linux(**linux), **process)
