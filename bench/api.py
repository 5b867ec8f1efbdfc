"""A client of the Engine API that costs next to nothing: what is measured is the server."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path


class Api:
    """One kept-alive connection; bodies are JSON."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def __call__(self, method: str, path: str, body: object = None) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        status = int(self._file.readline().split()[1])
        fields = {}
        while (line := self._file.readline()) not in {b"\r\n", b""}:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        answer = self._body(status, fields)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer!r}")
        return answer

    def _body(self, status: int, fields: dict[bytes, bytes]) -> bytes:
        if status in {204, 304}:
            return b""
        if b"chunked" not in fields.get(b"transfer-encoding", b""):
            return self._file.read(int(fields.get(b"content-length", b"0")))
        parts = []
        while size := int(self._file.readline(), 16):
            parts.append(self._file.read(size))
            self._file.readline()
        self._file.readline()
        return b"".join(parts)


def life(api: Api) -> float:
    """Create, start, wait for and remove a container that runs `true`; wall milliseconds."""
    begin = time.perf_counter_ns()
    body = {"Image": "busybox", "Cmd": ["/bin/true"], "HostConfig": {"NetworkMode": "none"}}
    id = json.loads(api("POST", "/v1.41/containers/create", body))["Id"]
    api("POST", f"/v1.41/containers/{id}/start")
    api("POST", f"/v1.41/containers/{id}/wait")
    api("DELETE", f"/v1.41/containers/{id}")
    return (time.perf_counter_ns() - begin) / 1e6
