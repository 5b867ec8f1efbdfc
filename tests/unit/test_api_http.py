"""One connection of the server's: what a client may send, and how it is answered."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from sampan.api.call import BodyReader
from sampan.api.hangups import Hangups
from sampan.api.http import ApiChannel
from sampan.errors import InvalidInput
from sampan.http11.channel import ClientGone, TooLarge


class Pair:
    """A channel and its client's end."""

    def __init__(self) -> None:
        ours, self.client = socket.socketpair()
        self.client.settimeout(10)
        self.channel = ApiChannel(ours, "Server: Sampan/test (linux)\r\n")

    def close(self) -> None:
        self.client.close()
        self.channel.client.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def test_requests_follow_one_another_even_sent_at_once(pair: Pair) -> None:
    pair.client.sendall(
        b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    )

    first = pair.channel.next()
    pair.channel.reply(200, b"one")
    second = pair.channel.next()
    body = pair.channel.body()

    assert first is not None
    assert second is not None
    assert (first.method, first.path, first.query, second.method, second.path, body) == (
        "GET",
        "/a",
        "x=1",
        "POST",
        "/b",
        b"{}",
    )


def test_a_body_that_nobody_read_is_skipped(pair: Pair) -> None:
    pair.client.sendall(
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: h\r\n\r\n"
    )

    pair.channel.next()
    pair.channel.reply(204)
    second = pair.channel.next()

    assert second is not None
    assert second.path == "/b"


def test_an_answer_has_its_length_and_who_answers(pair: Pair) -> None:
    pair.client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    pair.channel.next()
    pair.channel.for_version("1.50")

    pair.channel.reply(200, b"{}\n")

    head, _, body = pair.client.recv(4096).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"Api-Version: 1.50", b"Ostype: linux", b"Content-Length: 3", b"Docker-Experimental: false"} <= set(lines)
    assert body == b"{}\n"


def test_a_head_request_is_answered_without_a_body(pair: Pair) -> None:
    pair.client.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: h\r\n\r\n")
    pair.channel.next()

    pair.channel.reply(200, b"OK", "text/plain")

    assert pair.client.recv(4096).endswith(b"\r\n\r\n")


def test_a_stream_is_sent_in_chunks(pair: Pair) -> None:
    pair.client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    pair.channel.next()

    stream = pair.channel.stream("application/json")
    stream.write(b"hello")
    stream.write(b"")
    stream.end()

    assert pair.client.recv(4096).endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


def test_an_old_client_gets_a_stream_to_the_connections_end(pair: Pair) -> None:
    pair.client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    pair.channel.next()

    stream = pair.channel.stream("application/json")
    stream.write(b"hello")
    stream.end()

    assert pair.client.recv(4096).endswith(b"\r\n\r\nhello")
    assert pair.channel.next() is None


def test_a_client_that_waits_for_continue_gets_it(pair: Pair) -> None:
    pair.client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    pair.channel.next()
    bodies: list[bytes] = []
    thread = threading.Thread(target=lambda: bodies.append(pair.channel.body()))
    thread.start()

    assert pair.client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
    pair.client.sendall(b"{}")
    thread.join(10)

    assert bodies == [b"{}"]


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_hijack_gives_what_was_read_past_the_request(pair: Pair, upgrade: bool) -> None:
    headers = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
    pair.client.sendall(b"POST /x HTTP/1.1\r\nHost: h\r\n" + headers + b"Content-Length: 2\r\n\r\n{}input")
    pair.channel.next()

    client, already = pair.channel.upgrade("application/vnd.docker.raw-stream")

    answer = pair.client.recv(4096)
    assert already == b"input"
    assert client is pair.channel.client
    assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n" if upgrade else b"HTTP/1.1 200 OK\r\n")
    assert (b"Upgrade: tcp" in answer) is upgrade
    assert b"Transfer-Encoding" not in answer
    assert pair.channel.next() is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 100_000,
        b"A" * 100_000,
    ],
)
def test_what_is_not_http_is_refused(pair: Pair, garbage: bytes) -> None:
    pair.client.sendall(garbage)

    with pytest.raises(InvalidInput, match="bad request"):
        pair.channel.next()
    pair.channel.reply(400, b"{}")
    assert b"Connection: close" in pair.client.recv(4096)


def test_a_body_too_large_is_refused(pair: Pair) -> None:
    pair.client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n" + b"x" * 20)
    pair.channel.next()

    with pytest.raises(TooLarge):
        pair.channel.body(limit=10)


def test_a_client_that_leaves_is_gone(pair: Pair) -> None:
    pair.client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\nx")
    pair.channel.next()
    pair.client.close()

    with pytest.raises(ClientGone):
        pair.channel.body()
    with pytest.raises(ClientGone):
        pair.channel.reply(200, b"x" * 10_000_000)


def test_a_connection_that_ends_between_requests_just_ends(pair: Pair) -> None:
    pair.client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    pair.channel.next()
    pair.channel.reply(200)
    pair.client.shutdown(socket.SHUT_WR)

    assert pair.channel.next() is None


def test_an_archive_is_read_in_any_sizes(pair: Pair) -> None:
    data = os.urandom(300_000)
    pieces = [data[i : i + 1000] for i in range(0, len(data), 1000)]
    request = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces
    )
    threading.Thread(target=pair.client.sendall, args=(request + b"0\r\n\r\n",)).start()
    pair.channel.next()

    reader = BodyReader(pair.channel)
    parts = [reader.read(512), reader.read(0), reader.read(70_000), reader.read()]

    assert [len(part) for part in parts[:3]] == [512, 0, 70_000]
    assert b"".join(parts) == data
    assert reader.read(10) == b""


def test_a_client_that_hangs_up_is_noticed() -> None:
    hangups = Hangups()
    ours, theirs = socket.socketpair()
    noticed = threading.Event()

    with hangups.watch(ours, noticed.set):
        assert not noticed.wait(0.05)
        theirs.close()
        assert noticed.wait(10)
    ours.close()


def test_a_client_that_stays_is_not_taken_for_gone() -> None:
    hangups = Hangups()
    ours, theirs = socket.socketpair()
    noticed = threading.Event()

    with hangups.watch(ours, noticed.set):
        theirs.sendall(b"more")
    theirs.close()

    assert not noticed.wait(0.1)
    ours.close()


def test_a_server_that_leaves_owes_an_answer_to_a_request_that_nobody_has_read_yet(pair: Pair) -> None:
    assert not pair.channel.owes()
    pair.client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert pair.channel.owes()
    pair.channel.next()
    assert pair.channel.owes()
    pair.channel.reply(200)
    assert not pair.channel.owes()
    pair.client.close()
    assert not pair.channel.owes()
