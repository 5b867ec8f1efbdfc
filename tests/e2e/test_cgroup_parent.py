"""`--cgroup-parent`: where the control groups of a container are, and that they go with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.sampan import Sampan, wait_until

CGROUPS = Path("/sys/fs/cgroup")


def groups(parent: str, id: str) -> list[Path]:
    return [path for top in (CGROUPS, *CGROUPS.iterdir()) if (path := top / parent.strip("/") / id).is_dir()]


def test_a_containers_groups_are_below_the_parent_with_all_that_looks_there(sampan: Sampan) -> None:
    sampan("info")
    parent = f"/sampan-{sampan.instance}/team/a"
    flags = ("--network", "none", "--cgroup-parent", parent, "--memory", "64m", "--cpuset-cpus", "0")
    id = sampan("run", "-d", "--name", "web", *flags, "busybox", "sleep", "1000").line

    assert groups(parent, id)
    assert sampan.inspect("web")["HostConfig"]["CgroupParent"] == parent
    assert "64MiB" in sampan("stats", "--no-stream", "web").out
    assert "sleep" in sampan("top", "web").out
    sampan("update", "--memory", "128m", "--memory-swap", "-1", "web")
    assert "128MiB" in sampan("stats", "--no-stream", "web").out
    assert sampan("exec", "web", "cat", "/proc/1/comm").line == "sleep"
    sampan("pause", "web")
    sampan("unpause", "web")
    sampan("stop", "-t", "0", "web")
    wait_until(lambda: not groups(parent, id))
    sampan("start", "web")
    sampan("rm", "-f", "web")
    wait_until(lambda: not groups(parent, id))
    wait_until(lambda: not list((sampan.run_directory / "cgroups").iterdir()))


def test_a_killed_server_shim_and_container_leave_no_group(sampan: Sampan) -> None:
    sampan("info")
    parent = f"/sampan-{sampan.instance}/team"
    flags = ("--network", "none", "--cgroup-parent", parent)
    id = sampan("run", "-d", "--rm", "--name", "web", *flags, "busybox", "sleep", "1000").line
    pids = [sampan.info("ServerPid"), sampan.info("KeeperPid"), sampan.shim_pid("web")]

    for pid in (*pids, sampan.inspect("web")["State"]["Pid"]):
        os.kill(pid, signal.SIGKILL)
    sampan("ps")

    wait_until(lambda: not groups(parent, id))


def test_a_parent_that_is_anothers_own_group_is_refused(sampan: Sampan) -> None:
    id = sampan("create", "--name", "web", "busybox", "true").line
    parent = f"/sampan-{sampan.instance}/{id}"

    assert "invalid cgroup parent" in sampan.fails(125, "run", "--cgroup-parent", parent, "busybox", "true").err


def test_update_limits_the_processors_of_one_that_had_all(sampan: Sampan) -> None:
    id = sampan(
        "run", "-d", "--name", "web", "--network", "none", "busybox", "sh", "-c", "sleep 1000 & sleep 1000"
    ).line
    wait_until(lambda: sampan("top", "web").out.count("sleep 1000\n") == 2)
    sampan("update", "--cpuset-cpus", "0", "web")
    pids = [int(line.split()[1]) for line in sampan("top", "web").lines[1:]]

    assert len(pids) == 2
    assert {allowed(pid) for pid in pids} == {"0"}
    assert sampan("exec", "web", "grep", "Cpus_allowed_list", "/proc/self/status").line.split()[1] == "0"
    sampan("rm", "-f", "web")
    wait_until(lambda: not groups(f"sampan-{sampan.instance}", id))


def allowed(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list"))
