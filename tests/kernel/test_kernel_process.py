"""Processes, capabilities, keyrings, descriptors, terminals and links on a real kernel."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from sampan.errors import SyscallError
from sampan.kernel import credentials, fds, keyring, link, mount, process, tty
from sampan.kernel.credentials import CAPABILITIES
from sampan.kernel.mount import AT, MS
from sampan.kernel.namespaces import CLONE
from support.child import in_child

SANE = 0


def forked(code: int = 0, wait_s: float = 0) -> tuple[int, int]:
    """Return (pid, pidfd) of a child that sleeps and ends."""
    pid = os.fork()
    if pid == 0:
        time.sleep(wait_s)
        os._exit(code)
    return pid, process.pidfd_open(pid)


# -------------------------------------------------------------------------------------------------------------- pidfds


def test_a_pidfd_polls_readable_when_its_process_has_ended() -> None:
    pid, pidfd = forked(wait_s=30)
    assert select.select([pidfd], [], [], 0)[0] == []
    process.pidfd_send_signal(pidfd, signal.SIGTERM)

    assert select.select([pidfd], [], [], 10)[0] == [pidfd]
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM
    with pytest.raises(SyscallError, match="pidfd_send_signal: no such process"):
        process.pidfd_send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)


def test_the_exit_status_of_a_process_that_somebody_else_reaped() -> None:
    pid, pidfd = forked(7)
    assert process.pidfd_exit_status(pidfd) is None
    os.waitpid(pid, 0)
    status = process.pidfd_exit_status(pidfd)
    os.close(pidfd)
    if status is None:
        pytest.skip("missing kernel feature: PIDFD_INFO_EXIT, Linux 6.15")

    assert os.waitstatus_to_exitcode(status) == 7


def test_the_exit_status_keeps_the_signal() -> None:
    pid, pidfd = forked(wait_s=30)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    status = process.pidfd_exit_status(pidfd)
    os.close(pidfd)
    if status is None:
        pytest.skip("missing kernel feature: PIDFD_INFO_EXIT, Linux 6.15")

    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_a_descriptor_is_taken_from_another_process() -> None:
    reader, writer = os.pipe()
    pid, pidfd = forked(wait_s=30)
    os.close(writer)
    copy = process.pidfd_getfd(pidfd, writer)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.write(copy, b"hello")

    assert os.read(reader, 10) == b"hello"
    for fd in (reader, copy, pidfd):
        os.close(fd)


def test_a_process_that_is_gone_is_named() -> None:
    pid, pidfd = forked()
    os.waitpid(pid, 0)
    os.close(pidfd)

    with pytest.raises(SyscallError, match=f"pidfd_open pid {pid}: no such process"):
        process.pidfd_open(pid)


def test_a_process_ends_before_it_can_be_waited_for() -> None:
    began = process.start_time(os.getpid())
    pid = os.posix_spawn("/bin/true", ["true"], {})
    started = process.start_time(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert not process.is_ending(os.getpid(), began)
    assert process.is_ending(os.getpid(), began - 1)  # it had its number before
    assert process.is_ending(pid, started)
    os.waitpid(pid, 0)
    assert process.is_ending(pid, started)


def test_start_times_tell_processes_apart() -> None:
    pid, pidfd = forked(wait_s=30)
    first, second = process.start_time(os.getpid()), process.start_time(pid)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pidfd)

    uptime_ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    assert first <= second <= uptime_ticks


# ----------------------------------------------------------------------------------------------------- prctl and names


def status_field(name: str) -> str:
    with open("/proc/self/status") as file:
        return next(line.split(":", 1)[1].strip() for line in file if line.startswith(name + ":"))


def test_a_process_sets_its_own_traits() -> None:
    def story():
        process.set_name("a name that is long")
        process.set_no_new_privs()
        process.set_dumpable(False)
        process.set_child_subreaper()
        process.set_keepcaps(True)
        process.set_parent_death_signal(signal.SIGHUP)
        process.sethostname("boat")
        process.setdomainname("harbour")
        with open("/proc/self/comm") as comm, open("/proc/sys/kernel/domainname") as domain:
            names = comm.read().strip("\n"), os.uname().nodename, domain.read().strip()
        return names, status_field("NoNewPrivs"), process.get_dumpable()

    assert in_child(story, CLONE.NEWUTS) == (("a name that is ", "boat", "harbour"), "1", 0)


def test_a_subreaper_inherits_orphans() -> None:
    def story():
        process.set_child_subreaper()
        pid = os.fork()
        if pid == 0:
            if os.fork() == 0:
                time.sleep(0.05)
                os._exit(42)
            os._exit(0)
        os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(os.wait()[1])

    assert in_child(story, SANE) == 42


def test_the_parent_s_death_is_signalled() -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            signal.signal(signal.SIGUSR2, lambda *_: (os.write(writer, b"orphan"), os._exit(0)))
            process.set_parent_death_signal(signal.SIGUSR2)
            os.write(writer, b"ready ")
            time.sleep(30)
            os._exit(1)
        time.sleep(30)
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 6) == b"ready "
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)

    assert os.read(reader, 6) == b"orphan"
    os.close(reader)


def test_a_personality_is_asked_and_set() -> None:
    def story():
        before = process.personality(0xFFFFFFFF)
        process.personality(0x0008)
        return before, process.personality(0xFFFFFFFF), os.uname().machine

    before, after, machine = in_child(story, SANE)

    assert (before, after) == (0, 8)
    assert machine == "i686" or not machine.startswith("x86")


def test_io_priority_is_set_and_read() -> None:
    def story():
        process.ioprio_set(0, 2, 7)
        return process.ioprio_get(0)

    assert in_child(story, SANE) == (2, 7)


def test_a_program_runs_from_a_descriptor() -> None:
    reader, writer = os.pipe()
    program = fds.memfd("busybox", Path("/bin/busybox").read_bytes(), executable=True)
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        process.execveat(program, "", ["echo", "from", "memory"], {"A": "b"}, AT.EMPTY_PATH)
    os.close(writer)
    os.close(program)
    os.waitpid(pid, 0)

    assert os.read(reader, 100) == b"from memory\n"
    os.close(reader)


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(SyscallError, match="execveat nothing: no such file"):
        process.execveat(-100, "nothing", ["x"], {})


# -------------------------------------------------------------------------------------------------------- capabilities


def test_capabilities_are_given_up_for_good() -> None:
    kept = frozenset({"CAP_KILL", "CAP_CHOWN"})

    def story():
        for name in CAPABILITIES:
            if name not in kept and credentials.bounding_has(name):
                credentials.drop_bounding(name)
        credentials.capset(kept, kept, frozenset())
        bounding = {name for name in CAPABILITIES if credentials.bounding_has(name)}
        return credentials.capget(), bounding, int(status_field("CapEff"), 16)

    sets, bounding, mask = in_child(story, SANE)

    assert sets == (kept, kept, frozenset())
    assert bounding == kept
    assert mask == credentials.mask(kept)


def test_ambient_capabilities_survive_a_change_of_user() -> None:
    kept = frozenset({"CAP_NET_BIND_SERVICE"})

    def story():
        process.set_keepcaps(True)
        os.setresuid(1000, 1000, 1000)
        credentials.capset(kept, kept, kept)
        credentials.ambient_clear()
        credentials.ambient_raise("CAP_NET_BIND_SERVICE")
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.dup2(writer, 1)
            os.execv("/bin/busybox", ["grep", "CapEff", "/proc/self/status"])
        return os.read(reader, 100)

    assert int(in_child(story, SANE).split()[1], 16) == credentials.mask(kept)


def test_a_refused_capability_is_named() -> None:
    def story():
        credentials.capset((), (), ())
        with pytest.raises(SyscallError, match="prctl CAP_KILL: operation not permitted"):
            credentials.ambient_raise("CAP_KILL")
        return True

    assert in_child(story, SANE)


# ------------------------------------------------------------------------------------------------ keyrings, descriptors


def test_a_session_keyring_of_its_own() -> None:
    def story():
        return keyring.join_session_keyring("sampan-test"), keyring.join_session_keyring()

    first, second = in_child(story, SANE)

    assert first != second


def test_descriptors_are_closed_or_marked_from_a_number_on() -> None:
    def story():
        high = fcntl.fcntl(0, fcntl.F_DUPFD, 200)
        fds.close_range(200, cloexec=True)
        marked = fcntl.fcntl(high, fcntl.F_GETFD)
        fds.close_range(200)
        with pytest.raises(OSError):
            os.fstat(high)
        return marked, os.fstat(2) is not None

    assert in_child(story, SANE) == (fcntl.FD_CLOEXEC, True)


def test_a_file_in_memory_cannot_be_changed() -> None:
    fd = fds.memfd("x", b"content")

    assert os.read(fd, 100) == b"content"
    for change in (lambda: os.write(fd, b"y"), lambda: os.ftruncate(fd, 0)):
        with pytest.raises(PermissionError):
            change()
    os.close(fd)


# ---------------------------------------------------------------------------------------------------- terminals, links


def test_a_terminal_in_a_devpts_of_its_own(tmp_path: Path) -> None:
    def story():
        mount.mount("devpts", str(tmp_path), "devpts", MS.NOSUID | MS.NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
        directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        masters = [tty.open_ptmx(directory) for _ in range(2)]
        master, name = masters[1]
        peer = tty.open_peer(master)
        tty.set_size(master, 40, 132)
        os.write(peer, b"hello")
        return [n for _, n in masters], name, os.isatty(peer), tty.get_size(peer), os.read(master, 10)

    names, name, terminal, size, text = in_child(story)

    assert names == ["/dev/pts/0", "/dev/pts/1"]
    assert (name, terminal, size, text) == ("/dev/pts/1", True, (40, 132), b"hello")


def test_a_controlling_terminal_gives_its_signals() -> None:
    def story():
        directory = os.open("/dev/pts", os.O_PATH)
        master, _ = tty.open_ptmx(directory)
        peer = tty.open_peer(master)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            tty.set_controlling(peer)
            os.set_blocking(writer, False)
            signal.set_wakeup_fd(writer)  # a handler in Python would miss what comes right before the pause
            for number in (signal.SIGWINCH, signal.SIGINT):
                signal.signal(number, lambda _number, _frame: None)
            os.write(writer, b"!")
            while True:
                signal.pause()
        assert os.read(reader, 1) == b"!"
        tty.set_size(master, 10, 20)
        first = os.read(reader, 1)
        os.write(master, b"\x03")
        second = os.read(reader, 1)
        os.kill(pid, signal.SIGKILL)
        return first[0], second[0]

    assert in_child(story) == (signal.SIGWINCH, signal.SIGINT)


def test_a_descriptor_that_is_no_terminal_has_no_size() -> None:
    reader, writer = os.pipe()
    with pytest.raises(SyscallError) as e:
        tty.get_size(reader)
    os.close(reader)
    os.close(writer)

    assert e.value.errno == errno.ENOTTY


def test_the_loopback_of_a_new_network_namespace_comes_up() -> None:
    import socket

    def reachable(family: socket.AddressFamily, address: str) -> bool:
        with socket.socket(family) as server, socket.socket(family) as client:
            try:
                server.bind((address, 0))
                server.listen()
                client.connect(server.getsockname())
            except OSError:
                return False
            return True

    def story():
        before = reachable(socket.AF_INET, "127.0.0.1")
        link.loopback_up()
        return before, reachable(socket.AF_INET, "127.0.0.1")

    assert in_child(story, CLONE.NEWNET) == (False, True)


# ------------------------------------------------------------------------------------------ after the root has changed


def test_what_init_calls_after_the_root_has_changed_reads_no_file_of_it(tmp_path: Path) -> None:
    """CVE-2019-14271: an import, a library or a codec that is loaded then is the container's, run with our rights."""

    def story():
        mount.mount("none", str(tmp_path), "tmpfs")
        seen: list[str] = []
        watched = ("import", "open", "ctypes.dlopen", "ctypes.dlsym", "exec", "compile")
        sys.addaudithook(lambda event, args: seen.append(f"{event} {args[:1]}") if event in watched else None)
        os.chdir(tmp_path)
        mount.pivot_root(".", ".")
        mount.umount(".", detach=True)
        os.mkdir("/proc")
        mount.mount(None, "/", None, MS.REMOUNT | MS.BIND | MS.RDONLY | MS.NOSUID)
        process.sethostname("über")
        link.loopback_up()
        keyring.join_session_keyring("x")
        fds.close_range(500, cloexec=True)
        process.set_no_new_privs()
        process.ioprio_set(0, 2, 4)
        credentials.drop_bounding("CAP_SYS_BOOT")
        kept = frozenset({"CAP_KILL"})
        credentials.capset(kept, kept, kept)
        credentials.ambient_raise("CAP_KILL")
        try:
            mount.mount("none", "/proc", "proc")
        except SyscallError as e:
            message = str(e)
        try:
            process.execveat(-100, "/bin/nothing", ["x"], {"A": "é"})
        except SyscallError as e:
            message += "; " + str(e)
        return seen, message

    seen, message = in_child(story, CLONE.NEWNS | CLONE.NEWUTS | CLONE.NEWNET)

    assert seen == []
    assert message == "mount /proc: operation not permitted; execveat /bin/nothing: no such file or directory"


def test_ctypes_errno_is_not_that_of_an_earlier_call() -> None:
    ctypes.set_errno(errno.EXDEV)
    with pytest.raises(SyscallError) as e:
        process.pidfd_open(-5)

    assert e.value.errno == errno.EINVAL
