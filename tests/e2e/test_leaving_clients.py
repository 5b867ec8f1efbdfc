"""Whose client has gone waits for no registry: its connections are closed, whatever it was at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until
from support.silent_server import SilentServer, nothing


def takes_uploads(line: str) -> bytes:
    if line.startswith("HEAD"):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    if line.startswith("POST"):
        return b"HTTP/1.1 202 Accepted\r\nLocation: /v2/app/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n"
    return b""


@pytest.fixture
def serve() -> Iterator[Callable[..., SilentServer]]:
    servers: list[SilentServer] = []

    def begin(says: Callable[[str], bytes]) -> SilentServer:
        servers.append(SilentServer(says))
        return servers[-1]

    yield begin
    for server in servers:
        server.end()


@pytest.mark.parametrize(
    "line",
    [
        "pull ADDRESS/app:1",
        "pull --plan ADDRESS/app:1",
        "push ADDRESS/app:1",
        "push busybox ADDRESS/app:1",
        "copy docker://ADDRESS/app:1 dir:TMP/new",
        "copy store:busybox docker://ADDRESS/app:1",
        "inspect docker://ADDRESS/app:1",
        "list-tags docker://ADDRESS/app",
        "delete docker://ADDRESS/app:1",
        "manifest create new docker://ADDRESS/app:1",
        "manifest inspect ADDRESS/app:1",
        "manifest push list ADDRESS/app:1",
        "login -u me -p secret ADDRESS",
    ],
)
def test_a_verb_whose_client_is_killed_leaves_a_silent_registry(sampan: Sampan, serve, tmp_path: Path, line) -> None:
    server = serve(nothing)
    sampan("tag", "busybox", f"{server.address}/app:1")
    sampan("manifest", "create", "--amend", "list", "store:busybox")
    client = sampan.start(*line.replace("ADDRESS", server.address).replace("TMP", str(tmp_path)).split())
    wait_until(lambda: server.asked)
    client.kill()
    client.communicate()

    wait_until(server.deserted)
    sampan("rmi", f"{server.address}/app:1")
    assert "Traceback" not in sampan.log()


@pytest.mark.parametrize("line", ["push ADDRESS/app:1", "copy store:busybox docker://ADDRESS/app:1"])
def test_an_upload_that_stalls_ends_with_its_client(sampan: Sampan, serve, line) -> None:
    server = serve(takes_uploads)
    sampan("tag", "busybox", f"{server.address}/app:1")
    client = sampan.start(*line.replace("ADDRESS", server.address).split())
    wait_until(lambda: [asked for asked in server.asked if asked.startswith("P")])
    client.kill()
    client.communicate()

    wait_until(server.deserted)
    sampan("rmi", f"{server.address}/app:1")
    assert "Traceback" not in sampan.log()
