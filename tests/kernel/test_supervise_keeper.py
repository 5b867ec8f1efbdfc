"""Keeper, server and shims killed while containers run: nothing ends, nothing is forgotten."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sampan.errors import Conflict
from sampan.kernel import proc_events
from sampan.runtime import control
from sampan.spec.ending import Sender
from sampan.supervise import messages as m
from support.faults import slowed
from support.network import of_the_host
from support.sampan import has_ended
from support.supervised import TINY_SERVER, World, until
from support.tars import archive, member

COUNT = 'n=0; while n=$((n+1)); do echo "line $n"; [ -e /tmp/stop ] && exit 5; done'
CALM = 'n=0; while n=$((n+1)); do echo "line $n"; [ -e /tmp/stop ] && exit 5; sleep 0.001; done'


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.end()


@pytest.fixture
def world_of_the_host(tmp_path):
    """Yield one in the machine's network, where the kernel tells a shim the end of a process that is not its child."""
    with of_the_host():
        world = World(tmp_path)
    yield world
    world.end()


def kernel_tells():
    with contextlib.suppress(OSError), of_the_host():
        proc_events.close(proc_events.listen_to_exits(os.getpid()))
        return True
    return False


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(pid), f"the end of {pid}")


def kill_keeper(world):
    """Kill the keeper; the server, which must see the end of its channel, starts another."""
    old = world.keeper_pid
    world.keeper.close()
    world.keeper = None
    kill(old)

    def another():
        try:
            return world.keeper_pid
        except AssertionError:
            return None

    until(another, "another keeper")
    world.connect()
    return old


def stop(world, container):
    pid = container.state()["pid"]
    Path(f"/proc/{pid}/root/tmp/stop").touch()
    return container.link.event(m.Exited)


def numbers(container):
    return [int(n) for n in re.findall(r"^line (\d+)$", container.log(), re.MULTILINE)]


def holes(found):
    return [(a, b) for a, b in itertools.pairwise(found) if b != a + 1]


def until_held(world, container):
    """Wait until the keeper has the container's streams: what is lost with its shim from then on is no stream."""
    stream = os.readlink(f"/proc/{container.state()['pid']}/fd/1")

    def held():
        directory = f"/proc/{world.keeper_pid}/fd"
        for fd in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"{directory}/{fd}") == stream:
                    return True
        return False

    until(held, "the keeper's hold on the streams")


def until_more(container, lines=20):
    """Wait for so much more output."""
    before = len(numbers(container))
    until(lambda: len(numbers(container)) > before + lines, "more output")


def test_the_server_is_restarted_and_clients_never_meet_a_refused_connection(world):
    container = world.run("sh", "-c", CALM)
    old = world.server_pid

    world.keeper.close()
    os.kill(old, signal.SIGKILL)
    world.keeper = None
    world.connect()

    assert world.server_pid != old
    assert container.reconnect().phase == "running"
    assert stop(world, container).exit_code == 5
    assert not holes(numbers(container))


