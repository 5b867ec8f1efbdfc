"""Logs of several containers, as they come in over their connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sampan.cli import labelled
from sampan.client.wire import Response

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Log:
    """An answer that has begun with `data`, and its other end."""

    def __init__(self, data: bytes = b"") -> None:
        ours, self.server = socket.socketpair()
        ours.settimeout(5)  # a read too many fails
        self.server.sendall(HEAD + data)
        self.answer = Response(ours, "")
        self.ours = ours


@pytest.fixture
def logs() -> Iterator[tuple[Log, Log, Log]]:
    logs = (Log(), Log(b"5\r\nbegun\r\n"), Log(b"5\r\nwhole\r\n" + END))
    yield logs
    for log in logs:
        log.ours.close()
        log.server.close()


def test_a_container_that_is_silent_holds_no_others_lines_back(logs: tuple[Log, Log, Log]) -> None:
    silent, talks, _ = logs
    pieces = labelled._together([log.answer for log in logs])

    assert [next(pieces) for _ in range(3)] == [(1, b"begun"), (2, b"whole"), (2, b"")]
    talks.server.sendall(b"4\r\nmore\r\n")
    assert next(pieces) == (1, b"more")
    talks.server.sendall(b"1\r\n.\r\n" + END)
    assert [next(pieces) for _ in range(2)] == [(1, b"."), (1, b"")]
    silent.server.sendall(END)
    assert list(pieces) == [(0, b"")]
