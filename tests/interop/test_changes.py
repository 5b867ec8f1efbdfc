"""What a container has changed: the real dockerd and sampan do the same things, and tell the same."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.images import add
from support.peers import Docker
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
