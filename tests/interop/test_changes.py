"""What a container has changed: dockerd and sampan do the same things, tell the same, and take each other's images."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.images import add
from support.peers import Docker, podman_environment
from support.sampan import Sampan

SCRIPTS = {
    "files": "echo hi > /etc/new; chmod 600 /etc/passwd; rm /etc/group; touch /root/x; rm /root/x; : >> /etc/hostname2",
    "directories": "mkdir -p /a/b/c; echo > /a/b/c/f; rm -r /home; mkdir -p /home/user2; echo > /home/user2/z",
    "types": "rm -r /var; echo > /var; rm /bin/yes; mkdir /bin/yes; echo > /bin/yes/q; mknod /p p; mknod /n c 1 3",
    "names": "ln /etc/passwd /etc/passwd2; mv /etc/group /etc/group2; ln -s nowhere /link; touch '/with space'",
    "modes": "chmod 700 /home; chown 5 /etc; chmod 755 /bin/busybox",
    "same again": "cp -a /etc /etc2; rm -r /etc/passwd; cp -a /etc2/passwd /etc/passwd; rm -r /etc2",
    "nothing": "cat /etc/passwd; touch /tmp/x; rm /tmp/x",
}
MOUNTS = ("-v", "data:/data/deep", "--tmpfs", "/scratch", "--mount", "type=bind,src=/etc/hostname,dst=/bound/file")


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[Docker]:
    docker = Docker(tmp_path_factory.mktemp("d"), "sampan-interop-changes")
    docker("import", busybox_tar, "busybox", check=True)
    yield docker
    docker.remove_everything()
    docker.end()


def told(engine: Docker | Sampan, image: str, script: str, *flags: str) -> list[str]:
    engine("run", "--name", "one", "--network", "none", *flags, image, "sh", "-c", script, check=True)
    lines = engine("diff", "one", check=True).lines
    engine("rm", "-v", "one", check=True)
    return sorted(lines)


@pytest.mark.parametrize("name", SCRIPTS)
def test_diff_tells_the_same(docker: Docker, sampan: Sampan, name: str) -> None:
    assert told(sampan, "busybox", SCRIPTS[name]) == told(docker, "busybox", SCRIPTS[name])


def test_mount_points_show_as_with_docker(docker: Docker, sampan: Sampan) -> None:
    assert told(sampan, "busybox", "true", *MOUNTS) == told(docker, "busybox", "true", *MOUNTS)


def test_an_image_without_directories_for_what_is_mounted_shows_the_same(
    docker: Docker, sampan: Sampan, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "bare.tar", "w") as tar:
        add(tar, "bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        add(tar, "bin/sh", type=tarfile.SYMTYPE, linkname="busybox")
        add(tar, "etc/resolv.conf", type=tarfile.SYMTYPE, linkname="../run/resolve/stub.conf")
    for engine in (docker, sampan):
        engine("import", tmp_path / "bare.tar", "bare", check=True)

    assert told(sampan, "bare", "echo > /etc/x") == told(docker, "bare", "echo > /etc/x") == ["A /etc/x", "C /etc"]


# ------------------------------------------------------------------------------------------------------ commit, export

LOOK = "cd / && find . -xdev -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o -print0 | sort -z | "
LOOK += (
    "xargs -0 stat -c '%n %F %a %u %g %Y' | grep -v -e ^./.dockerenv -e '^. ' -e ^./etc/hosts -e ^./etc/resolv.conf "
)
LOOK += "-e ^./run -e ^./etc/hostname -e ^./etc/mtab | sed -e 's/ directory \\(.*\\) [0-9]*$/ directory \\1/'"
"""Tells every file with type, mode and owner, those that are no directories with their time."""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    directory = tmp_path_factory.mktemp("p")
    environment = {**os.environ, **podman_environment(directory)}

    def podman(*words: str | Path) -> str:
        command = ["podman", *map(str, words)]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    yield podman
    podman("system", "reset", "-f")
    subprocess.run(["umount", "-R", directory / "root/overlay"], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("name", SCRIPTS)
def test_docker_and_podman_show_in_a_committed_image_what_we_show(
    docker: Docker, podman: Callable[..., str], sampan: Sampan, tmp_path: Path, name: str
) -> None:
    sampan("run", "--name", "one", "busybox", "sh", "-c", SCRIPTS[name])
    sampan("commit", "one", "mine:1")
    sampan("save", "-o", tmp_path / "mine.tar", "mine:1")
    wanted = sampan("run", "--rm", "mine:1", "sh", "-c", LOOK).lines

    docker("load", "-i", tmp_path / "mine.tar", check=True)
    theirs = docker("run", "--rm", "--network", "none", "mine:1", "sh", "-c", LOOK, check=True).lines
    podman("load", "-q", "-i", tmp_path / "mine.tar")

    assert len(wanted) > 50
    assert theirs == wanted
    assert podman("run", "--rm", "--network", "none", "mine:1", "sh", "-c", LOOK).splitlines() == wanted
    ids = [sampan.inspect("mine:1")["Id"], docker("inspect", "-f", "{{.Id}}", "mine:1", check=True).line]
    assert len({*ids, "sha256:" + podman("inspect", "-f", "{{.Id}}", "mine:1").strip()}) == 1
    docker("rmi", "mine:1", check=True)
    podman("rmi", "mine:1")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_layer_has_what_dockers_has(docker: Docker, sampan: Sampan, tmp_path: Path, name: str) -> None:
    found = []
    for engine in (docker, sampan):
        engine("run", "--name", "one", "--network", "none", "busybox", "sh", "-c", SCRIPTS[name], check=True)
        engine("commit", "one", "mine:1", check=True)
        engine("save", "-o", tmp_path / "mine.tar", "mine:1", check=True)
        found.append(_top_layer(tmp_path / "mine.tar"))
        engine("rm", "one", check=True)
        engine("rmi", "mine:1", check=True)
    theirs, ours = found

    # Docker takes files and directories along that are as they were, because something was opened or removed in them.
    assert ours.items() <= theirs.items()
    assert not [name for name in theirs.keys() - ours.keys() if ".wh." in name and not name.endswith(".wh..wh..opq")]


def _top_layer(archive: Path) -> dict[str, tuple[object, ...]]:
    with tarfile.open(archive) as opened:
        (item,) = json.load(opened.extractfile("manifest.json"))  # type: ignore[arg-type]
        if len(item["Layers"]) == 1:
            return {}
        with tarfile.open(fileobj=opened.extractfile(item["Layers"][-1])) as layer:
            return {
                member.name: (member.type, member.linkname)
                if ".wh." in member.name
                else (member.type, member.mode & 0o7777, member.uid, member.gid, member.size, member.linkname)
                for member in layer
            }


def test_docker_imports_what_we_export_and_the_other_way_round(docker: Docker, sampan: Sampan, tmp_path: Path) -> None:
    script = f"{SCRIPTS['directories']}; {SCRIPTS['names']}"
    shown = []
    for engine, other in ((docker, sampan), (sampan, docker)):
        engine("run", "--name", "one", "--network", "none", "busybox", "sh", "-c", script, check=True)
        engine("export", "-o", tmp_path / "one.tar", "one", check=True)
        engine("rm", "one", check=True)
        other("import", tmp_path / "one.tar", "exported", check=True)
        shown.append(other("run", "--rm", "--network", "none", "exported", "sh", "-c", LOOK, check=True).lines)

    assert len(shown[0]) > 50
    assert [_untimed(line) for line in shown[0]] == [_untimed(line) for line in shown[1]]


def _untimed(line: str) -> str:
    return line.rpartition(" ")[0]
