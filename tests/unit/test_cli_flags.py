"""The parser of flags: Go's pflag, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sampan.cli.failure import Unavailable, UsageError
from sampan.cli.flags import Flag, HelpAsked, parse
from sampan.cli.main import GLOBAL, load
from sampan.cli.nearest import distance, nearest
from sampan.cli.options import CONTAINER, RUN
from sampan.cli.verbs import GROUPS, LATER, OTHER_NAMES, VERBS

FLAGS = (
    Flag("interactive", "bool", "", short="i"),
    Flag("tty", "bool", "", short="t"),
    Flag("memory", "bytes", "", short="m"),
    Flag("env", "env", "", short="e"),
    Flag("name", "string", ""),
    Flag("explain", "optional", ""),
    Flag("publish", "list", "", short="p", unsupported="not yet"),
    Flag("restart", "string", "", default="no", unsupported="not yet"),
)

HABITS = """
d i t rm name hostname domainname e env-file u group-add w entrypoint l label-file v mount tmpfs volumes-from
volume-driver read-only device device-cgroup-rule gpus p P expose network network-alias ip ip6 mac-address link dns
dns-search dns-option add-host init ipc pid uts userns cgroupns cgroup-parent privileged cap-add cap-drop security-opt
sysctl ulimit shm-size stop-signal stop-timeout restart health-cmd health-interval health-timeout health-retries
health-start-period health-start-interval no-healthcheck log-driver log-opt pull platform quiet cidfile detach-keys
sig-proxy attach annotation runtime isolation oom-kill-disable oom-score-adj storage-opt use-api-socket
memory memory-reservation memory-swap memory-swappiness cpus cpu-quota cpu-period cpu-shares cpu-rt-runtime
cpu-rt-period cpuset-cpus cpuset-mems pids-limit blkio-weight blkio-weight-device device-read-bps device-write-bps
device-read-iops device-write-iops
""".split()
"""Every flag of `docker run`, by HABITS."""


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        (["-it", "x"], {"interactive": True, "tty": True}, ["x"]),
        (["-i", "-t=false", "x"], {"interactive": True, "tty": False}, ["x"]),
        (["-itm", "1k"], {"memory": 1024, "tty": True}, []),
        (["-m1k"], {"memory": 1024}, []),
        (["-m=1k"], {"memory": 1024}, []),
        (["--memory", "1k", "--memory=2k"], {"memory": 2048}, []),
        (["-e", "A=b", "-eC=d", "--env=E=f"], {"env": ["A=b", "C=d", "E=f"]}, []),
        (["--name", "-x"], {"name": "-x"}, []),
        (["--name="], {"name": ""}, []),
        (["x", "-i"], {"interactive": False}, ["x", "-i"]),
        (["--", "-i"], {"interactive": False}, ["-i"]),
        (["-i", "--", "-t", "x"], {"interactive": True, "tty": False}, ["-t", "x"]),
        (["-"], {}, ["-"]),
        (["--explain", "x"], {"explain": "text"}, ["x"]),
        (["--explain=sh", "x"], {"explain": "sh"}, ["x"]),
        (["--restart", "no"], {"restart": "no"}, []),
        (["--help=false", "x"], {}, ["x"]),
    ],
)
def test_flags_are_read_as_go_reads_them(words, values, arguments):
    options, rest = parse(FLAGS, words, interspersed=False)

    assert rest == arguments
    assert {name: options[name] for name in values} == values


def test_flags_may_follow_arguments_where_the_verb_has_no_command_in_them():
    options, rest = parse(FLAGS, ["a", "-i", "b", "--", "-t"])

    assert (options["interactive"], rest) == (True, ["a", "b", "-t"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nam", "x"], "unknown flag: --nam"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ixt"], "unknown shorthand flag: 'x' in -xt"),
        (["--name"], "flag needs an argument: --name"),
        (["-im"], "flag needs an argument: 'm' in -im"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (
            ["--tty=maybe"],
            'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["-m", "x"], 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
    ],
)
def test_a_wrong_flag_is_told_in_dockers_words(words, message):
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, words)

    assert caught.value.message == message
    assert caught.value.status == 125


def test_an_unknown_flag_brings_the_nearest_one_to_mind():
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, ["--memroy", "1k"])

    assert caught.value.hint == "did you mean --memory?"


@pytest.mark.parametrize("words", [["-p", "80:80"], ["--publish=80"], ["--restart", "always"]])
def test_a_flag_that_is_not_built_yet_is_refused_and_never_ignored(words):
    with pytest.raises(Unavailable) as caught:
        parse(FLAGS, words)

    assert caught.value.status == 125
    assert "is unsupported" in caught.value.message
    assert caught.value.hint == "not yet"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_asked_for(word):
    with pytest.raises(HelpAsked):
        parse(FLAGS, [word])


def test_every_flag_of_docker_run_is_known():
    known = {flag.name for flag in RUN} | {flag.short for flag in RUN}

    assert not set(HABITS) - known


def test_flags_that_docker_alone_has_are_told_apart_by_one_word():
    names = [flag.name for flag in RUN]
    letters = [flag.short for flag in RUN if flag.short]

    assert len(names) == len(set(names))
    assert len(letters) == len(set(letters))
    assert {flag.name for flag in RUN} - {flag.name for flag in CONTAINER} == {
        "detach",
        "detach-keys",
        "preserve-fds",
        "sdnotify",
        "sig-proxy",
    }


def all_commands():
    yield from ((module, verb) for verb, module in VERBS.items())
    yield from ((module, f"{group} {verb}") for group, verbs in GROUPS.items() for verb, module in verbs.items())


@pytest.mark.parametrize(("module", "path"), list(all_commands()))
def test_every_verb_loads_and_has_its_usage_and_flags(module, path):
    command = load(module, path)

    assert command.usage.startswith(path)
    assert command.summary
    assert all(flag.help for flag in command.flags)


def test_every_verb_of_docker_is_built_or_refused_by_name():
    docker = (
        "attach build commit cp create diff events exec export history images import info inspect kill load login "
        "logout logs pause port ps pull push rename restart rm rmi run save search start stats stop tag top unpause "
        "update version wait builder buildx checkpoint compose config container context image manifest network node "
        "plugin secret service stack swarm system trust volume"
    ).split()

    assert not set(docker) - set(VERBS) - set(GROUPS) - set(OTHER_NAMES) - set(LATER)
    assert not set(LATER) & set(VERBS)


def test_the_global_flags_of_docker_are_known():
    assert {"host", "config", "context", "debug", "log-level", "tls", "tlsverify", "version"} <= {
        f.name for f in GLOBAL
    }


@pytest.mark.parametrize(
    ("a", "b", "expected"), [("run", "rnu", 1), ("stop", "start", 3), ("", "ab", 2), ("a", "a", 0)]
)
def test_distance_counts_letters(a, b, expected):
    assert distance(a, b) == expected


def test_nothing_is_near_to_a_word_that_is_far_from_all():
    assert nearest("zzzzzz", ["run", "stop"]) == ""


@given(st.lists(st.text(min_size=1, max_size=6)))
def test_the_parser_never_fails_but_with_its_own_errors(words):
    try:
        options, rest = parse(FLAGS, words)
    except (UsageError, Unavailable, HelpAsked):
        return
    assert set(options.given) <= set(options.values)
    assert all(word in words for word in rest)


def test_the_reference_of_the_command_line_is_what_the_tables_say():
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, root / "tools/cli_reference.py", "--print"], capture_output=True, text=True, check=True
    )

    assert (root / "docs/reference/cli.md").read_text() == done.stdout, "run tools/cli_reference.py"
