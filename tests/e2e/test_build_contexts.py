"""Where a build's files come from: contexts of every kind, named ones, and what ADD gets from elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.remote_files import DATA, Server, git, serving, serving_repositories, tar_of
from support.sampan import Sampan

SHOW = b"FROM busybox\nCOPY . /c\nRUN cd /c && find . -type f | sort && stat -c %u:%g f\n"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    with serving_repositories(tmp_path / "repositories") as address:
        yield tmp_path / "repositories", address


def build(sampan: Sampan, *words: str | Path, **how: object) -> str:
    """Build on the host's network; return what was said."""
    return sampan("build", "--progress=plain", *words, **how).err


def make(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_an_archive_on_standard_input_is_a_context_and_keeps_its_owners(shared: Sampan) -> None:
    archive = tar_of({"Dockerfile": SHOW, "f": b"1", ".dockerignore": b"left\n", "left": b""}, owner=7)

    said = build(shared, "-", input=archive)

    assert "./f\n" in said
    assert "./left" not in said
    assert "7:7\n" in said


def test_a_cut_archive_is_refused_and_leaves_nothing(shared: Sampan) -> None:
    before = os.listdir(shared.root / "tmp")

    shared.fails(1, "build", "-", input=tar_of({"Dockerfile": SHOW, "f": os.urandom(99999)})[:5000])

    assert os.listdir(shared.root / "tmp") == before


def test_an_archive_and_a_dockerfile_may_be_downloaded(shared: Sampan, server: str) -> None:
    Server.archive = tar_of({"Dockerfile": SHOW, "f": b"1"}, owner=7)

    assert "7:7\n" in build(shared, f"{server}/t.tar")
    Server.archive = b"FROM busybox\nRUN echo of a download\n"
    assert "of a download" in build(shared, f"{server}/t.tar")


def test_a_repository_is_a_context(shared: Sampan, repositories: tuple[Path, str]) -> None:
    root, url = repositories
    make(root / "r", Dockerfile=SHOW.decode(), sub__Dockerfile=SHOW.decode(), sub__f="2")
    git(root / "r", "add", ".")
    git(root / "r", "commit", "-qm", "two")

    said = build(shared, f"{url}/r")
    assert "./sub/g" in said
    assert "./.git/" not in said
    assert "./g\n" in build(shared, f"{url}/r#main:sub")
    assert "can't check out" in shared.fails(1, "build", f"{url}/r#nothing").err


def test_add_downloads_only_what_the_cache_has_not(shared: Sampan, server: str, tmp_path: Path) -> None:
    checksum = "sha256:" + hashlib.sha256(DATA).hexdigest()
    make(tmp_path, Dockerfile=f"FROM busybox\nADD --checksum={checksum} {server}/f /d/\nRUN stat -c %a-%Y /d/f\n")

    assert f"600-{10**9}" in build(shared, tmp_path)
    Server.seen.clear()
    assert build(shared, tmp_path).count("CACHED") == 2
    assert not Server.seen


def test_add_checks_what_it_downloads(shared: Sampan, server: str, tmp_path: Path) -> None:
    make(tmp_path, Dockerfile=f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {server}/f /d/\n")

    assert "digest mismatch" in shared.fails(1, "build", tmp_path).err


def test_add_unpacks_a_download_only_if_asked_to(shared: Sampan, server: str, tmp_path: Path) -> None:
    Server.archive = tar_of({"inner": b"1"})
    make(tmp_path, Dockerfile=f"FROM busybox\nADD {server}/t.tar /a/\nADD --unpack {server}/t.tar /b/\nRUN ls /a /b\n")

    said = build(shared, tmp_path)

    assert "t.tar\n" in said
    assert "inner\n" in said


def test_add_takes_a_repository_again_only_when_it_has_changed(
    shared: Sampan, repositories: tuple[Path, str], tmp_path: Path
) -> None:
    root, url = repositories
    context = make(tmp_path / "context", Dockerfile=f"FROM busybox\nADD {url}/r#main /r\nRUN ls -A /r && cat /r/f\n")

    assert "sub\n" in build(shared, context)
    assert build(shared, context).count("CACHED") == 2
    make(root / "r", f="changed")
    git(root / "r", "commit", "-qam", "changed")
    assert "changed" in build(shared, context)


def test_named_contexts_are_directories_archives_and_images(shared: Sampan, server: str, tmp_path: Path) -> None:
    Server.archive = tar_of({"f": b"of an archive"})
    context = make(
        tmp_path / "context",
        Dockerfile="FROM busybox AS old\nRUN false\nFROM base\nCOPY --from=dir f /1\nCOPY --from=tar f /2\n"
        "COPY --from=image bin/busybox /3\nRUN cat /1 /2 && test -s /3\n",
    )
    directory = make(tmp_path / "dir", f="of a directory ", left="", **{".dockerignore": "left\n"})

    said = build(
        shared,
        *("--build-context", f"dir={directory}", "--build-context", f"tar={server}/t.tar"),
        *("--build-context", "image=docker-image://busybox", "--build-context", "base=docker-image://busybox"),
        context,
    )

    assert "of a directory of an archive" in said


def test_a_stage_may_stand_on_a_named_directory(shared: Sampan, tmp_path: Path) -> None:
    context = make(
        tmp_path / "context", Dockerfile="FROM files AS a\nFROM busybox\nCOPY --from=a / /all\nRUN ls /all\n"
    )
    directory = make(tmp_path / "dir", one="1", two="2")

    assert "one\n" in build(shared, "--build-context", f"files={directory}", context)


def test_a_layout_is_a_base(shared: Sampan, tmp_path: Path) -> None:
    shared("copy", "store:busybox", f"oci:{tmp_path}/layout:one")
    context = make(tmp_path / "context", Dockerfile="FROM base\nRUN echo on a layout\n")

    assert "on a layout" in build(shared, "--build-context", f"base=oci-layout://{tmp_path}/layout:one", context)


def test_a_large_context_is_read_in_place_and_only_what_is_taken(shared: Sampan, tmp_path: Path) -> None:
    make(tmp_path, Dockerfile="FROM busybox\nCOPY small /\n", small="1")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)

    build(shared, tmp_path)


def test_a_context_that_is_hostile_gives_nothing_of_this_machine(shared: Sampan, tmp_path: Path) -> None:
    make(tmp_path, Dockerfile="FROM busybox\nCOPY . /c\nRUN ls -l /c\n")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "up").symlink_to("../../../../../../etc/passwd")

    assert "up -> ../../../../../../etc/passwd" in build(shared, tmp_path)
    for source in ("out/passwd", "up", "../../../etc/passwd"):
        make(tmp_path, Dockerfile=f"FROM busybox\nCOPY {source} /c/\n")
        assert "not found in the build context" in shared.fails(1, "build", tmp_path).err


def test_nothing_is_left_of_all_these(shared: Sampan) -> None:
    assert shared.leftovers() == []
    assert os.listdir(shared.root / "tmp") == []
