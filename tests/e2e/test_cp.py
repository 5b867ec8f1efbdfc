"""`cp`: both ways, as Docker's rules have it, and never out of the container's root."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.sampan import PROGRAM, Sampan, wait_until

MAKE = (
    "mkdir -p /src/dir/sub /dst; echo one >/src/file; echo two >/src/dir/a; echo three >/src/dir/sub/b; "
    "ln -s /etc/hostname /src/link; ln -s dir /src/dirlink; chmod 640 /src/file; chown 7:8 /src/file; "
)


@pytest.fixture(params=["running", "stopped"])
def web(request: pytest.FixtureRequest, sampan: Sampan) -> Sampan:
    """Make a container with files, that runs or has run."""
    stay = "touch /ready; exec sleep 1000" if request.param == "running" else "touch /ready"
    sampan("run", "-d", "--name", "web", "--network", "none", "busybox", "sh", "-c", f"{MAKE}{stay}")
    if request.param == "running":
        wait_until(lambda: sampan("exec", "web", "test", "-e", "/ready", check=False).code == 0)
    else:
        sampan("wait", "web")
    return sampan


def inside(sampan: Sampan, path: str) -> list[str]:
    """Return the names and contents of files in the container, by the archive that `cp` makes."""
    data = subprocess.run([PROGRAM, "cp", f"web:{path}", "-"], env=sampan.env, capture_output=True, check=True).stdout
    found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            text = content.read().decode() if content else f"-> {member.linkname}" if member.issym() else "/"
            found.append(f"{member.name} {text.strip()}")
    return found


def tree(path: Path) -> list[str]:
    found = []
    for each in sorted(path.rglob("*")):
        name = each.relative_to(path)
        text = f"-> {os.readlink(each)}" if each.is_symlink() else "/" if each.is_dir() else each.read_text().strip()
        found.append(f"{name} {text}")
    return found


OUT = [
    ("/src/file", "new", ["new one"]),
    ("/src/file", "there/", ["there /", "there/file one"]),
    ("/src/file", "there", ["there /", "there/file one"]),
    ("/src/dir", "new", ["new /", "new/a two", "new/sub /", "new/sub/b three"]),
    ("/src/dir", "new/", ["new /", "new/a two", "new/sub /", "new/sub/b three"]),
    (
        "/src/dir",
        "there",
        ["there /", "there/dir /", "there/dir/a two", "there/dir/sub /", "there/dir/sub/b three"],
    ),
    ("/src/dir/.", "there", ["there /", "there/a two", "there/sub /", "there/sub/b three"]),
    ("/src/dir/.", "new", ["new /", "new/a two", "new/sub /", "new/sub/b three"]),
    ("/src/link", "there", ["there /", "there/link -> /etc/hostname"]),
    ("/src/dirlink/", "new", ["new /", "new/a two", "new/sub /", "new/sub/b three"]),
    ("src/file", "new", ["new one"]),
]


def test_out_of_a_container(web: Sampan, tmp_path: Path) -> None:
    for number, (source, target, found) in enumerate(OUT):
        here = tmp_path / str(number)
        here.mkdir()
        if target.startswith("there"):
            (here / "there").mkdir()

        web("cp", f"web:{source}", f"{here}/{target}")

        assert tree(here) == found, (source, target)


def test_out_of_a_container_with_what_a_link_leads_to_and_with_owners(web: Sampan, tmp_path: Path) -> None:
    web("cp", "-L", "web:/src/dirlink", tmp_path / "new")
    web("cp", "-a", "web:/src/file", tmp_path / "owned")
    web("cp", "web:/src/file", tmp_path / "mine")

    assert tree(tmp_path / "new") == ["a two", "sub /", "sub/b three"]
    owned, mine = (tmp_path / "owned").stat(), (tmp_path / "mine").stat()
    assert (owned.st_uid, owned.st_gid, owned.st_mode & 0o777) == (7, 8, 0o640)
    assert (mine.st_uid, mine.st_gid, mine.st_mode & 0o777) == (0, 0, 0o640)


INTO = [
    ("file", "/dst/new", "/dst", ["dst /", "dst/new one"]),
    ("file", "/dst", "/dst", ["dst /", "dst/file one"]),
    ("file", "/dst/", "/dst", ["dst /", "dst/file one"]),
    ("file", "/src/file", "/src/file", ["file one"]),
    ("dir", "/dst", "/dst", ["dst /", "dst/dir /", "dst/dir/a two"]),
    ("dir", "/dst/new", "/dst", ["dst /", "dst/new /", "dst/new/a two"]),
    ("dir/.", "/dst", "/dst", ["dst /", "dst/a two"]),
    ("link", "/dst", "/dst", ["dst /", "dst/link -> file"]),
    ("file", "/src/dirlink", "/src/dir/file", ["file one"]),
]


def test_into_a_container(web: Sampan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/a").write_text("two")
    (tmp_path / "link").symlink_to("file")

    for number, (source, target, path, found) in enumerate(INTO):
        empty = tmp_path / f"dst{number}"
        empty.mkdir()
        web("cp", empty, "web:/")
        at = f"dst{number}"

        web("cp", f"{tmp_path}/{source}", f"web:{target}".replace("dst", at))

        assert inside(web, path.replace("dst", at)) == [line.replace("dst", at) for line in found], (source, target)


WRONG = [
    (("web:/none", "{}/x"), "Could not find the file /none in container"),
    (("nobody:/x", "{}/x"), "No such container: nobody"),
    (("{}/none", "web:/x"), "no such file or directory"),
    (("{}/dir", "web:/src/file"), "cannot copy directory"),
    (("{}/file", "web:/none/"), "no such directory"),
    (("{}/file", "web:/none/x"), "Could not find the file"),
    (("web:/src/file", "{}/none/x"), "invalid output path: directory"),
    (("web:/src/dir", "{}/file"), "cannot copy directory"),
    (("web:/a", "web:/b"), "copying between containers is not supported"),
    (("{}/a", "{}/b"), "must specify at least one container source"),
    (("web:/src/file/", "{}/x"), "not a directory"),
]


def test_what_can_not_be_copied_is_said(web: Sampan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    (tmp_path / "dir").mkdir()

    for args, message in WRONG:
        said = web("cp", *(arg.format(tmp_path) for arg in args), check=False)

        assert said.code in (1, 125), args
        assert message.lower() in said.err.lower(), args
        assert "Traceback" not in said.err


def test_volumes_and_binds_are_seen_and_read_only_ones_kept(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound/x").write_text("bound")
    (tmp_path / "new").write_text("new")
    (tmp_path / "file").write_text("bound")
    binds = ("-v", f"{tmp_path}/bound:/ro:ro", "-v", f"{tmp_path}/file:/file")
    flags = ("-v", "data:/data", *binds, "--network", "none")
    sampan("create", "--name", "web", *flags, "busybox", "sleep", "1000")

    for _ in ("created", "running"):
        sampan("cp", tmp_path / "new", "web:/data/new")
        sampan("cp", "web:/data/new", tmp_path / "back")
        assert (tmp_path / "back").read_text() == "new"
        sampan("cp", "web:/ro/x", tmp_path / "back")
        assert (tmp_path / "back").read_text() == "bound"
        refused = sampan("cp", tmp_path / "new", "web:/ro/y", check=False)
        assert "mounted volume is marked read-only" in refused.err
        sampan("cp", tmp_path / "new", "web:/file")
        assert (tmp_path / "file").read_text() == "new"
        (tmp_path / "file").write_text("bound")
        sampan("start", "web")
    assert sampan("exec", "web", "cat", "/file").out == "bound"  # the mount is still there
    sampan("cp", tmp_path / "new", "web:/etc/hostname")
    assert "/etc/hostname" in sampan("exec", "web", "cat", "/proc/mounts").out
    assert not (tmp_path / "bound/y").exists()
    sampan("rm", "-f", "web")
    sampan("volume", "rm", "data")


@pytest.mark.parametrize("users", ["host", "auto"])
def test_of_a_read_only_container_the_volumes_are_written_to(sampan: Sampan, tmp_path: Path, users: str) -> None:
    (tmp_path / "new").write_text("new")
    flags = ("--read-only", "--userns", users, "--network", "none", "-v", "/data")
    sampan("create", "--name", "web", *flags, "busybox", "sleep", "1000")

    for _ in ("created", "running"):
        sampan("cp", tmp_path / "new", "web:/data/new")
        refused = sampan("cp", tmp_path / "new", "web:/bin/new", check=False)
        assert "container rootfs is marked read-only" in refused.err
        sampan("start", "web")
    assert sampan("exec", "web", "cat", "/data/new").out == "new"


@pytest.mark.parametrize("way", ["running", "stopped"])
def test_no_link_of_a_containers_leads_out_of_it(sampan: Sampan, tmp_path: Path, way: str) -> None:
    """CVE-2018-15664 and its like: a path of the container's is never followed on the host."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/x").write_text("of the host")
    links = f"ln -s {tmp_path}/secret /out; ln -s ../../../../../../../..{tmp_path}/secret /up; "
    stay = "sleep 1000" if way == "running" else "true"
    sampan("run", "-d", "--name", "web", "--network", "none", "busybox", "sh", "-c", f"{links}touch /ready; {stay}")
    if way == "stopped":
        sampan("wait", "web")
    else:
        wait_until(lambda: sampan("exec", "web", "test", "-e", "/ready", check=False).code == 0)

    for link in ("/out", "/up"):
        assert "Could not find" in sampan("cp", f"web:{link}/x", tmp_path / "got", check=False).err
        assert sampan("cp", "-L", f"web:{link}", tmp_path / "got", check=False).code == 1
        (tmp_path / "evil").write_text("evil")
        sampan("cp", tmp_path / "evil", f"web:{link}/x", check=False)
    assert (tmp_path / "secret/x").read_text() == "of the host"
    assert [p.name for p in (tmp_path / "secret").iterdir()] == ["x"]


