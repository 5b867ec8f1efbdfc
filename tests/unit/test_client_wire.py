"""The client's HTTP: bodies however they are cut, errors, kept and lost connections."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sampan import errors
from sampan.client import wire


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    at = 0
    for place in sorted(p % (len(data) + 1) for p in places):
        yield data[at:place]
        at = place
    yield data[at:]


def chunked(parts: list[bytes], extension: bytes = b"", trailer: bytes = b"") -> bytes:
    body = b"".join(b"%X%b\r\n%b\r\n" % (len(p), extension, p) for p in parts if p)
    return body + b"0\r\n" + trailer + b"\r\n"


CUTS = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


@given(
    st.lists(st.binary(max_size=300), max_size=8),
    CUTS,
    st.sampled_from([b"", b";a=b", b"; x"]),
    st.sampled_from([b"", b"X: y\r\n", b"A: 1\r\nB: 2\r\n"]),
)
def test_a_chunked_body_is_whole_however_it_arrives(
    parts: list[bytes], places: list[int], extension: bytes, trailer: bytes
) -> None:
    body = wire.Body(200, {"transfer-encoding": "chunked"})

    got = b"".join(body.feed(piece) for piece in cut(chunked(parts, extension, trailer), places))

    assert got == b"".join(parts)
    assert body.done


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(min_value=1, max_value=100))
def test_a_chunked_body_cut_short_is_not_done(parts: list[bytes], missing: int) -> None:
    body = wire.Body(200, {"transfer-encoding": "chunked"})

    body.feed(chunked(parts)[:-missing])

    assert not body.done


@given(st.binary(max_size=500), CUTS, st.binary(max_size=20))
def test_a_body_of_known_length_ends_there(data: bytes, places: list[int], beyond: bytes) -> None:
    body = wire.Body(200, {"content-length": str(len(data))})

    got = b"".join(body.feed(piece) for piece in cut(data + beyond, places))

    assert got == data
    assert body.done


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status: int) -> None:
    assert wire.Body(status, {"content-length": "5"}).done


def test_a_chunk_that_is_none_is_said() -> None:
    with pytest.raises(errors.Failed, match="chunk size"):
        wire.Body(200, {"transfer-encoding": "chunked"}).feed(b"hello\r\n")


# -------------------------------------------------------------------------------------------- over a socket


class Script:
    """A server that answers each connection's requests with the given bytes, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "server.sock")
        self.asked: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads: list[threading.Thread] = []

    def serve(self, *connections: list[bytes]) -> None:
        thread = threading.Thread(target=self._run, args=(connections,), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _run(self, connections: tuple[list[bytes], ...]) -> None:
        for answers in connections:
            client, _ = self._listener.accept()
            with client:
                for answer in answers:
                    self.asked.append(_request(client))
                    client.sendall(answer)

    def close(self) -> None:
        for thread in self._threads:
            thread.join(10)
        self._listener.close()


def _request(client: socket.socket) -> bytes:
    """Read one request whole (its body may come in a packet of its own), or what comes after a hijack."""
    data = b""
    while piece := client.recv(65536):
        data += piece
        head, end, body = data.partition(b"\r\n\r\n")
        if not data.startswith((b"GET", b"POST", b"DELETE")):
            break
        if end and (body.endswith(b"0\r\n\r\n") if b"chunked" in head else len(body) >= _length(head)):
            break
    return data


def _length(head: bytes) -> int:
    return int((re.search(rb"(?i)content-length: (\d+)", head) or [b"", b"0"])[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path)
    yield script
    script.close()


OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'


def test_requests_share_one_connection(server: Script) -> None:
    server.serve([OK, b"HTTP/1.1 204 No Content\r\n\r\n", OK])
    connection = wire.Connection(server.path)

    assert connection.request("GET", "/a").json() == {"a": 1}
    assert connection.request("POST", "/b", b"{}").status == 204
    assert connection.request("DELETE", "/c").json() == {"a": 1}
    connection.close()

    assert server.asked[0].startswith(b"GET /a HTTP/1.1\r\nHost: sampan\r\n")
    assert server.asked[1].endswith(b"Content-Length: 2\r\n\r\n{}")
    assert b"Content-Length: 0\r\n" in server.asked[2]


def test_a_connection_that_the_server_closed_is_opened_again(server: Script) -> None:
    server.serve([OK], [OK])
    connection = wire.Connection(server.path)

    assert [connection.request("GET", "/").json() for _ in range(2)] == [{"a": 1}] * 2
    connection.close()


def test_an_answer_that_nobody_read_is_not_taken_for_the_next(server: Script) -> None:
    server.serve([OK], [OK.replace(b'"a": 1', b'"a": 2')])
    connection = wire.Connection(server.path)

    connection.request("GET", "/")
    assert connection.request("GET", "/").json() == {"a": 2}
    connection.close()


def test_a_continue_before_the_answer_is_skipped(server: Script) -> None:
    server.serve([b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
    connection = wire.Connection(server.path)

    assert connection.request("POST", "/", b"{}").json() == {"a": 1}
    connection.close()


def test_a_body_in_pieces_is_sent_in_chunks(server: Script) -> None:
    server.serve([OK])
    connection = wire.Connection(server.path)

    connection.request("POST", "/", iter([b"ab", b"", b"c" * 16]))
    connection.close()
    server.close()

    assert server.asked[0].endswith(
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n10\r\n" + b"c" * 16 + b"\r\n0\r\n\r\n"
    )


def test_lines_are_given_as_they_come(server: Script) -> None:
    server.serve([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked([b"on", b"e\ntwo\nth", b"ree"])])
    connection = wire.Connection(server.path)

    assert list(connection.request("GET", "/").lines()) == [b"one", b"two", b"three"]
    connection.close()


def test_a_body_without_a_length_ends_with_the_connection(server: Script) -> None:
    server.serve([b"HTTP/1.1 200 OK\r\n\r\nall of it"], [OK])
    connection = wire.Connection(server.path)

    assert connection.request("GET", "/").read() == b"all of it"
    assert connection.request("GET", "/").json() == {"a": 1}
    connection.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_a_lost_connection_is_its_own_error(server: Script, answer: bytes) -> None:
    server.serve([answer])
    connection = wire.Connection(server.path)

    with pytest.raises(wire.ConnectionLost):
        connection.request("GET", "/").read()
    connection.close()


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_not_http_is_said(server: Script, answer: bytes) -> None:
    server.serve([answer])

    with pytest.raises(errors.Failed, match="not HTTP"):
        wire.Connection(server.path).request("GET", "/")


def test_nobody_listening_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(wire.Unreachable, match="no such file"):
        wire.Connection(str(tmp_path / "none")).request("GET", "/")


def _leaving(path: Path) -> wire.Connection:
    """A connection that nobody has taken when its server ends."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    connection = wire.Connection(str(path))
    connection.connect()
    listening.close()
    path.unlink()
    return connection


def test_a_harmless_question_to_a_server_that_is_just_leaving_is_asked_another(server: Script, tmp_path: Path) -> None:
    server.serve([OK])
    working = wire.Connection(server.path)
    given = iter([_leaving(tmp_path / "leaving"), working])

    answer = wire.ask(lambda: next(given), lambda it: it.request("GET", "/"), harmless=True)
    assert answer.status == 200
    working.close()


def test_what_may_have_been_done_is_not_asked_again(server: Script) -> None:
    server.serve([b""])
    given = iter([wire.Connection(server.path)])

    with pytest.raises(wire.ConnectionLost):
        wire.ask(lambda: next(given), lambda it: it.request("POST", "/"), harmless=False)


def test_what_was_sent_to_nobody_is_sent_again(server: Script, tmp_path: Path) -> None:
    server.serve([OK])
    working = wire.Connection(server.path)
    given = iter([wire.Connection(str(tmp_path / "nobody")), working])

    answer = wire.ask(lambda: next(given), lambda it: it.request("POST", "/"), harmless=False)
    assert answer.status == 200
    working.close()


def test_an_older_server_that_makes_room_is_asked_again(server: Script) -> None:
    server.serve([b"HTTP/1.1 503 Service Unavailable\r\nSampan-Restarting: 1\r\nContent-Length: 0\r\n\r\n"], [OK])

    connection = wire.Connection(server.path)

    assert connection.request("POST", "/", b"{}").json() == {"a": 1}
    connection.close()
    assert b"Sampan-Again: 1" in server.asked[1]


@pytest.mark.parametrize("upgraded", [b"101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp", b"200 OK"])
def test_a_hijack_gives_the_connection_and_what_was_read_of_it(server: Script, upgraded: bytes) -> None:
    head = b"HTTP/1.1 " + upgraded + b"\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\n"
    server.serve([head + b"first", b"second"])

    hijacked = wire.Connection(server.path).hijack("POST", "/exec/x/start", b"{}")

    assert hijacked.multiplexed
    assert hijacked.read == b"first"
    hijacked.socket.sendall(b"in")
    assert hijacked.socket.recv(100) == b"second"
    hijacked.socket.close()


def test_a_refused_hijack_raises_what_the_server_says(server: Script) -> None:
    server.serve([b'HTTP/1.1 404 Not Found\r\nContent-Length: 32\r\n\r\n{"message":"No such container"}\n'])

    with pytest.raises(errors.NotFound, match="No such container"):
        wire.Connection(server.path).hijack("POST", "/containers/x/attach")


@pytest.mark.parametrize(
    ("status", "body", "kind", "message", "hint"),
    [
        (404, b'{"message":"No such container: x"}\n', errors.NotFound, "No such container: x", ""),
        (409, b'{"message":"m","hint":"h"}', errors.Conflict, "m", "h"),
        (400, b'{"message":"m","kind":"CommandNotFound"}', errors.CommandNotFound, "m", ""),
        (501, b"{}", errors.Unsupported, "{}", ""),
        (500, b"oops\n", errors.Failed, "oops", ""),
        (500, b"", errors.Failed, "the server answered 500", ""),
        (403, b"[]", errors.NotPermitted, "[]", ""),
    ],
)
def test_an_error_answer_becomes_its_class(
    status: int, body: bytes, kind: type[errors.SampanError], message: str, hint: str
) -> None:
    error = wire.error_of(status, body)

    assert (type(error), error.message, error.hint) == (kind, message, hint)


@given(st.text())
def test_a_quoted_text_is_what_the_standard_library_reads(text: str) -> None:
    from urllib.parse import unquote

    assert unquote(wire.quote(text)) == text


def test_a_query_leaves_out_what_is_not_given() -> None:
    query: Callable[..., str] = wire.query

    assert query() == query(a=None, b=False, c="") == ""
    assert query(all=True, t=0, filters={"a": ["b"]}, changes=["x y", "z"]) == (
        "?all=1&t=0&filters=%7B%22a%22%3A%5B%22b%22%5D%7D&changes=x%20y&changes=z"
    )
