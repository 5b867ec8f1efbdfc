"""Which stages there are, what each stands on, which are needed, and what is refused."""

import pytest

from sampan.build.dockerfile import parse
from sampan.build.graph import Graph, Platforms, plan
from sampan.errors import InvalidInput
from sampan.spec.build import BuildRequest, ContextKind, ContextSource, OriginKind
from sampan.spec.distribution import Platform

AMD64, ARM64 = Platform(architecture="amd64"), Platform(architecture="arm64", variant="v8")
ELSEWHERE = ContextSource(kind=ContextKind.DIRECTORY, value="/x")


def graph(text: str, target: Platform = AMD64, **request) -> Graph:
    return plan(parse(text), BuildRequest(**request), Platforms(build=AMD64, target=target))


def test_only_what_the_last_stage_needs_is_needed_in_the_order_of_the_file() -> None:
    text = "FROM a AS one\nFROM b AS two\nFROM one AS three\nFROM c\nCOPY --from=three /x /y"

    assert graph(text).needed == (0, 2, 3)


def test_a_target_is_found_by_name_in_either_case_and_by_number() -> None:
    text = "FROM a AS one\nFROM b AS two"

    assert graph(text).target == 1
    assert plan(parse(text), BuildRequest(target="ONE"), Platforms(build=AMD64, target=AMD64)).target == 0
    assert plan(parse(text), BuildRequest(target="0"), Platforms(build=AMD64, target=AMD64)).target == 0


def test_mounts_make_a_stage_needed_and_a_number_means_a_stage() -> None:
    text = "FROM a AS one\nFROM b\nFROM c\nRUN --mount=from=one,target=/x --mount=type=cache,from=1,target=/y true"

    assert graph(text).needed == (0, 1, 2)


def test_a_stage_needs_what_the_triggers_of_its_base_take() -> None:
    text = "FROM a AS tool\nFROM b AS base\nONBUILD COPY --from=tool /x /x\nFROM base"

    assert graph(text).stages[2].needs == {0, 1}


@pytest.mark.parametrize(
    ("base", "kind"),
    [("scratch", OriginKind.SCRATCH), ("one", OriginKind.STAGE), ("two", OriginKind.IMAGE), ("x", OriginKind.NAMED)],
)
def test_a_base_is_nothing_an_earlier_stage_an_image_or_a_named_context(base: str, kind: OriginKind) -> None:
    text = f"FROM a AS one\nFROM {base}\nFROM b AS two"

    assert graph(text, contexts={"x": ELSEWHERE}).stages[1].base.kind is kind


@pytest.mark.parametrize("name", ["alpine", "alpine:latest", "docker.io/library/alpine"])
def test_a_named_context_replaces_an_image_however_its_name_is_written(name: str) -> None:
    found = graph(f"FROM {name}", contexts={"alpine": ELSEWHERE})

    assert found.stages[0].base.name == "alpine"


def test_a_named_context_replaces_a_stage_and_all_its_instructions() -> None:
    found = graph("FROM a AS tool\nRUN make\nFROM b\nCOPY --from=tool /x /x", contexts={"tool": ELSEWHERE})

    assert (found.stages[0].base.kind, found.stages[0].instructions) == (OriginKind.NAMED, ())


def test_of_two_stages_with_one_name_the_later_is_meant() -> None:
    found = graph("FROM a AS x\nFROM b AS x\nFROM x")

    assert found.stages[2].base.stage == 1


def test_from_uses_the_arguments_before_it_and_those_of_the_platform() -> None:
    text = "ARG V=1\nARG N=debian:$V\nFROM --platform=$BUILDPLATFORM $N AS one\nFROM scratch"
    found = graph(text, ARM64, args={"V": "12"})

    assert (found.stages[0].base.name, found.stages[0].platform) == ("debian:12", AMD64)
    assert (found.stages[1].platform, found.arguments["TARGETPLATFORM"]) == (ARM64, "linux/arm64/v8")


def test_stages_without_a_name_are_called_by_number_and_a_lone_one_not_at_all() -> None:
    assert [stage.label for stage in graph("FROM a\nFROM b AS x").stages] == ["stage-0", "x"]
    assert graph("FROM a").stages[0].label == ""


def test_no_cache_filter_names_stages_in_either_case() -> None:
    found = graph("FROM a AS one\nFROM b AS two", no_cache_filter=("Two",))

    assert [stage.no_cache for stage in found.stages] == [False, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM a AS one\nCOPY --from=one /x /x", "circular dependency detected on stage: one"),
        ("FROM a AS one\nCOPY --from=two /x /x\nFROM one AS two", "circular dependency detected on stage: one"),
        ("FROM a AS one\nCOPY --from=two /x /x\nFROM b AS two", 'cannot copy from stage "two", it needs to be defined'),
        ("FROM a\nCOPY --from=7 /x /x", "invalid stage index 7"),
        ("FROM a\nCOPY --from=00000000099 /x /x", "invalid stage index 00000000099"),
        ("FROM a\nARG x=y\nCOPY --from=$x /x /x", "variable expansion is not supported for --from"),
        ("ARG X\nFROM $X", "base name ($X) should not be blank"),
        ("FROM a AS build\nFROM Build", "did you mean build?"),
        ("FROM --platform=/ a", "failed to parse platform /"),
        ("FROM --platform=$NONE a", "empty platform value from expression $NONE"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        graph(text)

    assert said in caught.value.message
    assert ">>>" in caught.value.message


def test_an_unknown_target_is_refused_with_the_nearest_and_the_known() -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(parse("FROM a AS build\nFROM b"), BuildRequest(target="biuld"), Platforms(build=AMD64, target=AMD64))

    assert '"biuld" could not be found (did you mean build?)' in caught.value.message
    assert caught.value.hint == "its stages: build, 1"


def test_thousands_of_stages_on_each_other_are_no_trouble() -> None:
    text = "FROM scratch AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(3000))

    assert len(graph(text).needed) == 3001
