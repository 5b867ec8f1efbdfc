"""Files of builds from elsewhere: archives that are contexts, downloads, repositories."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from sampan.build.fetching import fetch
from sampan.build.jobs import Fetch, Item, Place
from sampan.errors import Failed, InvalidInput, NotFound, SampanError
from support.remote_files import DATA, Server, git, serving, serving_repositories, tar_of
from support.stepping import Stepping


@pytest.fixture
def server():
    with serving() as address:
        yield address


@pytest.fixture
def target(tmp_path):
    return str(tmp_path / "fetched")


def given(kind, data, target, **how):
    """Fetch what comes through a descriptor."""
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(writing, data), os.close(writing)))
    writer.start()
    try:
        return fetch(Fetch(kind=kind, target=target, **how), reading)
    finally:
        os.close(reading)
        writer.join()


# ------------------------------------------------------------------------------------------------------- archives


def test_an_archive_becomes_a_directory_with_its_owners(target) -> None:
    fetched = given("archive", tar_of({"./d/f": b"f", ".wh.x": b"a name like any other"}, owner=5), target)

    assert Path(f"{fetched.directory}/d/f").read_text() == "f"
    assert os.stat(f"{fetched.directory}/d/f").st_uid == 5
    assert sorted(os.listdir(fetched.directory)) == [".wh.x", "d"]
    assert os.listdir(target) == ["files"]


def test_of_two_members_with_one_name_the_later_one_counts(target) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for data in (b"first", b"second"):
            info = tarfile.TarInfo("f")
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))

    fetched = given("archive", buffer.getvalue(), target)

    assert Path(f"{fetched.directory}/f").read_text() == "second"


def test_an_archive_may_be_a_file_of_this_machine(target, tmp_path) -> None:
    (tmp_path / "t").write_bytes(tar_of({"f": b"f"}))

    fetched = fetch(Fetch(kind="archive", target=target, value=str(tmp_path / "t")), None)

    assert os.listdir(fetched.directory) == ["f"]


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, tar_of({"f": b"f" * 9999})[:60], tar_of({"../f": b""})])
def test_what_is_no_whole_archive_leaves_nothing(target, data) -> None:
    with pytest.raises(InvalidInput, match="can't read the build context"):
        given("archive", data, target)
    assert not os.path.exists(target)


def test_links_of_an_archive_do_not_lead_what_follows_out_of_it(target, tmp_path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        made.addfile(link)
        made.addfile(tarfile.TarInfo("l/escaped"))

    fetched = given("archive", buffer.getvalue(), target)

    assert not (tmp_path / "escaped").exists()
    assert os.path.lexists(f"{fetched.directory}{tmp_path}/escaped")


# ------------------------------------------------------------------------------------------------------ downloads


def test_a_download_is_roots_alone_and_of_the_servers_time(target, server) -> None:
    fetched = fetch(Fetch(kind="url", target=target, value=f"{server}/f"), None)

    path = f"{fetched.directory}/{fetched.name}"
    assert Path(path).read_bytes() == DATA
    assert (os.stat(path).st_mode & 0o7777, os.stat(path).st_mtime) == (0o600, 10**9)
    assert fetched.identity == f"url 'f' sha256:{hashlib.sha256(DATA).hexdigest()}"


def test_a_redirect_is_followed_but_keeps_the_name(target, server) -> None:
    fetched = fetch(Fetch(kind="url", target=target, value=f"{server}/to?/f"), None)

    assert fetched.name == "to"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_checksum_is_checked(target, server, algorithm) -> None:
    right = hashlib.new(algorithm, DATA).hexdigest()
    fetched = fetch(Fetch(kind="url", target=target, value=f"{server}/f", checksum=f"{algorithm}:{right}"), None)

    assert fetched.identity == f"url 'f' {algorithm}:{right}"
    with pytest.raises(Failed, match="digest mismatch"):
        fetch(Fetch(kind="url", target=f"{target}2", value=f"{server}/f", checksum=f"{algorithm}:{right[::-1]}"), None)
    assert not os.path.exists(f"{target}2")


@pytest.mark.parametrize("checksum", ["sha256:aa", "md5:" + "0" * 32, "sha256:" + "G" * 64, "0" * 64])
def test_a_checksum_that_can_be_none_is_refused_before_anything_is_fetched(target, checksum) -> None:
    with pytest.raises(InvalidInput, match="invalid digest"):
        fetch(Fetch(kind="url", target=target, value="http://127.0.0.1:1/f", checksum=checksum), None)


@pytest.mark.parametrize("path", ["/nothing", "/cut", "/to?file:///etc/passwd", "/circle", "/to?ftp://h/x"])
def test_what_does_not_come_leaves_nothing(target, server, path) -> None:
    with pytest.raises(SampanError, match="can't download"):
        fetch(Fetch(kind="url", target=target, value=server + path), None)
    assert not os.path.exists(target)


def test_an_archive_that_is_a_context_is_unpacked(target, server) -> None:
    Server.archive = tar_of({"f": b"f"})

    fetched = fetch(Fetch(kind="url", target=target, value=f"{server}/t.tar", unpack=True), None)

    assert not fetched.name
    assert os.listdir(fetched.directory) == ["f"]


def test_nobody_there_is_told(target) -> None:
    with pytest.raises(Failed, match=r"can't download http://127\.0\.0\.1:1/f: connection refused$"):
        fetch(Fetch(kind="url", target=target, value="http://127.0.0.1:1/f"), None)


# --------------------------------------------------------------------------------------------------- repositories


@pytest.fixture
def repositories(tmp_path):
    root = tmp_path / "repositories"
    with serving_repositories(root) as address:
        yield root, address


def test_a_repository_is_checked_out_without_what_git_keeps(target, repositories) -> None:
    root, url = repositories
    (root / "r" / "f").write_text("2")
    git(root / "r", "commit", "-qam", "two")
    commit = git(root / "r", "rev-parse", "HEAD")

    fetched = fetch(Fetch(kind="git", target=target, value=f"{url}/r"), None)

    assert sorted(os.listdir(fetched.directory)) == ["f", "sub"]
    assert fetched.identity == f"git {commit} ''"
    assert os.stat(f"{fetched.directory}/f").st_mtime == int(git(root / "r", "log", "-1", "--format=%ct"))
    assert fetch(Fetch(kind="git", target="", value=f"{url}/r", resolve=True), None).identity == fetched.identity


def test_a_tag_a_commit_and_a_directory_can_be_asked_for(target, repositories) -> None:
    root, url = repositories
    first = git(root / "r", "rev-parse", "HEAD")
    git(root / "r", "tag", "-am", "words", "v1")
    (root / "r" / "f").write_text("2")
    git(root / "r", "commit", "-qam", "two")

    for number, reference in enumerate(("v1", first, "refs/tags/v1")):
        fetched = fetch(Fetch(kind="git", target=f"{target}{number}", value=f"{url}/r#{reference}:sub"), None)
        assert os.listdir(fetched.directory) == ["g"]
        assert fetched.identity == f"git {first} 'sub'"
        resolve = Fetch(kind="git", target="", value=f"{url}/r#{reference}:sub", resolve=True)
        assert fetch(resolve, None).identity == fetched.identity


def test_submodules_come_too_but_never_from_this_machines_files(target, repositories) -> None:
    root, url = repositories
    git(root / "r", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", f"{url}/s", "s")
    git(root / "r", "commit", "-qm", "submodule")

    fetched = fetch(Fetch(kind="git", target=target, value=f"{url}/r"), None)

    assert os.listdir(f"{fetched.directory}/s") == ["inner"]
    git(root / "r", "config", "-f", ".gitmodules", "submodule.s.url", f"file://{root}/s")
    git(root / "r", "commit", "-qam", "of this machine")
    with pytest.raises(Failed):
        fetch(Fetch(kind="git", target=f"{target}2", value=f"{url}/r"), None)
    assert not os.path.exists(f"{target}2")


def test_the_git_directory_is_kept_if_asked_for(target, repositories) -> None:
    fetched = fetch(Fetch(kind="git", target=target, value=f"{repositories[1]}/r", keep_git_dir=True), None)

    assert ".git" in os.listdir(fetched.directory)


@pytest.mark.parametrize(
    ("reference", "error"), [("#nothing", SampanError), ("#:f", InvalidInput), ("#:nothing", SampanError)]
)
def test_what_a_repository_does_not_have_is_told(target, repositories, reference, error) -> None:
    with pytest.raises(error, match="can't check out"):
        fetch(Fetch(kind="git", target=target, value=f"{repositories[1]}/r{reference}"), None)
    assert not os.path.exists(target)


def test_a_commit_that_is_another_one_is_refused(target, repositories) -> None:
    with pytest.raises(Failed, match="expected checksum to match 0123"):
        fetch(Fetch(kind="git", target=target, value=f"{repositories[1]}/r", checksum="0123"), None)


def test_no_repository_is_told(target, repositories) -> None:
    with pytest.raises(SampanError, match="can't check out"):
        fetch(Fetch(kind="git", target=target, value=f"{repositories[1]}/nothing"), None)


# ------------------------------------------------------------------------------------------------ as a step's files


def test_what_was_fetched_is_selected_by_its_identity_alone(tmp_path, target, server) -> None:
    step = Stepping(tmp_path)
    fetched = fetch(Fetch(kind="url", target=target, value=f"{server}/f"), None)
    item = Item(
        place=Place(directory=fetched.directory), sources=(fetched.name,), literal=True, identity=fetched.identity
    )

    laid = step.lay((item,), "/n/")

    assert step.select(Item(identity=fetched.identity)).digest == laid.digest
    assert step.files()["n/f"].mode == 0o600
    with pytest.raises(NotFound):
        fetch(Fetch(kind="url", target=f"{target}2", value=f"{server}/nothing"), None)
