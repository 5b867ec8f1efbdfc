"""Every form of mount, as the container finds it and as the host does."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.errors import SampanError
from sampan.spec.runtime import Capabilities, IdMapping, Mount, Namespace, Spec, User
from support.child import in_child
from support.containers import HOST, NAMESPACES, Box, Said, facts, left_behind, remove_parents, with_linux, with_process


@pytest.fixture(scope="module")
def module_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    yield Box(tmp_path_factory.mktemp("box"))
    remove_parents()


@pytest.fixture
def box(module_box: Box) -> Iterator[Box]:
    before = facts(module_box.directory)
    yield module_box
    assert not left_behind(before, module_box.directory)


def bound(source: Path, *options: str, **fields: object) -> tuple[Mount, ...]:
    return (Mount(destination="/data", type="bind", source=str(source), options=options or ("rbind",), **fields),)


def options_of(said: Said, place: str) -> set[str]:
    """Find the options of the last mount at a place in the mountinfo that a container printed, its tags among them."""
    lines = [line.split() for line in said.out.splitlines() if line.split()[4] == place]
    fields = lines[-1]
    return {*fields[5].split(","), *fields[6 : fields.index("-")], *fields[-1].split(",")}


def in_a_namespace(source: Path, then: Callable[[], Said], *commands: str) -> Said:
    """Mount a tree at `source` where nobody else sees it, and return what a container says."""

    def whole() -> Said:
        for command in (f"mount -t tmpfs t {source}", f"mkdir {source}/below", *commands):
            subprocess.run(command.split(), check=True)
        return then()

    return in_child(whole)


# ------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "top", "below"),
    [
        (("rbind", "ro"), {"ro"}, {"rw"}),
        (("rbind", "rro"), {"ro"}, {"ro"}),
        (("rbind", "nosuid", "rnoexec", "rnodev"), {"rw", "nosuid", "noexec", "nodev"}, {"rw", "noexec", "nodev"}),
        (("rbind", "noatime", "rnodiratime"), {"noatime", "nodiratime"}, {"relatime", "nodiratime"}),
        (("rbind", "rstrictatime", "rnosymfollow"), {"nosymfollow"}, {"nosymfollow"}),
    ],
)
def test_options_hold_for_one_mount_or_for_all_below(
    box: Box, tmp_path: Path, options: tuple[str, ...], top: set[str], below: set[str]
) -> None:
    spec = box.spec("cat", "/proc/self/mountinfo", mounts=bound(tmp_path, *options))

    said = in_a_namespace(tmp_path, lambda: box.run(spec), f"mount -t tmpfs b {tmp_path}/below")

    assert top <= options_of(said, "/data")
    assert below <= options_of(said, "/data/below")


def test_what_the_host_has_restricted_stays_so_unless_it_is_cleared(box: Box, tmp_path: Path) -> None:
    kept = box.spec("cat", "/proc/self/mountinfo", mounts=bound(tmp_path, "rbind"))
    cleared = box.spec("cat", "/proc/self/mountinfo", mounts=bound(tmp_path, "rbind", "rw", "suid", "atime"))
    restrict = f"mount -o remount,bind,ro,nosuid,noatime {tmp_path}"

    first = in_a_namespace(tmp_path, lambda: box.run(kept), restrict)
    second = in_a_namespace(tmp_path, lambda: box.run(cleared), restrict)

    assert {"ro", "nosuid", "noatime"} <= options_of(first, "/data")
    assert {"rw", "relatime"} <= options_of(second, "/data")
    assert "nosuid" not in options_of(second, "/data")


def test_a_filesystem_takes_recursive_options_and_a_propagation(box: Box) -> None:
    mounts = (Mount(destination="/srv/t", type="tmpfs", options=("rro", "rnoexec", "shared", "size=64k")),)

    said = box.run(box.spec("cat", "/proc/self/mountinfo", mounts=mounts))

    found = options_of(said, "/srv/t")
    assert {"ro", "noexec", "size=64k"} <= found
    assert any(word.startswith("shared:") for word in found)


def test_a_remount_changes_a_mount_that_is_there(box: Box) -> None:
    mounts = (
        Mount(destination="/srv/t", type="tmpfs", options=("size=64k",)),
        Mount(destination="/srv/t", type="tmpfs", options=("remount", "noexec", "size=128k")),
        Mount(destination="/tmp", type="bind", source="/tmp", options=("rbind",)),
        Mount(destination="/tmp", options=("remount", "bind", "ro")),
    )

    said = box.run(box.spec("cat", "/proc/self/mountinfo", mounts=mounts))

    assert {"noexec", "size=128k"} <= options_of(said, "/srv/t")
    assert "ro" in options_of(said, "/tmp")


# --------------------------------------------------------------------------------------------------- propagation


def administrator(spec: Spec) -> Spec:
    every = tuple(sorted(HOST.capabilities))
    spec = with_process(spec, capabilities=Capabilities(bounding=every, effective=every, permitted=every))
    return msgspec.structs.replace(spec, annotations={})


@pytest.mark.parametrize(("word", "reaches"), [("rshared", True), ("rslave", False), ("rprivate", False)])
def test_a_mount_made_in_the_container_reaches_the_host_through_a_shared_bind_only(
    box: Box, tmp_path: Path, word: str, reaches: bool
) -> None:
    spec = administrator(box.spec("sh", "-c", "mount -t tmpfs seen /data/below", mounts=bound(tmp_path, "rbind", word)))

    def run() -> Said:
        said = box.run(spec)
        return said._replace(out=Path("/proc/self/mountinfo").read_text())

    said = in_a_namespace(tmp_path, run, f"mount --make-shared {tmp_path}")

    assert said.code == 0, said.err
    assert (f"{tmp_path}/below" in said.out) == reaches


def test_a_mount_of_the_hosts_reaches_the_container_through_a_slave_bind(box: Box, tmp_path: Path) -> None:
    script = "echo up; while ! grep -q ' /data/below ' /proc/self/mountinfo; do usleep 5000; done; echo seen"
    spec = box.spec("sh", "-c", script, mounts=bound(tmp_path, "rbind", "rslave"))

    def run() -> Said:
        with box.running(spec) as (_, finish):
            subprocess.run(["mount", "-t", "tmpfs", "t", f"{tmp_path}/below"], check=True)
            return finish()

    assert in_a_namespace(tmp_path, run, f"mount --make-shared {tmp_path}").out == "up\nseen\n"


@pytest.mark.parametrize(
    ("word", "tag"), [("shared", "shared:"), ("rshared", "shared:"), ("unbindable", "unbindable"), ("private", "")]
)
def test_the_root_has_the_propagation_that_was_asked_for(box: Box, word: str, tag: str) -> None:
    said = box.run(with_linux(box.spec("cat", "/proc/self/mountinfo"), rootfs_propagation=word))

    tags = [option for option in options_of(said, "/") if option.startswith(("shared:", "master:", "unbindable"))]
    assert [t.startswith(tag) for t in tags] == ([True] if tag else [])


# --------------------------------------------------------------------------------------------------------- copies


def test_tmpcopyup_copies_what_the_place_holds(box: Box) -> None:
    place = box.lower / "srv/kept"
    (place / "sub").mkdir(parents=True)
    place.chmod(0o751)
    os.chown(place, 3, 4)
    (place / "sub/file").write_text("text" * 1000)
    os.chown(place / "sub/file", 5, 6)
    (place / "sub/file").chmod(0o4711)
    os.setxattr(place / "sub/file", "trusted.x", b"y")
    (place / "link").symlink_to("/etc/passwd")
    os.mkfifo(place / "fifo")
    mounts = (Mount(destination="/srv/kept", type="tmpfs", options=("tmpcopyup", "ro", "size=1m")),)
    script = "cd /srv/kept; stat -c '%n %F %a %u:%g' . sub/file link fifo; wc -c < sub/file; touch x; readlink link"

    said = box.run(box.spec("sh", "-c", script, mounts=mounts))

    assert said.out.splitlines() == [
        ". directory 751 3:4", "sub/file regular file 4711 5:6", "link symbolic link 777 0:0", "fifo fifo 644 0:0",
        "4000", "/etc/passwd",
    ]  # fmt: skip
    assert "Read-only" in said.err


def test_tmpcopyup_through_a_link_copies_the_containers_own_directory(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    (box.lower / "srv/out").symlink_to("../" * 20 + str(tmp_path).lstrip("/"))
    mounts = (Mount(destination="/srv/out", type="tmpfs", options=("tmpcopyup",)),)

    said = box.run(box.spec("ls", "-A", "/srv/out/", mounts=mounts))

    assert said == (0, "", "")


# ------------------------------------------------------------------------------------------------------ mapped ids


@pytest.fixture
def files() -> Iterator[Path]:
    """Make a directory that others may enter, on the root filesystem: its ids can be mapped."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        (Path(directory) / "file").write_text("x")
        (Path(directory) / "other").write_text("x")
        os.chown(Path(directory) / "other", 5, 6)
        yield Path(directory)


