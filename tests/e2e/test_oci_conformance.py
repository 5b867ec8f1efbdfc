"""`sampan-runtime` does what runc and crun do: the same checks on all three."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from support.oci import ConsoleSocket, Runtime, stopped
from support.sampan import wait_until


@pytest.fixture(scope="module", params=["sampan-runtime", "runc", "crun"])
def runtime(request, tmp_path_factory):
    one = Runtime(request.param, tmp_path_factory.mktemp(request.param))
    yield one
    one.end()


@pytest.fixture(autouse=True)
def nothing_is_left(runtime):
    before = runtime.leftovers()
    yield
    assert not runtime.leftovers() - before


# -------------------------------------------------------------------------------------------------- the life of one


def test_a_container_is_created_then_runs_then_has_stopped(runtime):
    bundle = runtime.bundle("sh", "-c", "echo ran > /tmp/ran; exec sleep 100")
    proof = runtime.rootfs / "tmp/ran"
    bundle.create()
    created = runtime.state(bundle.id)
    before = proof.exists()
    runtime("start", bundle.id)
    wait_until(proof.exists)
    running = runtime.state(bundle.id)
    runtime("kill", bundle.id, "KILL")
    stopped(runtime, bundle.id)
    ended = runtime.state(bundle.id)
    runtime("delete", bundle.id)
    proof.unlink()

    assert (created["status"], running["status"], ended["status"]) == ("created", "running", "stopped")
    assert not before
    assert created["pid"] == running["pid"] > 0
    assert created["id"] == bundle.id
    assert created["bundle"] == str(bundle.directory)
    assert created["ociVersion"].startswith("1.")
    assert runtime.status(bundle.id) == "gone"


def test_run_returns_the_programs_exit_code_and_output(runtime):
    said = runtime.bundle("sh", "-c", "echo out; echo err >&2; exit 7").run()

    assert (said.code, said.out, said.err) == (7, "out\n", "err\n")


def test_run_of_a_program_that_a_signal_ended_returns_128_and_its_number(runtime):
    assert (
        runtime.bundle("sh", "-c", "kill -TERM $$; sleep 10")
        .change("linux", namespaces=[{"type": "mount"}, {"type": "uts"}])
        .run()
        .code
        == 128 + signal.SIGTERM
    )


def test_run_passes_standard_input(runtime):
    assert runtime.bundle("cat").run(input="words").out == "words"


def test_a_container_can_be_kept_after_run(runtime):
    bundle = runtime.bundle("true")
    said = bundle.run("--keep")
    kept = runtime.status(bundle.id)
    bundle.delete()

    # crun 1.8 has no --keep
    assert (said.code, kept) == ((64, "gone") if runtime.name == "crun" else (0, "stopped"))


def test_the_pid_file_names_the_first_process(runtime, tmp_path):
    bundle = runtime.bundle("sleep", "100")
    bundle.create("--pid-file", tmp_path / "pid")
    pid = runtime.state(bundle.id)["pid"]
    bundle.delete()

    assert (tmp_path / "pid").read_text() == str(pid)


# ------------------------------------------------------------------------------------------------- the wrong moment


def test_an_id_that_is_taken_is_refused_and_its_container_stays(runtime):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running():
        again = bundle.create(check=False)
        still = runtime.status(bundle.id)

    assert again.code == 1
    assert "exist" in again.err
    assert still == "running"


@pytest.mark.parametrize("id", ["../up", "a/b", "", ".", ".."])
def test_an_id_that_is_no_name_of_a_directory_is_refused(runtime, id):
    bundle = runtime.bundle("true")

    said = runtime("create", "--bundle", bundle.directory, id, check=False)

    assert said.code != 0


@pytest.mark.parametrize(
    "words",
    [("state",), ("start",), ("kill",), ("delete",), ("pause",), ("resume",), ("exec", None, "true"), ("ps",)],
    ids=lambda words: words[0],
)
def test_a_container_that_does_not_exist_is_an_error(runtime, words):
    said = runtime(words[0], "nobody", *words[2:], check=False)

    assert said.code in {1, 253, 255}
    assert "does not exist" in said.err or "No such file" in said.err or runtime.name == "crun"


def test_deleting_by_force_what_does_not_exist_is_no_error(runtime):
    said = runtime("delete", "--force", "nobody", check=False)

    assert said.code == 0


def test_a_running_container_is_deleted_by_force_only(runtime):
    bundle = runtime.bundle("sleep", "100")
    bundle.run("--detach", check=True)
    pid = runtime.state(bundle.id)["pid"]
    refused = runtime("delete", bundle.id, check=False)
    runtime("delete", "--force", bundle.id)

    assert refused.code == 1
    assert not os.path.exists(f"/proc/{pid}/cwd")
    assert runtime.status(bundle.id) == "gone"


def test_only_a_created_container_can_be_started(runtime):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running():
        running = runtime("start", bundle.id, check=False)
        runtime("kill", bundle.id, "KILL")
        stopped(runtime, bundle.id)
        ended = runtime("start", bundle.id, check=False)

    assert (running.code, ended.code) == (1, 1)


def test_a_stopped_container_can_be_neither_signalled_nor_entered(runtime):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running():
        runtime("kill", bundle.id, "KILL")
        stopped(runtime, bundle.id)
        killed = runtime("kill", bundle.id, "TERM", check=False)
        entered = runtime("exec", bundle.id, "true", check=False)

    assert killed.code == 1
    assert entered.code != 0


# -------------------------------------------------------------------------------------------------------- bad input


def test_a_missing_program_fails_create_and_leaves_nothing(runtime):
    bundle = runtime.bundle("nonesuch")

    said = bundle.create(check=False)

    assert said.code == 1
    assert "executable file" in said.err
    assert "not found in $PATH" in said.err


def test_a_missing_root_filesystem_is_refused(runtime):
    assert runtime.bundle("true").change("root", path="/nonesuch").create(check=False).code == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ociVersion": "1.0.2", "process": 7}'])
def test_a_malformed_configuration_is_refused(runtime, text):
    bundle = runtime.bundle("true")
    (bundle.directory / "config.json").write_text(text)

    assert bundle.create(check=False).code in {1, 255}


def test_a_missing_configuration_is_refused(runtime):
    bundle = runtime.bundle("true")
    (bundle.directory / "config.json").unlink()

    assert bundle.create(check=False).code in {1, 255}


def test_an_unknown_field_is_ignored(runtime):
    assert runtime.bundle("true").change("", unknown={"a": 1}).run().code == 0


def test_what_fails_is_the_last_error_of_the_json_log(runtime, tmp_path):
    bundle = runtime.bundle("nonesuch")
    log = tmp_path / "log.json"
    runtime("--log", log, "--log-format", "json", "create", "--bundle", bundle.directory, bundle.id, check=False)

    errors = [e for e in map(json.loads, log.read_text().splitlines()) if e["level"] == "error"]

    assert "not found in $PATH" in errors[-1]["msg"]
    assert errors[-1]["time"]


# ---------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("word", ["USR1", "SIGUSR1", str(int(signal.SIGUSR1))])
def test_a_signal_is_known_by_its_name_and_number(runtime, word):
    bundle = runtime.bundle("sh", "-c", "trap 'exit 0' USR1; touch /tmp/ready; while :; do usleep 10000; done")
    with bundle.running():
        wait_until((runtime.rootfs / "tmp/ready").exists)
        runtime("kill", bundle.id, word)
        stopped(runtime, bundle.id)
    (runtime.rootfs / "tmp/ready").unlink()


def test_kill_sends_sigterm_unless_told_otherwise(runtime):
    bundle = runtime.bundle("sh", "-c", "trap 'exit 0' TERM; touch /tmp/ready; while :; do usleep 10000; done")
    with bundle.running():
        wait_until((runtime.rootfs / "tmp/ready").exists)
        runtime("kill", bundle.id)
        stopped(runtime, bundle.id)
    (runtime.rootfs / "tmp/ready").unlink()


def test_kill_all_reaches_every_process_without_a_pid_namespace(runtime):
    bundle = runtime.bundle("sh", "-c", "sleep 1000 & exec sleep 1000")
    bundle.change("linux", namespaces=[{"type": name} for name in ("mount", "ipc", "uts", "network")])
    with bundle.running():
        wait_until(lambda: len(json.loads(runtime("ps", "-f", "json", bundle.id).out)) == 2)
        pids = json.loads(runtime("ps", "-f", "json", bundle.id).out)
        runtime("kill", "--all", bundle.id, "KILL")

        wait_until(lambda: not any(_lives(pid) for pid in pids))


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


def test_a_signal_to_run_reaches_the_program(runtime):
    bundle = runtime.bundle("sh", "-c", "trap 'exit 9' TERM; touch /tmp/ready; while :; do usleep 10000; done")
    words = runtime.command("run", "--bundle", bundle.directory, bundle.id)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as parent:
        wait_until((runtime.rootfs / "tmp/ready").exists)
        parent.send_signal(signal.SIGTERM)
        code = parent.wait(30)
    (runtime.rootfs / "tmp/ready").unlink()

    assert code == 9


# ------------------------------------------------------------------------------------------------------------- exec


@pytest.fixture(scope="module")
def box(runtime):
    bundle = runtime.bundle("sh", "-c", "while :; do sleep 1; done")
    bundle.run("--detach", check=True)
    yield bundle.id
    runtime("delete", "--force", bundle.id)


class TestExec:
    """In one container of the module's."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self):
        """The container stays for the next test."""

    def test_it_returns_the_programs_exit_code_and_output(self, runtime, box):
        said = runtime("exec", box, "sh", "-c", "cat; echo err >&2; exit 5", input="in", check=False)

        assert (said.code, said.out, said.err) == (5, "in", "err\n")

    def test_it_is_inside(self, runtime, box):
        said = runtime("exec", box, "sh", "-c", "hostname; readlink /proc/1/ns/pid; readlink /proc/self/ns/pid")

        name, first, own = said.lines
        assert name == "box"
        assert first == own

    def test_its_options_change_the_containers_process(self, runtime, box):
        said = runtime(
            "exec", "--cwd", "/srv", "--env", "A=b c", "--env", "D=", "--user", "33:44", box,
            "/bin/sh", "-c", 'pwd; echo "$A-$D-"; id -u; id -g',
        )  # fmt: skip

        assert said.lines == ["/srv", "b c--", "33", "44"]

    def test_a_process_is_read_from_a_file(self, runtime, box, tmp_path):
        process = {
            "args": ["sh", "-c", "echo $X; pwd"],
            "cwd": "/tmp",
            "env": ["PATH=/bin", "X=y"],
            "user": {"uid": 0, "gid": 0},
        }
        (tmp_path / "process.json").write_text(json.dumps(process))

        assert runtime("exec", "--process", tmp_path / "process.json", box).lines == ["y", "/tmp"]

    def test_a_missing_program_is_an_error_of_its_own(self, runtime, box):
        said = runtime("exec", box, "nonesuch", check=False)

        assert said.code in {127, 255}
        assert "not found in $PATH" in said.err

    def test_it_can_be_left_in_the_background(self, runtime, box, tmp_path):
        runtime("exec", "--detach", "--pid-file", tmp_path / "pid", box, "sleep", "1000")
        pid = int((tmp_path / "pid").read_text())
        listed = json.loads(runtime("ps", "-f", "json", box).out)
        os.kill(pid, signal.SIGKILL)

        assert pid in listed

    def test_it_has_the_containers_capabilities(self, runtime, box):
        own = runtime("exec", box, "grep", "CapBnd", "/proc/self/status").out

        assert own == runtime("exec", box, "grep", "CapBnd", "/proc/1/status").out

    def test_more_descriptors_are_passed_on(self, runtime, box):
        read, write = os.pipe()
        runtime("exec", "--preserve-fds", "1", box, "sh", "-c", "echo three >&3", third=write)
        os.close(write)
        said = os.read(read, 100)
        os.close(read)

        assert said == b"three\n"

    def test_a_terminal_goes_to_the_console_socket(self, runtime, box, tmp_path):
        console = ConsoleSocket(tmp_path / "s")
        runtime("exec", "--tty", "--detach", "--console-socket", console.path, box, "sh", "-c", "tty; sleep 1")
        master = console.receive()
        said = os.read(master, 100)
        console.close()
        os.close(master)

        assert said.startswith(b"/dev/pts/")

    def test_nobody_enters_while_it_is_paused(self, runtime, box):
        runtime("pause", box)
        status = runtime.status(box)
        said = runtime("exec", box, "true", check=False) if runtime.name != "crun" else None
        runtime("resume", box)

        assert status == "paused"
        assert said is None or said.code != 0
        assert runtime.status(box) == "running"

    def test_its_memory_limit_can_be_changed(self, runtime, box):
        runtime("update", "--memory", str(64 << 20), box)
        runtime("update", "--resources", "-", box, input='{"pids": {"limit": 99}}')

        limits = _limits(runtime, box)
        assert limits == (str(64 << 20), "99")

    def test_it_is_listed(self, runtime, box):
        table = runtime("list").lines
        names = runtime("list", "-q").lines
        (found,) = [c for c in json.loads(runtime("list", "-f", "json").out) if c["id"] == box]

        assert table[0].split()[:4] == (["NAME"] if runtime.name == "crun" else ["ID"]) + ["PID", "STATUS", "BUNDLE"]
        assert box in names
        assert found["status"] == "running"


