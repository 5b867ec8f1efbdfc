"""Detach keys, and clients on a socket."""

import contextlib
import os
import select
import socket

import pytest
from hypothesis import given, strategies as st

from sampan.http11 import websocket as ws
from sampan.supervise.attach import HIGH_WATER_BYTES, Client, DetachKeys
from sampan.supervise.loop import Loop
from sampan.supervise.streams import Streams
from sampan.supervise.web_client import WebClient


def spin(loop, times=20):
    loop.call_later(0.02, lambda: None)
    for _ in range(times):
        for fd, events in loop._epoll.poll(0.005):
            callback = loop._callbacks.get(fd)
            if callback:
                callback(events)


@pytest.mark.parametrize(
    ("keys", "typed", "passed", "detached"),
    [
        (b"\x10\x11", [b"ls\n"], b"ls\n", False),
        (b"\x10\x11", [b"ab\x10\x11cd"], b"ab", True),
        (b"\x10\x11", [b"\x10", b"\x11"], b"", True),
        (b"\x10\x11", [b"\x10", b"x"], b"\x10x", False),
        (b"\x10\x11", [b"\x10\x10", b"\x11"], b"\x10", True),
        (b"aab", [b"aaab"], b"a", True),
        (b"q", [b"xq"], b"x", True),
        (b"", [b"\x10\x11"], b"\x10\x11", False),
    ],
)
def test_the_sequence_detaches_and_all_else_passes(keys, typed, passed, detached):
    scanner = DetachKeys(keys)

    results = [scanner.feed(data) for data in typed]

    assert b"".join(data for data, _ in results) == passed
    assert results[-1][1] is detached


@given(st.binary(min_size=1, max_size=4), st.lists(st.binary(max_size=6)))
def test_it_finds_what_find_finds(keys, chunks):
    scanner = DetachKeys(keys)
    data = b"".join(chunks)
    passed = b""
    detached = False
    for chunk in chunks:
        out, detached = scanner.feed(chunk)
        passed += out
        if detached:
            break

    assert detached is (keys in data)
    if detached:
        assert passed == data[: data.index(keys)]
    else:
        assert data.startswith(passed)
        assert keys.startswith(data[len(passed) :])


class Scene:
    """A process of pipes, without the process."""

    def __init__(self, closing, *, closes_stdin=True):
        self.loop = Loop()
        self.closing = closing
        self.closed = []
        (out, self.stdout), (err, self.stderr) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        ends = {"stdout": out, "stderr": err}
        self.stdin, ends["stdin"] = os.pipe2(os.O_CLOEXEC)
        self.streams = Streams(self.loop, ends, None, self.closed.append, closes_stdin=closes_stdin)

    def client(self, *streams, keys=b"", websocket=0, **options):
        ours, theirs = socket.socketpair()
        fd, asked = theirs.detach(), frozenset(streams)
        client = WebClient(self.loop, fd, asked, websocket) if websocket else Client(self.loop, fd, asked)
        self.closing.enter_context(ours)
        self.streams.attach(client, keys, **options)
        return ours

    def spin(self):
        spin(self.loop)


@pytest.fixture
def closing():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def scene(closing):
    return Scene(closing)


