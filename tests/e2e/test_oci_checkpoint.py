"""`sampan-runtime checkpoint` and `restore` with the real criu: in the machine of `make test-cgroup2` where this kernel
is too new for Debian's criu."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.oci import ConsoleSocket, Runtime, stopped
from support.sampan import wait_until

COUNT = "i=0; while :; do i=$((i+1)); echo $i > /data/.n; mv /data/.n /data/n; sleep 0.1; done"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    one = Runtime("sampan-runtime", tmp_path_factory.mktemp("runtime"))
    yield one
    one.end()


@pytest.fixture(autouse=True)
def nothing_is_left(runtime):
    yield
    assert not runtime.leftovers()


@pytest.fixture
def works():
    """Whether criu works on this kernel."""
    said = subprocess.run(["criu", "check"], capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip(f"missing kernel feature: criu check: {said.stderr.strip().splitlines()[-1]}")


@pytest.fixture
def counting(runtime, tmp_path):
    """A bundle whose program counts in the file n of a directory of the host's."""
    data = tmp_path / "data"
    data.mkdir()
    bundle = runtime.bundle("sh", "-c", COUNT)
    bundle.configuration["mounts"].append({
        "destination": "/data", "type": "bind", "source": str(data), "options": ["rbind", "rw"],
    })  # fmt: skip
    bundle.configuration["linux"] |= {"maskedPaths": ["/proc/kcore", "/proc/acpi"], "readonlyPaths": ["/proc/sys"]}
    bundle.configuration["linux"]["resources"]["pids"] = {"limit": 50}
    bundle.write()
    yield bundle
    bundle.delete()


def counted(bundle) -> int:
    source = Path(bundle.configuration["mounts"][-1]["source"])
    return int((source / "n").read_text()) if (source / "n").exists() else 0


def call(bundle, *words, wait: bool = True) -> subprocess.Popen:
    """Call the runtime with no input and an ordinary file as its output: criu wants one of the same kind again."""
    with open(bundle.directory / "output", "ab") as output:
        command = bundle.runtime.command(*words, "--bundle", bundle.directory, bundle.id)
        called = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if wait:
        assert called.wait(60) == 0, (bundle.directory / "output").read_text()
    return called


def run(bundle) -> None:
    call(bundle, "run", "--detach")
    wait_until(lambda: counted(bundle) > 3, what="it counts")


def test_a_container_goes_on_where_it_was_dumped(works, runtime, counting, tmp_path):
    run(counting)
    runtime("checkpoint", "--image-path", tmp_path / "images", counting.id)
    stopped(runtime, counting.id)
    last = counted(counting)
    runtime("delete", counting.id)
    pid_file = tmp_path / "pid"
    call(counting, "restore", "--detach", "--image-path", tmp_path / "images", "--pid-file", pid_file)
    wait_until(lambda: counted(counting) > last + 2, what="it counts on")
    pid = runtime.state(counting.id)["pid"]
    groups = Path(f"/proc/{pid}/cgroup").read_text()
    executed = runtime("exec", counting.id, "cat", "/data/n")

    assert counted(counting) < last + 1000
    assert runtime.status(counting.id) == "running"
    assert int(pid_file.read_text()) == pid
    assert f"{runtime.cgroup}/{counting.id}" in groups
    assert int(executed.out) > last


def test_a_container_may_go_on_after_it_was_dumped(works, runtime, counting, tmp_path):
    run(counting)
    runtime("checkpoint", "--leave-running", "--image-path", tmp_path / "images", counting.id)
    last = counted(counting)

    wait_until(lambda: counted(counting) > last + 2, what="it counts on")
    assert runtime.status(counting.id) == "running"


def test_memory_is_dumped_beforehand(works, runtime, counting, tmp_path):
    run(counting)
    first = runtime("checkpoint", "--pre-dump", "--image-path", tmp_path / "1", counting.id)
    still = runtime.status(counting.id)
    runtime("checkpoint", "--image-path", tmp_path / "2", "--parent-path", "../1", counting.id)
    stopped(runtime, counting.id)

    assert (first.code, still) == (0, "running")


