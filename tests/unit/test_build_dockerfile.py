"""The Dockerfile language: text to tree. `dockerfile/faults.jsonl` is what BuildKit's frontend 1.19 says of faults."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest

from sampan.build.dockerfile import DockerfileError, Fault, ast, expand, locate, parse, parse_instructions, words
from sampan.build.dockerfile.devices import Device, parse_device
from sampan.build.dockerfile.heredoc import run_arguments
from sampan.build.dockerfile.mounts import Mount, parse_mount
from support.dockerfiles import check

FROM = "FROM debian\n"
RECORDS = Path(__file__).parent / "dockerfile"
DOCS = Path(__file__).parents[2] / "docs"


def recorded(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (RECORDS / name).read_text().splitlines()]


def only(text: str) -> ast.Instruction:
    """The one instruction after FROM."""
    (instruction,) = parse(FROM + text).stages[0].instructions
    return instruction


def heredocs(text: str) -> tuple[ast.Heredoc, ...]:
    run = only(text)
    assert isinstance(run, ast.Run)
    return run.heredocs


def fault_of(text: str) -> str:
    """Parse and expand with nothing set, as a build would; return what is wrong, or nothing."""
    try:
        dockerfile = parse(text)
        for argument in (argument for arg in dockerfile.args for argument in arg.arguments):
            words.expand(argument.value or "", {})
        for stage in dockerfile.stages:
            for instruction in stage.instructions:
                expand(instruction, {}, dockerfile.escape)
                for mount in instruction.mounts if isinstance(instruction, ast.Run) else ():
                    parse_mount(mount, lambda text: words.expand(text, {}))
    except (DockerfileError, Fault) as e:
        return e.cause
    return ""


@pytest.mark.parametrize("record", recorded("faults.jsonl"), ids=lambda record: record["dockerfile"])
def test_faults_are_said_in_buildkits_words(record: dict[str, str]) -> None:
    assert fault_of(record["dockerfile"]) == record["cause"]


# ------------------------------------------------------------------------------------------------------------ lines


def test_a_file_is_its_arguments_and_its_stages() -> None:
    dockerfile = parse("ARG V=12\nFROM debian:$V AS Base\nRUN true\nFROM base\nCOPY --from=base a b\n")

    assert [argument.arguments for argument in dockerfile.args] == [(ast.Argument(name="V", value="12"),)]
    assert [(stage.number, stage.name, stage.base.image) for stage in dockerfile.stages] == [
        (0, "base", "debian:$V"),
        (1, "", "base"),
    ]
    assert [type(i) for stage in dockerfile.stages for i in stage.instructions] == [ast.Run, ast.Copy]


def test_a_continued_line_leaves_out_comments_and_empty_lines() -> None:
    run = only("RUN a \\\n  # why\n\n  b\n")

    assert isinstance(run, ast.Run)
    assert run.command == ast.Command(words=("a   b",), is_shell=True)
    assert run.location == ast.Location(2, 5)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a \\\nb", "a b"),
        ("RUN a \\  \t\nb", "a b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\\\\n", "a \\\\"),  # an escaped escape character continues nothing
        ("RUN a \\", "a"),
        ("RUN \\\n\\\n\\\na", "a"),
        ("  RUN\ta  b  ", "a  b"),
        ("RUN a # b", "a # b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("run a", "a"),
    ],
)
def test_a_logical_line_is_put_together(text: str, command: str) -> None:
    run = only(text)

    assert isinstance(run, ast.Run)
    assert run.command.words == (command,)


def test_the_escape_directive_changes_what_continues_a_line_and_what_escapes() -> None:
    dockerfile = parse("# escape=`\nFROM a\nRUN dir C:\\ `\n /b\nENV a=x` y b=c:\\d\n")

    run, env = dockerfile.stages[0].instructions
    assert isinstance(run, ast.Run)
    assert run.command.words == ("dir C:\\  /b",)
    assert expand(env, {}, dockerfile.escape).pairs == (  # type: ignore[attr-defined]
        ast.Pair(name="a", value="x y"),
        ast.Pair(name="b", value="c:\\d"),
    )


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("# syntax=docker/dockerfile:1\n#ESCAPE = `\n# check=skip=all\n", ["syntax", "escape", "check"]),
        ("# a comment\n# escape=`\n", []),
        ("\n# escape=`\n", []),
        ("# what=this\n# escape=`\n", []),
        ("\ufeff# check=error=true\n", ["check"]),
    ],
)
def test_directives_end_at_the_first_line_that_is_none(text: str, directives: list[str]) -> None:
    dockerfile = parse(text + "FROM a\n")

    assert [directive.name for directive in dockerfile.directives] == directives
    assert dockerfile.escape == ("`" if "escape" in directives else "\\")


def test_comments_stay_with_the_instruction_after_them() -> None:
    dockerfile = parse("# one\n#two\n\nFROM a\n  # three\nRUN b\n# four\n")

    assert dockerfile.stages[0].base.comments == ("# one", "#two", "")
    assert dockerfile.stages[0].instructions[0].comments == ("# three",)
    assert dockerfile.comments == ("# four",)


@pytest.mark.parametrize("line", [b"RUN \xfc", b"copy <<E /\n\xfc\nE", b"ADD \xfc /", b"ONBUILD RUN \xfc"])
def test_what_is_no_utf8_is_refused_where_it_would_be_a_command_or_a_file(line: bytes) -> None:
    with pytest.raises(DockerfileError, match=r"line 2: [A-Z]+ isn't UTF-8"):
        parse(b"FROM a\n" + line + b"\n")


def test_what_is_no_utf8_is_replaced_elsewhere() -> None:
    dockerfile = parse(b"# J\xfcrgen\nFROM a\nMAINTAINER J\xfcrgen\nRUN a \\\n# \xfc\n b\n# \xfc\n")

    author, run = dockerfile.stages[0].instructions
    assert isinstance(author, ast.Maintainer)
    assert author.author == "J\ufffdrgen"
    assert run.text == "RUN a  b"
    assert dockerfile.stages[0].base.comments == ("# J\ufffdrgen",)
    assert dockerfile.comments == ("# \ufffd",)
    dockerfile.source.encode()


def test_what_is_no_text_is_refused_with_its_line() -> None:
    with pytest.raises(DockerfileError, match="a NUL byte in line 1"):
        parse("FROM \0\n")
    with pytest.raises(DockerfileError, match="a NUL byte in line 2"):
        parse_instructions("RUN a\nRUN b\0", "ONBUILD")


# --------------------------------------------------------------------------------------------------------- heredocs


def test_heredocs_follow_their_line_one_after_another() -> None:
    run = only("RUN cat <<A <<-'B' > /x\n$a\n\tA\nA\n\tb\n\tB\n")

    assert isinstance(run, ast.Run)
    assert run.command.words == ("cat <<A <<-'B' > /x",)
    assert run.location == ast.Location(2, 7)
    assert [(each.name, each.content, each.text, each.expand) for each in run.heredocs] == [
        ("A", "$a\n\tA\n", "$a\n\tA\n", True),
        ("B", "\tb\n", "b\n", False),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("RUN 3<<E cat\nE", [("E", 3)]),
        ('RUN <<"two words"\ntwo words', [("two words", 0)]),
        ("RUN <<E>/x\nE>/x", [("E>/x", 0)]),
        ("RUN a<<E", []),
        ("RUN << E", []),
        ("RUN <<<E", []),
        ("RUN 'x <<E'", []),
        ("RUN echo \\<<E", []),
        ('RUN ["cat", "<<E"]', []),
        ('RUN echo "unclosed <<E', []),
        ("RUN <<$a\n$a", [("$a", 0)]),
        ("RUN --mount=type=cache,target=/x <<E\nE", [("E", 0)]),
    ],
)
def test_what_opens_a_heredoc(text: str, names: list[tuple[str, int]]) -> None:
    assert [(each.name, each.file_descriptor) for each in heredocs(text)] == names


def test_only_run_copy_add_and_their_onbuild_take_heredocs() -> None:
    trigger = only("ONBUILD RUN <<E\na\nE\n")

    assert isinstance(trigger, ast.OnBuild)
    assert trigger.expression == "RUN <<E\na\nE"
    assert parse_instructions(trigger.expression, "ONBUILD") == (
        ast.Run(
            location=ast.Location(1, 3),
            keyword="RUN",
            text="RUN <<E",
            command=ast.Command(words=("<<E",), is_shell=True),
            heredocs=(ast.Heredoc(name="E", word="E", content="a\n"),),
        ),
    )
    assert only("CMD cat <<E").text == "CMD cat <<E"


@pytest.mark.parametrize(
    ("text", "argv", "script"),
    [
        ("RUN a", ("sh", "-c", "a"), None),
        ('RUN ["a", "b"]', ("a", "b"), None),
        ("RUN", ("sh", "-c", ""), None),
        ("RUN <<E\na\nE", ("sh", "-c", "a\n"), None),
        ("RUN <<-E\n\ta\nE", ("sh", "-c", "a\n"), None),
        ("RUN <<E\n#!/bin/x\nE", ("E",), "#!/bin/x\n"),
        ("RUN <<-E\n\t#!/bin/x\nE", ("sh", "-c", "#!/bin/x\n"), None),
        ("RUN cat <<A - <<-B\na\nA\n\tb\n\tB\n", ("sh", "-c", "cat <<A - <<-B\na\nA\n\tb\nB"), None),
    ],
)
def test_what_a_run_executes(text: str, argv: tuple[str, ...], script: str | None) -> None:
    run = only(text)
    assert isinstance(run, ast.Run)

    found = run_arguments(run, ("sh", "-c"))

    assert (found[0], found[1] and found[1].text) == (argv, script)


def test_a_document_whose_word_is_no_source_is_not_lost() -> None:
    with pytest.raises(DockerfileError, match="the heredoc E is no source of COPY"):
        only("COPY a <<E\xa0/d/\nE\n")


def test_a_heredoc_of_copy_is_a_file_whose_variables_are_replaced_unless_its_word_is_quoted() -> None:
    copy = only("COPY a <<A <<'B' <<-C /d/\n$v \"q\" \\$v\nA\n$v\nB\n\t$v\n\tC\n")

    assert isinstance(copy, ast.Copy)
    assert (copy.sources, copy.destination) == (("a",), "/d/")
    assert [(each.name, each.text) for each in expand(copy, {"v": "1"}).inline] == [
        ("A", '1 "q" $v\n'),
        ("B", "$v\n"),
        ("C", "1\n"),
    ]


# ----------------------------------------------------------------------------------------------------- instructions


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('ARG a b= c="d e"', {"arguments": (("a", None), ("b", ""), ("c", '"d e"'))}),
        ("ENV a=1 b='2 3'", {"pairs": (("a", "1", False), ("b", "'2 3'", False))}),
        ("ENV a  b  c", {"pairs": (("a", "b  c", True),)}),
        ("ENV a= =b", None),
        ('LABEL "a b"=c d.e=f', {"pairs": (('"a b"', "c", False), ("d.e", "f", False))}),
        ("WORKDIR /a b", {"path": "/a b"}),
        ("USER a:b", {"user": "a:b"}),
        ("EXPOSE 80 53/udp $p", {"ports": ("80", "53/udp", "$p")}),
        ("VOLUME /a /b", {"paths": ("/a", "/b"), "json": False}),
        ('VOLUME ["/a b"]', {"paths": ("/a b",), "json": True}),
        ("STOPSIGNAL SIGTERM", {"signal": "SIGTERM"}),
        ("MAINTAINER a <b>", {"author": "a <b>"}),
        ('SHELL ["a", "b"]', {"words": ("a", "b")}),
        ("CMD", {"command": ((), True)}),
        ("CMD []", {"command": ((), False)}),
        ('CMD ["a"] b', {"command": (('["a"] b',), True)}),  # no JSON: for the shell
        ("CMD ['a']", {"command": (("['a']",), True)}),
        ('ENTRYPOINT ["a", "\\u00e9"]', {"command": (("a", "é"), False)}),
        ("RUN --network=none --security=insecure --mount=type=ssh --mount=target=/x --device=a/b=c x",
         {"network": "none", "security": "insecure", "mounts": ("type=ssh", "target=/x"), "devices": ("a/b=c",)}),
        ("RUN -- --x", {"command": (("--x",), True)}),
        ("COPY --from=a --chown=1:2 --chmod=644 --link --parents --exclude=a --exclude=b x y z/",
         {"from_": "a", "chown": "1:2", "chmod": "644", "link": True, "parents": True, "exclude": ("a", "b"),
          "sources": ("x", "y"), "destination": "z/"}),
        ("COPY --link=false a b", {"link": False}),
        ('COPY --chown="a b" a b', {"chown": "a b"}),
        ('COPY ["a b", "c"]', {"sources": ("a b",), "destination": "c", "json": True}),
        ("ADD --keep-git-dir --checksum=sha256:0 --unpack=false a b",
         {"keep_git_dir": True, "checksum": "sha256:0", "unpack": False}),
        ("ADD a b", {"unpack": None}),
        ("HEALTHCHECK --interval=1m --timeout=2s --start-period=3s --start-interval=4s --retries=5 CMD a b",
         {"check": (("CMD-SHELL", "a b"), 60 * 10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9, 5)}),
        ('HEALTHCHECK CMD ["a"]', {"check": (("CMD", "a"), 0, 0, 0, 0, 0)}),
        ("healthcheck none", {"check": (("NONE",), 0, 0, 0, 0, 0)}),
        ("ONBUILD  copy a b", {"expression": "copy a b"}),
    ],
)  # fmt: skip
def test_an_instruction_is_read(text: str, fields: dict[str, object] | None) -> None:
    if fields is None:
        with pytest.raises(DockerfileError):
            only(text)
        return

    instruction = only(text)

    assert {name: plain(getattr(instruction, name)) for name in fields} == fields


def plain(value: object) -> object:
    """Structs as tuples."""
    if hasattr(value, "__struct_fields__"):
        return tuple(plain(getattr(value, field)) for field in value.__struct_fields__)
    return tuple(plain(each) for each in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("value", "mount"),
    [
        ("target=/x", Mount(target="/x", readonly=True)),
        ("type=bind,from=a,src=/b,dst=/x,rw", Mount(from_="a", source="/b", target="/x")),
        ("type=cache,id=a,target=/x,sharing=locked,mode=0700,uid=1,gid=2",
         Mount(type="cache", id="a", target="/x", sharing="locked", mode=0o700, uid=1, gid=2)),
        ("type=cache,target=/x,ro=true", Mount(type="cache", target="/x", readonly=True)),
        ("TYPE=tmpfs,Target=/x,size=1m", Mount(type="tmpfs", target="/x", size_bytes=1 << 20)),
        ("type=secret,id=a,env=B,required", Mount(type="secret", id="a", env="B", required=True, readonly=True)),
        ("type=ssh,required=false,mode=0600", Mount(type="ssh", mode=0o600, readonly=True)),
        ('type=bind,"target=/a,b"', Mount(target="/a,b", readonly=True)),
    ],
)  # fmt: skip
def test_a_mount_is_read(value: str, mount: Mount) -> None:
    assert parse_mount(value) == mount


def test_a_devices_name_may_have_an_equals_sign() -> None:
    assert parse_device("nvidia.com/gpu=all,required") == Device(name="nvidia.com/gpu=all", required=True)
    assert parse_device("name=a") == Device(name="a")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("ENV $v=a$v b='$v'", ("1", "a1", "b", "$v")),
        ("EXPOSE $w", ("8", "9")),
        ("COPY --chown=$v --chmod=$v --exclude=$v $v ${v}/", ("1", "1", ("$v",), ("1",), "1/")),
        ("CMD $v", (("$v",),)),
    ],
)
def test_what_the_language_substitutes_and_what_not(text: str, expanded: tuple[object, ...]) -> None:
    match expand(only(text), {"v": "1", "w": "8 9"}):
        case ast.Env(pairs=pairs):
            assert tuple(part for pair in pairs for part in (pair.name, pair.value)) == expanded
        case ast.Expose(ports=ports):
            assert ports == expanded
        case ast.Copy() as copy:
            assert (copy.chown, copy.chmod, copy.exclude, copy.sources, copy.destination) == expanded
        case ast.Cmd(command=command):
            assert (command.words,) == expanded


# ------------------------------------------------------------------------------------------------- where a fault is


def test_a_fault_shows_the_lines_around_it_and_a_caret() -> None:
    with pytest.raises(DockerfileError) as raised:
        parse("FROM a\nENV a=b\nRUN --mont=type=bind \\\n\tx\nRUN y\n", "sub/Dockerfile")

    assert raised.value.location == ast.Location(3, 4)
    assert raised.value.message.split("\n") == [
        "can't parse sub/Dockerfile: dockerfile parse error on line 3: unknown flag: --mont (did you mean mount?)",
        "sub/Dockerfile:3",
        "-" * 20,
        "   2 |     ENV a=b",
        "   3 | >>> RUN --mont=type=bind \\",
        "               ^^^^^^",
        "   4 | >>>     x",
        "   5 |     RUN y",
        "-" * 20,
    ]
    assert raised.value.hint == "it takes --device, --mount, --network, --security"


def test_a_fault_found_later_is_put_into_its_lines() -> None:
    dockerfile = parse("FROM a\nUSER ${u?who}\n")
    instruction = dockerfile.stages[0].instructions[0]

    with pytest.raises(Fault) as raised:
        expand(instruction, {})

    message = locate(raised.value, dockerfile, instruction.location).message
    assert 'line 2: failed to process "${u?who}": u: who' in message
    assert "\n                ^^^^^^^^\n" in message


def test_an_excerpt_sends_a_terminal_no_commands() -> None:
    with pytest.raises(DockerfileError) as raised:
        parse("FROM a\nFOO \x1b[2J" + "x" * 1000 + "\n")

    assert re.search(r"FOO \\x1b\[2Jx+…$", raised.value.message, re.MULTILINE)
    assert all(len(line) < 250 for line in raised.value.message.split("\n"))


@pytest.mark.parametrize(
    "text",
    [
        text
        for page in sorted(DOCS.rglob("*.md"))
        for text in re.findall(r"^```dockerfile\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ],
)
def test_what_the_documentation_shows_is_right(text: str) -> None:
    assert fault_of(text) == ""


@pytest.mark.parametrize("text", ["FROM a\nCOPY <<F \" \"\nVOLUME b\nRUN <<'F'\nF"])
def test_what_fuzzing_has_found_is_the_same_after_rendering(text: str) -> None:
    with suppress(DockerfileError):  # its quote has no end
        check(text)
