"""Servers of files for builds: of downloads, and of git repositories."""

from __future__ import annotations

import contextlib
import http.server
import io
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

DATA = b"data of a download"


class Server(http.server.BaseHTTPRequestHandler):
    """Gives DATA at /f, an archive at /t.tar, leads elsewhere at /to?ADDRESS and stops in the middle at /cut."""

    archive = b""
    seen: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append(self.path)
        path, _, query = self.path.partition("?")
        if path in {"/to", "/circle"}:
            self.send_response(302)
            self.send_header("Location", query or path)
            self.end_headers()
            return
        body = {"/f": DATA, "/cut": DATA, "/t.tar": self.archive}.get(path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"") + (1 if path == "/cut" else 0)))
        if path == "/f":
            self.send_header("Last-Modified", "Sun, 09 Sep 2001 01:46:40 GMT")
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


def tar_of(members: dict[str, bytes], owner: int = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(data), owner, owner
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve downloads in the block, from this address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def git(directory, *arguments):
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=main")
    run = subprocess.run(
        ("git", *identity, *arguments), cwd=directory, env=environment, check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


@contextlib.contextmanager
def serving_repositories(root: Path) -> Iterator[str]:
    """Serve repositories in the block, from this address: `r` has the files f and sub/g, `s` has inner."""
    for name, files in (("s", {"inner": "s"}), ("r", {"f": "1", "sub/g": "g"})):
        (root / name).mkdir(parents=True)
        git(root / name, "init", "-q")
        for path, text in files.items():
            (root / name / path).parent.mkdir(exist_ok=True)
            (root / name / path).write_text(text)
        git(root / name, "add", ".")
        git(root / name, "commit", "-qm", "one", "--date=@1000000000")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    arguments = ("daemon", "--reuseaddr", "--export-all", f"--base-path={root}", "--listen=127.0.0.1", f"--port={port}")
    with subprocess.Popen(("git", *arguments), start_new_session=True, stderr=subprocess.DEVNULL) as daemon:
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield f"git://127.0.0.1:{port}"
        os.killpg(daemon.pid, signal.SIGTERM)