def test_a_restored_program_is_waited_for_in_the_foreground(works, runtime, tmp_path, request):
    bundle = runtime.bundle("sh", "-c", "while [ ! -e /dev/go ]; do sleep 0.1; done; exit 7")
    request.addfinalizer(bundle.delete)
    call(bundle, "run", "--detach")
    runtime("checkpoint", "--image-path", tmp_path / "images", bundle.id)
    runtime("delete", bundle.id)
    restored = call(bundle, "restore", "--image-path", tmp_path / "images", wait=False)
    wait_until(lambda: runtime.status(bundle.id) == "running", what="it runs")
    runtime("exec", bundle.id, "sh", "-c", ": > /dev/go")
    code = restored.wait(30)

    assert code == 7


def test_a_terminal_is_given_anew(works, runtime, tmp_path, request):
    bundle = runtime.bundle("sh", "-c", "while read word; do echo got $word; done", terminal=True)
    request.addfinalizer(bundle.delete)
    masters = []
    for verb in ("create", "restore"):
        socket = ConsoleSocket(tmp_path / verb)
        try:
            options = ("--console-socket", socket.path, "--bundle", bundle.directory, bundle.id)
            if verb == "create":
                runtime("create", *options)
            else:
                runtime("restore", "--detach", "--image-path", tmp_path / "images", *options)
            masters.append(socket.receive())
        finally:
            socket.close()
        if verb == "create":
            runtime("start", bundle.id)
            runtime("checkpoint", "--image-path", tmp_path / "images", bundle.id)
            runtime("delete", bundle.id)
    os.write(masters[1], b"word\n")
    said = b""
    while b"got word" not in said:
        said += os.read(masters[1], 1024)
    for master in masters:
        os.close(master)


def test_a_dump_that_fails_tells_why_and_leaves_nothing(runtime, counting, tmp_path):
    run(counting)
    said = runtime(
        "checkpoint", "--image-path", tmp_path / "images", "--parent-path", "../no", counting.id, check=False
    )

    assert said.code == 1
    assert "--parent-path" in said.err
    assert not (tmp_path / "images").exists()
    assert runtime.status(counting.id) == "running"


def test_a_restore_that_fails_tells_why_and_leaves_nothing(runtime, counting, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    said = runtime(
        "restore", "--detach", "--image-path", images, "--bundle", counting.directory, counting.id, check=False
    )

    assert said.code == 1
    assert "can't restore the container: criu failed: Error" in said.err
    assert not os.listdir(images)
    assert runtime.status(counting.id) == "gone"
    assert not runtime.leftovers()


def test_a_dump_of_criu_that_fails_has_the_logs_last_errors(runtime, counting, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine").touch()
    run(counting)
    said = runtime(
        "checkpoint", "--page-server", "127.0.0.1:1", "--image-path", tmp_path / "images", counting.id, check=False
    )

    assert said.code == 1
    assert "can't checkpoint the container: criu failed: Error" in said.err
    assert os.listdir(tmp_path / "images") == ["mine"]
    wait_until(lambda: runtime.status(counting.id) == "running", what="it runs")


def test_without_criu_it_is_said_what_to_install(runtime, counting, tmp_path):
    run(counting)
    said = runtime("--criu", "no-criu", "checkpoint", "--image-path", tmp_path / "x", counting.id, check=False)
    restored = runtime("--criu", "no-criu", "restore", "--bundle", counting.directory, "other", check=False)

    assert (said.code, restored.code) == (1, 1)
    for text in (said.err, restored.err):
        assert "no-criu is not installed" in text
        assert "install the package criu" in text


def test_only_a_running_container_is_dumped(runtime, tmp_path):
    bundle = runtime.bundle("true")
    bundle.create()
    said = runtime("checkpoint", "--image-path", tmp_path / "x", bundle.id, check=False)
    bundle.delete()

    assert said.code == 1
    assert "it is created" in said.err
    assert json.loads(runtime("list", "-f", "json").out or "[]") in ([], None)
