"""`GET /containers/{id}/attach/ws`: attach as browsers' and other WebSocket clients do it."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from wsproto.events import BytesMessage, TextMessage

from support.sampan import Sampan
from support.websockets import WebSocket

ALL = "stream=1&stdin=1&stdout=1&stderr=1"


def test_what_is_typed_comes_back_whatever_happens_to_the_server_and_a_close_ends_the_input(sampan: Sampan) -> None:
    sampan("create", "-i", "--name", "web", "busybox", "cat")
    sampan("start", "web")

    with WebSocket(sampan.socket, f"/v1.50/containers/web/attach/ws?{ALL}") as client:
        client.send(b"first \xff\x00")
        assert client.until(b"first \xff\x00") == b"first \xff\x00"
        os.kill(sampan.info("ServerPid"), signal.SIGKILL)
        client.send(b" and second")
        assert client.until(b"second") == b"first \xff\x00 and second"
        client.ping()
        with WebSocket(sampan.socket, "/containers/web/attach/ws?stream=1&stdout=1") as other:
            other.ping()  # answered once it takes part
            client.send(bytes(20_000))
            assert len(other.until(bytes(20_000))) == len(client.until(bytes(20_000))) - 19
            other.send(b"not heard: it has not asked for stdin")
            other.close()
        client.close()
        assert client.closed == 1000
        assert client.kinds.isdisjoint({TextMessage})
    assert sampan("wait", "web").line == "0"
    assert b"not heard" not in sampan("logs", "web").out.encode()


def test_a_client_may_wait_for_the_start_and_is_told_the_past(sampan: Sampan) -> None:
    sampan("create", "--name", "web", "busybox", "sh", "-c", "echo out; echo err >&2")

    with WebSocket(sampan.socket, "/v1.41/containers/web/attach/ws?stream=1") as client:
        sampan("start", "web")
        output = client.read_all()

    assert sorted(output.split()) == [b"err", b"out"]
    assert client.closed == 1000
    for version, kind in (("1.50", BytesMessage), ("1.27", TextMessage)):
        with WebSocket(sampan.socket, f"/v{version}/containers/web/attach/ws?logs=1&stdout=1") as past:
            assert b"out\n" in past.read_all()
            assert kind in past.kinds
            assert past.closed == 1000


def test_a_terminal_is_detached_from_by_its_keys(sampan: Sampan) -> None:
    sampan("run", "-dit", "--name", "web", "busybox", "sh")

    with WebSocket(sampan.socket, f"/containers/web/attach/ws?{ALL}&detachKeys=ctrl-x") as client:
        client.send(b"echo $((6*7))\n")
        client.until(b"\r\n42\r\n")
        client.send(b"\x18")
        client.read_all()

    assert client.closed == 1000
    assert sampan.inspect("web")["State"]["Running"]


GOOD = {
    "Host": "x",
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",  # the example of RFC 6455, §1.3
}


def shake(sampan: Sampan, changes: dict[str, str], then: bytes = b"", name: str = "web") -> bytes:
    """Send a handshake with these changes, and bytes behind it; return all that comes."""
    head = "".join(f"{name}: {value}\r\n" for name, value in {**GOOD, **changes}.items() if value)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(sampan.socket))
        client.sendall(f"GET /containers/{name}/attach/ws?{ALL} HTTP/1.1\r\n{head}\r\n".encode() + then)
        if not then:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        return answer


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    sampan("run", "-dit", "--name", "web", "busybox", "cat")
    return sampan


def test_what_is_no_handshake_is_refused_and_hostile_frames_end_their_connection_only(web: Sampan) -> None:
    refused = {
        "not websocket protocol": {"Upgrade": "tcp"},
        "not websocket protocol ": {"Connection": "close"},
        "missing or bad WebSocket Version": {"Sec-WebSocket-Version": "8"},
        "mismatch challenge/response": {"Sec-WebSocket-Key": "short"},
        "can't attach for a page of http://evil": {"Origin": "http://evil"},
        "can't attach for a page of http://[": {"Origin": "http://["},
        "can't attach for a page of null": {"Origin": "null"},
    }
    for words, changes in refused.items():
        answer = shake(web, changes)
        assert answer.startswith(b"HTTP/1.1 403" if "Origin" in changes else b"HTTP/1.1 400"), answer
        assert words.strip().encode() in answer
    assert b"No such container: nosuch" in shake(web, {"Upgrade": "tcp"}, name="nosuch")

    with WebSocket(web.socket, f"/containers/web/attach/ws?{ALL}") as other:
        for frames in (b"\x82\x01x", b"\xff" * 100, b"\x82\xff" + b"\xff" * 12, b"\x89\xff" + bytes(12), b"GET / HTTP"):
            answer = shake(web, {"Origin": "http://x", "Sec-WebSocket-Protocol": "a, b"}, frames)
            assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
            assert b"Sec-WebSocket-Protocol: a\r\n" in answer
            assert answer.endswith(b"\x88\x02\x03\xea")
        other.send(b"still there\r")
        other.until(b"still there\r\nstill there\r\n")
    web("kill", "web")