def test_a_killed_shim_is_replaced_and_the_container_goes_on(world):
    log = Path(world.root, "big.log")
    log.touch()
    container = world.run("sh", "-c", COUNT, log=m.LogConfig(path=str(log), max_bytes=0))
    until(lambda: log.stat().st_size > 100_000, "much output")
    old = container.shim_pid
    pid = container.state()["pid"]

    os.kill(old, signal.SIGKILL)
    reaped = world.keeper.event(m.Reaped)
    status = container.reconnect()

    assert (reaped.id, reaped.pid, reaped.status, reaped.replaced_by) == (container.id, old, 9, container.shim_pid)
    assert (status.phase, status.pid, status.lost_output) == ("running", pid, False)
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size + 100_000, "more output")
    assert stop(world, container).exit_code == 5
    with log.open(encoding="utf-8") as file:
        lines = "".join(json.loads(line)["log"] for line in file)
    found = [int(n) for n in re.findall(r"line (\d+)\n", lines)]
    # A hole is at most what the killed shim had read and not written: eight reads of 4 KiB, and one line is torn.
    assert len(holes(found)) <= 1
    assert all(b - a < 8 * 4096 // len("line 1\n") for a, b in holes(found))


def test_a_killed_shim_s_execs_and_input_go_on(world):
    container = world.run("cat", open_stdin=True)
    container.execute("sh", "-c", "while [ ! -e /tmp/stop ]; do sleep 0.01; done; exit 6")

    os.kill(container.shim_pid, signal.SIGKILL)
    status = container.reconnect()

    assert [(e.exec_id, e.exit_code) for e in status.execs] == [("e1", None)]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        container.link.ask(m.Attach(streams=frozenset({"stdin", "stdout"})), [theirs.fileno()])
        ours.sendall(b"still listening\n")
        until(lambda: container.log() == "still listening\n")
    Path(f"/proc/{status.pid}/root/tmp/stop").touch()
    assert container.link.event(m.ExecExited).exit_code == 6
    container.execute("true", exec_id="e2")
    assert container.link.event(m.ExecExited).exit_code == 0


def test_a_container_that_ends_while_it_has_no_shim_has_its_true_exit_code(world):
    container = world.run("sh", "-c", "while [ ! -e /tmp/stop ]; do sleep 0.01; done; echo bye; exit 44")
    pid = container.state()["pid"]

    os.kill(world.keeper_pid, signal.SIGSTOP)
    os.kill(container.shim_pid, signal.SIGKILL)
    Path(f"/proc/{pid}/root/tmp/stop").touch()
    time.sleep(0.2)
    os.kill(world.keeper_pid, signal.SIGCONT)
    status = container.reconnect()
    if not status.exited:
        container.link.event(m.Exited)

    state = container.state()
    assert (state["exited"]["exit_code"], state["lost_output"]) == (44, False)
    assert container.log() == "bye\n"


def test_who_asked_for_a_signal_is_known_though_the_shim_was_killed_behind_it(world):
    container = world.run(
        "sh", "-c", 'trap "[ -e /tmp/stop ] && exit 6" TERM; echo ready; while :; do sleep 0.01; done'
    )
    until(lambda: "ready" in container.log(), "the trap")
    until_held(world, container)
    sender = Sender(verb="stop", pid=7, uid=8, program="x")
    container.link.ask(m.Signal(number=signal.SIGTERM, sender=sender))
    os.kill(container.shim_pid, signal.SIGKILL)
    container.reconnect()
    Path(f"/proc/{container.state()['pid']}/root/tmp/stop").touch()
    container.link.ask(m.Signal(number=signal.SIGTERM))

    exited = container.link.event(m.Exited)

    assert exited.exit_code == 6
    assert [(sent.number, sent.sender) for sent in exited.sent] == [(signal.SIGTERM, sender)]


def test_a_terminal_survives_its_shim(world):
    container = world.run("sh", tty=True, open_stdin=True)

    os.kill(container.shim_pid, signal.SIGKILL)
    container.reconnect()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        container.link.ask(m.Attach(streams=frozenset({"stdin", "stdout"})), [theirs.fileno()])
        ours.sendall(b"exit 8\n")
        assert container.link.event(m.Exited).exit_code == 8


@pytest.mark.parametrize("frozen", [True, False])
def test_a_shim_killed_between_freezing_and_writing_it_down_is_replaced_by_one_that_asks_the_kernel(world, frozen):
    container = world.run("sh", "-c", CALM)
    if not frozen:
        container.link.ask(m.Freeze(frozen=True))
    control.freeze(container.state()["cgroups"], frozen)

    os.kill(container.shim_pid, signal.SIGKILL)

    assert container.reconnect().phase == ("paused" if frozen else "running")
    container.link.ask(m.Freeze(frozen=not frozen))
    container.link.ask(m.Freeze(frozen=frozen))
    container.link.ask(m.Signal(number=signal.SIGKILL, everyone=True))
    assert container.link.event(m.Exited).exit_code == 137


def test_a_killed_keeper_is_replaced_by_the_server_and_finds_the_shims(world):
    container = world.run("sh", "-c", CALM)

    old = kill_keeper(world)
    keeper = world.keeper_pid

    assert keeper != old
    assert container.link.ask(m.Hello()).phase == "running"
    other = world.run("sh", "-c", "exit 2")
    assert other.link.event(m.Exited).exit_code == 2
    assert stop(world, container).exit_code == 5
    assert not holes(numbers(container))


def test_a_shim_killed_after_its_keeper_was_is_replaced_with_its_streams(world):
    container = world.run("sh", "-c", CALM)
    kill_keeper(world)
    until_held(world, container)

    os.kill(container.shim_pid, signal.SIGKILL)
    status = container.reconnect()

    assert (status.phase, status.lost_output) == ("running", False)
    until_more(container)
    assert stop(world, container).exit_code == 5
    assert len(holes(numbers(container))) <= 1  # what the killed shim had read and not written


def test_a_server_killed_after_the_keeper_was_replaced_is_restarted(world):
    kill_keeper(world)
    old = world.server_pid
    world.keeper.close()
    world.keeper = None

    os.kill(old, signal.SIGKILL)
    world.connect()

    assert world.server_pid != old
    assert world.run("true").link.event(m.Exited).exit_code == 0


def test_keeper_and_shim_both_killed_the_state_says_so_and_the_container_goes_on(world_of_the_host):
    world = world_of_the_host
    container = world.run("sh", "-c", CALM + " || :")
    pid = container.state()["pid"]
    keeper = world.keeper_pid
    os.kill(world.server_pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGSTOP)  # it would meet a pipe that nobody reads, for the moment that nobody does
    world.keeper.close()
    world.keeper = None
    os.kill(keeper, signal.SIGKILL)
    os.kill(container.shim_pid, signal.SIGKILL)
    until(lambda: has_ended(container.shim_pid), "the shim's end")
    os.kill(world.server_pid, signal.SIGCONT)
    world.connect()
    status = container.reconnect()
    assert (status.phase, status.pid, status.lost_output) == ("running", pid, True)

    os.kill(pid, signal.SIGCONT)
    until_more(container)
    exited = stop(world, container)

    assert exited.exit_code == 5 or not kernel_tells()
    assert container.state()["lost_output"] is True


def test_what_ended_while_keeper_and_shim_were_dead_is_ended_and_unknown(world):
    container = world.run("sleep", "1000")
    container.execute("sleep", "1000")
    pid = container.state()["pid"]
    keeper = world.keeper_pid
    os.kill(world.server_pid, signal.SIGSTOP)
    world.keeper.close()
    world.keeper = None
    os.kill(keeper, signal.SIGKILL)
    os.kill(container.shim_pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "somebody else collecting it")
    os.kill(world.server_pid, signal.SIGCONT)
    world.connect()

    status = container.reconnect()

    assert status.phase == "exited"
    assert status.exited.exit_code is None
    assert [(e.exec_id, e.exit_code) for e in status.execs] == [("e1", 137)]
    assert status.lost_output is True
    container.link.ask(m.Forget())
    assert not [g for g in world.groups() if container.id in g]


GONE_SERVER = """
import socket, sys
from sampan.supervise import messages as m
ours, theirs = socket.socketpair()
first, _ = socket.socketpair()
m.send(ours, m.ForkShim(id="a" * 64), 1, [first.fileno()])
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"x"], [theirs.fileno()])
"""


def test_a_keeper_whose_server_was_killed_before_it_began_starts_another_and_does_nothing_for_that_one(world):
    container = world.run("sh", "-c", CALM)
    os.kill(world.server_pid, signal.SIGSTOP)
    kill(world.keeper_pid)
    os.kill(world.server_pid, signal.SIGKILL)
    os.unlink(world.dirs.socket)
    here, there = socket.socketpair()
    with here, there, socket.socket(socket.AF_UNIX) as listening:
        subprocess.run([sys.executable, "-c", GONE_SERVER, str(there.fileno())], pass_fds=[there.fileno()], check=True)
        _, (channel,), _, _ = socket.recv_fds(here, 1, 1)
        listening.bind(world.dirs.socket)
        listening.listen()
        fds = (listening.fileno(), channel)
        words = ("--listen-fd", str(fds[0]), "--server-fd", str(fds[1]), "--server", TINY_SERVER)
        command = [sys.executable, "-P", "-m", "sampan.supervise.origin", "--root", str(world.root), *words]
        subprocess.run(command, pass_fds=fds, check=True, timeout=30)
        os.close(channel)

    world.connect()

    assert not os.path.exists(world.dirs.shim("a" * 64))
    assert world.run("sh", "-c", "exit 2").link.event(m.Exited).exit_code == 2
    assert stop(world, container).exit_code == 5
    assert "Traceback" not in Path(world.dirs.keeper_log).read_text()


def test_server_and_keeper_both_killed_the_next_command_finds_everything(world):
    container = world.run("sh", "-c", CALM)
    world.keeper.close()
    world.keeper = None
    os.kill(world.server_pid, signal.SIGSTOP)
    kill(world.keeper_pid)
    os.kill(world.server_pid, signal.SIGKILL)
    assert os.path.exists(world.dirs.socket)  # stale

    world.start()

    assert container.link.ask(m.Hello()).phase == "running"
    assert stop(world, container).exit_code == 5
    assert not holes(numbers(container))


def test_a_second_keeper_of_the_same_instance_leaves_at_once(world):
    command = [sys.executable, "-m", "sampan.supervise.keeper", "--root", str(world.root), "--server", TINY_SERVER]
    keeper = world.keeper_pid

    done = subprocess.run(command, capture_output=True, timeout=20, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert world.keeper_pid == keeper


def test_the_keeper_owes_nothing_to_who_started_it(tmp_path):
    start = f"""
import os, resource, signal, sys
os.chdir({str(tmp_path)!r}); os.umask(0o077); signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.environ.update(SECRET="x", LD_PRELOAD="", HTTP_PROXY="http://proxy")
argv = ["-m", "sampan.supervise.origin", "--root", {str(tmp_path / "root")!r}, "--server", {TINY_SERVER!r}]
os.execv(sys.executable, [sys.executable, *argv])
"""
    subprocess.run([sys.executable, "-c", start], timeout=30, check=True, stdin=subprocess.DEVNULL)
    world = World(tmp_path / "root")
    pid = world.keeper_pid

    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"HTTP_PROXY=http://proxy" in environ
    assert not [v for v in environ if v.startswith((b"SECRET", b"LD_PRELOAD"))]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert status["Umask"] == "0022"
    assert int(status["SigBlk"], 16) == 0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) == pid or int(fields[3]) != os.getsid(0)  # session
    limit = re.search(r"Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text())
    assert limit[1] == limit[2]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        assert line.endswith(f"{world.parent}/engine"), line
    assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    assert not (os.stat(world.dirs.socket).st_mode & 0o117)
    world.end()


def test_the_interpreter_can_not_be_written_through_proc(world):
    container = world.run("sleep", "1000")

    for pid in (world.keeper_pid, container.shim_pid):
        for path in (f"/proc/{pid}/exe", *mapped_library(pid)):
            # While it runs anywhere, writing is refused as "text file busy"; what counts is the mount it is seen by.
            fd = os.open(path, os.O_PATH)
            assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
            os.close(fd)


def mapped_library(pid):
    for name in os.listdir(f"/proc/{pid}/map_files"):
        with contextlib.suppress(FileNotFoundError):  # it lives, and maps and unmaps
            if "libpython" in os.readlink(f"/proc/{pid}/map_files/{name}"):
                yield f"/proc/{pid}/map_files/{name}"


def test_the_keeper_ends_on_sigterm_and_leaves_the_containers_running(world):
    container = world.run("sh", "-c", CALM)
    keeper = world.keeper_pid

    os.kill(keeper, signal.SIGTERM)
    until(lambda: has_ended(keeper), "the keeper's end")

    assert not os.path.exists(world.dirs.socket)
    assert not os.path.exists(f"/proc/{world.server_pid}")
    assert container.link.ask(m.Hello()).phase == "running"
    world.keeper.close()
    world.keeper = None
    world.start()
    assert stop(world, container).exit_code == 5
    assert not holes(numbers(container))


def leave(world, *, hold):
    world.keeper.ask(m.Leave(hold=hold))
    world.keeper.close()
    world.keeper = None
    os.kill(world.server_pid, signal.SIGTERM)
    until(lambda: not os.path.exists(f"/proc/{world.server_pid}"), "the server's end")


def test_an_idle_server_leaves_and_the_keeper_with_it(world):
    keeper = world.keeper_pid

    leave(world, hold=False)

    until(lambda: has_ended(keeper), "the keeper's end")
    assert not os.path.exists(world.dirs.socket)
    assert not world.groups()
    world.start()


def test_a_held_socket_starts_a_server_when_somebody_connects(world):
    keeper, server = world.keeper_pid, world.server_pid

    leave(world, hold=True)
    world.connect()

    assert world.keeper_pid == keeper
    assert world.server_pid != server


def test_who_connects_while_the_keeper_is_about_to_leave_is_served(world):
    keeper, server = world.keeper_pid, world.server_pid
    os.kill(keeper, signal.SIGSTOP)
    m.send(world.keeper.sock, m.Leave(hold=False), 1)
    world.keeper.close()
    world.keeper = None
    os.kill(server, signal.SIGKILL)
    with socket.socket(socket.AF_UNIX) as early:
        early.connect(world.dirs.socket)
        os.kill(keeper, signal.SIGCONT)
        early.settimeout(20)
        pid, fds, _, _ = socket.recv_fds(early, 100, 1)

    os.close(fds[0])
    assert int(pid) != server
    world.connect()


def test_a_restart_executes_server_and_keeper_anew_and_keeps_the_shims(world):
    container = world.run("sh", "-c", CALM)
    keeper, server = world.keeper_pid, world.server_pid

    world.keeper.ask(m.Restart())
    world.keeper.close()
    world.keeper = None
    until(lambda: not os.path.exists(f"/proc/{server}"), "the old server's end")
    world.connect()

    assert world.keeper_pid == keeper
    assert world.server_pid != server
    assert container.link.ask(m.Hello()).phase == "running"
    until_held(world, container)
    os.kill(container.shim_pid, signal.SIGKILL)
    status = container.reconnect()
    assert (status.phase, status.lost_output) == ("running", False)
    assert stop(world, container).exit_code == 5


def test_a_server_that_dies_again_and_again_is_given_up_with_a_word(tmp_path):
    (tmp_path / "die-at-once").touch()
    command = [sys.executable, "-m", "sampan.supervise.origin", "--root", str(tmp_path), "--server", TINY_SERVER]

    subprocess.run(command, timeout=20, check=True)

    log = tmp_path / "run/keeper.log"
    until(lambda: "giving up" in log.read_text(), "the word", timeout_s=30)
    until(lambda: not (tmp_path / "run/docker.sock").exists(), "the socket's end")


def test_facts_of_another_boot_are_forgotten(world):
    container = world.run("sleep", "1000")
    directory = Path(world.dirs.shim(container.id))
    leave_running = container.state()["pid"]
    keeper = world.keeper_pid
    os.kill(keeper, signal.SIGTERM)
    until(lambda: has_ended(keeper), "the keeper's end")
    kill(container.shim_pid)
    kill(leave_running)
    Path(world.dirs.run, "boot_id").write_text("another\n")
    world.keeper.close()
    world.keeper = None

    world.start()

    assert not directory.exists()
    for group in world.groups():
        if container.id in group:
            os.rmdir(group)


def work(world, job, fds=()):
    """Have a worker do one job; return its answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        world.keeper.ask(m.ForkWorker(), [theirs.fileno()])
        theirs.close()
        m.send(ours, job, 1, fds)
        return m.receive(ours, m.Decoder()).message


def test_a_worker_removes_a_tree_and_reports_what_it_can_not_do(world, tmp_path):
    tree = tmp_path / "tree/a/b"
    tree.mkdir(parents=True)
    (tree / "link").symlink_to("/etc/passwd")

    assert work(world, m.Remove(path=str(tmp_path / "tree"))) == m.Done()
    assert not (tmp_path / "tree").exists()
    assert os.path.exists("/etc/passwd")
    assert isinstance(work(world, m.Hello()), m.Refused)
    assert isinstance(work(world, m.Remove(path="/proc/self")), m.Refused)


def test_workers_unpack_a_layer_and_pack_it_again(world, tmp_path):
    data = archive(member("a", b"content"))
    (tmp_path / "data").write_bytes(data)

    with open(tmp_path / "data", "rb") as file:
        unpacked = work(world, m.Unpack(target=f"{tmp_path}/layer"), [file.fileno()])
    with open(tmp_path / "again", "wb") as file:
        packed = work(world, m.Pack(layer=f"{tmp_path}/layer", kind="none"), [file.fileno()])

    assert packed == m.Packed(digest=unpacked.diff_id, size=len(data), diff_id=unpacked.diff_id)
    assert (tmp_path / "again").read_bytes() == data
    with open(tmp_path / "data", "rb") as file:
        assert isinstance(work(world, m.Pack(layer=f"{tmp_path}/none", kind="gzip"), [file.fileno()]), m.Refused)


def named(world, name):
    """Return the keeper's descendants of this name."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
            inside = Path(f"/proc/{pid}/cgroup").read_text().count(f"{world.parent}/engine")
        except OSError:
            continue
        if comm == name and inside:
            found.append(int(pid))
    return found


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children(world, pid):
    """Return a process's children that are shims or could be."""
    found = set()
    for child in named(world, "sampan-shim"):
        with contextlib.suppress(OSError):
            found |= {child} if parent(child) == pid else set()
    return found


def ahead_of_need(world):
    """Return the nursery and the spare shim, once that has its launcher and nothing else is being born."""
    shims = {*named(world, "sampan-shim")}
    with contextlib.suppress(OSError):
        parents = {pid: parent(pid) for pid in shims}
        spare = shims & {*parents.values()}
        nursery = {pid for pid in shims - spare if parents[pid] == world.keeper_pid}
        if (len(shims), len(spare), len(nursery)) == (3, 1, 1):
            return nursery.pop(), spare.pop()
    return None


def test_whatever_waits_ahead_of_need_may_be_killed(world):
    container = world.run("sleep", "1000")
    until(lambda: len(named(world, "sampan-shim")) == 4, "nursery, a spare shim, its launcher, and the container's")

    waiting = {*named(world, "sampan-shim")} - {container.shim_pid}
    for pid in waiting:
        with contextlib.suppress(ProcessLookupError):  # some end with the others
            os.kill(pid, signal.SIGKILL)

    until(lambda: len({*named(world, "sampan-shim")} - waiting) == 4, "others in their place")
    assert container.link.ask(m.Hello()).phase == "running"
    for _ in range(3):
        assert world.run("sh", "-c", "exit 3").link.event(m.Exited).exit_code == 3


def test_a_spare_shim_that_dies_before_the_keeper_has_heard_of_its_birth_is_not_handed_out(world):
    nursery, spare = until(lambda: ahead_of_need(world), "nursery, spare shim, launcher")

    with slowed(nursery, "sendmsg", 1):  # it tells of each birth by one
        kill(spare)
        born = until(lambda: children(world, world.keeper_pid) - {nursery, spare}, "the next one")
        kill(born.pop())
        time.sleep(1)

    assert world.run("sh", "-c", "exit 3").link.event(m.Exited).exit_code == 3
    assert world.run("sh", "-c", "exit 4").link.event(m.Exited).exit_code == 4


def test_a_shim_that_can_not_be_given_its_directory_is_refused_and_its_channel_ends(world):
    container = world.prepare(socket.socket())
    Path(world.dirs.shim(container.id)).write_text("in the way")
    ours, theirs = socket.socketpair()

    with ours, theirs:
        with pytest.raises(Conflict, match="exists"):
            world.keeper.ask(m.ForkShim(id=container.id), [theirs.fileno()])
        theirs.close()
        ours.settimeout(10)
        assert ours.recv(1) == b""
    os.unlink(world.dirs.shim(container.id))
    assert world.run("sh", "-c", "exit 3").link.event(m.Exited).exit_code == 3


def test_many_containers_at_once(world):
    containers = []
    links = []
    for _ in range(12):
        ours, theirs = socket.socketpair()
        container = world.prepare(ours)
        links.append(world.keeper.post(m.ForkShim(id=container.id), [theirs.fileno()]))
        theirs.close()
        containers.append(container)
    for number, container in enumerate(containers):
        container.link.ask(m.Hello())
        container.launch("sh", "-c", f"exit {number}")

    assert [c.link.event(m.Exited).exit_code for c in containers] == list(range(12))
