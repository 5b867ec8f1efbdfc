"""The build API met by clients that are wrong, hostile or gone."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sampan.client.wire import Connection, Response
from support.sampan import Sampan

Ask = Callable[..., Response]


@pytest.fixture
def ask(sampan: Sampan) -> Iterator[Ask]:
    """Yield a function that asks over a connection of its own."""
    sampan("ps")  # starts the server
    opened = []

    def ask(target: str, body: bytes | list[bytes] | None = None, method: str = "POST") -> Response:
        opened.append(Connection(str(sampan.socket)))
        return opened[-1].request(method, f"/v1.50{target}", body, {"Content-Type": "x/y"})

    yield ask
    for connection in opened:
        connection.close()


def request(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"{",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\n",
        b"[" * 100_000,
        request(context={"kind": "nope"}),
        request(context={"kind": 7}),
        request(secrets=[{"id": "x", "value": "no base64!"}]),
        request(secrets=[{"id": 1}]),
        request(platforms=[{}]),
        request(tags="x"),
        request(limits={"memory": "much"}),
        request(outputs=[{"type": "nope"}]),
        request(epoch_s=1 << 80),
    ],
)
def test_a_request_that_is_wrong_is_refused(ask: Ask, body: bytes) -> None:
    answer = ask("/sampan/build", [body])

    assert answer.status == 400
    assert json.loads(answer.read())["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"context": {"kind": "directory", "value": "/no/such"}},
        {"context": {"kind": "directory", "value": "/proc/self/mem"}},
        {"context": {"kind": "directory", "value": "a\0b"}},
        {"context": {"kind": "directory", "value": "relative"}},
        {"context": {"kind": "tar"}},
        {"context": {"kind": "tar", "value": "/dev/zero"}},
        {"context": {"kind": "git", "value": "--upload-pack=touch /tmp/pwned"}},
        {"context": {"kind": "url", "value": "file:///etc/passwd"}},
        {"context": {"kind": "directory", "value": "/etc"}, "dockerfile_name": "../etc/passwd"},
        {"dockerfile": "FROM busybox\n", "tags": ["x" * 5000]},
        {"dockerfile": "FROM busybox\nRUN true\n", "network": "container:nobody\n"},
        {"dockerfile": "FROM busybox\nRUN true\n", "add_hosts": ["no address\nhere"]},
    ],
)
def test_what_can_not_be_built_is_an_error_and_the_engine_goes_on(ask: Ask, fields: dict[str, Any]) -> None:
    answer = ask("/sampan/build", [request(**fields), b"no archive at all" * 1000])

    told = answer.read().decode()
    last = json.loads(told.splitlines()[-1])
    assert answer.status in (400, 403, 404, 409, 500, 501) or last["event"] == "StepFailed", told
    assert last["message"]
    assert "internal error" not in last["message"]
    assert ask("/_ping", method="GET").status == 200


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("buildargs=x", 400, "error reading build args"),
        ("labels=[]", 400, "error reading labels"),
        ("ulimits=7", 400, "error reading ulimit settings"),
        ("cachefrom=x", 400, "cachefrom"),
        ("memory=much", 400, "memory"),
        ("platform=bad%20platform", 400, "platform"),
        ("version=3", 400, 'invalid version "3"'),
        ("version=2", 501, "builder of version 2"),
        ("remote=client-session", 400, "no longer supported"),
        ("remote=ftp://x/y", 400, "could not be recognized as URL"),
        ("outputs=%5B%7B%7D%5D", 501, "outputs"),
        ("isolation=hyperv", 400, "invalid isolation"),
        ("securityopt=%5B%22x%22%5D", 501, "security options"),
    ],
)
def test_parameters_that_are_wrong_are_refused_as_dockerd_does(ask: Ask, query: str, status: int, told: str) -> None:
    answer = ask(f"/build?{query}", b"x")

    assert answer.status == status
    assert told in json.loads(answer.read())["message"]


@pytest.mark.parametrize("archive", [b"", b"no tar", b"\x1f\x8b\x08broken"])
def test_a_context_that_is_no_archive_is_refused(ask: Ask, archive: bytes) -> None:
    told = ask("/build", [archive]).read().decode()

    assert "message" in told
    assert "internal error" not in told


def test_a_build_ends_when_its_client_leaves_in_the_middle_of_the_context(sampan: Sampan) -> None:
    sampan("ps")
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(sampan.socket))
    head = b"POST /v1.50/build HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.sendall(head + b"200\r\n" + b"Dockerfile".ljust(512, b"\0"))

    client.close()

    assert sampan.leftovers() == []


def test_a_classic_build_is_cancelled_by_its_id(ask: Ask) -> None:
    text = b"FROM busybox\nRUN echo begun; exec sleep 600\n"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    answer = ask("/build?buildid=abc", data.getvalue())
    begun, lines = threading.Event(), []

    def read() -> None:
        for line in answer.lines():
            lines.append(line.decode())
            if '"begun' in lines[-1]:
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30), lines
    assert ask("/build/cancel", b"").status == 400
    assert ask("/build/cancel?id=other", b"").status == 200

    assert ask("/build/cancel?id=abc", b"").status == 200
    reader.join(30)
    assert not reader.is_alive()
    assert "errorDetail" in lines[-1]
