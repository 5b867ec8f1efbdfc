"""One container under a shim: streams, log, execs, control, exit."""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from sampan.errors import CommandNotFound, Conflict, NotFound
from sampan.spec import runtime as oci
from sampan.supervise import messages as m
from support.supervised import World, until


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("root"))
    yield world
    world.end()


def attach(container, *streams, **options):
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    with theirs:
        container.link.ask(m.Attach(streams=frozenset(streams), **options), [theirs.fileno()])
    return ours


def read_all(sock):
    with sock:
        data = b""
        while piece := sock.recv(65536):
            data += piece
    return data


def frames(data):
    """Return what came on each stream."""
    found = {1: b"", 2: b""}
    while data:
        size = int.from_bytes(data[4:8], "big")
        found[data[0]] += data[8 : 8 + size]
        data = data[8 + size :]
    return found[1], found[2]


def in_state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_container_runs_is_logged_and_its_exit_is_told_and_written(world):
    container = world.container()

    launched = container.launch("sh", "-c", "echo out; echo err >&2; exit 3")
    exited = container.link.event(m.Exited)

    assert launched.steps
    assert (exited.exit_code, exited.oom_killed) == (3, False)
    assert sorted(container.log().splitlines()) == ["err", "out"]
    state = container.state()
    assert (state["phase"], state["exited"]["exit_code"], state["version"]) == ("exited", 3, m.VERSION)
    container.link.ask(m.Forget())
    assert not os.path.exists(world.dirs.shim(container.id))
    assert not [g for g in world.groups() if container.id in g]
    until(lambda: not os.path.exists(f"/proc/{container.shim_pid}"), "the shim's end")


def test_who_says_hello_twice_is_told_once(world):
    container = world.run("sleep", "1000")
    for _ in range(3):
        container.link.ask(m.Hello())

    container.link.ask(m.Signal(number=signal.SIGKILL))
    container.link.event(m.Exited)
    container.link.ask(m.Hello())

    assert not [e for e in container.link.events if isinstance(e, m.Exited)]


def test_a_signal_s_exit_code_is_128_and_the_signal(world):
    container = world.run("sleep", "1000")

    container.link.ask(m.Signal(number=signal.SIGKILL))

    assert container.link.event(m.Exited).exit_code == 137


def test_a_missing_program_is_refused_and_leaves_nothing(world):
    container = world.container()
    client, theirs = socket.socketpair()
    with theirs:
        container.link.ask(m.Attach(streams=frozenset({"stdout"})), [theirs.fileno()])

    with pytest.raises(CommandNotFound, match="no-such-program"):
        container.launch("no-such-program")

    assert read_all(client) == b""
    assert not [g for g in world.groups() if container.id in g]
    assert container.link.ask(m.Hello()).phase == "empty"
    container.link.ask(m.Forget())
    until(lambda: not os.path.exists(f"/proc/{container.shim_pid}"), "the shim's end")


def test_a_shim_whose_server_dies_before_the_launch_ends(world):
    container = world.container()

    container.link.close()

    until(lambda: not os.path.exists(f"/proc/{container.shim_pid}"), "the shim's end")
    assert not os.path.exists(world.dirs.shim(container.id))


def test_a_client_may_attach_before_the_launch_and_gets_everything(world):
    container = world.container()
    client = attach(container, "stdout", "stderr")

    container.launch("sh", "-c", "echo out; echo err >&2")

    assert frames(read_all(client)) == (b"out\n", b"err\n")


def test_standard_input_ends_with_its_client_when_asked_to(world):
    container = world.container()
    client = attach(container, "stdin", "stdout", already_read=b"one ")
    container.launch("cat", open_stdin=True, stdin_once=True)

    client.sendall(b"two\n")
    client.shutdown(socket.SHUT_WR)

    assert frames(read_all(client)) == (b"one two\n", b"")
    assert container.link.event(m.Exited).exit_code == 0


def test_without_stdin_once_a_client_s_end_of_file_ends_nothing(world):
    container = world.container()
    container.launch("cat", open_stdin=True)
    first = attach(container, "stdin")
    first.sendall(b"one\n")
    first.close()

    with attach(container, "stdin", "stdout") as second:
        second.sendall(b"two\n")
        until(lambda: container.log() == "one\ntwo\n")


