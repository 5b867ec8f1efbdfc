"""Resource limits, by what they do. These tests run on cgroup v1 and v2 (tools/cgroup2)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
HAVE_SWAP_LIMIT = UNIFIED or Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()


def value(sampan: Sampan, v1: str, v2: str, *flags: str) -> str:
    """Run a container with these limits and return what its own control group's file says."""
    name = f"/sys/fs/cgroup/{v2}" if UNIFIED else f"/sys/fs/cgroup/{v1.partition('.')[0]}/{v1}"
    return sampan("run", "--rm", *flags, "busybox", "cat", name).line


TABLE = [
    (["--memory", "64m"], "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
    (["--memory-reservation", "32m"], "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
    (["--pids-limit", "50"], "pids.max", "50", "pids.max", "50"),
    (["--cpu-shares", "512"], "cpu.shares", "512", "cpu.weight", "59"),
    (["--cpus", "0.5"], "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
    (["--cpu-quota", "20000", "--cpu-period", "50000"], "cpu.cfs_quota_us", "20000", "cpu.max", "20000 50000"),
    (["--cpuset-cpus", "0"], "cpuset.cpus", "0", "cpuset.cpus", "0"),
    (["--cpuset-mems", "0"], "cpuset.mems", "0", "cpuset.mems", "0"),
    (["--cgroup-conf", "cpu.idle=1"], "cpu.idle", "1", "cpu.idle", "1"),
    (["--cpus", "0.2", "--cgroup-conf", "cpu.max.burst=5000"], "cpu.cfs_burst_us", "5000", "cpu.max.burst", "5000"),
]


@pytest.mark.parametrize(
    ("flags", "v1", "text1", "v2", "text2"),
    TABLE,
)
def test_limits_are_in_the_control_group(
    sampan: Sampan, flags: list[str], v1: str, text1: str, v2: str, text2: str
) -> None:
    assert value(sampan, v1, v2, *flags) == (text2 if UNIFIED else text1)


@pytest.mark.skipif(not HAVE_SWAP_LIMIT, reason="kernel: no swap accounting")
def test_memory_and_swap(sampan: Sampan) -> None:
    got = value(sampan, "memory.memsw.limit_in_bytes", "memory.swap.max", "--memory", "64m", "--memory-swap", "96m")

    assert got == ("33554432" if UNIFIED else "100663296")


def test_a_process_over_its_memory_limit_is_killed_and_the_state_says_so(sampan: Sampan) -> None:
    said = sampan("run", "--name", "eater", "--memory", "20m", "busybox", "tail", "/dev/zero", check=False, timeout=120)

    assert said.code == 137
    state = sampan.inspect("eater")["State"]
    assert (state["OOMKilled"], state["ExitCode"], state["Status"]) == (True, 137, "exited")


def test_a_container_that_was_killed_otherwise_is_not_said_to_be_out_of_memory(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "idle", "--memory", "20m", "busybox", "sleep", "100")
    sampan("kill", "idle")
    sampan("wait", "idle")

    assert sampan.inspect("idle")["State"]["OOMKilled"] is False


def test_more_processes_than_the_limit_are_refused(sampan: Sampan) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 100 & done; echo all"
    said = sampan("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script, check=False)

    assert "can't fork" in said.err


def test_cpus_hold_a_busy_loop_down(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "busy", "--cpus", "0.2", "busybox", "sh", "-c", "while :; do :; done")
    pid = sampan.inspect("busy")["State"]["Pid"]

    def used() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    wait_until(lambda: used() > 0)
    begin, before = time.monotonic(), used()
    time.sleep(1.5)
    share = (used() - before) / (time.monotonic() - begin)

    assert share < 0.35


def test_the_limits_are_in_inspect_as_docker_has_them(sampan: Sampan) -> None:
    flags = ["--memory", "64m", "--cpus", "1.5", "--pids-limit", "9", "--cpuset-cpus", "0"]
    sampan("create", "--name", "cfg", *flags, "busybox", "true")
    host = sampan.inspect("cfg")["HostConfig"]

    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, 128 << 20, 1_500_000_000)
    assert (host["PidsLimit"], host["CpusetCpus"]) == (9, "0")


@pytest.mark.skipif(not Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists(), reason="kernel: no real-time groups")
def test_real_time_is_handed_down_to_the_container_and_used_again(sampan: Sampan) -> None:
    flags = ("--network", "none", "--cpu-rt-runtime", "400000")
    for _ in range(3):
        assert value(sampan, "cpu.rt_runtime_us", "", *flags) == "400000"
    sampan("run", "-d", "--name", "one", *flags, "busybox", "sleep", "100")

    said = sampan.fails(125, "run", "--rm", "--network", "none", "--cpu-rt-runtime", "900000", "busybox", "true")
    assert "for real-time processes: others have them" in said.err


def test_a_file_that_cgroup_v2_alone_has_is_set_there_and_refused_elsewhere(sampan: Sampan) -> None:
    flags = ("--network", "none", "--cgroup-conf", "memory.high=536870912")
    if UNIFIED:
        assert value(sampan, "", "memory.high", *flags) == "536870912"
        sampan("run", "-d", "--name", "web", *flags, "busybox", "sleep", "100")
        sampan("update", "--pids-limit", "77", "web")
        assert sampan("exec", "web", "cat", "/sys/fs/cgroup/memory.high").line == "536870912"
    else:
        assert (
            "can't set memory.high: this host has cgroup v1" in sampan.fails(125, "run", *flags, "busybox", "true").err
        )
    for wrong in ("cgroup.procs=1", "../memory.max=1", "memory.max"):
        assert "invalid" in sampan.fails(125, "run", "--cgroup-conf", wrong, "busybox", "true").err


def test_more_open_files_than_the_kernel_has_are_spoken_of(sampan: Sampan) -> None:
    flags = ("--network", "none", "--ulimit", "nofile=2000000000")
    said = sampan("run", "--rm", *flags, "busybox", "true", check=False)

    if said.code:  # sampan may raise limits here, up to fs.nr_open
        assert "can't set RLIMIT_NOFILE to 2000000000: " in said.err
    else:
        assert "is above this host's hard limit and was lowered to" in said.err


def test_a_container_can_not_lift_its_own_limits(sampan: Sampan) -> None:
    name = "/sys/fs/cgroup/pids.max" if UNIFIED else "/sys/fs/cgroup/pids/pids.max"
    said = sampan("run", "--rm", "--pids-limit", "50", "busybox", "sh", "-c", f"echo max > {name}", check=False)

    assert "Read-only file system" in said.err
