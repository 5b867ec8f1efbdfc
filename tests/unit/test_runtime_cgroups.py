"""Limits as the files and texts of cgroup v1 and v2, against tables."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sampan.errors import InvalidInput, SampanError, Unsupported
from sampan.runtime import cgroups
from sampan.runtime.cgroups import DEFAULT_DEVICES, cpu_weight, device_rules, device_writes, io_weight, writes
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import (
    BlockIo,
    Cpu,
    DeviceRule,
    HugepageLimit,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
)

M = 1 << 20
DISK = ThrottleDevice(major=8, minor=0, rate=1000)


@pytest.mark.parametrize(
    ("resources", "v1", "v2"),
    [
        (Resources(), [], []),
        (
            Resources(memory=Memory(limit=64 * M, swap=128 * M)),
            [("memory.limit_in_bytes", str(64 * M)), ("memory.memsw.limit_in_bytes", str(128 * M))],
            [("memory.swap.max", str(64 * M)), ("memory.max", str(64 * M))],
        ),
        (
            Resources(memory=Memory(limit=64 * M, swap=64 * M)),
            [("memory.limit_in_bytes", str(64 * M)), ("memory.memsw.limit_in_bytes", str(64 * M))],
            [("memory.swap.max", "0"), ("memory.max", str(64 * M))],
        ),
        (
            Resources(memory=Memory(limit=64 * M, swap=-1)),
            [("memory.limit_in_bytes", str(64 * M)), ("memory.memsw.limit_in_bytes", "-1")],
            [("memory.swap.max", "max"), ("memory.max", str(64 * M))],
        ),
        (
            Resources(memory=Memory(reservation=32 * M)),
            [("memory.soft_limit_in_bytes", str(32 * M))],
            [("memory.low", str(32 * M))],
        ),
        (Resources(memory=Memory(limit=0, swap=0)), [], []),
        (Resources(cpu=Cpu(shares=512)), [("cpu.shares", "512")], [("cpu.weight", "59")]),
        (
            Resources(cpu=Cpu(quota=50_000, period=100_000)),
            [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")],
            [("cpu.max", "50000 100000")],
        ),
        (Resources(cpu=Cpu(quota=-1)), [("cpu.cfs_quota_us", "-1")], [("cpu.max", "max 100000")]),
        (Resources(cpu=Cpu(period=50_000)), [("cpu.cfs_period_us", "50000")], [("cpu.max", "max 50000")]),
        (
            Resources(cpu=Cpu(cpus="0-1", mems="0")),
            [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
            [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        ),
        (Resources(pids=Pids(limit=50)), [("pids.max", "50")], [("pids.max", "50")]),
        (Resources(pids=Pids(limit=-1)), [("pids.max", "max")], [("pids.max", "max")]),
        (Resources(pids=Pids(limit=0)), [("pids.max", "max")], [("pids.max", "max")]),
        (
            Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 * M),)),
            [("hugetlb.2MB.limit_in_bytes", str(4 * M)), ("hugetlb.2MB.rsvd.limit_in_bytes", str(4 * M))],
            [("hugetlb.2MB.max", str(4 * M)), ("hugetlb.2MB.rsvd.max", str(4 * M))],
        ),
        (
            Resources(
                block_io=BlockIo(weight=500, throttle_read_bps_device=(DISK,), throttle_write_iops_device=(DISK,))
            ),
            [
                ("blkio.bfq.weight", "500"),
                ("blkio.throttle.read_bps_device", "8:0 1000"),
                ("blkio.throttle.write_iops_device", "8:0 1000"),
            ],
            [("io.bfq.weight", "500"), ("io.max", "8:0 rbps=1000"), ("io.max", "8:0 wiops=1000")],
        ),
        (
            Resources(rdma={"mlx": Rdma(hca_handles=1, hca_objects=2)}),
            [("rdma.max", "mlx hca_handle=1 hca_object=2")],
            [("rdma.max", "mlx hca_handle=1 hca_object=2")],
        ),
    ],
)
def test_limits(resources: Resources, v1: list[tuple[str, str]], v2: list[tuple[str, str]]) -> None:
    assert [w[1:] for w in writes(resources, CgroupMode.V1)] == v1
    assert [w[1:] for w in writes(resources, CgroupMode.V2)] == v2


def test_only_v1_has_swappiness_and_only_v2_files_by_name() -> None:
    assert writes(Resources(memory=Memory(swappiness=0)), CgroupMode.V1) == [("memory", "memory.swappiness", "0")]
    assert writes(Resources(unified={"memory.high": "5"}), CgroupMode.V2) == [("memory", "memory.high", "5")]


@pytest.mark.parametrize(
    ("resources", "mode", "error"),
    [
        (Resources(memory=Memory(swap=5)), CgroupMode.V1, InvalidInput),
        (Resources(memory=Memory(limit=6, swap=5)), CgroupMode.V2, InvalidInput),
        (Resources(memory=Memory(swappiness=101)), CgroupMode.V1, InvalidInput),
        (Resources(memory=Memory(kernel=5)), CgroupMode.V1, Unsupported),
        (Resources(memory=Memory(use_hierarchy=False)), CgroupMode.V1, Unsupported),
        (Resources(memory=Memory(disable_oom_killer=True)), CgroupMode.V2, Unsupported),
        (Resources(cpu=Cpu(realtime_runtime=5)), CgroupMode.V2, Unsupported),
        (Resources(block_io=BlockIo(leaf_weight=5)), CgroupMode.V1, Unsupported),
        (Resources(network=Network(class_id=5)), CgroupMode.V2, Unsupported),
        (Resources(unified={"memory.high": "5"}), CgroupMode.V1, Unsupported),
        (Resources(unified={"../x.y": "5"}), CgroupMode.V2, InvalidInput),
        (Resources(pids=Pids(limit=5)), CgroupMode.NONE, Unsupported),
    ],
)
def test_what_has_no_file_is_refused(resources: Resources, mode: CgroupMode, error: type[SampanError]) -> None:
    with pytest.raises(error):
        writes(resources, mode)


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 0), (1, 1), (2, 1), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000), (1 << 40, 10_000)],
)
def test_shares_as_weight(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


@given(st.integers(2, 262_144), st.integers(2, 262_144))
def test_more_shares_are_never_less_weight(a: int, b: int) -> None:
    assert (cpu_weight(a) <= cpu_weight(b)) == (a <= b) or cpu_weight(a) == cpu_weight(b)
    assert 1 <= cpu_weight(a) <= 10_000


@pytest.mark.parametrize(("weight", "v2"), [(0, 0), (10, 1), (1000, 10_000)])
def test_block_io_weight(weight: int, v2: int) -> None:
    assert io_weight(weight) == v2


def test_devices_are_denied_but_for_the_usual_ones() -> None:
    table = list(device_writes(device_rules(None)))

    assert table[0] == ("devices", "devices.deny", "a")
    assert ("devices", "devices.allow", "c *:* m") in table
    assert ("devices", "devices.allow", "c 1:3 rwm") in table
    assert ("devices", "devices.allow", "c 136:* rwm") in table
    assert not any(text.startswith("c 1:1 ") for _, _, text in table)


def test_all_devices_are_one_rule() -> None:
    assert list(device_writes(device_rules(Resources(devices=(DeviceRule(allow=True),))))) == [
        ("devices", "devices.allow", "a")
    ]


def test_a_rule_of_the_users_is_kept_in_its_place() -> None:
    mine = DeviceRule(allow=True, type="b", major=8, access="r")
    rules = device_rules(Resources(devices=(DeviceRule(allow=False), mine)))

    assert rules[1] == mine
    assert list(device_writes((mine,))) == [("devices", "devices.allow", "b 8:* r")]


def test_the_usual_devices_are_not_said_twice() -> None:
    asked = (DeviceRule(allow=False), *DEFAULT_DEVICES)

    assert device_rules(Resources(devices=asked)) == asked


@pytest.mark.parametrize(
    ("file", "text", "other"),
    [
        ("io.bfq.weight", "500", ("io.weight", "default 4950")),
        ("io.bfq.weight", "8:0 10", ("io.weight", "8:0 1")),
        ("blkio.bfq.weight_device", "8:0 10", ("blkio.weight_device", "8:0 10")),
        ("hugetlb.2MB.rsvd.max", "1", None),
    ],
)
def test_what_a_kernel_may_lack_has_something_in_its_place(file: str, text: str, other: tuple[str, str] | None) -> None:
    assert cgroups.may_be_missing(file)
    assert cgroups.instead(file, text) == other


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/a/b", "/a/b"),
        ("a//b/.", "/a/b"),
        ("/a/../../../etc", "/etc"),
        ("../../x", "/x"),
        ("user.slice:docker:7", "/user.slice/docker-7.scope"),
        ("a-b-c.slice:libpod:7", "/a.slice/a-b.slice/a-b-c.slice/libpod-7.scope"),
        ("-.slice:p:7", "/p-7.scope"),
        (":p:7", "/system.slice/p-7.scope"),
        ("a.slice::7", "/a.slice/7.scope"),
        ("a.slice:p:kube.slice", "/a.slice/kube.slice"),
        ("/a:b:c", "/a:b:c"),
    ],
)
def test_every_form_of_a_path_stays_below_the_mount(path: str, place: str) -> None:
    assert cgroups.place(path) == place


@pytest.mark.parametrize("path", ["/", "..", "a:b:c", "a--b.slice:p:7", "/.."])
def test_what_is_no_group_below_the_root_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match=r"linux\.cgroupsPath"):
        cgroups.place(path)


def test_numbers_below_zero_and_no_letters_mean_any_device() -> None:
    rules = device_rules(Resources(devices=(DeviceRule(allow=True, type="c", major=-1, minor=7, access=""),)))

    assert rules[0] == DeviceRule(allow=True, type="c", minor=7)


def test_a_rule_for_both_kinds_of_devices_that_is_not_for_everything_is_two_on_v1() -> None:
    rules = (DeviceRule(allow=False), DeviceRule(allow=True, access="r"), DeviceRule(allow=True, major=8))

    assert [(f, t) for _, f, t in cgroups.device_writes(rules)] == [
        ("devices.deny", "a"), ("devices.allow", "b *:* r"), ("devices.allow", "c *:* r"),
        ("devices.allow", "b 8:* rwm"), ("devices.allow", "c 8:* rwm"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resources", "place"),
    [
        (Resources(devices=(DeviceRule(allow=True, type="x"),)), r"linux\.resources\.devices\[0\]\.type"),
        (Resources(devices=(DeviceRule(allow=True, access="x"),)), r"linux\.resources\.devices\[0\]\.access"),
    ],
)
def test_a_wrong_rule_is_named(resources: Resources, place: str) -> None:
    with pytest.raises(InvalidInput, match=place):
        device_rules(resources)


@pytest.mark.parametrize("mode", [CgroupMode.V1, CgroupMode.V2])
@pytest.mark.parametrize(
    ("resources", "place"),
    [
        (Resources(rdma={"mlx": Rdma()}), r"linux\.resources\.rdma\.mlx"),
        (Resources(cpu=Cpu(quota=10, burst=20)), r"linux\.resources\.cpu\.burst"),
    ],
)
def test_limits_that_say_nothing_or_too_much_are_named(mode: CgroupMode, resources: Resources, place: str) -> None:
    with pytest.raises(InvalidInput, match=place):
        writes(resources, mode)
