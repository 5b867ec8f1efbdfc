"""Clients that mean harm: raw bytes at the running program."""

import contextlib
import os
import socket
from collections.abc import Iterator
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
    serving,
)
from support.sampan import wait_until


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    base = tmp_path_factory.mktemp("hostile")
    with serving(base / "data", base / "log") as registry:
        yield registry
    outside = {path.name for path in base.iterdir()}
    assert outside == {"data", "log"}
    assert {path.name for path in (base / "data").iterdir()} == {
        "blobs", "repositories", "uploads", "tmp", "registry.json", "lock", "serving.lock",
    }  # fmt: skip


def raw(registry: OwnRegistry, data: bytes) -> bytes:
    """Send bytes, say that this was all, return what comes back."""
    with registry.connect() as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                answer += piece
        return answer


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd/tags/list",
        "/v2/..%2f..%2fetc/tags/list",
        "/v2/a/manifests/..%2f..%2f_tags%2fv1",
        "/v2/a/manifests/%2e%2e",
        "/v2/a/blobs/sha256:..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/v2/a/blobs/sha256%00:" + "a" * 64,
        "/v2/a/blobs/uploads/..%2f..%2fregistry.json",
        "/v2/a/blobs/uploads/" + "." * 48,
        "/v2/a/blobs/uploads/" + "f" * 48,
        "/v2/a/_blobs/tags/list",
        "/v2/" + "a/" * 200 + "tags/list",
        "/v2/a/referrers/..",
        "/" * 3000,
        "//v2/",
        "/v2/a/tags/list/",
        "http://elsewhere/v2/",
        "*",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "POST"])
def test_no_path_leads_out_of_the_directory(registry: OwnRegistry, method: str, path: str) -> None:
    answer = raw(registry, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    assert int(answer.split()[1]) in (400, 404, 405), answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v2/ HTTP/1.1\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /v2/\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
        b"\r\n" * 1000,
        b"",
    ],
)
def test_what_is_not_http_is_refused(registry: OwnRegistry, request_: bytes) -> None:
    answer = raw(registry, request_)

    assert answer == b"" or answer.split()[1] in (b"400", b"501"), answer


def test_lengths_that_contradict_one_another_smuggle_nothing(registry: OwnRegistry) -> None:
    # RFC 9112 §6.1: with both, the chunks count, and whoever is behind may see it otherwise: h11 takes the chunks.
    inner = b"GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(
        registry,
        b"POST /v2/a/tags/list HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + inner,
    )

    assert answer.count(b"HTTP/1.1 ") <= 2
    assert b" 200 " not in answer


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffffffffff\r\nx", b"5\r\nhelloXX0\r\n\r\n"]
)
def test_malformed_chunks_end_the_connection_and_keep_only_what_was_sound(registry: OwnRegistry, chunks: bytes) -> None:
    location = registry.ask("POST", "/v2/a/blobs/uploads/").headers["location"]

    answer = raw(
        registry, f"PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks
    )

    assert answer == b""
    assert registry.ask("GET", location).status == 204


def test_a_body_that_ends_early_completes_nothing(registry: OwnRegistry) -> None:
    digest = digest_of(b"only half")
    head = f"POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"

    assert raw(registry, head.encode() + b"only half") == b""
    assert registry.ask("GET", f"/v2/a/blobs/{digest}").status == 404


def test_many_tiny_chunks_are_one_blob(registry: OwnRegistry) -> None:
    data = os.urandom(3000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n"
    path = f"/v2/a/blobs/uploads/?digest={digest_of(data)}"

    answer = raw(registry, f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks)

    assert answer.startswith(b"HTTP/1.1 201 ")


def test_a_refused_client_that_still_sends_reads_the_answer(registry: OwnRegistry) -> None:
    path = f"/v2/A/blobs/uploads/?digest={digest_of(b'')}"
    with registry.connect() as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.sendall(b"x" * 100_000)

        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_body_is_not_waited_for_where_it_will_not_be_read(registry: OwnRegistry) -> None:
    with registry.connect() as client:
        client.sendall(
            b"PUT /v2/A/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )

        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert client.recv(4096) == b""


@pytest.mark.parametrize(
    "body", [b"[" * 1_000_000, b'{"a":' * 500_000, b'{"layers":[' + b"{}," * 500_000, b"\xff" * 1000]
)
def test_a_manifest_that_is_a_bomb_is_refused_quickly(registry: OwnRegistry, body: bytes) -> None:
    answer = registry.ask("PUT", "/v2/a/manifests/x", body, Content_Type=MANIFEST)

    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])


def test_a_manifest_of_a_hundred_thousand_blobs_is_answered(registry: OwnRegistry) -> None:
    config = registry.push_blob("a", b"{}")
    missing = [{"mediaType": "a/b", "digest": digest_of(str(i).encode()), "size": 1} for i in range(30_000)]

    answer = registry.push_manifest("a", "x", image(config, missing))

    assert answer.status in (400, 413)


def test_an_index_may_not_name_itself(registry: OwnRegistry) -> None:
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(b"self", MANIFEST)]}
    own = descriptor(encode(index), INDEX)

    answer = registry.push_manifest("a", "x", {**index, "manifests": [own]})

    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]


def test_a_name_in_a_query_is_checked_too(registry: OwnRegistry) -> None:
    digest = registry.push_blob("a", b"mounted")["digest"]

    for source in ("../a", "a/../a", "/a", "a/", "A", "a%00", "_blobs"):
        assert registry.ask("POST", f"/v2/b/blobs/uploads/?mount={digest}&from={source}").status == 202


def test_an_answer_repeats_nothing_that_could_be_a_header(registry: OwnRegistry) -> None:
    answer = raw(registry, b"GET /v2/a/tags/list?n=1&last=%0d%0aX-Evil:1 HTTP/1.1\r\nHost: x\r\n\r\n")

    assert b"X-Evil" not in answer.partition(b"\r\n\r\n")[0]


def threads(registry: OwnRegistry) -> int:
    return len(os.listdir(f"/proc/{registry.process.pid}/task"))


def sockets(registry: OwnRegistry) -> int:
    descriptors = Path(f"/proc/{registry.process.pid}/fd").iterdir()
    return sum(os.path.basename(os.path.realpath(one)).startswith("socket:") for one in descriptors)


def test_connections_that_say_nothing_cost_a_bounded_number_of_threads(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log", "--max-connections", "20") as registry:
        silent = [registry.connect() for _ in range(100)]
        wait_until(registry.has_room)
        assert threads(registry) < 30
        for client in silent:
            client.close()
        wait_until(lambda: threads(registry) < 12)  # eight wait for a next


def test_bodies_that_never_come_are_turned_away_beyond_a_number(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log", "--max-connections", "5") as registry:
        location = registry.ask("POST", "/v2/a/blobs/uploads/").headers["location"].rpartition("/")[0]
        slow = []
        wait_until(lambda: sockets(registry) == 1, what="that connection has ended")
        for _ in range(5):
            client = registry.connect()
            client.sendall(f"POST {location}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
            client.sendall(b"")
            assert client.recv(4096).startswith(b"HTTP/1.1 202")
            client.sendall(b"x")
            slow.append(client)

        with registry.connect() as late, contextlib.suppress(ConnectionError):
            late.settimeout(5)
            late.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert late.recv(100) == b""
        for client in slow:
            client.close()
        wait_until(registry.has_room)
