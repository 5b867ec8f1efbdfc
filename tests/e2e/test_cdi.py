"""Devices by CDI files: `--device vendor/class=name` and `--gpus`, as the files in a directory describe them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan import Client
from support.peers import client
from support.sampan import Sampan, wait_until

HOOK = """#!/bin/sh
exec >> LOG
state=$(cat)
echo "$1 $(echo "$state" | grep -o '"status":"[a-z]*"')"
case $1 in createContainer)
    bundle=$(echo "$state" | sed 's/.*"bundle":"\\([^"]*\\)".*/\\1/')
    root=$(sed 's/.*"root":{"path":"\\([^"]*\\)".*/\\1/' $bundle/config.json)
    echo made > "$root/made-by-hook"
esac
"""
STAGES = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")


@pytest.fixture
def directory(sampan: Sampan, tmp_path: Path) -> Iterator[Path]:
    """Two directories of files: one, and two, which counts more."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "library").write_text("a library\n")
    (tmp_path / "hook").write_text(HOOK.replace("LOG", f"{tmp_path}/log"))
    (tmp_path / "hook").chmod(0o755)
    settings = sampan.root / "config.toml"
    settings.write_text(f'[devices]\ncdi-spec-dirs = ["{tmp_path}/one", "{tmp_path}/two"]\n')
    yield tmp_path
    settings.unlink()


def write(path: Path, kind: str, *devices: dict[str, Any], **edits: Any) -> None:
    file = {"cdiVersion": "0.7.0", "kind": kind, "devices": devices, "containerEdits": edits}
    path.write_text(json.dumps(file))


def device(name: str, **edits: Any) -> dict[str, Any]:
    return {"name": name, "containerEdits": edits}


YAML = """\
cdiVersion: "0.6.0"
kind: nvidia.com/gpu
annotations: {a: b}
devices:
  - name: "0"
    containerEdits:
      env: [GPU0=yes]
      deviceNodes:
        - path: /dev/nvidia0
          hostPath: /dev/zero
          permissions: rw
  - name: "1"
    containerEdits:
      env: [GPU1=yes]
  - name: all
    containerEdits:
      env: [ALL=yes]
containerEdits:
  env:
    - NVIDIA_VISIBLE_DEVICES=void
  mounts:
"""


def test_all_that_a_file_says_is_in_the_container(sampan: Sampan, directory: Path) -> None:
    hooks = [
        {"hookName": s, "path": f"{directory}/hook", "args": ["hook", s], "env": ["PATH=/usr/bin:/bin"]} for s in STAGES
    ]
    mount = {
        "hostPath": f"{directory}/library",
        "containerPath": "/usr/lib/library",
        "options": ["ro", "nosuid", "rbind"],
    }
    nodes = [
        {"path": "/dev/deep/kernel", "hostPath": "/dev/kmsg", "permissions": "r"},
        {"path": "/dev/full", "fileMode": 0o600},
    ]
    first = device("first", env=["FIRST=1", "COMMON=changed"], deviceNodes=nodes)
    write(
        directory / "one/a.json", "vendor.com/thing", first, device("second", env=["SECOND=2"]),
        env=["COMMON=given"], mounts=[mount], hooks=hooks, additionalGids=[4242, 0],
    )  # fmt: skip
    script = (
        "echo $FIRST $SECOND $COMMON; cat /usr/lib/library /made-by-hook; stat -c '%t:%T %a' /dev/deep/kernel; id -G"
    )
    run = ["run", "--name", "web", "--device", "vendor.com/thing=first", "busybox", "sh", "-c"]

    said = sampan(*run, f"{script}; stat -c %a /dev/full; touch /usr/lib/library; :> /dev/deep/kernel", check=False)

    assert said.lines == ["1 changed", "a library", "made", "1:b 666", "0 4242", "600"]
    assert "Read-only file system" in said.err
    assert "Operation not permitted" in said.err, "its permissions are for reading"
    wait_until(lambda: "poststop" in (directory / "log").read_text())
    assert (directory / "log").read_text().splitlines() == [
        f'{stage} "status":"{status}"'
        for stage, status in zip(STAGES, ("creating", "creating", "creating", "running", "stopped"), strict=True)
    ]
    wait_until(lambda: not list((sampan.root / "containers").glob("*/config.json")))


