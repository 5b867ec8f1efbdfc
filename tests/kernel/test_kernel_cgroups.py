"""Control groups and the device program: every directory is made here, below one of ours, and removed."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Iterator

import pytest

from sampan.errors import SyscallError
from sampan.kernel import bpf, cgroupfs, namespaces
from sampan.kernel.bpf import DeviceRule
from support.child import in_child

NAME = f"sampan-kernel-test-{os.getpid()}"


def group(controller: str) -> Iterator[str]:
    mount = next((m for m in cgroupfs.mounts() if m.controller == controller), None)
    if mount is None:
        pytest.skip(f"missing kernel feature: cgroup hierarchy {controller or 'v2'} is not mounted")
    own = cgroupfs.of_process()[controller]
    directory = f"{mount.mount_point}{own.rstrip('/')}/{NAME}"
    cgroupfs.make(directory)
    yield directory
    cgroupfs.remove(directory)
    assert not os.path.exists(directory)


@pytest.fixture
def v2() -> Iterator[str]:
    yield from group("")


@pytest.fixture(params=["pids", ""])
def any_group(request) -> Iterator[str]:
    if request.param and not any(m.controller == request.param for m in cgroupfs.mounts()):
        request.param = ""
    yield from group(request.param)


def sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_group_that_goes_while_it_is_read_is_not_there(any_group: str) -> None:
    cgroupfs.make(f"{any_group}/below")
    fd = os.open(f"{any_group}/below/cgroup.procs", os.O_RDWR)
    os.rmdir(f"{any_group}/below")

    with pytest.raises(OSError, match="No such device"):
        os.read(fd, 1)
    with pytest.raises(FileNotFoundError):
        cgroupfs.read("/proc/self/fd", str(fd))
    os.close(fd)


def test_a_process_moves_in_and_is_seen(any_group: str) -> None:
    empty = cgroupfs.populated(any_group)
    pid = sleeper()
    cgroupfs.add_process(any_group, pid)

    assert cgroupfs.processes(any_group) == [pid]
    assert any_group.endswith(cgroupfs.of_process(pid)["pids" if "/pids/" in any_group else ""])
    assert (empty, cgroupfs.populated(any_group)) == (False, True)
    end(pid)


def test_a_group_is_removed_with_those_below(any_group: str) -> None:
    cgroupfs.make(f"{any_group}/a/b")
    cgroupfs.make(f"{any_group}/a/c")
    cgroupfs.remove(f"{any_group}/a")
    cgroupfs.remove(f"{any_group}/a")

    assert not os.path.exists(f"{any_group}/a")


def test_groups_deeper_than_a_path_is_long_are_listed_and_removed(any_group: str) -> None:
    below, name = os.open(any_group, os.O_RDONLY), "d" * 200
    for _ in range(25):
        os.mkdir(name, dir_fd=below)
        above, below = below, os.open(name, os.O_RDONLY, dir_fd=below)
        os.close(above)
    pid = sleeper()
    cgroupfs.add_process(f"/proc/self/fd/{below}", pid)
    os.close(below)

    assert cgroupfs.processes_below(any_group) == [pid]
    end(pid)
    cgroupfs.remove(any_group)
    assert not os.path.exists(any_group)


def test_removing_waits_for_the_last_process(any_group: str) -> None:
    cgroupfs.make(f"{any_group}/a")
    pid = sleeper()
    cgroupfs.add_process(f"{any_group}/a", pid)
    timer = threading.Timer(0.2, end, [pid])
    timer.start()
    cgroupfs.remove(f"{any_group}/a", timeout_s=10)
    timer.join()

    assert not os.path.exists(f"{any_group}/a")


def test_a_group_that_stays_busy_is_named(any_group: str) -> None:
    cgroupfs.make(f"{any_group}/a")
    pid = sleeper()
    cgroupfs.add_process(f"{any_group}/a", pid)
    with pytest.raises(SyscallError, match=f"rmdir {any_group}/a: device or resource busy"):
        cgroupfs.remove(f"{any_group}/a", timeout_s=0.05)
    end(pid)
    cgroupfs.remove(f"{any_group}/a")


def test_a_refused_value_is_said_with_its_file(any_group: str) -> None:
    with pytest.raises(SyscallError, match=r"write 'nonsense' to .*/cgroup.procs: invalid argument"):
        cgroupfs.write(any_group, "cgroup.procs", "nonsense")
    with pytest.raises(SyscallError, match="no such file or directory"):
        cgroupfs.write(any_group, "no.such.file", "1")

    assert "no.such.file" not in os.listdir(any_group)


def test_a_child_is_born_in_its_group(v2: str) -> None:
    fd = os.open(v2, os.O_RDONLY | os.O_DIRECTORY)
    path = in_child(lambda: cgroupfs.of_process()[""], namespaces.CLONE.NEWUTS, cgroup_fd=fd)
    os.close(fd)

    assert path.endswith(f"/{NAME}")


def open_device(path: str, flags: int = os.O_RDWR) -> bool:
    try:
        os.close(os.open(path, flags))
    except PermissionError:
        return False
    return True


def make_device(path: str, type: int, major: int, minor: int) -> bool:
    try:
        os.mknod(path, type | 0o600, os.makedev(major, minor))
    except PermissionError:
        return False
    os.unlink(path)
    return True


def under(v2: str, rules: list[DeviceRule], story):
    """Run `story` in a child that is in the group, with the rules in force."""
    group_fd = os.open(v2, os.O_RDONLY | os.O_DIRECTORY)
    program = bpf.load(bpf.device_program(rules))
    bpf.attach(group_fd, program)
    try:
        return in_child(story, namespaces.CLONE.NEWNS, cgroup_fd=group_fd)
    finally:
        bpf.detach(group_fd, program)
        os.close(program)
        os.close(group_fd)


def test_the_device_program_is_obeyed(v2: str, tmp_path) -> None:
    rules = [
        DeviceRule(False),
        DeviceRule(True, "c", None, None, "m"),
        DeviceRule(True, "c", 1, 3),
        DeviceRule(True, "c", 1, 5, "r"),
        DeviceRule(True, "c", 1, 9),
        DeviceRule(False, "c", 1, 9, "w"),
    ]

    def story():
        return {
            "null": open_device("/dev/null"),
            "zero read": open_device("/dev/zero", os.O_RDONLY),
            "zero": open_device("/dev/zero"),
            "full": open_device("/dev/full"),
            "urandom read": open_device("/dev/urandom", os.O_RDONLY),
            "urandom write": open_device("/dev/urandom", os.O_WRONLY),
            "char node": make_device(str(tmp_path / "c"), stat.S_IFCHR, 7, 7),
            "block node": make_device(str(tmp_path / "b"), stat.S_IFBLK, 7, 7),
        }

    assert under(v2, rules, story) == {
        "null": True,
        "zero read": True,
        "zero": False,
        "full": False,
        "urandom read": True,
        "urandom write": False,
        "char node": True,
        "block node": False,
    }


def test_docker_s_default_rules_are_accepted_and_right(v2: str) -> None:
    from sampan.spec.defaults import devices

    def story():
        return [open_device(node.path) for node in devices.NODES[:5]], open_device("/dev/kmsg", os.O_RDONLY)

    assert under(v2, [DeviceRule(*rule) for rule in devices.RULES], story) == ([True] * 5, False)


def test_a_detached_program_no_longer_rules(v2: str) -> None:
    under(v2, [], lambda: None)
    fd = os.open(v2, os.O_RDONLY | os.O_DIRECTORY)

    assert in_child(lambda: open_device("/dev/null"), namespaces.CLONE.NEWNS, cgroup_fd=fd)
    os.close(fd)


def test_a_long_list_of_rules_is_accepted_by_the_verifier(v2: str) -> None:
    rules = [DeviceRule(i % 3 > 0, "bc"[i % 2], i % 50, i % 7 or None, "rwm"[: i % 3 + 1]) for i in range(300)]

    assert under(v2, [*rules, DeviceRule(True, "c", 1, 3)], lambda: open_device("/dev/null"))
