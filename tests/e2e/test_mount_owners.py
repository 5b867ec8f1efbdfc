"""Other owners for what is mounted: `idmap`, which changes nothing on the disk, and `U`, which does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.sampan import Sampan

MAP = "idmap=uids=0-1000-1#1000-0-1;gids=0-1000-1#1000-0-1"
"""Root and user 1000 change places."""


def run(sampan: Sampan, *args: str) -> str:
    return sampan("run", "--rm", "--network", "none", *args).out


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    place = tmp_path / "owned"
    (place / "sub").mkdir(parents=True)
    (place / "sub/file").touch()
    (place / "link").symlink_to("/etc/passwd")
    for path in (place, place / "sub", place / "sub/file"):
        os.chown(path, 1000, 1000)
    return place


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_a_mapped_bind_shows_other_owners_and_what_is_written_has_the_disks(sampan: Sampan, owned: Path) -> None:
    said = run(sampan, "-v", f"{owned}:/d:{MAP}", "busybox", "sh", "-c", "stat -c %u:%g /d/sub/file; touch /d/new")

    assert said == "0:0\n"
    assert owner(owned / "new") == (1000, 1000)
    assert owner(owned / "sub/file") == (1000, 1000)


@pytest.mark.parametrize("kind", ["bind", "volume"])
def test_it_can_be_said_with_mount_too(sampan: Sampan, owned: Path, kind: str) -> None:
    source = str(owned) if kind == "bind" else "mapped"
    mount = f"type={kind},src={source},dst=/d,{MAP}"
    run(sampan, "--mount", mount, "--user", "1000", "busybox", "sh", "-c", "touch /d/new || true")

    plain = run(sampan, "--mount", f"type={kind},src={source},dst=/d", "busybox", "sh", "-c", "stat -c %u /d; ls /d")

    # The bound directory shows as root's, so user 1000 can't write; the volume's owner, root, shows as 1000 and can.
    assert plain == ("1000\nlink\nsub\n" if kind == "bind" else "0\nnew\n")


def test_files_of_a_mapped_mount_are_copied_with_the_owners_that_show(sampan: Sampan, owned: Path) -> None:
    sampan("create", "--name", "mapped", "-v", f"{owned}:/d:{MAP}", "busybox", "sleep", "99")
    (owned.parent / "given").touch()

    sampan("cp", owned.parent / "given", "mapped:/d/stopped")
    sampan("start", "mapped")
    sampan("cp", owned.parent / "given", "mapped:/d/running")

    assert owner(owned / "stopped") == owner(owned / "running") == (1000, 1000)


@pytest.mark.parametrize(("user", "ids"), [("0", (0, 0)), ("7:8", (7, 8)), ("nobody", (65534, 65534))])
def test_with_u_all_files_become_the_users(sampan: Sampan, owned: Path, user: str, ids: tuple[int, int]) -> None:
    run(sampan, "-v", f"{owned}:/d:U", "--user", user, "busybox", "touch", "/d/new")

    assert {owner(owned / name) for name in (".", "sub", "sub/file", "new", "link")} == {ids}
    assert owner(Path("/etc/passwd")) == (0, 0)


def test_u_and_a_mapping_give_the_files_to_who_shows_as_the_user(sampan: Sampan, owned: Path) -> None:
    run(sampan, "--mount", f"type=bind,src={owned},dst=/d,chown=true,{MAP}", "busybox", "touch", "/d/new")

    assert {owner(owned / name) for name in ("sub/file", "new")} == {(1000, 1000)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ("/etc:/d:U", "chowning host path '/etc' is not allowed"),
        ("/tmp/x:/d:idmap=uids=1", "invalid mode: idmap=uids=1"),
        ("/tmp/x:/d:idmap", "can't map the ids of /d: the container has the host's user namespace"),
        ("/proc:/d:" + MAP, "can't map the ids of /proc: its filesystem can't do that"),
    ],
)
def test_what_can_not_be_done_is_said(sampan: Sampan, volume: str, message: str) -> None:
    refused = sampan("run", "--rm", "-v", volume, "busybox", "true", check=False)

    assert refused.code == 125
    assert message in refused.err
    assert sampan("ps", "-aq").out == ""


def test_programs_devices_and_set_ids_can_be_barred_from_a_bind(sampan: Sampan, tmp_path: Path) -> None:
    said = run(sampan, "-v", f"{tmp_path}:/d:noexec,nosuid,nodev", "busybox", "grep", " /d ", "/proc/mounts")

    assert {"nosuid", "nodev", "noexec"} <= set(said.split()[3].split(","))
