"""`sampan commit`: an image of what a container has changed, made while it stands still."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.registry import Registry
from support.sampan import Sampan, wait_until

HUGE = "dd if=/dev/zero of=/huge bs=1 count=1 seek=6G 2>/dev/null"
"""Makes a file that takes no room and long to be hashed."""


def changed(sampan: Sampan, script: str, *flags: str, image: str = "busybox", name: str = "one") -> str:
    sampan("run", "--name", name, *flags, image, "sh", "-c", script)
    return name


def layers(sampan: Sampan, image: str) -> list[str]:
    return sampan.inspect(image)["RootFS"]["Layers"]


def test_what_was_changed_is_in_the_image(sampan: Sampan) -> None:
    changed(sampan, "echo new > /etc/new; rm /etc/group; rm -r /home/user; mkdir /home/user; chmod 700 /tmp")

    id = sampan("commit", "one", "mine:1").line

    assert id.startswith("sha256:")
    assert sampan.inspect("mine:1")["Id"] == id
    shown = sampan("run", "--rm", "mine:1", "sh", "-c", "cat /etc/new; ls /etc/group; ls /home/user; stat -c %a /tmp")
    assert shown.lines == ["new", "700"]
    assert "/etc/group" in shown.err
    assert layers(sampan, "mine:1")[:-1] == layers(sampan, "busybox")


def test_the_layer_is_what_was_changed_and_not_the_image(sampan: Sampan) -> None:
    changed(sampan, "echo 12345 > /new")
    sampan("commit", "one", "mine:1")

    top, below = _history(sampan)

    assert (top["Size"], top["CreatedBy"]) == ("6", "sh -c echo 12345 > /new")
    assert below["ID"] == sampan.inspect("busybox")["Id"]
    assert sampan.inspect("mine:1")["Parent"] == below["ID"]


def _history(sampan: Sampan) -> list[dict[str, str]]:
    said = sampan("history", "--no-trunc", "--human=false", "--format", "{{json .}}", "mine:1")
    return [json.loads(line) for line in said.lines]


def test_author_message_and_changes_are_the_images(sampan: Sampan) -> None:
    changed(sampan, "true", "-e", "OWN=1", "--label", "a=b", "--user", "nobody")
    changes = ["CMD echo $A $OWN", "ENV A=b", "LABEL c=d", "WORKDIR /tmp", "EXPOSE 80"]
    flags = [word for change in changes for word in ("-c", change)]

    sampan("commit", *flags, "-a", "Me <me@example.com>", "-m", "made here", "one", "mine:1")

    found = sampan.inspect("mine:1")
    assert (found["Author"], found["Comment"]) == ("Me <me@example.com>", "made here")
    config = found["Config"]
    assert config["Env"] == ["OWN=1", "A=b"]
    assert (config["Labels"], config["User"]) == ({"a": "b", "c": "d"}, "nobody")
    assert (config["WorkingDir"], config["ExposedPorts"]) == ("/tmp", {"80/tcp": {}})
    assert sampan("run", "--rm", "mine:1").line == "b 1"


def test_an_image_without_a_name_is_made_too(sampan: Sampan) -> None:
    changed(sampan, "echo > /x")

    id = sampan("commit", "one").line

    assert id in sampan("images", "-q", "--no-trunc", "-f", "dangling=true").lines
    assert sampan("run", "--rm", id, "ls", "/x").line == "/x"
    sampan("rmi", id)


def test_nothing_changed_makes_no_layer(sampan: Sampan) -> None:
    changed(sampan, "true")
    sampan("commit", "-c", "ENV A=b", "one", "mine:1")

    assert layers(sampan, "mine:1") == layers(sampan, "busybox")
    assert sampan("run", "--rm", "mine:1", "sh", "-c", "echo $A").line == "b"


def test_the_same_changes_give_the_same_digest_at_any_time(sampan: Sampan) -> None:
    script = "echo 1 > /a; mkdir -p /d/e; echo 2 > /d/e/f; ln -s f /d/e/l; ln /a /hard; rm /etc/group; rm -r /var"
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    ids = []
    for name in ("one", "other"):
        changed(sampan, script, name=name)
        ids.append(sampan("commit", "-m", "m", name, env=epoch).line)
        written = os.lstat(sampan.inspect(name)["GraphDriver"]["Data"]["UpperDir"] + "/a").st_mtime
        wait_until(lambda written=written: time.time() > written + 1)

    assert ids[0] == ids[1]
    assert sampan.inspect(ids[0])["Created"] == "2023-11-14T22:13:20Z"
    assert sampan("run", "--rm", ids[0], "stat", "-c", "%Y", "/d/e/f").line == "1700000000"
    sampan("rmi", "-f", ids[0])


def test_an_epoch_that_is_none_is_refused(sampan: Sampan) -> None:
    changed(sampan, "true")

    assert "invalid SOURCE_DATE_EPOCH" in sampan.fails(1, "commit", "one", env={"SOURCE_DATE_EPOCH": "today"}).err


def test_the_id_is_written_to_a_file(sampan: Sampan, tmp_path: Path) -> None:
    changed(sampan, "true")

    said = sampan("commit", "--iidfile", tmp_path / "id", "-q", "one", "mine:1")

    assert (tmp_path / "id").read_text() == said.line


def test_volumes_of_the_container_become_the_images_if_asked_for(sampan: Sampan, tmp_path: Path) -> None:
    changed(sampan, "echo > /data/file", "-v", "some:/data", "-v", f"{tmp_path}:/bound")
    sampan("commit", "one", "mine:1")
    sampan("commit", "--include-volumes", "one", "mine:2")

    assert "Volumes" not in sampan.inspect("mine:1")["Config"]
    assert sampan.inspect("mine:2")["Config"]["Volumes"] == {"/data": {}, "/bound": {}}
    assert sampan("run", "--rm", "mine:1", "ls", "-A", "/data").out == ""


def test_squashed_it_is_one_layer_of_all_files(sampan: Sampan) -> None:
    changed(sampan, "echo > /new; rm -r /home")
    sampan("commit", "one", "mine:1")
    changed(sampan, "echo > /newer", image="mine:1", name="two")

    sampan("commit", "--squash", "two", "mine:2")

    assert len(layers(sampan, "mine:2")) == 1
    assert sampan("run", "--rm", "mine:2", "sh", "-c", "ls /new /newer; ls -d /home || echo gone").lines == [
        "/new",
        "/newer",
        "gone",
    ]
    sampan("rm", "two")


def test_an_image_that_lost_its_name_can_be_committed_onto(sampan: Sampan, busybox_tar: Path) -> None:
    sampan("import", busybox_tar, "gone:1")
    changed(sampan, "echo > /new", image="gone:1")
    sampan("rmi", "-f", "gone:1")

    sampan("commit", "one", "mine:1")

    assert sampan("run", "--rm", "mine:1", "ls", "/new").line == "/new"


def test_the_image_host_can_not_be_committed_onto_and_that_is_said(sampan: Sampan) -> None:
    changed(sampan, "echo > /etc/new", image="host")

    said = sampan.fails(1, "commit", "one", "mine:1")

    assert "its image is this machine's own root" in said.err
    assert "sampan export" in said.err


@pytest.mark.parametrize("name", ["UPPER", "host", "busybox@sha256:" + "0" * 64])
def test_a_name_that_no_image_may_have_is_refused_before_anything_is_done(sampan: Sampan, name: str) -> None:
    changed(sampan, "true")
    before = sampan("images", "-aq").out

    assert sampan.fails(1, "commit", "one", name).err
    assert sampan("images", "-aq").out == before


def test_a_change_that_is_none_is_refused(sampan: Sampan) -> None:
    changed(sampan, "true")

    assert "RUN is not a valid change command" in sampan.fails(1, "commit", "-c", "RUN x", "one").err


def test_it_can_be_pushed_and_pulled(sampan: Sampan, registry: Registry) -> None:
    changed(sampan, "mkdir /d; echo pushed > /d/file; rm /etc/group")
    reference = f"{registry.address}/mine:1"
    id = sampan("commit", "one", reference).line
    sampan("push", reference)
    sampan("rm", "one")
    sampan("rmi", reference)

    sampan("pull", reference)

    assert sampan.inspect(reference)["Id"] == id
    assert sampan("run", "--rm", reference, "cat", "/d/file").line == "pushed"
    sampan("rmi", reference)


def test_what_is_saved_has_the_layer_as_its_digest_says(sampan: Sampan, tmp_path: Path) -> None:
    changed(sampan, "mkdir /d; seq 1000 > /d/file; ln /d/file /d/hard; rm -r /home; mkdir /home; touch /home/x")
    sampan("commit", "one", "mine:1")
    sampan("save", "-o", tmp_path / "mine.tar", "mine:1")

    with tarfile.open(tmp_path / "mine.tar") as archive:
        (item,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        data = archive.extractfile(item["Layers"][-1]).read()  # type: ignore[union-attr]

    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layers(sampan, "mine:1")[-1]
    with tarfile.open(fileobj=io.BytesIO(data)) as layer:
        names = layer.getnames()
        assert names == ["d", "d/file", "d/hard", "home", "home/.wh..wh..opq", "home/x"]
        assert layer.getmember("d/hard").linkname == "d/file"


# ---------------------------------------------------------------------------------------------------- standing still


def status(sampan: Sampan, name: str) -> str:
    return str(sampan.inspect(name)["State"]["Status"])


@contextmanager
def begun(sampan: Sampan) -> Iterator[subprocess.Popen[bytes]]:
    """Start a commit, and yield when the container stands still and a worker makes the layer."""
    with sampan.start("commit", "one", "mine:1") as commit:
        wait_until(lambda: status(sampan, "one") == "paused" or commit.poll() is not None)
        wait_until(lambda: _workers(sampan) or commit.poll() is not None)
        assert commit.poll() is None
        yield commit


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    """Return the instance with a container that runs and has a huge file."""
    sampan("run", "-d", "--name", "one", "busybox", "sh", "-c", f"{HUGE}; touch /ready; while :; do date > /now; done")
    wait_until(lambda: "A /ready" in sampan("diff", "one").lines)
    return sampan


def test_a_running_container_is_frozen_meanwhile_and_goes_on(web: Sampan) -> None:
    since = str(time.time())
    with begun(web) as commit:
        assert "paused" in web.fails(1, "exec", "one", "true").err
        assert commit.wait(60) == 0

    assert status(web, "one") == "running"
    assert web("exec", "one", "echo", "on").line == "on"
    told = web("events", "--since", since, "--until", str(time.time()), "--format", "{{.Action}}").lines
    assert [word for word in told if word in ("pause", "unpause", "commit")] == ["pause", "unpause", "commit"]


def test_without_pause_it_runs_on(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "one", "busybox", "sh", "-c", "while :; do date > /now; done")
    wait_until(lambda: sampan("diff", "one").out)
    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(status(sampan, "one"))

    thread = threading.Thread(target=look)
    thread.start()
    sampan("commit", "--pause=false", "one", "mine:1")
    stop.set()
    thread.join()

    assert seen == {"running"}
    assert sampan("run", "--rm", "mine:1", "ls", "/now").line == "/now"


def test_who_is_paused_stays_paused(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "one", "busybox", "sh", "-c", "touch /mark; sleep 100")
    wait_until(lambda: sampan("diff", "one").out)
    sampan("pause", "one")

    sampan("commit", "one", "mine:1")

    assert status(sampan, "one") == "paused"
    assert sampan("run", "--rm", "mine:1", "ls", "/mark").line == "/mark"


def test_it_goes_on_though_all_that_could_thaw_it_is_killed(web: Sampan) -> None:
    web("rmi", "-f", "mine:1", check=False)
    pids = [web.info("KeeperPid"), web.info("ServerPid"), web.shim_pid("one")]
    with begun(web) as commit:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert commit.wait(60) != 0

    wait_until(lambda: status(web, "one") == "running")
    assert web("exec", "one", "echo", "on").line == "on"
    assert not web("images", "-q", "mine:1").out


def test_it_is_killed_during_it_at_once_and_removed_after_it(web: Sampan) -> None:
    with begun(web) as commit:
        web("kill", "one")
        assert status(web, "one") == "exited"
        web("rm", "one")
        assert commit.wait(60) == 0

    assert web("run", "--rm", "mine:1", "ls", "/ready").line == "/ready"


def test_a_stop_during_it_stops(web: Sampan) -> None:
    with begun(web) as commit:
        web("stop", "-t", "1", "one")

        assert status(web, "one") == "exited"
        assert commit.wait(60) == 0


def test_a_server_killed_during_it_leaves_nothing_and_the_container_goes_on(web: Sampan) -> None:
    before = web("images", "-aq").out
    kept = set((web.root / "layers/sha256").iterdir())
    with begun(web) as commit:
        workers = _workers(web)
        os.kill(web.info("ServerPid"), signal.SIGKILL)
        assert commit.wait(60) != 0

    wait_until(lambda: status(web, "one") == "running")
    assert web("exec", "one", "echo", "on").line == "on"
    wait_until(lambda: not list((web.root / "tmp").iterdir()))
    assert workers
    wait_until(lambda: not [pid for pid in workers if os.path.exists(f"/proc/{pid}")])
    assert web("images", "-aq").out == before
    assert set((web.root / "layers/sha256").iterdir()) == kept


def test_an_engine_that_is_stopped_during_it_lets_the_container_go_on(web: Sampan) -> None:
    now = Path(web.inspect("one")["GraphDriver"]["Data"]["UpperDir"]) / "now"
    with begun(web) as commit:
        web("system", "stop", "--force")
        stopped = time.time()
        assert commit.wait(60) != 0

    wait_until(lambda: now.stat().st_mtime > stopped)
    assert status(web, "one") == "running"


def test_a_worker_killed_during_it_is_an_error_and_the_container_goes_on(web: Sampan) -> None:
    with begun(web) as commit:
        for pid in _workers(web):
            os.kill(pid, signal.SIGKILL)
        _, said = commit.communicate(timeout=60)

    assert commit.returncode == 1
    assert said.startswith(b"Error response from daemon: can't commit one: ")
    assert status(web, "one") == "running"
    assert not list((web.root / "tmp").iterdir())


def _workers(sampan: Sampan) -> list[int]:
    return [pid for pid in _children(sampan.info("KeeperPid")) if _name(pid) == "sampan-worker"]


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread may end while this looks
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