def frame(number, data):
    return bytes([number, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def test_clients_get_the_streams_they_asked_for_in_frames(scene):
    both = scene.client("stdout", "stderr", greeting=b"HTTP/1.1 101\r\n\r\n")
    one = scene.client("stderr")

    os.write(scene.stdout, b"out")
    scene.spin()
    os.write(scene.stderr, b"err")
    scene.spin()

    assert both.recv(100) == b"HTTP/1.1 101\r\n\r\n" + frame(1, b"out") + frame(2, b"err")
    assert one.recv(100) == frame(2, b"err")


def test_end_of_file_from_a_client_closes_standard_input_only(scene):
    client = scene.client("stdin", "stdout", already_read=b"first ")
    client.sendall(b"second")
    client.shutdown(socket.SHUT_WR)
    scene.spin()

    assert os.read(scene.stdin, 100) == b"first second"
    assert os.read(scene.stdin, 100) == b""
    assert scene.closed == ["stdin"]
    os.write(scene.stdout, b"still here")
    scene.spin()
    assert client.recv(100) == frame(1, b"still here")


def test_without_stdin_once_the_input_stays_open_for_the_next_client(closing):
    scene = Scene(closing, closes_stdin=False)
    first = scene.client("stdin")
    first.sendall(b"a")
    first.close()
    scene.spin()
    second = scene.client("stdin")
    second.sendall(b"b")
    scene.spin()

    assert os.read(scene.stdin, 100) == b"ab"
    assert scene.streams.clients == 1


def test_a_client_that_does_not_read_holds_the_output_up_and_loses_nothing(scene):
    client = scene.client("stdout")
    os.set_blocking(scene.stdout, False)
    written = 0
    for _ in range(500):
        try:
            written += os.write(scene.stdout, b"x" * 4096)
        except BlockingIOError:
            scene.spin()
            if not select.select([], [scene.stdout], [], 0)[1]:
                break
    assert HIGH_WATER_BYTES < written < 500 * 4096

    got = 0
    client.setblocking(False)
    while got < written:
        spin(scene.loop, 2)
        try:
            data = client.recv(8)
        except BlockingIOError:
            continue
        size = int.from_bytes(data[4:], "big")
        while size:
            try:
                taken = len(client.recv(size))
            except BlockingIOError:
                spin(scene.loop, 2)
                continue
            size -= taken
            got += taken
    assert got == written


def test_a_process_that_does_not_read_makes_its_client_wait_and_gets_all(scene):
    client = scene.client("stdin")
    client.setblocking(False)
    sent = 0
    for _ in range(2000):
        try:
            sent += client.send(b"y" * 4096)
        except BlockingIOError:
            before = sent
            scene.spin()
            if sent == before and not select.select([], [client], [], 0)[1]:
                break
    assert sent < 2000 * 4096
    client.close()

    got = 0
    while data := os.read(scene.stdin, 65536):
        got += len(data)
        scene.spin()
    assert got == sent


def test_a_client_that_only_listened_leaves_the_input_open(scene):
    scene.client("stdout").close()
    scene.spin()
    scene.client("stdin").sendall(b"typed")
    scene.spin()

    assert os.read(scene.stdin, 100) == b"typed"


def typed(opcode, payload):
    """A frame of a client, with a mask that changes nothing."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


def test_a_websocket_has_messages_of_output_and_its_messages_are_input(scene):
    client = scene.client("stdin", "stdout", "stderr", websocket=ws.BINARY, already_read=typed(ws.TEXT, b"a")[:3])
    client.sendall(typed(ws.TEXT, b"a")[3:] + typed(ws.PING, b"p") + typed(ws.BINARY, b"\xff"))
    scene.spin()
    os.write(scene.stderr, b"oh")
    scene.spin()

    assert os.read(scene.stdin, 100) == b"a\xff"
    assert client.recv(100) == ws.frame(ws.PONG, b"p") + ws.frame(ws.BINARY, b"oh")

    scene.streams.drain()
    scene.streams.finish()
    spin(scene.loop)

    assert client.recv(100) == ws.close(ws.NORMAL)
    assert client.recv(100) == b""


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (typed(ws.CLOSE, b"\x03\xe9"), ws.close(1001)),
        (b"GET / HTTP/1.1\r\n", ws.close(ws.PROTOCOL_ERROR)),
        (b"", b""),
    ],
)
@pytest.mark.parametrize("streams", [("stdin", "stdout"), ("stdout",)])
def test_a_websocket_that_ends_is_closed_and_only_one_that_typed_ends_the_input(scene, said, answer, streams):
    client = scene.client(*streams, websocket=ws.BINARY)
    client.sendall(said)
    if not said:
        client.shutdown(socket.SHUT_WR)
    scene.spin()

    assert client.recv(100) == answer
    assert client.recv(100) == b""
    assert scene.streams.clients == 0
    assert scene.closed == (["stdin"] if "stdin" in streams else [])


def test_pings_of_a_websocket_that_does_not_read_take_no_memory_and_the_last_is_answered(scene):
    client = scene.client("stdout", websocket=ws.BINARY)
    (inside,) = scene.streams._clients
    while not inside.holds_up:
        os.write(scene.stdout, b"x" * 4096)
        spin(scene.loop, 2)
    held_up = len(inside._queue)

    client.sendall(b"".join(typed(ws.PING, b"%04d" % number) for number in range(5000)))
    while select.select([inside.fd], [], [], 0)[0]:
        scene.spin()
    assert len(inside._queue) == held_up

    client.setblocking(False)
    answers = b""
    while ws.frame(ws.PONG, b"4999") not in answers:
        spin(scene.loop, 2)
        with contextlib.suppress(BlockingIOError):
            answers += client.recv(1 << 20)


def test_a_gone_client_is_let_go(scene):
    client = scene.client("stdout")
    client.close()
    scene.spin()

    assert scene.streams.clients == 0


def test_at_the_end_what_is_in_the_pipe_comes_before_the_connection_closes(scene):
    client = scene.client("stdout")
    os.write(scene.stdout, b"last words")

    scene.streams.drain()
    scene.streams.finish()
    spin(scene.loop)

    assert client.recv(100) == frame(1, b"last words")
    assert client.recv(100) == b""


def test_a_process_left_behind_may_go_on_writing_after_the_end(scene):
    scene.streams.drain()
    scene.streams.finish()

    for _ in range(40):
        os.write(scene.stdout, b"z" * 4096)
        scene.spin()
    os.close(scene.stdout)
    scene.spin()
    assert "stdout" in scene.closed


def test_detach_keys_close_the_connection_and_leave_the_input_open(closing):
    loop = Loop()
    master, slave = os.openpty()
    closed = []
    streams = Streams(loop, {"terminal": master}, None, closed.append, closes_stdin=True)
    ours, theirs = socket.socketpair()
    closing.enter_context(ours)
    streams.attach(Client(loop, theirs.detach(), frozenset({"stdin", "stdout"})), b"\x10\x11")

    ours.sendall(b"hi\n")
    while not select.select([ours], [], [], 0)[0]:  # the kernel echoes it when it gets to that
        spin(loop)
    ours.sendall(b"\x10\x11")
    spin(loop)

    assert os.read(slave, 100) == b"hi\n"
    got = b""
    while data := ours.recv(100):
        got += data
    assert got.startswith(b"hi")  # its echo: raw, without frames
    assert closed == []
    os.close(slave)
