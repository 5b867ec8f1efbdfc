"""What is mounted without being named: at the image's volumes, over a read-only root; and drivers of volumes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.sampan import Sampan


@pytest.fixture(scope="module")
def with_volume(shared: Sampan, tmp_path_factory: pytest.TempPathFactory) -> str:
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text(
        "FROM busybox\nRUN mkdir -p /data /var/tmp && touch /data/from-the-image /var/tmp/there\nVOLUME /data\n"
    )
    shared("build", "-q", "-t", "with-volume", context)
    return "with-volume"


@pytest.mark.parametrize(
    ("kind", "type", "files"),
    [
        ("bind", "ext4 ", "from-the-image\nnew\n"),
        ("anonymous", "ext4 ", "from-the-image\nnew\n"),
        ("tmpfs", "tmpfs ", "new\n"),
        ("ignore", "", "from-the-image\nnew\n"),
    ],
)
def test_an_images_volume_is_what_was_asked_for(
    sampan: Sampan, with_volume: str, kind: str, type: str, files: str
) -> None:
    script = "touch /data/new; ls /data; grep ' /data ' /proc/mounts || true"

    said = sampan("run", "--rm", "--image-volume", kind, with_volume, "sh", "-c", script).out

    assert said.startswith(files)
    mounted = said[len(files) :]
    assert bool(mounted) is bool(type)
    assert not mounted or (" tmpfs " in mounted) is (kind == "tmpfs")
    assert sampan("volume", "ls", "-q").out == ""


def test_a_mount_of_the_users_comes_before_the_images_volume(sampan: Sampan, with_volume: str, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    arguments = ("--image-volume=tmpfs", "-v", f"{tmp_path}:/data", with_volume, "ls", "/data")

    assert sampan("run", "--rm", *arguments).out == "mine\n"


def test_a_read_only_root_with_memory_where_programs_write(sampan: Sampan, with_volume: str) -> None:
    script = "touch /run/a /tmp/a /var/tmp/a; ls /var/tmp; touch /x 2>&1; true"

    said = sampan("run", "--rm", "--read-only", "--read-only-tmpfs", with_volume, "sh", "-c", script).out
    assert said == "a\nthere\ntouch: /x: Read-only file system\n"
    plain = sampan("run", "--rm", "--read-only", with_volume, "touch", "/tmp/a", check=False)
    assert "Read-only file system" in plain.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image-volume", "what"], 'invalid image-volume type "what". Pick one of bind, tmpfs, or ignore'),
        (["--chrootdirs", "/a,../b"], "invalid chroot directory '../b'"),
        (["--rdt-class", "a/b"], "invalid --rdt-class: 'a/b'"),
        (["--read-only-tmpfs"], "--read-only-tmpfs is for --read-only"),
        (["--volume-driver", "nfs"], 'error looking up volume plugin nfs: plugin "nfs" not found'),
        (["--mount", "type=volume,dst=/d,volume-driver=nfs"], 'error looking up volume plugin nfs: plugin "nfs" not'),
    ],
)
def test_what_can_not_be_is_refused(sampan: Sampan, flags: list[str], message: str) -> None:
    refused = sampan("run", "--rm", *flags, "busybox", "true", check=False)

    assert refused.code == 125
    assert message in refused.err
    assert sampan("ps", "-aq").out == ""


def test_its_hosts_and_name_servers_are_in_a_chroot_too(sampan: Sampan) -> None:
    script = "for f in hosts hostname resolv.conf; do cmp /etc/$f /srv/a/etc/$f && cmp /etc/$f /b/etc/$f; done"
    arguments = ("--network", "none", "--chrootdirs", "/srv/a,/b/", "--read-only", "busybox", "sh", "-ec", script)

    assert sampan("run", "--rm", *arguments).err == ""


def test_memory_that_begins_with_what_is_there(sampan: Sampan, with_volume: str) -> None:
    arguments = ("--tmpfs", "/bin:exec,tmpcopyup,size=8m", "--mount", "type=tmpfs,dst=/var/tmp,tmpcopyup", with_volume)

    assert sampan("run", "--rm", *arguments, "ls", "/var/tmp").out == "there\n"


def test_the_driver_local_is_there(sampan: Sampan) -> None:
    assert sampan("run", "--rm", "--volume-driver", "local", "-v", "named:/d", "busybox", "true").code == 0
    sampan("volume", "rm", "named")


def test_memory_where_there_was_nothing_is_for_everybody_else_as_what_it_covers(sampan: Sampan) -> None:
    script = "touch /fresh/x && stat -c %a /fresh /etc /sized"
    mounts = ("--tmpfs", "/fresh", "--tmpfs", "/etc", "--tmpfs", "/sized:mode=700")

    assert sampan("run", "--rm", "--user", "1000", *mounts, "busybox", "sh", "-c", script).out == "1777\n755\n700\n"


def test_what_is_given_twice_counts_once(sampan: Sampan, tmp_path: Path) -> None:
    volume = ("-v", f"{tmp_path}:/d")

    assert sampan("run", "--rm", *volume, *volume, "busybox", "grep", "-c", " /d ", "/proc/mounts").out == "1\n"
    refused = sampan("run", "--rm", *volume, "-v", f"{tmp_path}:/d/:ro", "busybox", "true", check=False)
    assert "Duplicate mount point: /d" in refused.err


def test_a_directory_on_a_file_is_refused_with_dockers_question(sampan: Sampan, tmp_path: Path) -> None:
    refused = sampan("run", "--rm", "-v", f"{tmp_path}:/bin/busybox", "busybox", "true", check=False)

    assert refused.code == 125
    assert "Are you trying to mount a directory onto a file (or vice-versa)?" in refused.err


def test_what_is_written_to_an_overlay_does_not_reach_its_source(sampan: Sampan, tmp_path: Path) -> None:
    source, upper, work = (tmp_path / name for name in ("source", "upper", "work"))
    for directory in (source, upper, work):
        directory.mkdir()
    (source / "f").write_text("original\n")
    source.chmod(0o1710)
    os.chown(source, 7, 8)
    script = "cat /d/f; ls /d; echo changed > /d/f; touch /d/new; stat -c '%a %u:%g' /d"
    bind = (f"{source}:/d:O", "busybox", "sh", "-c", script)

    first = sampan("run", "--name", "web", "-v", *bind).out
    assert first == "original\nf\n1710 7:8\n" == sampan("start", "-a", "web").out, "a start begins anew"
    (source / "f").write_text("later\n")
    sampan("cp", "web:/d/f", tmp_path / "of-its-last-run")
    assert (tmp_path / "of-its-last-run").read_text() == "changed\n"
    lent = ("--volumes-from", "web:ro", "busybox", "sh", "-c", "cat /d/f; touch /d/x")
    assert "Read-only" in sampan.fails(1, "run", "--rm", *lent).err
    assert sampan("diff", "web").out == "A /d\n"

    kept = f"{source}:/d:O,upperdir={upper},workdir={work}"
    for shown in ("later\n", "kept\n"):
        assert sampan("run", "--rm", "-v", kept, "busybox", "sh", "-c", "cat /d/f; echo kept > /d/f").out == shown
    assert ((source / "f").read_text(), (upper / "f").read_text()) == ("later\n", "kept\n")
    assert (
        sampan("run", "--rm", "-v", "named:/d:O", "-v", "named:/e", "busybox", "sh", "-c", "touch /d/x; ls /e").out
        == ""
    )
    sampan("volume", "rm", "named")

    for volume, cause in (
        (f"{source}/f:/d:O", f"can't overlay /d: {source}/f is not a directory"),
        (f"{source}/none:/d:O", f"bind source path does not exist: {source}/none"),
        (f"{source}:/d:O,upperdir={source}/none,workdir={work}", f"can't overlay /d: no such directory: {source}/none"),
        (f"{source}:/d:O,upperdir={source}/f,workdir={work}", f"can't overlay /d: {source}/f is not a directory"),
    ):
        assert cause in sampan.fails(125, "run", "--rm", "-v", volume, "busybox", "true").err
    mapped = ("--userns", "auto", "-v", f"{source}:/d:O", "busybox", "true")
    assert "can't overlay /d in a user namespace" in sampan.fails(125, "run", "--rm", *mapped).err
