"""clone, unshare and setns on a real kernel."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

import pytest

from sampan.errors import SyscallError
from sampan.kernel import namespaces, process
from sampan.kernel.namespaces import CLONE, FLAG_BY_NAME
from support.child import in_child

ALL = CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWNET | CLONE.NEWCGROUP


def ids() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in FLAG_BY_NAME}


def test_a_clone_is_the_first_process_of_its_namespaces() -> None:
    assert in_child(os.getpid, ALL) == 1


@pytest.mark.parametrize("name", sorted(FLAG_BY_NAME.keys() - {"pid", "time", "user"}))
def test_each_flag_makes_its_namespace_and_no_other(name: str) -> None:
    ours, theirs = ids(), in_child(ids, FLAG_BY_NAME[name])

    assert [n for n in ours if ours[n] != theirs[n]] == [name]


def test_the_child_is_a_whole_python() -> None:
    seen: list[str] = []
    os.register_at_fork(after_in_child=lambda: seen.append("hook"))

    def story() -> tuple[list[str], int, str]:
        import colorsys  # noqa: F401 — a module that nobody has imported: the import lock is free
        import threading

        thread = threading.Thread(target=lambda: seen.append("thread"))
        thread.start()
        thread.join()
        gc.collect()
        got: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        return seen, len(got), threading.current_thread().name

    assert in_child(story) == (["hook", "thread"], 1, "MainThread")
    seen.clear()


def test_the_pidfd_is_the_child_s() -> None:
    pid, pidfd = namespaces.clone(CLONE.NEWUTS)
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)

    assert (info.si_pid, info.si_status) == (pid, signal.SIGKILL)
    assert not os.get_inheritable(pidfd)
    os.close(pidfd)


def test_a_clone_that_fails_leaves_the_parent_as_it_was() -> None:
    with pytest.raises(SyscallError, match="clone3: bad file descriptor"):
        namespaces.clone(CLONE.NEWUTS, cgroup_fd=10**6)

    assert in_child(os.getpid, CLONE.NEWPID) == 1


def test_a_sibling_is_the_child_of_our_parent() -> None:
    def between() -> tuple[int, int]:
        reader, writer = os.pipe()
        pid = namespaces.fork_sibling()
        if pid == 0:
            os.write(writer, b"%d" % os.getppid())
            os._exit(7)
        return pid, int(os.read(reader, 32))

    pid, parent = in_child(between, 0)

    assert parent == os.getpid()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_unshare_and_setns_move_this_process() -> None:
    def story() -> tuple[bool, bool]:
        before = os.open("/proc/self/ns/uts", os.O_RDONLY)
        namespaces.unshare(CLONE.NEWUTS)
        process.sethostname("elsewhere")
        moved = os.uname().nodename == "elsewhere"
        namespaces.setns(before, CLONE.NEWUTS)
        return moved, os.uname().nodename != "elsewhere"

    assert in_child(story, 0) == (True, True)


def test_setns_by_pidfd_enters_several_namespaces_at_once() -> None:
    def story() -> bool:
        pid, pidfd = namespaces.clone(CLONE.NEWUTS | CLONE.NEWIPC)
        if pid == 0:
            signal.pause()
        theirs = {n: os.readlink(f"/proc/{pid}/ns/{n}") for n in ("uts", "ipc")}
        namespaces.setns(pidfd, CLONE.NEWUTS | CLONE.NEWIPC)
        os.kill(pid, signal.SIGKILL)
        return theirs.items() <= ids().items()

    assert in_child(story, 0)


def test_time_namespaces_are_for_children_of_unshare() -> None:
    def story() -> bool:
        namespaces.unshare(CLONE.NEWTIME)
        with open("/proc/self/timens_offsets", "w") as file:
            file.write("boottime 1000000 0")
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, str(time.clock_gettime(time.CLOCK_BOOTTIME)).encode())
            os._exit(0)
        return float(os.read(reader, 64)) - before > 999_999

    assert in_child(story, 0)


def test_importing_the_door_imports_nothing_heavy() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from sampan.kernel import bpf, cgroupfs, credentials, fds, keyring, link\n"
        "from sampan.kernel import mount, namespaces, path, process, seccomp, tty\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    reader, writer = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", script],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
    )
    os.close(writer)
    with open(reader) as stream:
        imported = set(stream.read().split())
    os.waitpid(pid, 0)

    assert "sampan.kernel.namespaces" in imported
    assert not imported & {
        "subprocess",
        "dataclasses",
        "socket",
        "json",
        "inspect",
        "threading",
        "asyncio",
        "tempfile",
        "sampan.kernel.libseccomp",
    }
