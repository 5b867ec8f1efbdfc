"""Garbage: what goes, what stays, and that a push in the meantime loses nothing."""

import itertools
import os
import subprocess
import threading
from pathlib import Path

import pytest

from support.own_registry import (
    INDEX,
    MANIFEST,
    OwnRegistry,
    descriptor,
    digest_of,
    encode,
    image,
    make_layout,
    serving,
)
from support.sampan import PROGRAM, wait_until

ALL = ("--older-than", "0")


def gc(directory: Path, *options: str) -> list[str]:
    done = subprocess.run(
        [PROGRAM, "registry", "gc", directory, *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def blobs(directory: Path) -> set[str]:
    return {path.name for path in (directory / "blobs").rglob("*") if path.is_file()}


def test_what_a_deleted_image_had_alone_goes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, tmp_path / "log") as registry:
        gone = registry.push_image("a", "v1", b"shared", b"alone")
        kept = registry.push_image("a", "v2", b"shared", b"other")
        registry.ask("DELETE", f"/v2/a/manifests/{gone}")

        said = gc(data, *ALL, "--dry-run")
        assert said[-1].startswith("would remove 2 blobs")
        assert digest_of(b"alone")[7:] in blobs(data)
        assert gc(data, *ALL)[-1].startswith("removed 2 blobs")

        assert blobs(data) == {d[7:] for d in (kept, *map(digest_of, (b"shared", b"other", b"{}")))}
        assert registry.ask("GET", f"/v2/a/blobs/{digest_of(b'alone')}").status == 404
        assert registry.ask("GET", f"/v2/a/blobs/{digest_of(b'shared')}").body == b"shared"
        assert gc(data, *ALL)[-1].startswith("removed 0 blobs (0B), 0 links")


def test_a_blob_that_was_just_pushed_waits_for_its_manifest(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, tmp_path / "log") as registry:
        fresh, asked, old = (registry.push_blob("a", name)["digest"] for name in (b"fresh", b"asked for", b"old"))
        for digest in (asked, old):
            os.utime(data / "repositories/a/_blobs/sha256" / digest[7:], (0, 0))
            os.utime(data / "blobs/sha256" / digest[7:], (0, 0))
        registry.ask("HEAD", f"/v2/a/blobs/{asked}")

        assert [line for line in gc(data) if line.startswith("blob")] == [f"blob {old}"]
        assert blobs(data) == {fresh[7:], asked[7:]}


def test_without_a_tag_goes_only_what_is_asked_for_and_nothing_leads_to(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, tmp_path / "log") as registry:
        untagged = registry.push_image("a", "v1", b"one")
        child_document = image(registry.push_blob("a", b"{}"), [registry.push_blob("a", b"child")])
        child = descriptor(encode(child_document), MANIFEST)
        registry.push_manifest("a", child["digest"], child_document)
        registry.push_manifest("a", "v1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]})
        attached = image(registry.push_blob("a", b"{}"), [], subject=child)
        registry.push_manifest("a", digest_of(encode(attached)), attached)

        gc(data, *ALL)
        assert registry.ask("GET", f"/v2/a/manifests/{untagged}").status == 200
        assert f"manifest a@{untagged}" in gc(data, *ALL, "--untagged")
        assert registry.ask("GET", f"/v2/a/manifests/{untagged}").status == 404
        for digest in (child["digest"], digest_of(encode(attached))):
            assert registry.ask("GET", f"/v2/a/manifests/{digest}").status == 200
        assert len(registry.ask("GET", f"/v2/a/referrers/{child['digest']}").json()["manifests"]) == 1
        assert digest_of(b"one")[7:] not in blobs(data)


def test_an_empty_repository_leaves_no_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, tmp_path / "log") as registry:
        document = image(registry.push_blob("x/y", b"{}"), [], subject=descriptor(b"z", MANIFEST))
        registry.push_manifest("x/y", "v1", document)
        registry.ask("DELETE", f"/v2/x/y/manifests/{digest_of(encode(document))}")

        gc(data, *ALL)

        assert list((data / "repositories").iterdir()) == []
        assert blobs(data) == set()
        registry.push_image("x/y", "v1", b"again")


def test_a_manifest_whose_bytes_are_lost_makes_nothing_else_be_removed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, tmp_path / "log") as registry:
        digest = registry.push_image("a", "v1", b"one")
        (data / "blobs/sha256" / digest[7:]).unlink()

        gc(data, *ALL)

        assert blobs(data) == {digest_of(b"one")[7:], digest_of(b"{}")[7:]}


