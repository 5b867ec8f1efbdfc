"""kill -9 at any moment, a full disk, clients that break off: what was acknowledged is there, and all is right."""

import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from support.own_registry import OwnRegistry, digest_of, image, make_layout, serving
from support.sampan import wait_until


def check_blobs(directory: Path) -> int:
    """Insist that every blob is what its name says; return how many there are."""
    count = 0
    for path in (directory / "blobs").rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                assert hashlib.file_digest(file, path.parent.name).hexdigest() == path.name, path
            count += 1
    return count


def push_until_killed(registry: OwnRegistry, seed: int, done: dict[str, bytes]) -> None:
    """Push images by every way there is; put down what was acknowledged."""
    choose = random.Random(seed)
    name = f"r{seed % 3}"
    try:
        for number in range(1000):
            layer = choose.randbytes(choose.randrange(1, 400_000))
            match choose.randrange(3):
                case 0:
                    blob = registry.push_blob(name, layer)
                case 1:
                    registry.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(layer)}", layer)
                    blob = {"mediaType": "application/vnd.x", "digest": digest_of(layer), "size": len(layer)}
                case _:
                    location = registry.ask("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
                    middle = len(layer) // 2
                    registry.ask("PATCH", location, layer[:middle])
                    registry.ask("PATCH", location, layer[middle:])
                    registry.ask("PUT", f"{location}?digest={digest_of(layer)}")
                    blob = {"mediaType": "application/vnd.x", "digest": digest_of(layer), "size": len(layer)}
            document = image(registry.push_blob(name, b"{}"), [blob])
            answer = registry.push_manifest(name, f"s{seed}-{number}", document)
            if answer.status == 201:
                done[f"{name}/manifests/s{seed}-{number}"] = answer.headers["docker-content-digest"].encode()
                done[f"{name}/blobs/{digest_of(layer)}"] = layer
    except (OSError, HTTPException, AssertionError, KeyError):  # the registry was killed
        return


@pytest.mark.parametrize("form", ["directory", "layout"])
def test_a_registry_that_is_killed_again_and_again_loses_nothing_and_shows_nothing_wrong(
    tmp_path: Path, form: str
) -> None:
    data = tmp_path / "data" if form == "directory" else make_layout(tmp_path / "data")
    done: dict[str, bytes] = {}
    for turn in range(12):
        registry = OwnRegistry(data, tmp_path / "log")
        threads = [threading.Thread(target=push_until_killed, args=(registry, turn * 3 + i, done)) for i in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(turn).uniform(0.05, 0.4))
        wait_until(lambda turn=turn: len(done) >= 2 * turn, what="something is pushed, however slow the machine")
        registry.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
        check_blobs(data)

    with serving(data, tmp_path / "log") as registry:
        assert len(done) > 20
        for path, expected in done.items():
            answer = registry.ask("GET", f"/v2/{path}")
            assert answer.status == 200, path
            if "/manifests/" in path:
                assert answer.headers["docker-content-digest"].encode() == expected
                for layer in answer.json()["layers"]:
                    assert registry.ask("HEAD", f"/v2/{path.partition('/')[0]}/blobs/{layer['digest']}").status == 200
            else:
                assert answer.body == expected
    private = data if form == "directory" else data / ".sampan"
    assert list((private / "tmp").iterdir()) == []


def test_an_upload_goes_on_after_the_registry_was_killed(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    registry = OwnRegistry(tmp_path / "data", tmp_path / "log")
    location = registry.ask("POST", "/v2/a/blobs/uploads/").headers["location"]
    registry.ask("PATCH", location, data[:100_000], Content_Range="0-99999")
    registry.end(signal.SIGKILL)

    with serving(tmp_path / "data", tmp_path / "log") as registry:
        status = registry.ask("GET", location)
        assert (status.status, status.headers["range"]) == (204, "0-99999")
        assert registry.ask("PATCH", location, data[100_000:], Content_Range="100000-299999").status == 202
        assert registry.ask("PUT", f"{location}?digest={digest_of(data)}").status == 201
        assert registry.ask("GET", f"/v2/a/blobs/{digest_of(data)}").body == data


def test_what_arrived_before_the_connection_broke_need_not_be_sent_again(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    with serving(tmp_path / "data", tmp_path / "log") as registry:
        location = registry.ask("POST", "/v2/a/blobs/uploads/").headers["location"]
        with registry.connect() as client:
            client.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n".encode())
            client.sendall(data[:150_000])
            wait_until(lambda: registry.ask("GET", location).headers["range"] == "0-149999")

        answer = registry.ask("PATCH", location, data[150_000:], Content_Range="150000-299999")

        assert answer.status == 202
        assert registry.ask("PUT", f"{location}?digest={digest_of(data)}").status == 201


def test_who_comes_again_does_not_wait_for_the_connection_that_was_lost(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log") as registry:
        location = registry.ask("POST", "/v2/a/blobs/uploads/").headers["location"]
        with registry.connect() as lost:
            lost.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\nabc".encode())
            wait_until(lambda: registry.ask("GET", location).headers["range"] == "0-2")

            assert registry.ask("PATCH", location, b"def", Content_Range="3-5").status == 202
            assert lost.recv(100) == b""
        assert registry.ask("PUT", f"{location}?digest={digest_of(b'abcdef')}").status == 201


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", where], check=True)
    yield where
    subprocess.run(["umount", where], check=True)


def test_a_full_disk_is_said_and_nothing_half_written_stays(tmp_path: Path, small_disk: Path) -> None:
    with serving(small_disk / "data", tmp_path / "log") as registry:
        kept = registry.push_image("a", "v1", b"x" * 1000)
        large = os.urandom(6 << 20)

        one = registry.ask("POST", f"/v2/a/blobs/uploads/?digest={digest_of(large)}", large)
        location = registry.ask("POST", "/v2/a/blobs/uploads/").headers["location"]
        two = registry.ask("PATCH", location, large)

        for answer in (one, two):
            assert (answer.status, answer.json()["errors"][0]["message"]) == (507, "the registry has no space left")
        assert registry.ask("DELETE", location).status == 204
        assert list((small_disk / "data/uploads").iterdir()) == []
        assert registry.ask("GET", f"/v2/a/manifests/{kept}").status == 200
        assert (
            registry.ask("POST", f"/v2/a/blobs/uploads/?digest={digest_of(large[:1000])}", large[:1000]).status == 201
        )
    check_blobs(small_disk / "data")
