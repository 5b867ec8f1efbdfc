"""Containers chosen without their names, and the verbs and flags of Podman's that Docker has not."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from sampan.client.wire import Connection
from support.sampan import Sampan, wait_until


@pytest.fixture
def three(sampan: Sampan, tmp_path: Path) -> Sampan:
    """Make one that runs, one that is paused and one that was only made; the last one has its id in a file."""
    for name in ("up", "paused"):
        sampan("run", "-d", "--name", name, "-l", f"is={name}", "busybox", "sleep", "100")
    sampan("pause", "paused")
    sampan("create", "--name", "made", "--cidfile", tmp_path / "id", "--restart", "always", "busybox", "true")
    return sampan


def states(sampan: Sampan) -> dict[str, str]:
    return dict(line.split() for line in sampan("ps", "-a", "--format", "{{.Names}} {{.State}}").lines)


def test_all_means_those_in_a_state_in_which_the_verb_makes_sense(three: Sampan) -> None:
    assert three("unpause", "--all").lines == ["paused"]
    assert sorted(three("pause", "-a").lines) == ["paused", "up"]
    assert sorted(three("restart", "--running", "-t", "0").lines) == ["paused", "up"]
    assert sorted(three("kill", "--all").lines) == ["paused", "up"]
    assert three("stop", "-a").lines == []
    assert sorted(three("start", "--all").lines) == ["made", "paused", "up"]
    assert sorted(three("rm", "-f", "-a", "-t", "0").lines) == ["made", "paused", "up"]
    assert three("rm", "-a").lines == []


def test_filters_files_and_the_latest_name_containers_too(three: Sampan, tmp_path: Path) -> None:
    id = (tmp_path / "id").read_text()

    assert three("stop", "-t", "0", "--filter", "label=is=up").lines == ["up"]
    assert three("inspect", "-l", "-f", "{{.Id}}").line == id
    assert three("rm", "--cidfile", tmp_path / "id").line == id
    assert three("exec", "--latest", "true", check=False).err.count("is paused") == 1
    assert three("unpause", "--latest").line.startswith(three.inspect("paused")["Id"][:12])
    assert three("exec", "-l", "echo", "hi").line == "hi"
    assert three("rm", "--ignore", "nosuch").code == 0
    assert three("stop", "-i", "nosuch").code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("stop", "--all", "up"), 125, "no arguments are needed with --all"),
        (("stop", "--cidfile", "/no/such/file"), 125, "open /no/such/file: no such file or directory"),
        (("rm", "--filter", "nosuch=x"), 1, "invalid filter 'nosuch'"),
        (("inspect", "--latest"), 125, "no such container: there is none"),
        (("stop", "--all=false"), 1, "requires at least 1 argument"),
        (("wait", "--condition", "x", "up"), 1, 'invalid condition: "x"'),
        (("ps", "--sort", "x"), 125, "can't sort by x"),
        (("container", "clone", "nosuch"), 1, "No such container: nosuch"),
        (("container", "init", "x"), 125, "container init is unsupported"),
        (("container", "cleanup", "x"), 125, "container cleanup is unsupported"),
    ],
)
def test_what_can_not_be_chosen_is_said(sampan: Sampan, words: tuple[str, ...], code: int, message: str) -> None:
    assert message in sampan.fails(code, *words).err


def test_ps_has_podmans_filters_and_order(three: Sampan) -> None:
    def names(*words: str) -> list[str]:
        return three("ps", "-a", "--format", "{{.Names}}", *words).lines

    assert names("--sort", "names") == ["made", "paused", "up"]
    assert names("--filter", "label!=is=up") == ["made", "paused"]
    assert names("--filter", "command=^sleep") == ["paused", "up"]
    assert names("--filter", "restart-policy=always") == ["made"]
    assert names("--filter", "until=1h") == []
    assert len(three("ps", "-a", "--noheading").lines) == 3


def test_waiting_for_a_state(three: Sampan) -> None:
    assert three("wait", "--condition", "paused", "paused").line == "-1"
    assert three("wait", "--condition=running,exited", "-i", "10ms", "up").line == "-1"
    with closing(Connection(str(three.socket))) as connection:
        waiting = connection.request("POST", "/v1.50/containers/up/wait?condition=removed")  # answered once it waits
        three("rm", "-f", "up")
        assert json.loads(waiting.read())["StatusCode"] == 137


def test_a_clone_is_made_as_the_first_one_was(sampan: Sampan) -> None:
    sampan("network", "create", "inner")
    flags = ["-e", "A=b", "-v", "data:/data", "-m", "64m", "--network", "inner", "--network-alias", "db", "-u", "1000"]
    sampan("create", "--name", "web", *flags, "busybox", "sh", "-c", "echo $A $(id -u)")
    sampan("container", "clone", "--memory", "32m", "--run", "web")
    sampan("container", "clone", "--destroy", "web", "other", "busybox")

    assert [sampan("container", "exists", name, check=False).code for name in ("web", "web-clone", "other")] == [
        1,
        0,
        0,
    ]
    assert sampan("wait", "web-clone").line == "0"
    assert sampan("logs", "web-clone").line == "b 1000"
    first, second = sampan.inspect("other"), sampan.inspect("web-clone")
    for part in ("Env", "User", "Cmd", "Image"):
        assert first["Config"][part] == second["Config"][part], part
    assert (first["HostConfig"]["Memory"], second["HostConfig"]["Memory"]) == (64 << 20, 32 << 20)
    assert first["Config"]["Hostname"] == first["Id"][:12]
    assert "db" in json.dumps(second["NetworkSettings"]["Networks"]["inner"]["Aliases"])
    assert [m["Name"] for m in second["Mounts"]] == ["data"]
    sampan("rm", "-f", "web-clone", "other")
    sampan("network", "rm", "inner")
    sampan("volume", "rm", "data")


def test_what_depends_on_a_container_goes_with_it(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "base", "-v", "/v", "busybox", "sleep", "100")
    sampan("run", "-d", "--name", "inside", "--network", "container:base", "busybox", "sleep", "100")
    sampan("create", "--name", "third", "--pid", "container:inside", "busybox", "true")
    sampan("create", "--name", "heir", "--volumes-from", "base", "busybox", "true")
    sampan("create", "--name", "alone", "busybox", "true")

    removed = sampan("rm", "-f", "--depend", "base").lines

    assert removed[-1] == "base"
    assert removed.index("third") < removed.index("inside")
    assert set(removed) == {"third", "inside", "heir", "base"}
    wait_until(lambda: states(sampan) == {"alone": "created"})
