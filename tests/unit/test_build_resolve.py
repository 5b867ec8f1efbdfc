"""From a stage's instructions to its steps: substitution, the configuration around each, history as BuildKit has it."""

import pytest

from sampan.build.configuration import go_duration
from sampan.build.dockerfile import parse
from sampan.build.graph import Platforms, plan
from sampan.build.resolve import Resolved, Scope, classify, resolve
from sampan.errors import InvalidInput
from sampan.spec import build
from sampan.spec.distribution import Platform
from sampan.spec.image import ExecutionConfig, HealthCheck

AMD64 = Platform(architecture="amd64")
DEBIAN = ExecutionConfig(env=("PATH=/bin",), cmd=("bash",))


def resolved(text: str, base: ExecutionConfig = DEBIAN, **args: str) -> Resolved:
    """Resolve all stages, one on the other; return the last."""
    graph = plan(parse(text), build.BuildRequest(args=args), Platforms(build=AMD64, target=AMD64))
    done: list[Resolved] = []
    for stage in graph.stages:
        on = stage.base
        match on.kind:
            case build.OriginKind.STAGE:
                scope = done[on.stage].end
            case build.OriginKind.SCRATCH:
                scope = Scope.of_nothing()
            case _:
                scope = Scope.of_image(base if on.name == "debian" else DEBIAN)
        done.append(resolve(graph, stage, scope, args))
    return done[-1]


