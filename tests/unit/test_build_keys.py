"""Keys of steps, and what is said of a step that has none in the cache."""

import msgspec
import pytest

from sampan.build.keys import Facts, Inputs, Key, key
from sampan.build.why import difference, nearest
from sampan.spec import build
from sampan.spec.image import ExecutionConfig

CONFIG = ExecutionConfig()
INPUTS = Inputs(parent=("sha256:a", "sha256:b"), below="FROM debian:12", platform="linux/amd64")
RUN = build.Run(argv=("/bin/sh", "-c", "make"), env=("PATH=/bin", "V=1"))
COPY = build.Copy(sources=("src",), destination="/src/")


def step(op: build.Op, text: str = "RUN make") -> build.Step:
    return build.Step(
        number=2, stage=0, location=build.Location(2, 2), text=text, created_by="", before=CONFIG, after=CONFIG, op=op
    )


def key_of(op: build.Op, inputs: Inputs = INPUTS, text: str = "RUN make") -> Key:
    found = key(step(op, text), inputs)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(RUN, argv=("/bin/sh", "-c", "make all")),
        msgspec.structs.replace(RUN, env=("PATH=/bin", "V=2")),
        msgspec.structs.replace(RUN, env=("V=1", "PATH=/bin")),
        msgspec.structs.replace(RUN, user="me"),
        msgspec.structs.replace(RUN, workdir="/w"),
        msgspec.structs.replace(RUN, network="none"),
        msgspec.structs.replace(RUN, mounts=(build.TmpfsMount(target="/t"),)),
        msgspec.structs.replace(RUN, files=(build.InlineFile(name="E", text="x"),)),
        COPY,
    ],
)
def test_what_a_step_does_is_in_its_key(other: build.Op) -> None:
    assert key_of(other).id != key_of(RUN).id


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(RUN, proxy=("HTTP_PROXY=p",)),
        msgspec.structs.replace(RUN),
    ],
)
def test_proxies_are_not_in_a_key(other: build.Run) -> None:
    assert key_of(other).id == key_of(RUN).id


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(INPUTS, parent=("sha256:a",)),
        msgspec.structs.replace(INPUTS, files=(("", "sha256:c"),)),
        msgspec.structs.replace(INPUTS, platform="linux/arm64"),
        msgspec.structs.replace(INPUTS, epoch_s=0),
    ],
)
def test_what_lies_below_and_what_is_read_is_in_a_key(other: Inputs) -> None:
    assert key_of(COPY, other).id != key_of(COPY).id


def test_how_the_parent_is_called_is_not_in_a_key() -> None:
    assert key_of(RUN, msgspec.structs.replace(INPUTS, below="RUN x")).id == key_of(RUN).id


def test_a_linked_copy_has_the_same_key_on_every_base() -> None:
    linked = msgspec.structs.replace(COPY, link=True)
    other = msgspec.structs.replace(INPUTS, parent=(), below="FROM scratch")

    assert key_of(linked).id == key_of(linked, other).id


def test_what_makes_no_files_has_no_key() -> None:
    assert key(step(build.NoFiles()), INPUTS) is None
    assert key(step(build.Workdir(path="/")), INPUTS) is None


# ------------------------------------------------------------------------------------------------------------- why


def facts(op: build.Op = RUN, text: str = "RUN make", **changes) -> Facts:
    return key_of(op, msgspec.structs.replace(INPUTS, **changes), text).facts


FILES = {"sha256:1": {"a": "1", "b": "1"}, "sha256:2": {"a": "1", "b": "2"}, "sha256:3": {"a": "1", "c": "1", "b": "1"}}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            facts(),
            facts(msgspec.structs.replace(RUN, env=("PATH=/bin", "V=2"))),
            "the variable V differs: 2, it was 1",
        ),
        (facts(), facts(msgspec.structs.replace(RUN, user="me")), "the user differs: me, it was nothing"),
        (
            facts(),
            facts(msgspec.structs.replace(RUN, env=("PATH=/bin", "V=1", "W=3"))),
            "the variable W is new: 3",
        ),
        (
            facts(),
            facts(msgspec.structs.replace(RUN, env=("PATH=/bin",))),
            "the variable V is gone: it was 1",
        ),
        (
            facts(),
            facts(msgspec.structs.replace(RUN, argv=("/bin/sh", "-c", "make all"))),
            "the command differs: /bin/sh -c make all, it was /bin/sh -c make",
        ),
        (
            facts(),
            facts(parent=("sha256:c",), below="FROM debian:13"),
            "what is below it differs: FROM debian:13, it was FROM debian:12",
        ),
        (facts(), facts(parent=("sha256:c",)), "what is below it has other files: FROM debian:12"),
        (
            facts(COPY, files=(("", "sha256:1"),)),
            facts(COPY, files=(("", "sha256:2"),)),
            "the file b has changed",
        ),
        (facts(COPY, files=(("", "sha256:1"),)), facts(COPY, files=(("", "sha256:3"),)), "the file c is new"),
        (facts(COPY, files=(("", "sha256:3"),)), facts(COPY, files=(("", "sha256:1"),)), "the file c is gone"),
        (
            facts(files=(("/ctx", "sha256:2"),)),
            facts(files=(("/ctx", "sha256:3"),)),
            "the file b has changed, and 1 more at /ctx",
        ),
        (facts(COPY, files=(("", "sha256:1"),)), facts(COPY, files=(("", "sha256:9"),)), "its files differ"),
    ],
)
def test_the_first_thing_that_differs_is_said(old: Facts, new: Facts, said: str) -> None:
    assert difference(old, new, FILES.get) == said


def test_the_same_instruction_on_the_same_parent_is_nearer_than_another_or_elsewhere() -> None:
    new = facts(msgspec.structs.replace(RUN, user="me"))
    same = facts()
    elsewhere = facts(parent=())
    another = facts(text="RUN make it")

    assert nearest(new, [another, elsewhere, same]) is same
    assert nearest(new, [another, elsewhere]) is elsewhere
    assert nearest(new, [another]) is another
    assert nearest(facts(text="COPY x"), [facts(parent=())]) is None
