"""What travels between the command line and the engine about a build."""

import msgspec
import pytest

from sampan.spec import build
from sampan.spec.image import ExecutionConfig

BEFORE = ExecutionConfig(env=("PATH=/bin",))


@pytest.mark.parametrize(
    "op",
    [
        build.Run(argv=("/bin/sh", "-c", "make"), mounts=(build.CacheMount(target="/c", id="c"), build.SshMount())),
        build.Add(destination="/a/", sources=("b", build.Remote(kind="url", value="http://c"))),
        build.Copy(destination="/a", sources=("b",), origin=build.Origin(kind=build.OriginKind.STAGE, stage=1)),
        build.Workdir(path="/app"),
        build.NoFiles(),
    ],
)
def test_a_step_of_each_kind_is_the_same_after_its_way_through_json(op: build.Op) -> None:
    step = build.Step(
        number=2, stage=0, location=build.Location(3, 4), text="X", created_by="X", before=BEFORE, after=BEFORE, op=op
    )

    assert msgspec.json.decode(msgspec.json.encode(step), type=build.Step) == step


def test_events_are_told_apart_and_bytes_come_through() -> None:
    event = build.StepOutput(step=1, stream="stderr", data=b"\xff\n")

    assert msgspec.json.decode(msgspec.json.encode(event), type=build.BuildEvent) == event


def test_a_workdir_that_is_the_root_has_an_empty_layer() -> None:
    step = build.Step(
        number=1,
        stage=0,
        location=build.Location(1, 1),
        text="WORKDIR /",
        created_by="WORKDIR /",
        before=BEFORE,
        after=BEFORE,
        op=build.Workdir(path="/"),
    )

    assert step.empty_layer
