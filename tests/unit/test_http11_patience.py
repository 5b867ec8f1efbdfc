"""Clients that trickle: a head or a body must come at some pace."""

import socket
import threading
from collections.abc import Iterator

import pytest

from sampan.http11.channel import Channel, ClientGone, Patience

HEAD = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


class Trickle:
    """A client that sends `first`, then `piece` ten times a second until it is refused or `over`."""

    def __init__(self, client: socket.socket, first: bytes, piece: bytes) -> None:
        self._client, self._first, self._piece = client, first, piece
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        try:
            self._client.sendall(self._first)
            while not self._over.wait(0.1):
                self._client.sendall(self._piece)
        except OSError:
            pass

    def end(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_head_that_trickles_in_is_given_up(ends: tuple) -> None:
    channel = Channel(ends[0], "", Patience(idle_s=60, head_s=1, body_s=60, send_s=60))
    client = Trickle(ends[1], b"GET / HTTP/1.1\r\n", b"X: y\r\n")

    with pytest.raises(ClientGone):
        channel.next()
    client.end()


def test_a_body_that_trickles_in_is_given_up(ends: tuple) -> None:
    channel = Channel(ends[0], "", Patience(idle_s=60, head_s=60, body_s=1, send_s=60, least_rate=1000))
    client = Trickle(ends[1], HEAD, b"x")
    channel.next()

    with pytest.raises(ClientGone):
        channel.body()
    client.end()


def test_a_body_that_stops_is_given_up(ends: tuple) -> None:
    channel = Channel(ends[0], "", Patience(idle_s=60, head_s=60, body_s=1, send_s=60))
    ends[1].sendall(HEAD + b"x")
    channel.next()

    with pytest.raises(ClientGone):
        channel.body()


def test_a_body_that_keeps_the_pace_is_read(ends: tuple) -> None:
    channel = Channel(ends[0], "", Patience(idle_s=60, head_s=60, body_s=2, send_s=60, least_rate=1000))
    client = Trickle(ends[1], HEAD, b"x" * 4500)
    channel.next()

    assert len(channel.body()) == 100_000
    client.end()


def test_an_answer_that_nobody_takes_is_given_up(ends: tuple, tmp_path) -> None:
    (tmp_path / "file").write_bytes(bytes(50_000_000))
    channel = Channel(ends[0], "", Patience(idle_s=60, head_s=60, body_s=60, send_s=1))
    ends[1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    channel.next()

    with (tmp_path / "file").open("rb") as file, pytest.raises(ClientGone):
        channel.send_file(200, file.fileno(), range(50_000_000), "application/octet-stream")