def test_the_files_of_a_mapped_bind_have_other_owners(box: Box, files: Path) -> None:
    mapping = {
        "uid_mappings": (
            IdMapping(container_id=0, host_id=33, size=1),
            IdMapping(container_id=5, host_id=1000, size=1),
        ),
        "gid_mappings": (IdMapping(container_id=0, host_id=44, size=7),),
    }
    script = "stat -c %u:%g /data/file /data/other; touch /data/new"
    mounts = bound(files, "rbind", "idmap", **mapping)
    spec = box.spec("sh", "-c", script, mounts=mounts, user=User(uid=33, gid=44))

    said = box.run(spec)

    assert said == (0, "33:44\n1000:50\n", "")
    made = os.stat(files / "new")
    assert (made.st_uid, made.st_gid) == (0, 0)


def test_in_a_user_namespace_a_mapped_bind_has_the_owners_that_it_has_on_the_host(files: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        box = Box(Path(directory) / "box")
        mapping = (IdMapping(container_id=0, host_id=100_000, size=65_536),)
        spec = box.spec("sh", "-c", "stat -c %u:%g /data/file /data/other", mounts=bound(files, "rbind", "idmap"))
        spec = with_linux(
            spec,
            namespaces=tuple(Namespace(type=t) for t in (*NAMESPACES, "user")),
            uid_mappings=mapping,
            gid_mappings=mapping,
        )
        box.directory.chmod(0o700)
        said = box.run(spec)

        assert said == (0, "0:0\n5:6\n", "")
        remove_parents()


def test_a_filesystem_whose_ids_can_not_be_mapped_is_refused_by_name(box: Box) -> None:
    one = (IdMapping(container_id=0, host_id=33, size=1),)
    mounts = bound(Path("/proc"), "bind", "idmap", uid_mappings=one, gid_mappings=one)

    with pytest.raises(SampanError, match="can't map the ids of /proc"):
        box.run(box.spec("true", mounts=mounts))
