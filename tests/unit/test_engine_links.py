"""The server's ends of the channels."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from sampan.engine.links import Channel, Links
from sampan.errors import CommandNotFound, Failed
from sampan.supervise import messages as m
from support.engine import until


class Peer:
    """The other end: a shim that answers as it is told."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = m.Decoder()

    def receive(self) -> m.Frame:
        self.sock.settimeout(5)
        frame = m.receive(self.sock, self.decoder)
        assert frame
        return frame


@pytest.fixture
def links():
    found = Links()
    yield found
    found.close()


@pytest.fixture
def ends(links: Links):
    channel, theirs = links.pair("the shim")
    peer = Peer(theirs)
    yield channel, peer
    theirs.close()


def test_an_answer_finds_who_asked(ends: tuple[Channel, Peer]) -> None:
    channel, peer = ends
    first, second = channel.post(m.Hello()), channel.post(m.Go())

    requests = [peer.receive(), peer.receive()]
    m.send(peer.sock, m.Done(), requests[1].seq)
    m.send(peer.sock, m.Forked(pid=7), requests[0].seq)

    assert first.wait(m.Forked, 5) == m.Forked(pid=7)
    assert second.wait(m.Done, 5) == m.Done()


def test_a_refusal_is_raised_as_its_class(ends: tuple[Channel, Peer]) -> None:
    channel, peer = ends
    pending = channel.post(m.Go())

    m.send(peer.sock, m.Refused(error="CommandNotFound", message="no", hint="h"), peer.receive().seq)

    with pytest.raises(CommandNotFound, match="no"):
        pending.wait(m.Done, 5)


def test_an_answer_is_seen_before_the_event_behind_it(ends: tuple[Channel, Peer]) -> None:
    channel, peer = ends
    seen: list[m.Message] = []
    channel.on_event = seen.append
    pending = channel.post(m.Go(), then=seen.append)

    frame = peer.receive()
    exited = m.Exited(exit_code=0, finished_at_ns=1)
    peer.sock.sendall(m.encode(m.Done(), frame.seq) + m.encode(exited))
    pending.wait(m.Done, 5)

    until(lambda: len(seen) == 2)
    assert seen == [m.Done(), exited]


def test_the_peers_end_fails_what_is_pending_and_is_told(ends: tuple[Channel, Peer]) -> None:
    channel, peer = ends
    gone = threading.Event()
    channel.on_gone = lambda _: gone.set()
    pending = channel.post(m.Go())

    peer.sock.close()

    with pytest.raises(Failed, match="can't reach the shim: it has ended"):
        pending.wait(m.Done, 5)
    assert gone.wait(5)
    with pytest.raises(Failed, match="it is gone"):
        channel.ask(m.Hello(), m.Done)


def test_our_own_close_is_not_told(ends: tuple[Channel, Peer]) -> None:
    channel, peer = ends
    gone = threading.Event()
    channel.on_gone = lambda _: gone.set()

    channel.close()

    peer.sock.settimeout(5)
    assert peer.sock.recv(1) == b""
    assert not gone.is_set()


def test_no_answer_in_time_is_a_failure(ends: tuple[Channel, Peer]) -> None:
    with pytest.raises(Failed, match=r"no answer within 0\.05 seconds"):
        ends[0].ask(m.Hello(), m.Status, timeout_s=0.05)


def test_garbage_ends_the_channel(ends: tuple[Channel, Peer]) -> None:
    channel, peer = ends

    peer.sock.sendall(b"\0\0\0\1\0\0\0\0\xff")

    until(lambda: channel.gone)


def test_descriptors_travel_beside_a_request(ends: tuple[Channel, Peer]) -> None:
    channel, peer = ends
    read, write = os.pipe()
    channel.post(m.ForkWorker(), (write,))

    (fd,) = peer.receive().fds
    os.write(fd, b"x")
    assert os.read(read, 1) == b"x"
    for one in (read, write, fd):
        os.close(one)


def test_a_broken_callback_does_not_take_the_others_answers_away(links: Links, capfd) -> None:
    broken, broken_peer = links.pair("broken")
    good, good_peer = links.pair("good")

    def fail(_: m.Message) -> None:
        raise ValueError("broken callback")

    broken.on_event = fail
    m.send(broken_peer, m.Exited(exit_code=0, finished_at_ns=0))
    pending = good.post(m.Go())
    m.send(good_peer, m.Done(), Peer(good_peer).receive().seq)

    assert pending.wait(m.Done, 5)
    until(lambda: "broken callback" in capfd.readouterr().err)
    broken_peer.close()
    good_peer.close()


def test_a_socket_is_reached_however_long_its_path(links: Links, tmp_path) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    listening = socket.socket(socket.AF_UNIX)
    fd = os.open(directory, os.O_PATH)
    listening.bind(f"/proc/self/fd/{fd}/shim.sock")
    listening.listen()

    channel = links.connect(f"{directory}/shim.sock", "the shim")
    channel.post(m.Hello())
    peer, _ = listening.accept()
    assert isinstance(Peer(peer).receive().message, m.Hello)
    for one in (peer, listening):
        one.close()
    os.close(fd)
