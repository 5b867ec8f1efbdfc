"""`sampan build` as people use it: what it prints, writes and leaves, and how it ends."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

import sampan as library
from support.registry import Registry
from support.sampan import PROGRAM, Sampan
from support.terminal import Terminal


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


def dockerfile(context: Path, *lines: str, name: str = "Dockerfile") -> Path:
    (context / name).write_text("\n".join(lines) + "\n")
    return context


@pytest.fixture
def built(context: Path) -> Path:
    """Return a context with two stages."""
    (context / "greeting").write_text("hello\n")
    return dockerfile(
        context,
        "FROM busybox AS make",
        "RUN echo made > /made",
        "FROM busybox",
        "WORKDIR /app",
        "COPY greeting .",
        "COPY --from=make /made .",
        'CMD ["cat", "greeting", "made"]',
    )


def test_a_build_tells_its_steps_on_standard_error_and_makes_an_image(sampan: Sampan, built: Path) -> None:
    done = sampan("build", "--progress=plain", "-t", "app:1", "-t", "app:2", built)

    assert done.out == ""
    assert "[make 2/2] RUN echo made > /made" in done.err
    assert "[stage-1 3/4] COPY greeting ." in done.err
    assert "naming to docker.io/library/app:2 done" in done.err
    assert sampan("run", "--rm", "app:1").out == "hello\nmade\n"
    history = sampan("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}", "app:2").lines
    assert [line.partition("|")[0] for line in history[:4]] == [
        'CMD ["cat" "greeting" "made"]',
        "COPY /made . # buildkit",
        "COPY greeting . # buildkit",
        "WORKDIR /app",
    ]


def test_a_second_build_comes_from_the_cache(sampan: Sampan, built: Path) -> None:
    first = sampan("build", "-q", built)

    again = sampan("build", "--progress=plain", "--iidfile", built.parent / "id", built)

    assert (built.parent / "id").read_text() == first.line
    assert again.err.count(" CACHED") == 4


def test_of_two_builds_at_once_one_makes_a_step_and_the_other_takes_it(sampan: Sampan, context: Path) -> None:
    dockerfile(context, "FROM busybox", "RUN cat /proc/sys/kernel/random/uuid > /made; sleep 1")

    builds = [sampan.start("build", "-t", f"twin{number}", context) for number in (1, 2)]
    for build in builds:
        build.communicate(timeout=60)
    assert [build.returncode for build in builds] == [0, 0]

    first, second = (sampan("run", "--rm", f"twin{number}", "cat", "/made").line for number in (1, 2))
    assert first == second


def test_why_says_what_has_changed(sampan: Sampan, built: Path) -> None:
    sampan("build", "-q", built)
    (built / "greeting").write_text("good morning\n")

    told = sampan("build", "--progress=plain", "--why", built).err

    assert "not cached: " in told
    assert "not cached: the file greeting has changed" in told


def test_quiet_prints_the_id_alone_and_files_tell_programs(sampan: Sampan, built: Path) -> None:
    done = sampan(
        "build", "-q", "-t", "app", "--iidfile", built.parent / "id", "--metadata-file", built.parent / "m", built
    )

    told = json.loads((built.parent / "m").read_text())
    assert done.err == ""
    assert done.line == (built.parent / "id").read_text() == sampan.inspect("app")["Id"]
    assert told["containerimage.config.digest"] == done.line
    assert told["image.name"] == "docker.io/library/app:latest"


def test_rawjson_is_for_programs(sampan: Sampan, built: Path) -> None:
    lines = [json.loads(line) for line in sampan("build", "--progress=rawjson", "--no-cache", built).err.splitlines()]

    names = {vertex["name"] for line in lines for vertex in line.get("vertexes", ())}
    assert "[make 2/2] RUN echo made > /made" in names


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_a_failing_step_shows_its_lines_its_command_its_code_and_its_output(sampan: Sampan, context: Path) -> None:
    dockerfile(context, "FROM busybox", "ENV A=b", "RUN echo before; echo why >&2; \\", "    exit 3", "CMD x")

    failed = sampan.fails(1, "build", "--progress=plain", context)

    assert "#2 ERROR: process " in failed.err
    assert failed.err.endswith(
        "Dockerfile:3\n"
        "--------------------\n"
        "   1 |     FROM busybox\n"
        "   2 |     ENV A=b\n"
        "   3 | >>> RUN echo before; echo why >&2; \\\n"
        "   4 | >>>     exit 3\n"
        "   5 |     CMD x\n"
        "--------------------\n"
        'ERROR: failed to build: failed to solve: process "/bin/sh -c echo before; echo why >&2;     exit 3" '
        "did not complete successfully: exit code: 3\n"
    )
    assert "------\n > [2/2] RUN echo before; " in failed.err


def test_a_quiet_build_that_fails_shows_the_output_that_nobody_has_seen(sampan: Sampan, context: Path) -> None:
    dockerfile(context, "FROM busybox", "RUN echo the cause; false")

    failed = sampan.fails(1, "build", "-q", context)

    assert failed.out == ""
    assert "\nthe cause\n" in failed.err
    assert "exit code: 1" in failed.err


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("FROM busybox", "FOO x"), "unknown instruction: FOO"),
        (("FROM busybox", "COPY nope /"), "COPY nope"),
        (("FROM busybox", "COPY ../x /"), "COPY ../x"),
        (("RUN x",), "no build stage in current context"),
        (("FROM nosuch.invalid/image",), "nosuch.invalid/image"),
        (("FROM busybox", "COPY --from=nosuch.invalid/x /a /"), "nosuch.invalid/x"),
        (("FROM busybox", "COPY --chown=nobody1 Dockerfile /"), "nobody1"),
    ],
)
def test_what_is_wrong_is_said(sampan: Sampan, context: Path, lines: tuple[str, ...], told: str) -> None:
    failed = sampan.fails(1, "build", "--progress=plain", dockerfile(context, *lines))

    assert told in failed.err
    assert "ERROR: failed to build: " in failed.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("/no/such",), 1, 'unable to prepare context: path "/no/such" not found'),
        (("-f", "/no/such", "."), 1, "failed to read dockerfile: open /no/such: no such file or directory"),
        (("--secret", "id=x,src=/no/such", "."), 1, "can't read the secret x"),
        (("-o", "type=nope", "."), 1, 'exporter "nope"'),
        (("-t", "BAD NAME", "."), 1, "invalid reference format"),
        (("--target", "nope", "."), 1, 'target stage "nope" could not be found'),
        (("--progress", "nope", "."), 125, "invalid value for --progress"),
        (("--security-opt", "x", "."), 125, "--security-opt is unsupported"),
        (("--sbom", "true", "."), 125, "--sbom is unsupported"),
        (("--annotation", "a=b", "."), 125, "unsupported: annotations of an image that is only stored"),
        (("--push", "."), 1, "tag is needed when pushing to registry"),
        ((), 1, "requires 1 argument"),
    ],
)
def test_what_can_not_be_done_is_refused_at_once(
    sampan: Sampan, context: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    dockerfile(context, "FROM busybox")

    failed = sampan.fails(code, "build", *words, cwd=context)

    assert told in failed.err


def test_control_c_stops_the_step_and_keeps_what_is_done(sampan: Sampan, context: Path) -> None:
    dockerfile(context, "FROM busybox", "RUN echo one > /one", "RUN echo begun; exec sleep 600")
    process = sampan.start("build", "--progress=plain", context)
    assert process.stderr
    for line in process.stderr:
        if b"begun" in line and b"RUN" not in line:
            break

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 130
    process.communicate()
    assert sampan.leftovers() == []
    dockerfile(context, "FROM busybox", "RUN echo one > /one", "RUN cat /one")
    assert sampan("build", "--progress=plain", context).err.count(" CACHED") == 1


def test_a_shell_in_the_step_that_failed(sampan: Sampan, context: Path, tmp_path: Path) -> None:
    dockerfile(context, "FROM busybox", "WORKDIR /here", "ENV WHO=me", "RUN echo left > file; false")
    terminal = Terminal(sampan, tmp_path)
    try:
        terminal.enter(f"sampan build --on-failure=shell {context}; echo code $?")
        terminal.shows("a shell in the files of RUN")
        terminal.shows("/here #")
        terminal.enter("cat file; echo I am $WHO; exit")
        screen = terminal.shows("code 1")
    finally:
        terminal.end()

    assert "left" in screen.partition("cat file")[2]
    assert "I am me" in screen
    assert sampan("ps", "-aq").out == ""


# ------------------------------------------------------------------------------------------------ contexts


def test_a_dockerfile_on_standard_input_needs_no_context(sampan: Sampan) -> None:
    id = sampan("build", "-q", "-", input="FROM busybox\nRUN echo x > /x\nCMD cat /x\n").line

    assert sampan("run", "--rm", id).out == "x\n"


def test_an_empty_dockerfile_on_standard_input_is_no_reason_to_look_for_another(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\n")

    assert "file with no instructions" in sampan.fails(1, "build", "-f", "-", tmp_path, input="").err


def test_a_dockerfile_on_standard_input_may_have_a_context(sampan: Sampan, context: Path) -> None:
    (context / "file").write_text("x\n")

    id = sampan("build", "-q", "-f", "-", context, input="FROM busybox\nCOPY file /\nCMD cat /file\n").line

    assert sampan("run", "--rm", id).out == "x\n"


def test_arguments_labels_secrets_and_named_contexts_reach_the_build(
    sampan: Sampan, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("of another context\n")
    (tmp_path / "token").write_text("s3cret-and-long-enough")
    dockerfile(
        context,
        "FROM busybox",
        "ARG A",
        "RUN --mount=type=secret,id=token grep -q and-long /run/secrets/token && echo $A > /a",
        "COPY --from=other file /",
        "CMD cat /a /file",
    )

    id = sampan(
        "build", "-q", "--build-arg", "A", "--label", "x=y", "--build-context", f"other={tmp_path}/other",
        "--secret", f"id=token,src={tmp_path}/token", context, env={"A": "from here"},
    ).line  # fmt: skip

    assert sampan("run", "--rm", id).out == "from here\nof another context\n"
    assert sampan.inspect(id)["Config"]["Labels"] == {"x": "y"}


# ------------------------------------------------------------------------------------------------ results


def test_an_output_is_a_directory_or_a_tar_and_nothing_stays_in_the_store(
    sampan: Sampan, context: Path, tmp_path: Path
) -> None:
    dockerfile(
        context,
        "FROM busybox AS build",
        "RUN echo a program > /program",
        "FROM scratch",
        "COPY --from=build /program /bin/",
    )
    before = sampan("images", "-aq").lines

    sampan("build", "-q", "-o", tmp_path / "out", context)
    tar = sampan("build", "-q", "-o", "-", context).out

    assert (tmp_path / "out/bin/program").read_text() == "a program\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bin"]
    with tarfile.open(fileobj=io.BytesIO(tar.encode())) as archive:
        assert archive.getnames() == ["bin", "bin/program"]
    assert sampan("images", "-aq").lines == before


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_output_is_an_archive_that_can_be_loaded(sampan: Sampan, context: Path, tmp_path: Path, kind: str) -> None:
    dockerfile(context, "FROM busybox", f"RUN echo {kind} > /kind", "CMD cat /kind")

    sampan("build", "-q", "-t", f"out:{kind}", "-o", f"type={kind},dest={tmp_path}/image.tar", context)

    assert sampan("image", "exists", f"out:{kind}", check=False).code == 1
    assert f"out:{kind}" in sampan("load", "-i", tmp_path / "image.tar").out
    assert sampan("run", "--rm", f"out:{kind}").out == f"{kind}\n"


def test_an_image_is_pushed_when_it_is_built(sampan: Sampan, context: Path, registry: Registry) -> None:
    dockerfile(context, "FROM busybox", "LABEL pushed=yes")

    sampan("build", "-q", "--push", "--annotation", "an=no te", "-t", f"{registry.address}/pushed:1", context)

    found = sampan("inspect", f"docker://{registry.address}/pushed:1").json()
    assert found["Labels"] == {"pushed": "yes"}
    assert sampan("inspect", "--raw", f"docker://{registry.address}/pushed:1").json()["annotations"] == {"an": "no te"}


def test_an_oci_output_has_the_annotations_in_its_manifest(sampan: Sampan, context: Path, tmp_path: Path) -> None:
    dockerfile(context, "FROM busybox", "ENV annotated=yes")

    sampan("build", "-q", "--annotation", "manifest:an=note", "-o", f"type=oci,dest={tmp_path}/oci.tar", context)

    raw = sampan("inspect", "--raw", f"oci-archive:{tmp_path}/oci.tar").json()
    assert raw["annotations"] == {"an": "note"}


def test_the_cache_is_shown_and_removed(sampan: Sampan, context: Path) -> None:
    sampan("build", "-q", dockerfile(context, "FROM busybox", "RUN echo for the cache > /x"))

    shown = sampan("builder", "du")
    everything = sampan("buildx", "du", "--verbose").out
    pruned = sampan("builder", "prune", "-af").out

    assert shown.lines[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert "RUN echo for the cache" in everything
    assert "Total reclaimed space: " in pruned
    assert len(sampan("builder", "du").lines) == 5


def test_a_terminal_shows_steps_with_times_and_the_end_of_their_output(
    sampan: Sampan, context: Path, tmp_path: Path
) -> None:
    dockerfile(context, "FROM busybox", "RUN echo what it says; while [ ! -e /stop ]; do sleep 0.1; done")
    terminal = Terminal(sampan, tmp_path)
    try:
        terminal.enter(f"sampan build {context}; echo code $?")
        screen = terminal.shows("=> => # what it says")
        assert "[+] Building" in screen
        assert "=> [2/2] RUN echo what it says" in screen
        terminal.type("", "C-c")
        terminal.shows("code 130")
    finally:
        terminal.end()


# ------------------------------------------------------------------------------------------------ the Python client


def test_a_program_builds_an_image(sampan: Sampan, built: Path) -> None:
    told: list[object] = []
    with library.Client(str(sampan.root)) as client:
        image = client.images.build(built, tags="app:py", labels={"by": "python"}, progress=told.append)

    assert image.tags == ("app:py",)
    assert {type(event).__name__ for event in told} >= {"StepBegan", "StepEnded", "Built"}
    assert sampan("run", "--rm", "app:py").out == "hello\nmade\n"


def test_a_program_learns_which_step_failed(sampan: Sampan) -> None:
    with library.Client(str(sampan.root)) as client, pytest.raises(library.client.BuildFailed) as failure:
        client.images.build(text="FROM busybox\nRUN echo why; exit 4\n")

    assert failure.value.event.exit_code == 4
    assert failure.value.event.output == b"why\n"
    assert failure.value.event.location
    assert failure.value.event.location.line == 2


# ------------------------------------------------------------------------------------------------------------- advice


def test_check_tells_what_buildkit_tells_and_makes_nothing(sampan: Sampan, context: Path) -> None:
    dockerfile(context, "FROM busybox as x", "ENV PATH=/bin", "ENV b=$PETH", "RUN exit 1")

    done = sampan("build", "--check", "-t", "checked", context, check=False)

    assert done.code == 1
    assert done.lines[:4] == [
        "Check complete, 2 warnings have been found!",
        "",
        "WARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
        "'as' and 'FROM' keywords' casing do not match",
    ]
    assert "Usage of undefined variable '$PETH' (did you mean $PATH?)\nDockerfile:3\n" in done.out
    assert "   3 | >>> ENV b=$PETH\n" in done.out
    assert sampan("image", "exists", "checked", check=False).code == 1
    dockerfile(context, "FROM busybox AS x", "RUN exit 1")
    assert sampan("build", "--check", context).out == "Check complete, no warnings found.\n"


def test_a_build_ends_with_its_advice_or_fails_for_it_if_the_file_says_so(sampan: Sampan, context: Path) -> None:
    dockerfile(context, "FROM busybox", "CMD true")

    advised = sampan("build", "--progress=plain", context)

    assert "\n 1 warning found (--check shows the lines):\n - JSONArgsRecommended: " in advised.err
    dockerfile(context, "# check=error=true", "FROM busybox", "RUN echo never", "CMD true")
    refused = sampan("build", "--progress=plain", context, check=False)
    assert refused.code == 1
    assert "lint violation found for rules: JSONArgsRecommended" in refused.err
    assert "echo never" not in refused.err


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_on_standard_input_is_a_context(sampan: Sampan, mode: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:  # type: ignore[call-overload]
        for name, text in (("Dockerfile", "FROM busybox\nCOPY file /\nCMD cat /file\n"), ("file", "x\n")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))

    id = sampan("build", "-q", "-", input=data.getvalue()).line

    assert sampan("run", "--rm", id).out == "x\n"


def test_a_context_that_the_engine_does_not_see_is_sent_to_it(sampan: Sampan, context: Path) -> None:
    sampan("ps")  # the engine has its own mounts from here on
    script = (
        'mount -t tmpfs none "$1"; cd "$1"; mkdir sub; echo x > sub/file; echo no > left-out; ln -s sub/file link; '
        'echo "left-*" > .dockerignore; echo "$3" > Dockerfile; exec "$2" build -q .'
    )
    text = "FROM busybox\nCOPY . /context/\nCMD ls -A /context; cat /context/link"
    argv = ["unshare", "-m", "sh", "-ec", script, "sh", str(context), PROGRAM, text]

    done = subprocess.run(argv, env=sampan.env, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert sampan("run", "--rm", done.stdout.strip()).out == ".dockerignore\nDockerfile\nlink\nsub\nx\n"
