"""`update`: limits and restart policy of a container that runs, and of one that does not."""

from __future__ import annotations

import os
import signal

import pytest

from support.sampan import Sampan, wait_until

SHOW_V1 = (
    "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes "
    "/sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares"
)
MB = 1 << 20


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    limits = ("--memory", "64m", "--pids-limit", "50", "--cpus", "0.5")
    sampan("run", "-d", "--name", "web", "--network", "none", *limits, "busybox", "sleep", "100")
    return sampan


def limits(sampan: Sampan) -> list[str]:
    return sampan("exec", "web", "sh", "-c", SHOW_V1).lines


def test_limits_change_at_once_and_for_the_next_start(web: Sampan) -> None:
    said = web(
        "update", "--memory", "256m", "--memory-swap", "300m", "--pids-limit", "70", "--cpus", "1.5", "-c", "500", "web"
    )

    assert said.out == "web\n"
    changed = [str(256 * MB), str(300 * MB), "70", "150000", "500"]
    assert limits(web) == changed
    web("restart", "-t", "0", "web")
    assert limits(web) == changed
    assert (
        web("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", "web").line == f"{256 * MB} 1500000000"
    )


def test_limits_get_lower_too(web: Sampan) -> None:
    web("update", "--memory", "32m", "--memory-swap", "32m", "--pids-limit", "-1", "web")

    assert limits(web)[:3] == [str(32 * MB), str(32 * MB), "max"]


def test_a_stopped_container_has_them_when_it_starts(sampan: Sampan) -> None:
    sampan("create", "--name", "web", "--network", "none", "busybox", "sleep", "100")
    sampan("update", "--memory", "64m", "--restart", "on-failure:3", "web")
    sampan("start", "web")

    assert limits(sampan)[0] == str(64 * MB)
    policy = sampan("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "web").line
    assert policy == '{"Name":"on-failure","MaximumRetryCount":3}'


def test_a_restart_policy_counts_from_now_on(web: Sampan) -> None:
    web("update", "--restart", "always", "web")
    pid = int(web("inspect", "-f", "{{.State.Pid}}", "web").line)
    os.kill(pid, signal.SIGKILL)

    wait_until(lambda: web("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "web").line == "1 running")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--memory", "1m"), "Minimum memory limit allowed is 6MB"),
        (("--memory", "600m"), "Memory limit should be smaller than already set memoryswap limit"),
        (("--cpu-quota", "5000"), "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (("--cpuset-cpus", "900"), "Requested CPUs are not available"),
        (("--cpus", "9000"), "range of CPUs is from 0.01 to"),
        (("--restart", "sometimes"), "invalid restart policy: unknown policy 'sometimes'"),
        (("--blkio-weight", "5"), "Range of blkio weight is from 10 to 1000"),
    ],
)
def test_what_is_wrong_changes_nothing(web: Sampan, flags: tuple[str, ...], message: str) -> None:
    before = limits(web)

    assert message in web.fails(1, "update", "--pids-limit", "33", *flags, "web").err
    assert limits(web) == before


def test_flags_or_a_container_that_are_missing(sampan: Sampan) -> None:
    assert "you must provide one or more flags" in sampan.fails(1, "update", "web").err
    assert "No such container: web" in sampan.fails(1, "update", "--memory", "64m", "web").err


def test_a_rate_of_a_block_device_is_kept(sampan: Sampan) -> None:
    device = next(f"/dev/{name}" for name in _disks())
    rates = ("--device-read-bps", f"{device}:1mb", "--device-write-iops", f"{device}:100")
    where = "/sys/fs/cgroup/blkio/blkio.throttle"
    show = f"cat {where}.read_bps_device {where}.write_iops_device"

    said = sampan("run", "--rm", "--network", "none", *rates, "busybox", "sh", "-c", show).lines

    assert [line.split()[1] for line in said] == ["1048576", "100"]
    assert (
        "no such device: /dev/none"
        in sampan.fails(125, "run", "--device-read-bps", "/dev/none:1mb", "busybox", "true").err
    )
    assert (
        "is not a block device" in sampan.fails(125, "run", "--device-read-bps", "/dev/null:1mb", "busybox", "true").err
    )
    assert "invalid rate for device" in sampan.fails(125, "run", "--device-read-bps", f"{device}:x", "busybox").err


def test_an_update_warns_of_nothing_that_it_was_not_asked_for(sampan: Sampan) -> None:
    sampan("create", "--name", "web", "--network", "none", "--blkio-weight", "300", "busybox", "true")

    assert sampan("update", "--pids-limit", "9", "web").err == ""


def _disks() -> list[str]:
    return sorted(name for name in os.listdir("/sys/block") if not name.startswith(("loop", "ram")))
