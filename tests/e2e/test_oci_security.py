"""`sampan-runtime`'s own walls, and that nothing of a command that was killed stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from support.oci import OURS, Runtime, unseal


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    one = Runtime("sampan-runtime", tmp_path_factory.mktemp("runtime"))
    yield one
    one.end()


@pytest.fixture(autouse=True)
def nothing_is_left(runtime):
    yield
    assert not runtime.leftovers()


@pytest.mark.parametrize("prepared", [False, True])
def test_the_interpreter_of_a_created_container_lies_on_a_read_only_mount(runtime, prepared):
    """CVE-2019-5736: what a container reaches through /proc/self/exe of a process that has entered it."""
    unseal()
    bundle = runtime.bundle("sleep", "100")
    if prepared:
        runtime.bundle("true").run(check=True)
    bundle.create()
    pid = runtime.state(bundle.id)["pid"]
    facts, name = os.statvfs(f"/proc/{pid}/exe"), os.readlink(f"/proc/{pid}/exe")
    bundle.delete()

    assert facts.f_flag & os.ST_RDONLY
    assert name == (f"/run/sampan-runtime/start{OURS}/python" if prepared else "/")


def test_a_program_that_is_a_script_for_proc_self_exe_does_not_get_a_writable_interpreter(runtime):
    script = runtime.rootfs / "bin/again"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    said = runtime.bundle("/bin/again").run()
    script.unlink()

    # The host's interpreter is executed in the container, whose files are not those it needs.
    assert said.code != 0


def test_an_interpreter_that_was_replaced_is_bound_anew(runtime):
    runtime.bundle("true").run(check=True)
    link = f"/run/sampan-runtime/start{OURS}/interpreter"
    real = os.readlink(link)
    os.unlink(link)
    os.symlink("/bin/sh", link)
    code = runtime.bundle("true").run().code

    assert code == 0
    assert os.readlink(link) == real


def test_a_script_that_was_installed_anew_is_started_anew(runtime):
    runtime.bundle("true").run(check=True)
    program = f"/run/sampan-runtime/start{OURS}/main.py"
    os.utime(program, (1, 1))
    code = runtime.bundle("true").run().code

    assert code == 0
    assert os.stat(program).st_mtime > 1


def test_a_created_containers_process_has_no_directory_of_the_hosts_open(runtime):
    bundle = runtime.bundle("sleep", "100")
    bundle.create()
    pid = runtime.state(bundle.id)["pid"]
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    dumpable = os.stat(f"/proc/{pid}/environ").st_uid
    bundle.delete()

    assert [link for link in links if link.startswith("/") and link != "/dev/null" and "/tmp/" not in link] == []
    assert dumpable == 0


@pytest.mark.parametrize("after_ms", [5, 15, 25, 35, 45, 60, 80])
def test_what_a_killed_create_has_left_goes_with_delete(runtime, after_ms):
    bundle = runtime.bundle("true")
    words = runtime.command("create", "--bundle", bundle.directory, bundle.id)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as maker:
        time.sleep(after_ms / 1000)
        maker.send_signal(signal.SIGKILL)
    bundle.delete()

    assert not runtime.leftovers()
    assert bundle.run().code == 0


def test_a_gate_that_nobody_came_through_keeps_its_container_waiting(runtime):
    """Whoever connects to the gate and ends without a word has not started it."""
    bundle = runtime.bundle("true")
    bundle.create()
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(f"{runtime.root}/{bundle.id}/gate")
    still = runtime.status(bundle.id)
    runtime("start", bundle.id)
    runtime("delete", "--force", bundle.id)

    assert still == "created"


@pytest.mark.parametrize(
    ("program", "said"), [("/etc/passwd", "permission denied: its mode has no x"), ("/etc", "is a directory")]
)
def test_a_program_that_nobody_may_execute_fails_create_and_leaves_nothing(runtime, program, said):
    done = runtime.bundle(program).create(check=False)

    assert (done.code, f'exec: "{program}": {said}' in done.err) == (1, True)


def test_a_program_that_can_not_be_executed_fails_start_and_stops_the_container(runtime):
    script = runtime.rootfs / "bin/broken"
    script.write_text("no program\n")
    script.chmod(0o755)
    bundle = runtime.bundle("/bin/broken")
    bundle.create()
    said = runtime("start", bundle.id, check=False)
    status = runtime.status(bundle.id)
    bundle.delete()
    script.unlink()

    assert said.code == 1
    assert "exec format error" in said.err
    assert status == "stopped"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"ociVersion": "2.0.0"}, "ociVersion"),
        ({"process": {"args": "sh", "cwd": "/"}}, "$.process.args"),
        ({"process": {"args": [], "cwd": "/"}}, "no command"),
        ({"process": {"args": ["sh"], "cwd": "tmp"}}, "absolute path"),
        ({"process": {"args": ["sh"], "cwd": "/", "env": ["A=1", "B"]}}, "$.process.env[1]"),
        ({"linux": {"namespaces": [{"type": "space"}]}}, "$.linux.namespaces[0].type"),
        ({"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}}, "two mount namespaces"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(runtime, document, said):
    bundle = runtime.bundle("true")
    bundle.configuration.update(document)
    bundle.write()

    refused = bundle.create(check=False)

    assert refused.code == 1
    assert said in refused.err
    assert "Traceback" not in refused.err


def test_a_root_that_can_not_be_written_is_an_error(runtime):
    bundle = runtime.bundle("true")
    words = [OURS, "--root", "/proc/nowhere", "create", "--bundle", str(bundle.directory), "c1"]

    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "/proc/nowhere" in done.stderr


def test_a_damaged_state_is_said_and_removed_by_force(runtime):
    bundle = runtime.bundle("sleep", "100")
    bundle.create()
    pid = runtime.state(bundle.id)["pid"]
    state = runtime.root / bundle.id / "state.json"
    whole = state.read_text()
    state.write_text(whole[:40])
    damaged = runtime("state", bundle.id, check=False)
    state.write_text(whole)
    bundle.delete()

    assert damaged.code == 1
    assert "damaged" in damaged.err
    assert not os.path.exists(f"/proc/{pid}/cwd")


def test_events_say_that_a_container_was_out_of_memory(runtime):
    bundle = runtime.bundle("sh", "-c", "until [ -e /tmp/go ]; do usleep 10000; done; tail -c 100m /dev/zero; exit 0")
    bundle.configuration["linux"]["resources"]["memory"] = {"limit": 8 << 20, "swap": 8 << 20}
    bundle.write()
    go = runtime.rootfs / "tmp/go"
    with bundle.running():
        words = runtime.command("events", "--interval", "100ms", bundle.id)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as events:
            assert events.stdout
            first = events.stdout.readline()  # it counts from here on
            go.touch()
            kinds = [json.loads(line)["type"] for line in (first, *events.stdout)]
    go.unlink()

    assert kinds[0] == "stats"
    assert "oom" in kinds


# ------------------------------------------------------------------------------------------------ commands that race


def test_several_deletes_by_force_at_once_all_succeed_and_the_last_hooks_run_once(runtime, tmp_path):
    bundle = runtime.bundle("sleep", "100")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo ran >> {tmp_path}/hooks"]}
    bundle.change("", hooks={"poststop": [hook]}).run("--detach", check=True)
    words = runtime.command("delete", "--force", bundle.id)
    deletes = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[1] for process in deletes]

    assert ([process.returncode for process in deletes], said) == ([0] * 4, [""] * 4)
    assert (tmp_path / "hooks").read_text() == "ran\n"


def test_a_container_that_is_paused_before_its_start_says_so_and_starts_when_resumed(runtime):
    bundle = runtime.bundle("sleep", "100")
    bundle.create()
    runtime("pause", bundle.id)
    paused = runtime.status(bundle.id)
    refused = runtime("start", bundle.id, check=False)
    runtime("resume", bundle.id)
    resumed = runtime.status(bundle.id)
    runtime("start", bundle.id)
    started = runtime.status(bundle.id)
    bundle.delete()

    assert (paused, resumed, started) == ("paused", "created", "running")
    assert "cannot start a container in the paused state" in refused.err


def test_an_exec_whose_pid_can_not_be_written_leaves_no_process(runtime, tmp_path):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running():
        said = runtime("exec", "-d", "--pid-file", tmp_path / "none/pid", bundle.id, "sleep", "99", check=False)
        left = json.loads(runtime("ps", "--format", "json", bundle.id).out)

    assert said.code == 255
    assert len(left) == 1


# ------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize("interval", ["0s", "-1s"])
def test_statistics_without_a_pause_between_them_are_refused(runtime, interval):
    with runtime.bundle("sleep", "100").running() as id:
        said = runtime("events", "--interval", interval, id, check=False, timeout=10)

    assert (said.code, said.err) == (1, "sampan-runtime: duration interval must be greater than 0\n")


def test_features_are_said_by_the_script(runtime):
    assert json.loads(runtime("features").out)["linux"]["seccomp"]["enabled"]


def test_what_comes_behind_the_id_of_ps_is_for_ps(runtime):
    bundle = runtime.bundle("sleep", "100")
    with bundle.running():
        said = runtime("ps", bundle.id, "-o", "pid,comm").lines

    assert [line.split()[-1] for line in said] == ["COMMAND", "sleep"]


@pytest.mark.parametrize("words", [("--log-format", "xml"), ("--cgroup-manager", "none"), ("--rootless", "maybe")])
def test_a_global_option_of_no_known_value_is_refused(runtime, words):
    done = subprocess.run([OURS, *words, "list"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.split("\n")[0]) == (1, f"sampan-runtime: invalid {words[0][2:]}: {words[1]}")