def test_several_clients_get_the_same_output(world):
    container = world.container()
    clients = [attach(container, "stdout") for _ in range(3)]

    container.launch("seq", "1", "5000")

    expected = "".join(f"{n}\n" for n in range(1, 5001)).encode()
    for client in clients:
        assert frames(read_all(client))[0] == expected
    assert container.log().encode() == expected


def test_output_flows_when_nobody_is_attached(world):
    container = world.run("seq", "1", "200000")

    assert container.link.event(m.Exited).exit_code == 0
    assert container.log() == "".join(f"{n}\n" for n in range(1, 200_001))


def test_a_client_that_does_not_read_holds_the_container_up(world):
    container = world.container()
    client = attach(container, "stdout")
    container.launch("seq", "1", "200000")
    time.sleep(0.5)

    assert container.link.ask(m.Hello()).phase == "running"
    assert len(container.log()) < 600_000
    assert frames(read_all(client))[0] == b"".join(b"%d\n" % n for n in range(1, 200_001))


def test_long_lines_are_logged_in_pieces_and_bad_characters_replaced(world):
    container = world.run("sh", "-c", r"head -c 40000 /dev/zero; echo; printf 'a\377b\n'")
    container.link.event(m.Exited)

    with open(container.log_path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert len(lines) == 4
    assert container.log() == "\0" * 40000 + "\na�b\n"


def test_the_log_is_rotated(world):
    container = world.container()
    container.launch("seq", "1", "20000", log=m.LogConfig(path=container.log_path, max_bytes=300_000, max_files=2))
    container.link.event(m.Exited)

    assert os.path.exists(f"{container.log_path}.1")
    assert not os.path.exists(f"{container.log_path}.2")
    assert container.log().endswith("\n19999\n20000\n")


def test_a_full_disk_drops_lines_with_a_count_and_never_blocks(world, tmp_path):
    container = world.container()
    container.launch("seq", "1", "3000", log=m.LogConfig(path="/dev/full"))

    assert container.link.event(m.Exited).exit_code == 0
    assert container.state()["dropped_log_lines"] == 3000


def test_a_terminal_is_raw_resized_and_detached_from(world):
    container = world.container()
    container.launch("sh", tty=True, open_stdin=True, console_size=(30, 100))
    client = attach(container, "stdin", "stdout")

    def said(text):
        data = b""
        while text not in data:
            data += client.recv(4096)
        return data

    client.sendall(b"stty size\n")
    said(b"30 100")
    container.link.ask(m.Resize(rows=40, columns=120))
    client.sendall(b"stty size\n")
    said(b"40 120")
    client.sendall(b"\x10\x11")
    said(b"")
    read_all(client)
    assert container.link.ask(m.Hello()).phase == "running"
    with attach(container, "stdin", "stdout") as client:
        client.sendall(b"exit 7\n")
        assert container.link.event(m.Exited).exit_code == 7


def test_a_gated_container_waits_for_go(world):
    container = world.container()
    launched = container.launch("echo", "ran", gated=True)

    assert container.link.ask(m.Hello()).phase == "created"
    assert container.log() == ""
    assert os.path.exists(f"/proc/{launched.pid}")

    container.link.ask(m.Go())

    assert container.link.event(m.Exited).exit_code == 0
    assert container.log() == "ran\n"


def test_pause_stops_everything_and_refuses_execs(world):
    container = world.run("sh", "-c", "while :; do echo x; done", log=m.LogConfig())
    container.link.ask(m.Freeze(frozen=True))
    pid = container.state()["pid"]

    assert container.link.ask(m.Hello()).phase == "paused"
    with pytest.raises(Conflict, match=f"Container {container.id} is paused, unpause the container before exec"):
        container.execute("true")
    with pytest.raises(Conflict, match="already paused"):
        container.link.ask(m.Freeze(frozen=True))
    container.link.ask(m.Freeze(frozen=False))
    assert container.link.ask(m.Hello()).phase == "running"
    assert in_state(pid) in "RS"
    container.link.ask(m.Signal(number=signal.SIGKILL))
    assert container.link.event(m.Exited).exit_code == 137


def test_a_container_killed_at_its_memory_limit_says_so(world):
    resources = oci.Resources(memory=oci.Memory(limit=16 << 20, swap=16 << 20))
    container = world.run("sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x | sort; true", resources=resources)

    exited = container.link.event(m.Exited)
    assert exited.oom_killed or exited.exit_code == 137


def test_limits_are_updated(world):
    container = world.run("sleep", "1000")

    container.link.ask(m.Update(writes=(("pids", "pids.max", "77"),)))

    groups = dict(container.link.ask(m.Hello()).cgroups)
    directory = groups.get("pids", groups.get(""))
    assert Path(directory, "pids.max").read_text() == "77\n"


def test_everyone_gets_a_signal(world):
    container = world.run("sh", "-c", "trap '' TERM; sleep 1000 & wait")
    time.sleep(0.1)

    container.link.ask(m.Signal(number=signal.SIGKILL, everyone=True))

    assert container.link.event(m.Exited).exit_code == 137


def test_a_container_of_the_host_s_pid_namespace_ends_whole(world):
    container = world.run("sh", "-c", "sleep 1234 & echo $!; exit 0", shared=("pid",))

    assert container.link.event(m.Exited).exit_code == 0
    pid = int(container.log())
    container.link.ask(m.Forget())
    with contextlib.suppress(FileNotFoundError):
        assert in_state(pid) == "Z"


def exec_client():
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    return ours, theirs


def test_an_exec_gets_its_input_and_gives_output_and_code(world):
    container = world.run("sleep", "1000")
    client, theirs = exec_client()
    with theirs:
        container.execute(
            "sh", "-c", "cat; echo err >&2; exit 9", client=theirs,
            streams=frozenset({"stdin", "stdout", "stderr"}), already_read=b"in", greeting=b"HTTP/1.1 101\r\n\r\n",
        )  # fmt: skip

    client.shutdown(socket.SHUT_WR)

    data = read_all(client)
    assert data.startswith(b"HTTP/1.1 101\r\n\r\n")
    assert frames(data.removeprefix(b"HTTP/1.1 101\r\n\r\n")) == (b"in", b"err\n")
    exited = container.link.event(m.ExecExited)
    assert (exited.exec_id, exited.exit_code) == ("e1", 9)
    assert [(e.exec_id, e.exit_code) for e in container.link.ask(m.Hello()).execs] == [("e1", 9)]


def test_an_exec_s_process_is_the_shim_s_child_in_the_container_s_groups(world):
    container = world.run("sleep", "1000")

    launched = container.execute("sleep", "1000")

    with open(f"/proc/{launched.pid}/stat") as file:
        assert int(file.read().rpartition(")")[2].split()[1]) == container.shim_pid
    assert container.id in Path(f"/proc/{launched.pid}/cgroup").read_text()
    init = container.state()["pid"]
    for namespace in ("pid", "mnt", "net", "uts", "ipc"):
        assert os.readlink(f"/proc/{launched.pid}/ns/{namespace}") == os.readlink(f"/proc/{init}/ns/{namespace}")
    container.link.ask(m.Signal(number=signal.SIGTERM, exec_id="e1"))
    assert container.link.event(m.ExecExited).exit_code == 143


def test_an_exec_of_nothing_is_refused_without_a_word_to_the_client(world):
    container = world.run("sleep", "1000")
    client, theirs = exec_client()
    with theirs, pytest.raises(CommandNotFound):
        container.execute("no-such-program", client=theirs, streams=frozenset({"stdout"}), greeting=b"HTTP")

    assert read_all(client) == b""
    with pytest.raises(NotFound):
        container.link.ask(m.Signal(number=15, exec_id="e1"))


def test_an_exec_on_a_terminal(world):
    container = world.run("sleep", "1000")
    client, theirs = exec_client()
    with theirs:
        container.execute(
            "sh", "-c", "stty size; readlink /proc/self/fd/0", client=theirs, tty=True, console_size=(11, 22),
            streams=frozenset({"stdin", "stdout"}),
        )  # fmt: skip

    said = read_all(client)
    assert b"11 22\r\n" in said
    assert b"/dev/pts/" in said


def test_an_exec_that_leaves_a_child_behind_ends_and_the_child_may_go_on_writing(world):
    container = world.run("sleep", "1000")
    client, theirs = exec_client()
    with theirs:
        container.execute(
            "sh", "-c",
            "(while [ ! -e /tmp/go ]; do sleep 0.01; done; yes | head -c 200000; echo > /tmp/survived) & echo done",
            client=theirs, streams=frozenset({"stdout"}),
        )  # fmt: skip

    assert frames(read_all(client))[0] == b"done\n"
    assert container.link.event(m.ExecExited).exit_code == 0
    tmp = Path(f"/proc/{container.state()['pid']}/root/tmp")
    (tmp / "go").touch()
    until((tmp / "survived").exists, "the child's last act")


def test_execs_end_with_their_container(world):
    container = world.run("sleep", "1000")
    container.execute("sleep", "1000", exec_id="a")
    container.execute("sleep", "1000", exec_id="b")

    container.link.ask(m.Signal(number=signal.SIGKILL))

    assert container.link.event(m.Exited).exit_code == 137
    assert {e.exec_id: e.exit_code for e in container.link.ask(m.Hello()).execs} == {"a": 137, "b": 137}


def test_an_exec_in_what_does_not_run_is_a_conflict(world):
    container = world.run("true")
    container.link.event(m.Exited)

    with pytest.raises(Conflict, match="is not running"):
        container.execute("true")


def test_a_running_container_is_not_forgotten(world):
    container = world.run("sleep", "1000")

    with pytest.raises(Conflict):
        container.link.ask(m.Forget())


def test_the_shim_holds_nothing_of_the_keeper_s(world):
    container = world.run("sleep", "1000")
    other = world.run("sleep", "1000")

    def open_files(pid):
        found = {}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        return found

    mine, theirs = open_files(container.shim_pid), open_files(other.shim_pid)
    sockets = {path for path in mine.values() if path.startswith(("socket:", "pipe:"))}
    assert not sockets & set(theirs.values())
    assert str(world.dirs.keeper_lock) not in mine.values()
    assert set(open_files(container.state()["pid"]).values()) - {"/dev/null"} == {
        path for fd, path in open_files(container.state()["pid"]).items() if fd in {1, 2}
    }


def test_a_shim_is_not_dumpable_and_ignores_what_a_terminal_or_shutdown_sends(world):
    container = world.run("sleep", "1000")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(container.shim_pid, number)

    assert container.link.ask(m.Hello()).phase == "running"
    pid = container.state()["pid"]
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    # glibc's posix_spawn(3), by which a keeper may have been started, ignores two signals that only glibc itself uses.
    assert int(status["SigIgn"], 16) & ~(1 << 31 | 1 << 32) == 0
    assert int(status["SigBlk"], 16) == 0


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def test_a_shim_stays_small_that_sends_its_log_to_a_slow_receiver(world, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"{tmp_path}/log")
        receiver.settimeout(20)
        syslog = ("", 3, "", "web", False)
        to = m.LogReceiver(network="unixgram", addresses=((f"{tmp_path}/log", 0),), syslog=syslog)
        container = world.run("sh", "-c", "seq 1 10000; exec sleep 1000", log=m.LogConfig(receiver=to))

        while not receiver.recv(4096).endswith(b" 10000\n"):
            pass

    assert private_kib(container.shim_pid) < 1400


def test_a_shim_stays_small(world):
    # With 50 of them, what they share is 150 KiB for each.
    idle = [world.run("sleep", "1000") for _ in range(3)]
    busy = [world.run("sh", "-c", "seq 1 100000; exec sleep 1000") for _ in range(3)]
    for container in busy:
        until(lambda c=container: c.log().endswith("\n100000\n"), "the last line", timeout_s=60)

    assert max(private_kib(c.shim_pid) for c in idle) < 1100
    assert max(private_kib(c.shim_pid) for c in busy) < 1300