def test_who_has_a_user_namespace_has_them_too(sampan: Sampan, directory: Path) -> None:
    nodes = [{"path": "/dev/deep/nothing", "hostPath": "/dev/null"}]
    mount = {"hostPath": f"{directory}/library", "containerPath": "/usr/lib/library", "options": ["ro", "bind"]}
    write(directory / "one/a.json", "vendor.com/thing", device("first", deviceNodes=nodes, mounts=[mount]))
    flags = ("--userns", "auto", "--network", "none", "--device", "vendor.com/thing=first")

    script = "echo x > /dev/deep/nothing && stat -c %t:%T /dev/deep/nothing && cat /usr/lib/library"
    assert sampan("run", "--rm", *flags, "busybox", "sh", "-c", script).lines == ["1:3", "a library"]


def test_a_program_that_is_added_has_what_the_container_has(sampan: Sampan, directory: Path) -> None:
    write(directory / "one/a.json", "vendor.com/thing", device("x", env=["X=y"], additionalGids=[4242]))
    sampan("run", "-d", "--name", "web", "--device", "vendor.com/thing=x", "busybox", "sleep", "100")

    assert sampan("exec", "web", "sh", "-c", "echo $X; id -G").lines == ["y", "0 4242"]
    (directory / "one/a.json").unlink()
    assert sampan("exec", "web", "echo", "still").line == "still"
    asked = sampan.inspect("web")["HostConfig"]["DeviceRequests"]
    assert [(a["Driver"], a["DeviceIDs"]) for a in asked] == [("cdi", ["vendor.com/thing=x"])]
    said = sampan.fails(1, "restart", "-t", "0", "web")
    assert "CDI device injection failed: unresolvable CDI devices vendor.com/thing=x" in said.err


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (["--gpus", "all"], "ALL=yes"), (["--gpus", "1"], "GPU0=yes"), (["--gpus", "2"], "GPU0=yes GPU1=yes"),
        (["--gpus", "device=1"], "GPU1=yes"), (["--gpus", '"device=0,1",driver=nvidia'], "GPU0=yes GPU1=yes"),
        (["--gpus", "all,capabilities=utility"], "ALL=yes"), (["--device", "nvidia.com/gpu=1"], "GPU1=yes"),
    ],
)  # fmt: skip
def test_gpus_are_the_devices_of_a_vendors_file(sampan: Sampan, directory: Path, flags: list[str], seen: str) -> None:
    (directory / "one/nvidia.yaml").write_text(YAML)

    found = sampan("run", "--rm", *flags, "busybox", "env").lines

    assert sorted(line for line in found if line.endswith("=yes")) == seen.split()
    assert "NVIDIA_VISIBLE_DEVICES=void" in found


def test_the_later_directory_counts_and_info_tells_what_is_there(sampan: Sampan, directory: Path) -> None:
    write(directory / "one/a.json", "vendor.com/thing", device("x", env=["WHERE=one"]), device("y", env=["Y=1"]))
    write(directory / "two/b.json", "vendor.com/thing", device("x", env=["WHERE=two"]))
    write(directory / "two/c.json", "vendor.com/thing", device("z", env=["Z=1"]))
    write(directory / "two/d.json", "vendor.com/thing", device("z", env=["Z=2"]))
    (directory / "two/e.yaml").write_text("kind: [")

    assert sampan("run", "--rm", "--device", "vendor.com/thing=x", "busybox", "env").out.split("WHERE=")[1][:3] == "two"
    info = sampan.json("info", "--format", "json")
    assert info["DiscoveredDevices"] == [{"Source": "cdi", "ID": f"vendor.com/thing={name}"} for name in ("x", "y")]
    assert info["CDISpecDirs"] == [f"{directory}/one", f"{directory}/two"]
    warnings = "\n".join(info["Warnings"])
    assert f"conflicting device vendor.com/thing=z: it is in {directory}/two/c.json and in" in warnings
    assert f"can't read {directory}/two/e.yaml" in warnings
    assert (
        "unresolvable CDI devices vendor.com/thing=z"
        in sampan.fails(125, "run", "--rm", "--device", "vendor.com/thing=z", "busybox", "true").err
    )


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (["--gpus", "all"], 'could not select device driver "" with capabilities: [[gpu]]', "is vendor.com/thing"),
        (["--gpus", "driver=tpu"], 'could not select device driver "tpu" with capabilities: [[gpu]]', ""),
        (["--device", "vendor.com/thing=b", "--device", "no.com/x=y"],
         "CDI device injection failed: unresolvable CDI devices vendor.com/thing=b, no.com/x=y", "vendor.com/thing=x"),
        (["--device", "vendor.com/thing=gone"], "no such file or directory: /no/such/device", ""),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_and_leaves_nothing(
    sampan: Sampan, directory: Path, flags: list[str], message: str, hint: str
) -> None:
    write(
        directory / "one/a.json",
        "vendor.com/thing",
        device("x", env=["A=b"]),
        device("gone", deviceNodes=[{"path": "/no/such/device"}]),
    )

    said = sampan.fails(125, "run", *flags, "busybox", "true")

    assert message in said.err
    assert hint in said.err
    assert sampan("ps", "-aq").out == ""