def test_an_archive_that_leads_out_is_refused(web: Sampan, tmp_path: Path) -> None:
    for name, link in (("../../up", ""), ("a/../../up", ""), ("hard", "../../etc/passwd")):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            member = tarfile.TarInfo(name)
            if link:
                member.type, member.linkname = tarfile.LNKTYPE, link
            tar.addfile(member)
        refused = web("cp", "-", "web:/dst", input=data.getvalue(), check=False)
        assert refused.code == 1
        assert "leads out" in refused.err
    assert inside(web, "/dst") == ["dst /"]


def test_archives_by_the_stream_compressed_and_plain(web: Sampan) -> None:
    for mode in ("w", "w:gz", "w:xz"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode=mode) as tar:  # type: ignore[call-overload]
            member = tarfile.TarInfo(f"from-{mode[2:]}")
            member.size = 2
            tar.addfile(member, io.BytesIO(b"hi"))
        web("cp", "-", "web:/dst", input=data.getvalue())

    assert inside(web, "/dst") == ["dst /", "dst/from- hi", "dst/from-gz hi", "dst/from-xz hi"]
    assert "must be a directory" in web("cp", "-", "web:/src/file", input=b"", check=False).err


def test_dockers_client_copies_both_ways(web: Sampan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("by docker")
    env = {**web.env, "DOCKER_HOST": f"unix://{web.socket}"}

    for args in (
        (f"{tmp_path}/file", "web:/dst/x"),
        ("web:/src/dir", f"{tmp_path}/out"),
        ("web:/dst/x", f"{tmp_path}/x"),
    ):
        subprocess.run(["docker", "cp", *args], env=env, check=True, capture_output=True, timeout=30)

    assert (tmp_path / "x").read_text() == "by docker"
    assert tree(tmp_path / "out") == ["a two", "sub /", "sub/b three"]
