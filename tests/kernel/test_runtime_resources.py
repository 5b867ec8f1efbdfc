"""Limits and device rules as the kernel has them, in whichever control groups this machine has; v2 in the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import SampanError
from sampan.runtime import control
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import Cpu, CpuAffinity, DeviceRule, HugepageLimit, Memory, Network, Pids, Resources
from support.containers import HOST, PARENT, Box, facts, left_behind, remove_parents, with_linux

V2 = HOST.cgroup_mode is CgroupMode.V2
M = 1 << 20


@pytest.fixture(scope="module")
def module_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    yield Box(tmp_path_factory.mktemp("box"))
    remove_parents()


@pytest.fixture
def box(module_box: Box) -> Iterator[Box]:
    before = facts(module_box.directory)
    yield module_box
    assert not left_behind(before, module_box.directory)


def limits(box: Box, resources: Resources, *files: tuple[str, str]) -> list[str]:
    """Return what files hold while a container with these limits runs: (controller, file)."""
    with box.running(with_linux(box.spec("sleep", "100"), resources=resources)) as (running, _):
        return [Path(control.directory(running.cgroups, c) or "", f).read_text().strip() for c, f in files]


def test_limits_are_written(box: Box) -> None:
    resources = Resources(
        memory=Memory(limit=64 * M, reservation=32 * M),
        cpu=Cpu(shares=512, quota=50_000, period=100_000),
        pids=Pids(limit=77),
    )
    if V2:
        files = ("memory.max", "memory.low", "cpu.weight", "cpu.max", "pids.max")
        wanted = [str(64 * M), str(32 * M), "59", "50000 100000", "77"]
    else:
        files = ("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us", "pids.max")
        wanted = [str(64 * M), str(32 * M), "512", "50000", "77"]

    assert limits(box, resources, *((f.partition(".")[0], f) for f in files)) == wanted


def test_unified_files_are_written_as_they_are(box: Box) -> None:
    resources = Resources(unified={"memory.high": str(16 * M), "pids.max": "33"})

    if V2:
        assert limits(box, resources, ("", "memory.high"), ("", "pids.max")) == [str(16 * M), "33"]
    else:
        with pytest.raises(SampanError, match="cgroup v1, which has no unified files"):
            box.run(with_linux(box.spec("true"), resources=resources))


def test_huge_pages_are_limited_in_use_and_in_reservation(box: Box) -> None:
    if "hugetlb" not in (HOST.cgroup_controllers if V2 else dict(HOST.cgroup_mounts)):
        pytest.skip("missing kernel feature: a control group for huge pages")
    resources = Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 * M),))
    words = ("max", "rsvd.max") if V2 else ("limit_in_bytes", "rsvd.limit_in_bytes")

    assert limits(box, resources, *(("hugetlb", f"hugetlb.2MB.{w}") for w in words)) == [str(4 * M)] * 2


def test_an_exec_goes_where_the_first_process_is_if_the_groups_above_have_handed_controllers_down(box: Box) -> None:
    if not V2:
        pytest.skip("missing kernel feature: cgroup v2")
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        ((_, group),) = running.cgroups
        Path(group, "init.scope/inner").mkdir(parents=True)
        Path(group, "init.scope/inner/cgroup.procs").write_text(str(running.pid))
        for above in ("", "init.scope"):
            Path(group, above, "cgroup.subtree_control").write_text("+pids")

        here = ("cat", "/proc/self/cgroup")
        assert box.exec(spec, running, *here) == (0, "0::/init.scope/inner\n", "")
        pinned = CpuAffinity(initial="0")
        assert box.exec(spec, running, *here, exec_cpu_affinity=pinned) == (0, "0::/init.scope/inner\n", "")


def test_a_controller_that_is_not_there_is_refused_by_name(box: Box) -> None:
    with pytest.raises(SampanError, match=r"net_cls|network class"):
        box.run(with_linux(box.spec("true"), resources=Resources(network=Network(class_id=1))))


@pytest.mark.parametrize(
    ("rule", "denied"),
    [
        (DeviceRule(allow=True, type="c", major=10, minor=229, access="r"), [False, True]),
        (DeviceRule(allow=True, type="c", major=10, minor=-1, access="rw"), [False, False]),
        (DeviceRule(allow=True, type="a", major=10, access="w"), [True, False]),
        (DeviceRule(allow=False, type="c", major=10, minor=229), [True, True]),
    ],
)
def test_device_rules(box: Box, rule: DeviceRule, denied: list[bool]) -> None:
    resources = Resources(devices=(DeviceRule(allow=False), rule))
    # A machine without FUSE has no such device: only that it may not be opened counts.
    script = "mknod /tmp/d c 10 229; for to in '<' '>>'; do sh -c \"true $to /tmp/d\" 2>&1; echo -; done"

    said = box.run(with_linux(box.spec("sh", "-c", script), resources=resources)).out.split("-\n")

    assert ["not permitted" in part for part in said[:2]] == denied


@pytest.mark.parametrize(
    ("path", "place"), [("a.slice:p:7", "a.slice/p-7.scope"), ("{parent}/../../x/../{parent}/y", "{parent}/y")]
)
def test_a_group_is_where_its_path_says_and_never_outside_the_mount(box: Box, path: str, place: str) -> None:
    parent = PARENT.strip("/")
    spec = with_linux(box.spec("sleep", "100"), cgroups_path=path.format(parent=parent))
    with box.running(spec) as (running, _):
        found = running.cgroups[0][1]
        members = Path(found, "cgroup.procs").read_text().split()
    for _, point in HOST.cgroup_mounts:
        control.cgroupfs.remove(f"{point}/a.slice")

    assert found.endswith(f"/{place.format(parent=parent)}")
    assert members == [str(running.pid)]
    assert ".." not in found


def test_a_limit_below_what_is_used_is_refused_where_it_is_to_be_checked(box: Box) -> None:
    with box.running(box.spec("sleep", "100")) as (running, _):
        if V2:
            with pytest.raises(SampanError, match="bytes are in use"):
                control.check_usage(running.cgroups, 1)
        control.check_usage(running.cgroups, 1 << 40)
        control.check_usage(running.cgroups, -1)