@pytest.mark.parametrize(
    ("instruction", "said"),
    [
        ("RUN echo  $x", "RUN /bin/sh -c echo  $x # buildkit"),
        ('RUN ["echo", "a b"]', "RUN echo a b # buildkit"),
        ("RUN <<E\na\nb\nE", "RUN /bin/sh -c a\nb\n # buildkit"),
        ("RUN cat <<E\na\nE", "RUN /bin/sh -c cat <<E\na\nE # buildkit"),
        ("COPY a b/ /c/", "COPY a b/ /c/ # buildkit"),
        ("COPY --link --chown=1:2 --chmod=0644 a .", "COPY --chown=1:2 --chmod=0644 a . # buildkit"),
        ("COPY --parents a/*.c /c", "COPY --parents a/*.c /c # buildkit"),
        ("COPY --from=img a /c", "COPY a /c # buildkit"),
        ("COPY <<F /f\nx\nF", "COPY <<F /f # buildkit"),
        ("ADD https://h/a.tar /", "ADD https://h/a.tar / # buildkit"),
        ("WORKDIR app", "WORKDIR /app"),
        ("ENV a=b c='d e'", "ENV a=b c=d e"),
        ("ENV a b c", "ENV a=b c"),
        ("LABEL a.b=c", "LABEL a.b=c"),
        ("EXPOSE 80 443/UDP 1-2", "EXPOSE [1/tcp 2/tcp 443/udp 80/tcp]"),
        ('CMD ["a", "b\\n\\""]', 'CMD ["a" "b\\n\\""]'),
        ("CMD a $b", 'CMD ["/bin/sh" "-c" "a $b"]'),
        ("CMD []", "CMD []"),
        ('ENTRYPOINT ["x"]', 'ENTRYPOINT ["x"]'),
        ("USER a:b", "USER a:b"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ('SHELL ["/bin/bash", "-c"]', "SHELL [/bin/bash -c]"),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGTERM"),
        (
            "HEALTHCHECK --interval=90s --retries=3 CMD true",
            """HEALTHCHECK &{["CMD-SHELL" "true"] "1m30s" "0s" "0s" "0s" '\\x03'}""",
        ),
        ("MAINTAINER me", "MAINTAINER me"),
        ("ARG a=1 b=$a c", "ARG a=1 b=1 c"),
        ("ONBUILD RUN x", ""),
    ],
)
def test_history_reads_as_buildkit_writes_it(instruction: str, said: str) -> None:
    (step,) = resolved(f"FROM debian\n{instruction}").steps

    assert step.created_by == said


def test_history_of_a_run_names_the_arguments_in_reach_with_their_values() -> None:
    steps = resolved("FROM debian\nARG a=1\nARG b\nENV a=3\nRUN x", b="2").steps

    assert steps[-1].created_by == "RUN |2 a=3 b=2 /bin/sh -c x # buildkit"


def test_arguments_are_in_the_environment_of_run_and_not_of_the_image() -> None:
    last = resolved("FROM debian\nARG a=1\nENV b=$a\nRUN x").steps[-1]

    assert isinstance(last.op, build.Run)
    assert last.op.env == ("PATH=/bin", "a=1", "b=1")
    assert last.after.env == ("PATH=/bin", "b=1")


def test_arguments_before_from_and_of_the_platform_are_there_when_a_stage_asks_for_them() -> None:
    steps = resolved("ARG v=1\nFROM debian\nLABEL v=$v\nARG v\nARG TARGETARCH\nLABEL v=$v a=$TARGETARCH").steps

    assert (steps[0].after.labels, steps[-1].after.labels) == ({"v": ""}, {"v": "1", "a": "amd64"})


def test_a_stage_inherits_configuration_and_arguments_of_the_stage_that_it_stands_on() -> None:
    last = resolved("FROM debian AS one\nARG a=1\nENV b=2\nWORKDIR /w\nUSER me\nFROM one\nRUN echo").steps[-1]

    assert isinstance(last.op, build.Run)
    assert (last.op.env[1:], last.op.workdir, last.op.user) == (("a=1", "b=2"), "/w", "me")


def test_there_is_always_a_path_and_scratch_begins_at_the_root() -> None:
    end = resolved("FROM scratch").end

    assert (end.config.working_dir, end.config.env) == (
        "/",
        ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
    )


def test_an_entrypoint_does_away_with_the_command_of_the_base_but_not_with_its_own_stages() -> None:
    assert resolved('FROM debian\nENTRYPOINT ["x"]').end.config.cmd is None
    assert resolved('FROM debian\nCMD ["y"]\nENTRYPOINT ["x"]').end.config.cmd == ("y",)


def test_triggers_of_the_base_come_first_and_are_gone_from_the_image() -> None:
    base = ExecutionConfig(env=("PATH=/bin",), on_build=("WORKDIR /w", "COPY . ."))
    stage = resolved("FROM debian\nRUN x", base)

    assert [step.text for step in stage.steps] == ["ONBUILD WORKDIR /w", "ONBUILD COPY . .", "RUN x"]
    assert [step.location.line for step in stage.steps] == [1, 1, 2]
    assert stage.end.config.on_build is None


def test_a_trigger_that_cannot_be_read_is_shown_at_from() -> None:
    with pytest.raises(InvalidInput, match="ONBUILD RUM x: unknown instruction: RUM"):
        resolved("FROM debian", ExecutionConfig(on_build=("RUM x",)))


@pytest.mark.parametrize("trigger", ["FROM x", "ONBUILD RUN x", "MAINTAINER x", "RUN a\0b", "RUN a\nRUN b", ""])
def test_what_is_no_trigger_is_refused_whatever_image_it_comes_from(trigger: str) -> None:
    with pytest.raises(InvalidInput):
        resolved("FROM debian", ExecutionConfig(on_build=(trigger,)))


def test_triggers_may_take_files_from_stages_that_nothing_else_needs() -> None:
    stage = resolved("FROM a AS tool\nFROM debian", ExecutionConfig(on_build=("COPY --from=tool /x /x",)))

    assert stage.needs == {0}


def test_steps_are_counted_as_buildkit_counts_them() -> None:
    stage = resolved("FROM debian\nENV a=b\nRUN x\nCMD y\nWORKDIR /z")

    assert ([step.number for step in stage.steps], stage.total) == ([1, 2, 2, 3], 3)
    assert [step.number for step in resolved("FROM scratch\nCOPY a /").steps] == [1]
    # WORKDIR / makes nothing, and counts nevertheless.
    stage = resolved("FROM debian\nWORKDIR /\nRUN x")
    assert ([step.number for step in stage.steps], stage.total) == ([1, 2], 3)


@pytest.mark.parametrize(
    ("written", "absolute"),
    [("/a", "/a"), ("a", "/w/a"), (".", "/w/"), ("./", "/w/"), ("/a/.", "/a/"), ("//a//b/", "/a/b/"), ("../..", "/")],
)
def test_a_destination_becomes_absolute_and_keeps_the_slash_that_makes_it_a_directory(
    written: str, absolute: str
) -> None:
    step = resolved(f"FROM debian\nWORKDIR /w\nCOPY x {written}").steps[-1]

    assert isinstance(step.op, build.Copy)
    assert step.op.destination == absolute


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("a/b.git", None),
        ("github.com/a/b", None),
        ("https://h/a.tar", "url"),
        ("http://h/a.git.tar", "url"),
        ("https://h/a.git", "git"),
        ("https://h/a.git#main:sub", "git"),
        ("https://h/a.git?ref=main", "git"),
        ("git://h/a", "git"),
        ("ssh://git@h/a", "git"),
        ("git@github.com:a/b.git", "git"),
    ],
)
def test_sources_of_add_are_paths_urls_and_repositories(source: str, kind: str | None) -> None:
    found = classify(source)

    assert (found.kind if isinstance(found, build.Remote) else None) == kind


