"""`sampan-runtime` and control groups: on cgroup v1 here, and on v2 in the machine of `make test-cgroup2`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.oci import Runtime, stopped
from support.sampan import wait_until

TOP = Path("/sys/fs/cgroup")
V2 = (TOP / "cgroup.controllers").exists()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    one = Runtime("sampan-runtime", tmp_path_factory.mktemp("runtime"))
    yield one
    one.end()


@pytest.fixture(autouse=True)
def nothing_is_left(runtime):
    yield
    assert not runtime.leftovers()


def limit(runtime: Runtime, id: str, v1: str, v2: str) -> str:
    """Read a control file by its name on either version."""
    group = TOP / runtime.cgroup / id if V2 else TOP / v1.partition(".")[0] / runtime.cgroup / id
    return (group / (v2 if V2 else v1)).read_text().strip()


def test_limits_are_set_and_changed(runtime):
    bundle = runtime.bundle("sleep", "100")
    bundle.configuration["linux"]["resources"] |= {
        "memory": {"limit": 64 << 20},
        "pids": {"limit": 50},
        "cpu": {"quota": 50000, "period": 100000},
    }
    bundle.write()
    with bundle.running() as id:
        before = limit(runtime, id, "memory.limit_in_bytes", "memory.max"), limit(runtime, id, "pids.max", "pids.max")
        runtime("update", "--memory", "32m", "--pids-limit", "40", id)
        after = limit(runtime, id, "memory.limit_in_bytes", "memory.max"), limit(runtime, id, "pids.max", "pids.max")
        quota = limit(runtime, id, "cpu.cfs_quota_us", "cpu.max")

    assert before == (str(64 << 20), "50")
    assert after == (str(32 << 20), "40")
    assert quota.split()[0] == "50000"


def test_a_container_is_paused_and_goes_on(runtime):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running() as id:
        runtime("pause", id)
        paused = runtime.status(id)
        refused = runtime("exec", id, "true", check=False)
        runtime("resume", id)
        went_on = runtime("exec", id, "true", check=False)

    assert (paused, refused.code, went_on.code) == ("paused", 255, 0)


def test_a_paused_container_can_be_killed_and_deleted(runtime):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running() as id:
        runtime("pause", id)
        runtime("kill", id, "KILL")
        stopped(runtime, id)
    with bundle.running() as id:
        runtime("pause", id)

    assert runtime.status(id) == "gone"


def test_kill_all_reaches_every_process_without_a_pid_namespace(runtime):
    bundle = runtime.bundle("sh", "-c", "sleep 1000 & exec sleep 1000")
    bundle.change("linux", namespaces=[{"type": name} for name in ("mount", "ipc", "uts", "network")])
    with bundle.running() as id:
        wait_until(lambda: len(json.loads(runtime("ps", "-f", "json", id).out)) == 2)
        runtime("kill", "--all", id, "KILL")
        stopped(runtime, id)


def test_statistics_count_what_was_used(runtime):
    bundle = runtime.bundle("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 100")
    with bundle.running() as id:
        wait_until(lambda: "sleep" in Path(f"/proc/{runtime.state(id)['pid']}/comm").read_text())
        said = runtime("events", "--stats", id).json()

    assert said["type"] == "stats"
    assert said["data"]["cpu"]["usage"]["total"] > 1_000_000
    assert said["data"]["memory"]["usage"]["usage"] > 0
    assert said["data"]["pids"]["current"] == 1


def test_a_control_group_that_has_processes_is_not_a_containers(runtime):
    first, second = runtime.bundle("sleep", "100"), runtime.bundle("true")
    second.configuration["linux"]["cgroupsPath"] = first.configuration["linux"]["cgroupsPath"]
    second.write()
    with first.running() as id:
        said = second.create(check=False)
        still = runtime.status(id)

    assert said.code == 1
    assert "has processes already" in said.err
    assert still == "running"


def test_an_exec_is_in_the_containers_groups(runtime):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running() as id:
        said = runtime("exec", id, "cat", "/proc/self/cgroup").out

    assert f"/{runtime.cgroup}/{id}" in said or "0::/\n" in said
