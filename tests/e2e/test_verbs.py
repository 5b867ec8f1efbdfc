"""The life of a container, verb by verb."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    """Start a container called web that prints a line and then idles."""
    script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    sampan("run", "-d", "--name", "web", "-e", "A=b", "busybox", "sh", "-c", script)
    wait_until(lambda: sampan("logs", "web").out == "ready\n")
    return sampan


def state(sampan: Sampan, name: str = "web") -> str:
    return sampan.inspect(name)["State"]["Status"]


def test_create_start_stop_start_wait_and_rm(sampan: Sampan) -> None:
    id = sampan("create", "--name", "web", "busybox", "sh", "-c", "exit 5").line
    assert state(sampan) == "created"

    assert sampan("start", "web").line == "web"
    assert sampan("wait", id[:10]).line == "5"
    assert state(sampan) == "exited"
    assert sampan("start", "-a", "web", check=False).code == 5
    assert sampan("rm", "web").line == "web"
    assert "No such container: web" in sampan.fails(1, "inspect", "--type", "container", "web").err


def test_stop_sends_term_then_kill_and_names_what_it_stopped(web: Sampan) -> None:
    assert web("stop", "web").line == "web"
    assert web.inspect("web")["State"]["ExitCode"] == 3

    web("run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.05; done")
    wait_until(lambda: web("logs", "deaf").out)
    begin = time.monotonic()
    web("stop", "-t", "1", "deaf")

    assert time.monotonic() - begin > 0.9
    assert web.inspect("deaf")["State"]["ExitCode"] == 137
    assert web("stop", "web").line == "web", "stopping a stopped container is no error"


def test_restart_keeps_the_id_and_starts_anew(web: Sampan) -> None:
    before = web.inspect("web")

    assert web("restart", "-t", "1", "web").line == "web"
    after = web.inspect("web")

    assert after["Id"] == before["Id"]
    assert after["State"]["Pid"] != before["State"]["Pid"]
    assert after["State"]["Running"]


@pytest.mark.parametrize(
    ("flags", "code"), [([], 137), (["-s", "TERM"], 3), (["--signal", "15"], 3), (["-s", "SIGKILL"], 137)]
)
def test_kill(web: Sampan, flags: list[str], code: int) -> None:
    assert web("kill", *flags, "web").line == "web"
    assert web("wait", "web").line == str(code)


def test_kill_with_a_signal_that_is_caught_leaves_it_running(sampan: Sampan) -> None:
    script = "trap 'echo hup' HUP; echo on; while :; do sleep 0.05; done"
    sampan("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
    wait_until(lambda: sampan("logs", "web").out)

    sampan("kill", "-s", "HUP", "web")

    wait_until(lambda: sampan("logs", "web").lines == ["on", "hup"])
    assert state(sampan) == "running"


def test_rename(web: Sampan) -> None:
    web("rename", "web", "site")

    assert web("ps", "--format", "{{.Names}}").lines == ["site"]
    web("rename", "site", "web")


def test_rm_refuses_a_running_container_and_force_removes_it(web: Sampan) -> None:
    said = web.fails(1, "rm", "web")

    assert "container is running" in said.err
    assert web("rm", "-f", "web").line == "web"


def test_wait_for_several_prints_each_code(sampan: Sampan) -> None:
    for code in (1, 2):
        sampan("run", "-d", "--name", f"w{code}", "busybox", "sh", "-c", f"sleep 0.3; exit {code}")

    assert sampan("wait", "w1", "w2").lines == ["1", "2"]


def test_ps_shows_dockers_columns(web: Sampan) -> None:
    head, row = web("ps").lines

    assert head.split("  ")[0] == "CONTAINER ID"
    assert re.split(r"\s{2,}", head) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    pattern = r'[0-9a-f]{12}   busybox   "sh -c \'trap \'exit 3…"   (Less than a second|\d+ seconds?) ago +Up .*   +web'
    assert re.fullmatch(pattern, row), row


def test_ps_selects_and_formats(web: Sampan) -> None:
    web("create", "--name", "idle", "busybox", "true")

    assert web("ps", "--format", "{{.Names}}").lines == ["web"]
    assert web("ps", "-a", "--format", "{{.Names}} {{.State}}").lines == ["idle created", "web running"]
    assert web("ps", "-a", "-f", "status=created", "--format", "{{.Names}}").lines == ["idle"]
    assert web("ps", "-aq", "-f", "name=we").lines == [web.inspect("web")["Id"][:12]]
    assert web("ps", "-l", "--format", "{{.Names}}").lines == ["idle"]
    assert json.loads(web("ps", "--format", "json").line)["Names"] == "web"
    assert web("ps", "--format", "table {{.Names}}\t{{.Image}}").lines[0].split() == ["NAMES", "IMAGE"]
    assert len(web("ps", "-q", "--no-trunc").line) == 64


def test_logs_tail_timestamps_and_since(web: Sampan) -> None:
    web("run", "--name", "count", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; echo err >&2")

    assert web("logs", "--tail", "2", "count").lines[-1] == "5" or web("logs", "-n", "2", "count").err == "err\n"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 1$", web("logs", "-t", "count").lines[0])
    assert web("logs", "--since", "1h", "count").lines == ["1", "2", "3", "4", "5"]
    assert web("logs", "--until", "1h", "count").lines == []
    assert web("logs", "count").err == "err\n"


def test_logs_follow_until_the_container_ends(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")

    assert sampan("logs", "-f", "web", timeout=20).lines == ["1", "2", "3"]


def test_exec_runs_in_the_same_container_with_its_own_flags(web: Sampan) -> None:
    assert web("exec", "web", "hostname").line == web.inspect("web")["Id"][:12]
    assert (
        web("exec", "-e", "A=b", "-w", "/tmp", "-u", "user", "web", "sh", "-c", "echo $A $PWD $(id -u)").line
        == "b /tmp 1000"
    )
    assert web("exec", "-i", "web", "cat", input="through\n").line == "through"
    assert web("exec", "web", "sh", "-c", "exit 9", check=False).code == 9
    assert "1 sh -c trap 'exit 3' TERM; echo ready" in " ".join(web("exec", "web", "ps", "-o", "pid,args").out.split())


def test_exec_has_the_containers_restrictions(web: Sampan) -> None:
    mine = web("exec", "web", "grep", "-E", "CapBnd|CapEff|Seccomp:|NoNewPrivs", "/proc/self/status").lines
    inits = web("exec", "web", "grep", "-E", "CapBnd|CapEff|Seccomp:|NoNewPrivs", "/proc/1/status").lines

    assert mine == inits
    groups = [web("exec", "web", "cat", f"/proc/{pid}/cgroup").out for pid in ("self", "1")]
    assert groups[0] == groups[1]


def test_exec_detached(web: Sampan) -> None:
    assert web("exec", "-d", "web", "touch", "/mark").out == ""
    wait_until(lambda: web("exec", "web", "test", "-e", "/mark", check=False).code == 0)


def test_execs_end_with_their_container(web: Sampan) -> None:
    client = web.start("exec", "web", "sleep", "100")
    wait_until(lambda: "sleep 100" in web("top", "web").out)

    web("kill", "web")

    assert client.wait(10) == 137
    client.communicate()


def test_top(web: Sampan) -> None:
    head, *rows = web("top", "web").lines

    assert head.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert any("echo ready" in row for row in rows)
    assert web("top", "web", "-o", "pid,comm").lines[0].split() == ["PID", "COMMAND"]


def test_inspect_has_dockers_shape_and_templates(web: Sampan) -> None:
    found = web.inspect("web")

    assert found["Name"] == "/web"
    assert found["State"]["Status"] == "running"
    assert found["HostConfig"]["NetworkMode"] == "bridge"
    assert web("inspect", "-f", "{{.State.Status}} {{json .Config.Cmd}}", "web").line.startswith('running ["sh","-c",')
    assert web("inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", "web").lines == ["A=b", ""]
    assert {
        "Id",
        "Created",
        "Path",
        "Args",
        "State",
        "Image",
        "Mounts",
        "Config",
        "NetworkSettings",
        "HostConfig",
    } <= set(found)


def test_pause_and_unpause(web: Sampan) -> None:
    assert web("pause", "web").line == "web"
    assert state(web) == "paused"
    assert "is paused" in web.fails(1, "exec", "web", "true").err
    assert web("unpause", "web").line == "web"
    assert state(web) == "running"


def test_attach_gets_output_from_now_on_and_the_exit_code(sampan: Sampan) -> None:
    sampan("run", "-d", "-i", "--name", "web", "busybox", "sh")
    client = sampan.start("attach", "web", stdin=subprocess.PIPE)
    out, _ = client.communicate(b"echo through $((1+1)); exit 4\n", timeout=20)

    assert (client.returncode, out) == (4, b"through 2\n")


def test_signals_reach_the_program_through_run(sampan: Sampan) -> None:
    script = "trap 'echo term; exit 6' TERM; echo on; while :; do sleep 0.05; done"
    client = sampan.start("run", "--rm", "busybox", "sh", "-c", script)
    assert client.stdout
    assert client.stdout.readline() == b"on\n"

    client.send_signal(signal.SIGTERM)

    assert client.wait(10) == 6
    client.communicate()


def test_port_prints_nothing_without_published_ports(web: Sampan) -> None:
    assert web("port", "web").out == ""


def test_events_tell_the_life_of_a_container(sampan: Sampan) -> None:
    since = str(int(time.time()) - 1)
    sampan("run", "--rm", "--name", "told", "busybox", "true")
    sampan("run", "-d", "--name", "forced", "busybox", "sleep", "100")
    sampan("rm", "-f", "forced")
    until = str(int(time.time()) + 1)

    rows = sampan(
        "events", "--since", since, "--until", until, "--format", "{{.Action}} {{.Actor.Attributes.name}}"
    ).lines
    told, forced = ([row.split()[0] for row in rows if row.endswith(name)] for name in (" told", " forced"))
    assert [a for a in told if a != "attach"] == ["create", "start", "die", "destroy"]
    assert forced == ["create", "start", "kill", "die", "destroy"]


def test_info_and_version_name_the_processes_and_the_api(sampan: Sampan) -> None:
    assert sampan.info("ServerPid") > 1
    assert "Storage Driver: overlay" in sampan("info").out
    assert sampan("version", "--format", "{{.Server.APIVersion}}").line == "1.50"
    assert sampan("system", "socket").line == f"unix://{sampan.socket}"


def test_ids_prefixes_and_names_all_do(web: Sampan) -> None:
    id = web.inspect("web")["Id"]

    for name in (id, id[:12], id[:5], "web"):
        assert web("inspect", "-f", "{{.Id}}", name).line == id


def test_several_arguments_go_on_after_one_that_fails(web: Sampan) -> None:
    web("kill", "web")
    said = web.fails(1, "rm", "nothere", "web")

    assert said.out == "web\n"


def test_a_verb_that_is_not_built_yet_says_so(web: Sampan) -> None:
    for verb in ("search", "compose", "plugin"):
        assert "unsupported" in web.fails(125, verb, "web").err


def test_a_container_may_be_given_the_api_and_the_users_credentials(sampan: Sampan, tmp_path: Path) -> None:
    auths = '{"auths":{"r.example:5000":{"auth":"dTpw"},"t.example":{"identitytoken":"t"}}'
    (tmp_path / "config.json").write_text(auths + ',"psFormat":"x"}')
    asked = ("--use-api-socket", "host", "sh", "-c")
    look = "cd $DOCKER_CONFIG; stat -c '%a %u' config.json; cat config.json; echo; docker ps --format {{.Names}}"

    said = sampan("run", "--name", "web", *asked, look, env={"DOCKER_CONFIG": str(tmp_path)}).lines

    assert said == ["600 0", auths + "}", "web"]
    assert sampan("run", "--rm", *asked, "echo $DOCKER_CONFIG").line == ""
    own = ("run", "--rm", "-e", "DOCKER_CONFIG=/mine", *asked, "echo $DOCKER_CONFIG; ls /run/secrets")
    assert sampan(*own, check=False, env={"DOCKER_CONFIG": str(tmp_path)}).line == "/mine"


@pytest.mark.parametrize("flag", [["--kernel-memory", "1g"], ["--pod", "x"]])
def test_a_flag_that_is_not_built_yet_is_refused(sampan: Sampan, flag: list[str]) -> None:
    assert "unsupported" in sampan.fails(125, "run", *flag, "busybox", "true").err