def test_mounts_are_completed_by_the_rules_of_their_types() -> None:
    text = (
        "FROM a AS one\nFROM debian\nWORKDIR /w\nRUN"
        " --mount=type=cache,target=c --mount=from=one,source=x,target=/y,rw --mount=target=/ctx"
        " --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=a/tok --mount=type=secret,id=k,env=K"
        " --mount=type=ssh,required make"
    )
    step = resolved(text).steps[-1]

    assert isinstance(step.op, build.Run)
    assert step.op.mounts == (
        build.CacheMount(target="/w/c", id="c"),
        build.BindMount(
            target="/y", origin=build.Origin(kind=build.OriginKind.STAGE, stage=0), source="/x", readonly=False
        ),
        build.BindMount(target="/ctx"),
        build.TmpfsMount(target="/t", size=1 << 20),
        build.SecretMount(id="a/tok", target="/run/secrets/tok"),
        build.SecretMount(id="k", env="K"),
        build.SshMount(required=True),
    )


def test_a_lone_heredoc_that_begins_with_a_hash_bang_is_a_file_that_the_shell_starts() -> None:
    step = resolved("FROM debian\nRUN <<E\n#!/bin/x\ny\nE").steps[-1]

    assert isinstance(step.op, build.Run)
    assert step.op.argv == ("/bin/sh", "-c", "/dev/pipes/E")
    assert step.op.files == (build.InlineFile(name="E", text="#!/bin/x\ny\n"),)


def test_proxies_need_no_argument_and_come_in_both_spellings() -> None:
    step = resolved("FROM debian\nRUN x", HTTP_PROXY="p").steps[-1]

    assert isinstance(step.op, build.Run)
    assert (step.op.proxy, step.op.env) == (("HTTP_PROXY=p", "http_proxy=p"), ("PATH=/bin",))


@pytest.mark.parametrize(
    ("instruction", "said"),
    [
        ("COPY http://h/a /", "source can't be a URL for COPY"),
        ("COPY git@h:a /", "source can't be a git ref for COPY"),
        ("COPY --chmod=99 a /", "invalid chmod parameter: '99'. it should be octal string"),
        ("COPY --chmod=u+q a /", "invalid chmod parameter: 'u+q'"),
        ("ADD --checksum=sha256:x a /", "checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=sha256:x http://h/a http://h/b /", "checksum can't be specified for multiple sources"),
        ("EXPOSE 80/foo", "invalid proto: foo"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("STOPSIGNAL SIGFOO", "Invalid signal: SIGFOO"),
        ("ENV a=${b:?c}", "b: c"),
        ("RUN --mount=target=/ x", 'invalid mount target "/"'),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_line(instruction: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolved(f"FROM debian\n{instruction}")

    assert said in caught.value.message
    assert "   2 | >>> " in caught.value.message


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0s"), (1, "1ns"), (1500, "1.5µs"), (10**8, "100ms"), (15 * 10**8, "1.5s"), (36 * 10**11, "1h0m0s")],
)
def test_durations_read_as_go_prints_them(ns: int, text: str) -> None:
    assert go_duration(ns) == text


def test_a_health_check_is_in_the_configuration_as_it_is() -> None:
    end = resolved("FROM debian\nHEALTHCHECK --timeout=3s CMD ls").end

    assert end.config.healthcheck == HealthCheck(test=("CMD-SHELL", "ls"), timeout=3 * 10**9)
