"""`sampan registry serve` as a program on a loopback port, and plain HTTP to it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from support.sampan import PROGRAM, wait_until

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Answer(NamedTuple):
    """What the registry said; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The codes of the errors in the specification's form."""
        return [error["code"] for error in self.json()["errors"]]


class OwnRegistry:
    """The program, started; `address` is 127.0.0.1:PORT."""

    def __init__(
        self,
        directory: Path | None,
        log: Path,
        *options: str,
        env: Mapping[str, str] = {},
        prefix: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self._log = log
        with log.open("ab") as stderr:
            words = ["--listen", "127.0.0.1:0", *options, *([str(directory)] if directory else [])]
            self.process = subprocess.Popen(
                [*prefix, PROGRAM, "registry", "serve", *words],
                stdout=subprocess.PIPE,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **env},
                text=True,
            )
        assert self.process.stdout
        self.said = self.process.stdout.readline()
        assert " at http" in self.said, (self.said, self.log())
        self.address = self.said.rpartition("://")[2].strip()

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def log(self) -> str:
        return self._log.read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it and insist that it ended as it should."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout
        self.process.stdout.close()
        assert code == (0 if number != signal.SIGKILL else -9), (code, self.log())
        assert "Traceback" not in self.log(), self.log()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; header names are written with underscores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def has_room(self) -> bool:
        """Whether it takes one more client: it turns it away while each of the others may be at work, as it sees it."""
        try:
            return self.ask("GET", "/v2/").status == 200
        except ConnectionError:
            return False

    # what most tests need first

    def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> dict[str, Any]:
        """Push in one request; return its descriptor as a layer's."""
        digest = digest_of(data, algorithm)
        location = self.ask("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
        answer = self.ask("PUT", f"{location}?digest={digest}", data, Content_Type="application/octet-stream")
        assert answer.status == 201, answer
        return descriptor(data, LAYER, digest)

    def push_manifest(self, name: str, reference: str, document: dict[str, Any], **headers: str) -> Answer:
        type = {"Content_Type": document.get("mediaType", MANIFEST)}
        return self.ask("PUT", f"/v2/{name}/manifests/{reference}", encode(document), **{**type, **headers})

    def push_image(self, name: str, tag: str, *layers: bytes, config: bytes = b"{}") -> str:
        """Push an image of these layers; return its digest."""
        document = image(self.push_blob(name, config), [self.push_blob(name, layer) for layer in layers])
        answer = self.push_manifest(name, tag, document)
        assert answer.status == 201, answer
        return answer.headers["docker-content-digest"]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str = LAYER, digest: str = "") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest or digest_of(data), "size": len(data)}


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def image(config: dict[str, Any], layers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    config = {**config, "mediaType": CONFIG}
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}


@contextmanager
def serving(directory: Path | None, log: Path, *options: str, **how: Any) -> Iterator[OwnRegistry]:
    """Serve for the length of the `with`."""
    registry = OwnRegistry(directory, log, *options, **how)
    try:
        yield registry
    finally:
        registry.end()


def fails(*words: str | Path, code: int = 125) -> str:
    """Run a `sampan registry` command that must fail; return what it said."""
    done = subprocess.run(
        [PROGRAM, "registry", *map(str, words)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def make_layout(directory: Path) -> Path:
    """Make an empty OCI layout."""
    (directory / "blobs/sha256").mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    return directory


def wait_for_log(registry: OwnRegistry, text: str) -> None:
    wait_until(lambda: text in registry.log(), what=f"{text!r} in the log")