def test_a_stale_upload_is_given_up(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, tmp_path / "log") as registry:
        stale, live = (registry.ask("POST", "/v2/a/blobs/uploads/").headers["location"] for _ in range(2))
        os.utime(data / "uploads" / stale.rpartition("/")[2], (0, 0))

        assert "1 uploads" in gc(data)[-1]
        assert registry.ask("PATCH", stale, b"x").codes == ["BLOB_UPLOAD_UNKNOWN"]
        assert registry.ask("PATCH", live, b"x").status == 202
    os.utime(data / "uploads" / live.rpartition("/")[2], (0, 0))
    with serving(data, tmp_path / "log") as registry:
        wait_until(lambda: not list((data / "uploads").iterdir()))
        assert registry.ask("GET", live).codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_garbage_in_a_layout_goes_too(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "images")
    with serving(layout, tmp_path / "log") as registry:
        first = registry.push_image("images", "v1", b"one")
        kept = registry.push_image("images", "v1", b"two")
        registry.push_blob("images", b"never used")

        assert gc(layout)[-1].startswith("removed 0 blobs")
        gc(layout, *ALL)
        assert blobs(layout) == {d[7:] for d in (first, kept, *map(digest_of, (b"one", b"two", b"{}")))}
        gc(layout, *ALL, "--untagged")
        assert blobs(layout) == {d[7:] for d in (kept, *map(digest_of, (b"two", b"{}")))}
        assert registry.ask("GET", "/v2/images/manifests/v1").status == 200


@pytest.mark.parametrize("content", [b" " * (5 << 20) + b"{}", b"[]", b'{"layers": 1}'])
def test_what_a_manifest_needs_that_is_not_understood_is_not_guessed(tmp_path: Path, content: bytes) -> None:
    layout = make_layout(tmp_path / "images")
    for data in (content, b"layer"):
        (layout / "blobs/sha256" / digest_of(data)[7:]).write_bytes(data)
    (layout / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [descriptor(content, MANIFEST)]}))

    done = subprocess.run(
        [PROGRAM, "registry", "gc", layout, *ALL], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 125
    assert "nothing can tell what sha256:" in done.stderr
    assert digest_of(b"layer")[7:] in blobs(layout)


@pytest.mark.parametrize("form", ["directory", "layout"])
def test_pushes_and_deletions_meanwhile_lose_nothing(tmp_path: Path, form: str) -> None:
    data = tmp_path / "data" if form == "directory" else make_layout(tmp_path / "data")
    enough = threading.Event()
    with serving(data, tmp_path / "log") as registry:
        # A layout has one set of blobs: a blob that is deleted is gone for every push that is under way.
        churn = (registry, enough, form == "directory")
        threads = [threading.Thread(target=_churn, args=(*churn, f"r{i}")) for i in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            # In the directory's form an hour's grace protects only what waits for its manifest: blobs go at once.
            gc(data, "-q")
        enough.set()
        for thread in threads:
            thread.join()

        for i in range(3):
            assert registry.ask("GET", f"/v2/r{i}/manifests/kept").status == 200
            for layer in (b"shared", f"r{i}-last".encode()):
                assert registry.ask("GET", f"/v2/r{i}/blobs/{digest_of(layer)}").body == layer


def _churn(registry: OwnRegistry, enough: threading.Event, delete_blobs: bool, name: str) -> None:
    """Push and delete the same shared layer again and again, so that its last link often goes and comes back."""
    for number in itertools.count():
        if enough.is_set():
            break
        digest = registry.push_image(name, "kept", b"shared", f"{name}-{number}".encode())
        registry.ask("DELETE", f"/v2/{name}/manifests/{digest}")
        passing = registry.push_blob(name, f"{name} {number}, in passing".encode())["digest"]
        registry.ask("DELETE", f"/v2/{name}/blobs/{passing}")
        if delete_blobs:
            registry.ask("DELETE", f"/v2/{name}/blobs/{digest_of(b'shared')}")
    registry.push_image(name, "kept", b"shared", f"{name}-last".encode())
