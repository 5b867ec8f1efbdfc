"""Limits, with Docker's words where they are wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from sampan.engine.resources import format_set, parse_set
from sampan.engine.security import parse_device_rule
from sampan.errors import InvalidInput, Unsupported
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import Cpu, DeviceRule, Memory, Pids, Rlimit
from support.engine import HOST, translated

MB = 1 << 20


def limits(**host_config: Any):
    return translated(host_config).linux.resources


def test_no_limit_is_no_limit() -> None:
    assert limits().memory is None
    assert limits().cpu is None
    assert limits().pids is None


def test_swap_is_twice_the_memory_unless_told() -> None:
    assert limits(Memory=64 * MB).memory == Memory(limit=64 * MB, swap=128 * MB)
    assert limits(Memory=64 * MB, MemorySwap=-1).memory == Memory(limit=64 * MB, swap=-1)
    assert limits(Memory=64 * MB, MemorySwap=64 * MB).memory == Memory(limit=64 * MB, swap=64 * MB)


def test_without_swap_accounting_swap_is_not_limited_and_that_is_said() -> None:
    warnings: list[str] = []
    host = msgspec.structs.replace(HOST, swap_accounting=False)

    spec = translated({"Memory": 64 * MB}, given={"host": host}, warnings=warnings)

    assert spec.linux.resources.memory == Memory(limit=64 * MB)
    assert "Memory limited without swap" in warnings[0]


def test_cpus_become_a_quota() -> None:
    assert limits(NanoCpus=15 * 10**8).cpu == Cpu(quota=150_000, period=100_000)
    assert limits(CpuShares=512, CpusetCpus="0-1").cpu == Cpu(shares=512, cpus="0-1")
    assert limits(CpuQuota=50_000).cpu == Cpu(quota=50_000)


@pytest.mark.parametrize(("limit", "pids"), [(50, Pids(limit=50)), (0, None), (-1, None), (None, None)])
def test_pids(limit: int | None, pids: Pids | None) -> None:
    assert limits(PidsLimit=limit).pids == pids


@pytest.mark.parametrize(
    ("host_config", "words"),
    [
        ({"Memory": 6 * MB - 1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 64 * MB, "MemorySwap": MB}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"MemorySwap": 64 * MB}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"MemoryReservation": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"Memory": 64 * MB, "MemoryReservation": 65 * MB}, "can not be less than memory reservation"),
        ({"MemorySwappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"NanoCpus": 3 * 10**9}, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        ({"NanoCpus": 10**6}, "range of CPUs is from 0.01"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms"),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"CpusetCpus": "0-9"}, "Requested CPUs are not available - requested 0-9, available: 0-1"),
        ({"CpusetCpus": "x"}, "Invalid value x for cpuset cpus"),
        ({"CpusetMems": "3"}, "Requested memory nodes are not available"),
        ({"CpuShares": -1}, "invalid CPU shares"),
        ({"OomScoreAdj": 1001}, r"range for oom score adj is \[-1000, 1000\]"),
        ({"DeviceCgroupRules": ["c 1:3"]}, "invalid device cgroup rule format: 'c 1:3'"),
        ({"Ulimits": [{"Name": "foo", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: foo"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, "must be less than or equal to hard limit: 2 > 1"),
    ],
)
def test_a_wrong_limit_is_refused_in_dockers_words(host_config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        translated(host_config)


def test_a_limit_without_its_control_group_is_refused() -> None:
    host = msgspec.structs.replace(HOST, cgroup_controllers=frozenset())

    with pytest.raises(Unsupported, match="can't limit pids"):
        translated({"PidsLimit": 5}, given={"host": host})


def test_controls_that_v2_has_not_are_refused_there() -> None:
    host = msgspec.structs.replace(HOST, cgroup_mode=CgroupMode.V2)

    with pytest.raises(Unsupported, match="--memory-swappiness"):
        translated({"MemorySwappiness": 10}, given={"host": host})


def rlimit(host_limit: int | None, **ulimit: Any) -> tuple[tuple[Rlimit, ...], list[str]]:
    warnings: list[str] = []
    host = HOST if host_limit is None else msgspec.structs.replace(HOST, rlimits=(("RLIMIT_NOFILE", host_limit),))
    spec = translated({"Ulimits": [{"Name": "nofile", **ulimit}]}, given={"host": host}, warnings=warnings)
    return spec.process.rlimits, warnings


def test_ulimits() -> None:
    assert rlimit(None, Soft=10, Hard=20) == ((Rlimit(type="RLIMIT_NOFILE", soft=10, hard=20),), [])
    assert rlimit(None, Soft=-1, Hard=-1)[0][0].hard == 2**64 - 1


def test_a_ulimit_above_the_hosts_hard_limit_is_lowered_with_a_word() -> None:
    limits, warnings = rlimit(100, Soft=500, Hard=1000)

    assert limits == (Rlimit(type="RLIMIT_NOFILE", soft=100, hard=100),)
    assert "lowered to 100" in warnings[0]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("c 1:3 rwm", DeviceRule(allow=True, type="c", major=1, minor=3, access="rwm")),
        ("b 8:* r", DeviceRule(allow=True, type="b", major=8, access="r")),
        ("a *:* rwm", DeviceRule(allow=True, type="a", access="rwm")),
    ],
)
def test_device_rules(text: str, rule: DeviceRule) -> None:
    assert parse_device_rule(text) == rule
    assert translated({"DeviceCgroupRules": [text]}).linux.resources.devices[-1] == rule


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_a_cpuset_is_read_as_it_was_written(numbers: frozenset[int]) -> None:
    assert parse_set(format_set(numbers)) == numbers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "1-2-3", "²"])
def test_a_bad_cpuset_is_none(text: str) -> None:
    assert parse_set(text) is None


def named(mode: CgroupMode, **files: str):
    host = msgspec.structs.replace(HOST, cgroup_mode=mode)
    annotations = {f"sampan.cgroup-conf.{name.replace('_', '.', 1)}": text for name, text in files.items()}
    return translated({"Annotations": annotations}, given={"host": host}).linux.resources


def test_files_of_the_control_group_are_written_as_they_are_or_by_what_means_the_same() -> None:
    asked = {"cpu_idle": "1", "memory_high": "max"}

    assert named(CgroupMode.V2, **asked).unified == {"cpu.idle": "1", "memory.high": "max"}
    assert named(CgroupMode.V1, cpu_idle="1").cpu == Cpu(idle=1)
    with pytest.raises(Unsupported, match=r"memory\.high: this host has cgroup v1"):
        named(CgroupMode.V1, **asked)
    with pytest.raises(Unsupported, match="this host gives no nothing control group"):
        named(CgroupMode.V2, nothing_max="1")


@pytest.mark.parametrize("file", ["cgroup_procs", "cgroup_kill", "x/_y", "memory", "memory_", "_max"])
def test_what_is_no_limit_is_no_file_to_write(file: str) -> None:
    with pytest.raises(InvalidInput, match="invalid --cgroup-conf"):
        named(CgroupMode.V2, **{file: "1"})