def _limits(runtime: Runtime, id: str) -> tuple[str, str]:
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        group = top / runtime.cgroup / id
        return (group / "memory.max").read_text().strip(), (group / "pids.max").read_text().strip()
    memory = top / "memory" / runtime.cgroup / id / "memory.limit_in_bytes"
    return memory.read_text().strip(), (top / "pids" / runtime.cgroup / id / "pids.max").read_text().strip()


# -------------------------------------------------------------------------------------------- descriptors, terminals


def test_the_program_has_no_other_descriptors(runtime, tmp_path):
    leaked = os.open(tmp_path, os.O_RDONLY)
    said = runtime.bundle("ls", "/proc/self/fd").run(pass_fds=(leaked,))
    os.close(leaked)

    assert said.lines[:3] == ["0", "1", "2"]
    assert len(said.lines) <= 4


def test_descriptors_are_passed_on_where_that_is_asked_for(runtime):
    read, write = os.pipe()
    runtime.bundle("sh", "-c", "echo three >&3").run("--preserve-fds", "1", third=write, check=True)
    os.close(write)
    said = os.read(read, 100)
    os.close(read)

    assert said == b"three\n"


def test_a_created_containers_terminal_goes_to_the_console_socket(runtime, tmp_path):
    console = ConsoleSocket(tmp_path / "s")
    bundle = runtime.bundle("sh", "-c", "tty; sleep 100", terminal=True)
    bundle.create("--console-socket", console.path)
    master = console.receive()
    runtime("start", bundle.id)
    said = os.read(master, 100)
    bundle.delete()
    console.close()
    os.close(master)

    assert said.startswith((b"/dev/pts/0", b"/dev/console"))