def test_a_hook_that_fails_ends_the_start(sampan: Sampan, directory: Path) -> None:
    bad = {"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", "echo no such gpu >&2; exit 3"]}
    write(directory / "one/a.json", "vendor.com/thing", device("x", hooks=[bad]))
    write(directory / "one/b.json", "vendor.com/late", device("x", hooks=[{**bad, "hookName": "poststart"}]))

    for name in ("thing", "late"):
        said = sampan.fails(125, "run", "--rm", "--device", f"vendor.com/{name}=x", "busybox", "sleep", "100")
        assert "no such gpu" in said.err
    assert sampan("ps", "-aq").out == ""
    assert sampan.leftovers() == []


def test_poststop_hooks_run_once_also_where_a_server_was_killed_or_the_container_removed(
    sampan: Sampan, directory: Path
) -> None:
    hook = {"hookName": "poststop", "path": "/bin/sh", "args": ["sh", "-c", f"echo over >> {directory}/log"]}
    write(directory / "one/a.json", "vendor.com/thing", device("x", hooks=[hook]))
    for name in ("stopped", "removed"):
        sampan("run", "-d", "--name", name, "--device", "vendor.com/thing=x", "busybox", "sleep", "100")

    os.kill(sampan.info("ServerPid"), signal.SIGKILL)
    os.kill(sampan.inspect("stopped")["State"]["Pid"], signal.SIGKILL)
    wait_until((directory / "log").is_file)
    sampan("rm", "-f", "removed")
    wait_until(lambda: (directory / "log").read_text() == "over\nover\n")
    sampan("rm", "stopped")

    assert (directory / "log").read_text() == "over\nover\n"


def test_the_steps_of_a_start_tell_of_them(sampan: Sampan, directory: Path) -> None:
    nodes = [{"path": "/dev/mine", "hostPath": "/dev/zero"}]
    write(directory / "one/a.json", "vendor.com/thing", device("x", env=["GIVEN=yes"], deviceNodes=nodes))

    script = sampan("run", "--rm", "--explain=sh", "--device", "vendor.com/thing=x", "busybox", "true").out

    assert "/dev/mine c 1 5" in script
    assert "GIVEN=yes" in script


@pytest.mark.skipif(not shutil.which("docker"), reason="the docker client is not installed")
def test_dockers_client_asks_for_them(sampan: Sampan, directory: Path) -> None:
    (directory / "one/nvidia.yaml").write_text(YAML)
    sampan("ps")

    for flags in (("--gpus", "all"), ("--device", "nvidia.com/gpu=all")):
        said = client(sampan.socket, sampan.root, "run", "--rm", *flags, "busybox", "env")
        assert "ALL=yes" in said.lines, said
    assert "nvidia.com/gpu=0" in client(sampan.socket, sampan.root, "info").out
    assert os.path.exists("/dev/nvidia0") is False


def test_the_python_client_asks_for_them_too(sampan: Sampan, directory: Path) -> None:
    (directory / "one/nvidia.yaml").write_text(YAML)
    sampan("ps")

    with Client(base_url=f"unix://{sampan.socket}") as engine:
        devices = ["nvidia.com/gpu=1", "/dev/zero:/dev/mine:r"]
        said = engine.containers.run("busybox", ["sh", "-c", "env; ls /dev/mine"], devices=devices, gpus=1)
    assert {b"GPU0=yes", b"GPU1=yes", b"/dev/mine"} <= set(said.stdout.splitlines())
