"""What verbs of Podman's have and Docker's have not: the same input, and what podman 4.3 gives for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until

SCRIPT = "echo out; echo err >&2; mkdir -p /x/f /y; echo old > /y/d; echo rest; cat"


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    sampan("run", "-di", "--name", "web", "--network", "none", "--cap-drop", "all", "busybox", "sh", "-c", SCRIPT)
    wait_until(lambda: (said := sampan("logs", "web")).out.endswith("rest\n") and said.err)
    return sampan


def test_logs_of_several_containers_say_whose_each_line_is(web: Sampan) -> None:
    web("run", "-t", "--name", "other", "--network", "none", "busybox", "sh", "-c", "echo 1; printf 2")
    short = web.inspect("web")["Id"][:12]

    both = web("logs", "--names", "web", "other")
    assert both.lines == ["web out", "web rest", "other 1", "other 2"]
    assert both.err == "web err\n"
    assert web("logs", "web", "web").lines == [f"{short} out", f"{short} rest"] * 2
    assert web("logs", "--names", "web").out == "out\nrest\n"
    assert "No such container: nosuch" in web.fails(1, "logs", "web", "nosuch").err

    followed = web.start("logs", "-f", "--names", "--color", "web", "other")
    shown = b"".join(followed.stdout.readline() for _ in range(4))
    web("kill", "web")
    out, err = followed.communicate(timeout=30)
    assert sorted(shown.split(b"\n")[:-1]) == [
        *(b"\x1b[31mother %b\x1b[0m" % word for word in (b"1\r", b"2")),
        *(b"\x1b[37mweb %b\x1b[0m" % word for word in (b"out", b"rest")),
    ]
    assert (out, err) == (b"", b"\x1b[37mweb err\x1b[0m\n")


def test_cp_replaces_files_and_directories_by_one_another_only_when_told_to(web: Sampan, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "inner").write_text("inner")
    (tmp_path / "f").write_text("new")

    for source, target in (("f", "web:/x"), ("d", "web:/y")):
        assert "cannot overwrite" in web.fails(1, "cp", tmp_path / source, target).err
        web("cp", "--overwrite", tmp_path / source, target)
    assert web("exec", "web", "cat", "/x/f", "/y/d/inner").out == "newinner"
    (tmp_path / "x" / "f" / "deep").mkdir(parents=True)
    (tmp_path / "y").write_text("")
    for name in ("x", "y"):
        assert "cannot overwrite" in web.fails(1, "cp", f"web:/{name}", tmp_path).err or name == "y"
        web("cp", "--overwrite", f"web:/{name}", tmp_path)
    assert [(tmp_path / path).read_text() for path in ("x/f", "y/d/inner")] == ["new", "inner"]
    assert "cannot copy directory" in web.fails(1, "cp", "--overwrite", tmp_path / "d", "web:/x/f").err


def test_events_with_short_ids_and_only_what_has_been(web: Sampan) -> None:
    of_web = ("events", "--stream=false", "--filter", "container=web", "--filter", "event=start")
    id = web.inspect("web")["Id"]

    assert f" container start {id} (" in web(*of_web).line
    assert f" container start {id[:12]} (" in web(*of_web, "--no-trunc=false").line


def test_top_shows_what_podmans_descriptors_name(web: Sampan) -> None:
    web(*"run -d --name users --network none --userns auto -u user busybox sleep 99".split())
    wait_until(lambda: web("top", "web", "comm").lines[1:] == ["cat"])
    host_pid = str(web.inspect("web")["State"]["Pid"])

    (titles, process) = web("top", "web", "pid,ppid", "user", "hpid", "huser", "seccomp", "capeff", "state", "%c").lines
    assert re.split(r"  +", titles)[-3:] == ["EFFECTIVE CAPS", "STATE", "COMMAND"]
    assert titles.split()[:6] == ["PID", "PPID", "USER", "HPID", "HUSER", "SECCOMP"]
    assert process.split() == ["1", "0", "root", host_pid, "root", "filter", "none", "S", "cat"]
    told = web("top", "users", "user,group,huser,groups,args").lines[1].split(None, 4)
    assert told[:2] == ["user", "user"]
    assert int(told[2]) > 1
    assert told[4] == "sleep 99"
    every = "capamb capbnd capinh capprm etime hgroup hgroups label nice pcpu pgid rgroup rss ruser stime time tty vsz"
    assert len(web("top", "web", *every.split()).lines) == 2
    assert "PID" in web("top", "web", "-o", "pid,comm").lines[0]


def test_top_reads_no_file_of_the_hosts_by_a_link_of_the_containers(web: Sampan, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("stolen:x:0:0::/:/bin/sh\n")
    names = f"rm -f /etc/passwd /etc/group; ln -s {tmp_path}/passwd /etc/passwd; mkfifo /etc/group"
    web("exec", "web", "sh", "-c", names)

    assert web("top", "web", "user,group").lines[1].split() == ["0", "0"]


def test_proxies_of_the_shell_and_of_the_clients_configuration(sampan: Sampan, tmp_path: Path) -> None:
    here = {"http_proxy": "http://here", "NO_PROXY": "a", "ALL_PROXY": "no"}
    chosen = {"default": {"httpProxy": "http://default", "noProxy": "n"}}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": chosen}))
    shown = ("--rm", "--network", "none", "-e", "NO_PROXY=given", "busybox", "env")

    passed = sampan("run", "--http-proxy", *shown, env=here).lines
    assert {line for line in passed if "proxy" in line.lower()} == {"http_proxy=http://here", "NO_PROXY=given"}
    configured = sampan("--config", tmp_path, "run", *shown).lines
    assert {line for line in configured if "proxy" in line.lower()} == {
        "HTTP_PROXY=http://default", "http_proxy=http://default", "NO_PROXY=given", "no_proxy=n",
    }  # fmt: skip


def test_the_services_status_starts_nothing(instance: Sampan) -> None:
    assert instance.fails(3, "system", "service", "status").lines == ["unit: not installed", "engine: does not run"]
    assert instance("ps", "-q").out == ""
    assert re.search(r"engine: runs: process \d+, 0 containers", instance("system", "service", "status").out)