def test_a_terminal_without_anybody_to_have_it_is_refused(runtime):
    assert runtime.bundle("true", terminal=True).create(check=False).code == 1


# ------------------------------------------------------------------------------------------------------------ hooks


def test_hooks_run_in_their_order_and_are_told_the_state(runtime, tmp_path):
    names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    log = tmp_path / "log"
    hooks = {
        name: [{"path": "/bin/sh", "args": ["sh", "-c", f"printf '{name} ' >> {log}; cat >> {log}; echo >> {log}"]}]
        for name in names
    }
    bundle = runtime.bundle("true").change("", hooks=hooks)
    bundle.run(check=True)

    said = [line.partition(" ") for line in log.read_text().splitlines() if line]

    assert [name for name, _, _ in said] == names
    assert {json.loads(state)["id"] for _, _, state in said} == {bundle.id}


def test_the_last_hook_before_the_program_runs_at_start_and_inside(runtime):
    write = {"path": "/bin/sh", "args": ["sh", "-c", "hostname > /tmp/hooked"], "env": ["PATH=/bin"]}
    bundle = runtime.bundle("cat", "/tmp/hooked").change("", hooks={"startContainer": [write]})
    hooked = runtime.rootfs / "tmp/hooked"
    bundle.create()
    before = hooked.exists()
    runtime("start", bundle.id)
    stopped(runtime, bundle.id)
    bundle.delete()
    after = hooked.read_text()
    hooked.unlink()

    assert (before, after) == (False, "box\n")


def test_a_hook_that_fails_before_the_start_leaves_no_container(runtime):
    bundle = runtime.bundle("true").change("", hooks={"createRuntime": [{"path": "/bin/false"}]})

    assert bundle.create(check=False).code in {1, 255}
