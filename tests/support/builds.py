"""Builds asked for at the API, and what was told of them."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from sampan.client.wire import Connection
from support.sampan import Sampan

PATH = "/v1.50/sampan/build"


def directory(path: Path) -> dict[str, Any]:
    """Return a directory as a request names it."""
    status = path.stat()
    return {"kind": "directory", "value": str(path), "device": status.st_dev, "inode": status.st_ino}


def secret(id: str, value: str) -> dict[str, str]:
    return {"id": id, "value": base64.b64encode(value.encode()).decode()}


class Outcome:
    """All that was told of one build, by the steps' texts."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self._texts = {e["step"]: e["text"] for e in self.of("StepBegan")}

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def built(self) -> dict[str, Any]:
        found = self.of("Built")
        assert found, self.failed
        return found[0]

    @property
    def id(self) -> str:
        """Of the image."""
        return self.built["images"][0]["id"]

    @property
    def failed(self) -> dict[str, Any]:
        found = self.of("StepFailed")
        return found[0] if found else {}

    @property
    def output(self) -> str:
        return b"".join(base64.b64decode(e["data"]) for e in self.of("StepOutput")).decode()

    @property
    def performed(self) -> list[str]:
        """The steps that made something and were not found in the cache, by the first word and the last."""
        ended = [self._texts[e["step"]] for e in self.of("StepEnded") if not e.get("cached")]
        return [text for text in ended if text.split()[0] in ("RUN", "COPY", "ADD", "WORKDIR")]

    @property
    def misses(self) -> dict[str, str]:
        return {self._texts[e["step"]]: e["miss"] for e in self.of("StepEnded") if e.get("miss")}


class Asked:
    """A build that is under way: its events can be read, or the connection dropped."""

    def __init__(self, sampan: Sampan, dockerfile: str | None, **request: Any) -> None:
        text = {} if dockerfile is None else {"dockerfile": dockerfile}
        body = json.dumps({**text, **request}).encode() + b"\n"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(sampan.socket))
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        self._file = self._socket.makefile("rb")

    def until(self, text: str) -> None:
        """Read until this is told, in an event's text or output."""
        encoded = base64.b64encode(text.encode()).decode().rstrip("=")[:-1]
        for line in self._file:
            if text in line.decode() or encoded in line.decode():
                return
        raise AssertionError(f"{text!r} was not told")

    def hang_up(self) -> None:
        with suppress(OSError):  # the server is gone
            self._socket.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._socket.close()


def build(sampan: Sampan, dockerfile: str | None = None, **request: Any) -> Outcome:
    """Build to the end; a refused request is an AssertionError with what was said."""
    text = {} if dockerfile is None else {"dockerfile": dockerfile}
    connection = Connection(str(sampan.socket))
    try:
        body = json.dumps({**text, **request}).encode() + b"\n"
        response = connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        data = response.read()
    finally:
        connection.close()
    assert response.status == 200, data.decode()
    return Outcome([json.loads(line) for line in data.splitlines()])


def refused(sampan: Sampan, dockerfile: str | None = None, **request: Any) -> str:
    """Return why a build can't be done, whether that is told before anything else or after."""
    try:
        outcome = build(sampan, dockerfile, **request)
    except AssertionError as e:
        return str(e)
    assert outcome.failed, outcome.events
    return outcome.failed["message"]
