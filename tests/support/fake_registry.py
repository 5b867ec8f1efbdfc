"""A registry in a thread, which can be made to lie, stall, redirect and ask who is there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def packed(data: bytes) -> bytes:
    """Compress, the same at each time."""
    return gzip.compress(data, mtime=0)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class FakeRegistry:
    """`documents` are served by path below /v2/; `asks` is how it wants to know its clients."""

    def __init__(self) -> None:
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.asks: str | None = None  # None, "basic", "token"
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Authorization
        self.fail_next: list[int] = []  # statuses of the next answers
        self.break_after: list[int] = []  # bytes after which the next blobs' connections break
        self.anonymous = False  # tokens are given to anybody
        self.redirect_to: str | None = None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                registry.answer(self, self.rfile.read(length).decode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, repository: str, kind: str, media_type: str, data: bytes, tag: str | None = None) -> dict[str, Any]:
        """Serve a blob or manifest; return its descriptor."""
        for name in (digest_of(data), tag):
            if name:
                self.documents[f"{repository}/{kind}/{name}"] = (media_type, data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def put_image(
        self, repository: str, tag: str | None, *tars: bytes, compress: Any = gzip.compress, **more: Any
    ) -> Any:
        """Serve an image of these layers; return its manifest's descriptor."""
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}, **more}
        config["rootfs"]["diff_ids"] = [digest_of(tar) for tar in tars]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put(repository, "blobs", CONFIG, json.dumps(config).encode()),
            "layers": [self.put(repository, "blobs", LAYER, compress(tar)) for tar in tars],
        }
        return self.put(repository, "manifests", MANIFEST, json.dumps(manifest).encode(), tag)

    def answer(self, handler: BaseHTTPRequestHandler, body: str = "") -> None:
        authorization = handler.headers.get("Authorization")
        self.requests.append((handler.command, handler.path, authorization))
        url = urlsplit(handler.path)
        if url.path == "/token":
            self._token(handler, parse_qs(url.query) | parse_qs(body), authorization)
        elif self.fail_next:
            self._send(handler, self.fail_next.pop(0), b"{}", {"Retry-After": "0"})
        elif self.asks and not self._is_known(authorization):
            realm = f'Bearer realm="http://{self.address}/token",service="fake",scope="repository:app:pull"'
            challenge = realm if self.asks == "token" else 'Basic realm="fake"'
            self._send(handler, 401, _error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": challenge})
        elif self.redirect_to and "/blobs/" in url.path:
            self._send(handler, 307, b"", {"Location": self.redirect_to + url.path})
        else:
            self._document(handler, url.path.removeprefix("/v2/"))

    def _document(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        if path not in self.documents:
            code = "MANIFEST_UNKNOWN" if "/manifests/" in path else "BLOB_UNKNOWN"
            self._send(handler, 404, _error(code, code.lower().replace("_", " ")), {})
            return
        media_type, data = self.documents[path]
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        status = 206 if start else 200
        broken = self.break_after.pop(0) if self.break_after and "/blobs/" in path and len(data) > 5000 else None
        self._send(handler, status, data[start:], {"Content-Type": media_type}, broken)

    def _token(self, handler: BaseHTTPRequestHandler, query: dict[str, list[str]], authorization: str | None) -> None:
        known = authorization == _basic("me:secret") or query.get("refresh_token") == ["identity"]
        if self.asks == "token" and not known and not self.anonymous:
            self._send(handler, 401, _error("UNAUTHORIZED", "incorrect username or password"), {})
            return
        assert query["service"] == ["fake"]
        assert query["scope"] == ["repository:app:pull"]
        self._send(handler, 200, b'{"token":"t0ken"}', {})

    def _is_known(self, authorization: str | None) -> bool:
        return authorization == ("Bearer t0ken" if self.asks == "token" else _basic("me:secret"))

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        headers: dict[str, str],
        broken: int | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:broken])
        if broken is not None:
            handler.close_connection = True


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
