"""What waits for a registry ends when it is stopped, wherever it waits; and closing leaves no socket open."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from sampan.errors import Failed
from sampan.image.registry import Repository
from sampan.spec.distribution import AuthConfig, Descriptor
from sampan.spec.reference import Reference
from sampan.spec.settings import Registries
from support.sampan import wait_until
from support.silent_server import SilentServer, nothing

DIGEST = "sha256:" + "0" * 64
BLOB = Descriptor(media_type="", digest=DIGEST, size=1000)
HALF = b"HTTP/1.1 200 OK\r\nX: silence\r\nContent-Length: 1000\r\n\r\nhalf"
ENDLESS = b"HTTP/1.1 200 OK\r\nX: silence\r\nConnection: close\r\n\r\nhalf"


def half(_: str) -> bytes:
    return HALF


def until_the_end(_: str) -> bytes:
    return ENDLESS


def begins_uploads(line: str) -> bytes:
    if line.startswith("POST"):
        return b"HTTP/1.1 202 Accepted\r\nLocation: /v2/app/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n"
    return b""


def names_a_token_server(line: str) -> bytes:
    if line.startswith("GET /token"):
        return b""
    return (
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="/token",service="s"\r\nContent-Length: 0\r\n\r\n'
    )


def upload(repository: Repository) -> object:
    return repository.upload_blob(lambda at: iter([bytes(1 << 20)] * 64))


def repository_of(server: SilentServer, *certificates: str) -> Repository:
    registries = Registries(certificates=certificates)
    return Repository(Reference.parse(f"{server.address}/app"), AuthConfig(), registries=registries)


@pytest.fixture
def serve() -> Iterator[Callable[..., SilentServer]]:
    servers: list[SilentServer] = []

    def begin(says: Callable[[str], bytes] = nothing) -> SilentServer:
        servers.append(SilentServer(says))
        return servers[-1]

    yield begin
    for server in servers:
        server.end()


@pytest.mark.parametrize(
    ("says", "do"),
    [
        (nothing, lambda r: r.manifest("1")),
        (nothing, lambda r: r.resolve("1")),
        (half, lambda r: r.manifest("1")),
        (until_the_end, lambda r: r.manifest("1")),
        (half, lambda r: r.document(BLOB)),
        (half, lambda r: b"".join(r.blob(BLOB))),
        (until_the_end, lambda r: b"".join(r.blob(BLOB))),
        (nothing, lambda r: list(r.tags())),
        (half, lambda r: list(r.tags())),
        (nothing, lambda r: r.has_blob(DIGEST)),
        (begins_uploads, upload),
        (nothing, upload),
        (nothing, lambda r: r.put_manifest("1", b"{}", "text/plain")),
        (nothing, lambda r: r.delete("1")),
        (names_a_token_server, lambda r: r.manifest("1")),
    ],
)
def test_what_waits_for_a_silent_registry_ends_when_it_is_stopped(serve, says, do) -> None:
    server = serve(says)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            do(repository)
        except BaseException as e:
            errors.append(e)

    with repository_of(server) as repository:
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: server.asked)
        repository.stop()
        thread.join()

    assert [type(error) for error in errors] == [Failed]
    wait_until(server.deserted)


def test_a_handshake_that_does_not_go_on_ends_when_it_is_stopped(serve, tmp_path) -> None:
    server = serve()
    (tmp_path / server.address).mkdir()  # so that it is spoken to in https
    errors: list[str] = []

    def work() -> None:
        try:
            repository.manifest("1")
        except Failed as e:
            errors.append(e.message)

    with repository_of(server, str(tmp_path)) as repository:
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: server.asked == ["TLS"])
        repository.stop()
        thread.join()

    assert errors == ["it was stopped"]


def test_what_is_begun_after_the_stop_reaches_nobody(serve) -> None:
    server = serve()
    with repository_of(server) as repository:
        repository.stop()

        with pytest.raises(Failed, match="it was stopped"):
            repository.manifest("1")

    assert server.asked == []


@pytest.mark.parametrize("says", [half, until_the_end])
def test_an_answer_that_nobody_reads_to_its_end_leaves_no_socket_open(serve, says) -> None:
    server = serve(says)

    with warnings.catch_warnings(record=True) as warned, repository_of(server) as repository:
        reading = repository.blob(BLOB)
        assert next(reading) == b"half"
        repository.close()
        wait_until(server.deserted)
        del reading
        gc.collect()

    assert warned == []
