"""A registry in a thread, which can be made to lie, stall, redirect and ask who is there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import ssl
import sys
import threading
from collections.abc import Callable
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

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Authorization
        self.scripts: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}  # "METHOD path": what answers instead
        self.fail_next: list[int] = []  # statuses of the next answers
        self.retry_after = "0"
        self.break_after: list[int] = []  # bytes after which the next blobs' connections break
        self.redirect_to: str | None = None
        # Who is there
        self.asks: str | None = None  # None, "basic", "token"
        self.anonymous = False  # tokens are given to anybody
        self.refresh_token: str | None = None  # granted beside tokens
        self.expires_in: float | None = None
        self.asked_for: list[list[str]] = []  # the scopes of each request for a token
        self.token_answer: bytes | None = None
        self.realm: str | None = None
        self.tokens: dict[str, list[str]] = {}  # scopes by token
        # Uploads
        self.sessions: dict[str, bytearray] = {}
        self.break_upload_after: list[int] = []  # bytes after which the next uploads' connections break
        self.forgets_broken_uploads = False
        self.takes_no_streams = False
        self.least_chunk: int | None = None
        self.mounts = True
        self.location_at: str | None = None  # scheme and host of the locations of uploads; relative where None
        self.said_range: str | None = None
        self.page: int | None = None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            left: Any = None  # of the request's body

            def answer(self) -> None:
                self.left = None
                registry.answer(self)

            do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.tls = tls
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

    def asked(self, method: str) -> list[str]:
        """Return the paths that were asked for with a method."""
        return [path for used, path, _ in self.requests if used == method]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        authorization = handler.headers.get("Authorization")
        self.requests.append((handler.command, handler.path, authorization))
        url = urlsplit(handler.path)
        if script := self.scripts.get(f"{handler.command} {url.path}"):
            script(handler)
        elif url.path == "/token":
            self._token(handler, parse_qs(url.query) | parse_qs(b"".join(read_body(handler)).decode()), authorization)
        elif self.fail_next:
            self._refuse(handler, self.fail_next.pop(0), "", "", **{"Retry-After": self.retry_after})
        elif self.asks and not self._is_known(handler, authorization):
            realm = self.realm or f"http://{self.address}/token"
            bearer = f'Bearer realm="{realm}",service="fake",scope="{_scope(handler)}"'
            challenge = bearer if self.asks == "token" else 'Basic realm="fake"'
            self._refuse(handler, 401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})
        elif self.redirect_to and "/blobs/" in url.path:
            self.send(handler, 307, b"", {"Location": self.redirect_to + handler.path})
        elif "/blobs/uploads/" in url.path:
            self._upload(handler, parse_qs(url.query))
        elif url.path.endswith("/tags/list"):
            self._tags(handler, url.path.removeprefix("/v2/").removesuffix("/tags/list"), parse_qs(url.query))
        elif handler.command == "PUT":
            self._put_manifest(handler, url.path.removeprefix("/v2/"))
        elif handler.command == "DELETE":
            gone = self.documents.pop(url.path.removeprefix("/v2/"), None)
            self.send(handler, 202 if gone else 404)
        elif url.path == "/v2/":
            self.send(handler, 200, b"{}")
        else:
            self._document(handler, url.path.removeprefix("/v2/"))

    def _document(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        if path not in self.documents:
            code = "MANIFEST_UNKNOWN" if "/manifests/" in path else "BLOB_UNKNOWN"
            self._refuse(handler, 404, code, code.lower().replace("_", " "))
            return
        media_type, data = self.documents[path]
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"Content-Type": media_type}
        if "/manifests/" in path:
            headers["Docker-Content-Digest"] = digest_of(data)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        broken = self.break_after.pop(0) if self.break_after and "/blobs/" in path and len(data) > 5000 else None
        self.send(handler, 206 if start else 200, data[start:], headers, broken)

    def _put_manifest(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        repository, _, tag = path.partition("/manifests/")
        data = b"".join(read_body(handler))
        self.put(repository, "manifests", handler.headers["Content-Type"], data, tag)
        self.send(handler, 201, b"", {"Docker-Content-Digest": digest_of(data)})

    def _tags(self, handler: BaseHTTPRequestHandler, repository: str, query: dict[str, list[str]]) -> None:
        prefix = f"{repository}/manifests/"
        tags = sorted(p.removeprefix(prefix) for p in self.documents if p.startswith(prefix) and "sha256:" not in p)
        after = [tag for tag in tags if tag > query.get("last", [""])[0]]
        page = after[: self.page]
        headers = {}
        if len(page) < len(after):
            headers["Link"] = f'</v2/{repository}/tags/list?last={page[-1]}&n={self.page}>; rel="next"'
        self.send(handler, 200, json.dumps({"name": repository, "tags": page}).encode(), headers)

    # ---------------------------------------------------------------------------------------- uploads

    def _upload(self, handler: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        repository, _, id = urlsplit(handler.path).path.removeprefix("/v2/").partition("/blobs/uploads/")
        if handler.command == "POST":
            self._begin_upload(handler, repository, query)
        elif id not in self.sessions:
            b"".join(read_body(handler))
            self._refuse(handler, 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        elif handler.command == "PATCH":
            self._patch(handler, repository, id)
        elif handler.command == "PUT":
            data = bytes(self.sessions.pop(id)) + b"".join(read_body(handler))
            if digest_of(data) != query["digest"][0]:
                self._refuse(handler, 400, "DIGEST_INVALID", "provided digest did not match uploaded content")
                return
            self.put(repository, "blobs", "application/octet-stream", data)
            self.send(handler, 201, b"", {"Docker-Content-Digest": digest_of(data)})
        elif handler.command == "DELETE":
            del self.sessions[id]
            self.send(handler, 204)
        else:
            self.send(handler, 204, b"", self._session(repository, id))

    def _begin_upload(self, handler: BaseHTTPRequestHandler, repository: str, query: dict[str, list[str]]) -> None:
        if "mount" in query and self.mounts:
            found = self.documents.get(f"{query['from'][0]}/blobs/{query['mount'][0]}")
            if found is not None:
                self.documents[f"{repository}/blobs/{query['mount'][0]}"] = found
                self.send(handler, 201)
                return
        id = f"session{len(self.requests)}"
        self.sessions[id] = bytearray()
        self.send(handler, 202, b"", self._session(repository, id))

    def _patch(self, handler: BaseHTTPRequestHandler, repository: str, id: str) -> None:
        if self.takes_no_streams and "Content-Length" not in handler.headers:
            b"".join(read_body(handler))
            self._refuse(handler, 411, "", "")
            return
        session = self.sessions[id]
        stated = handler.headers.get("Content-Range")
        if stated is not None and int(stated.partition("-")[0]) != len(session):
            b"".join(read_body(handler))
            self.send(handler, 416, b"", self._session(repository, id))
            return
        limit = self.break_upload_after.pop(0) if self.break_upload_after else None
        for piece in read_body(handler):
            session += piece[:limit]
            if limit is not None:
                limit -= len(piece)
                if limit <= 0:
                    if self.forgets_broken_uploads:
                        del self.sessions[id]
                    handler.close_connection = True
                    return
        self.send(handler, 202, b"", self._session(repository, id))

    def _session(self, repository: str, id: str) -> dict[str, str]:
        said = self.said_range or f"0-{max(0, len(self.sessions[id]) - 1)}"
        least = {"OCI-Chunk-Min-Length": str(self.least_chunk)} if self.least_chunk else {}
        return {
            "Location": f"{self.location_at or ''}/v2/{repository}/blobs/uploads/{id}?state=1",
            "Range": said,
            **least,
        }

    # ---------------------------------------------------------------------------------------- who is there

    def _token(self, handler: BaseHTTPRequestHandler, query: dict[str, list[str]], authorization: str | None) -> None:
        known = authorization == _basic("me:secret") or query.get("refresh_token") == ["identity"]
        self.asked_for.append([scope for text in query.get("scope", []) for scope in text.split()])
        if self.asks == "token" and not known and not self.anonymous:
            self._refuse(handler, 401, "UNAUTHORIZED", "incorrect username or password")
            return
        assert query["service"] == ["fake"]
        token = f"t0ken{len(self.asked_for)}"
        self.tokens[token] = self.asked_for[-1]
        told = {"token": token, "refresh_token": self.refresh_token, "expires_in": self.expires_in}
        body = json.dumps({name: value for name, value in told.items() if value is not None}).encode()
        self.send(handler, 200, self.token_answer if self.token_answer is not None else body)

    def _is_known(self, handler: BaseHTTPRequestHandler, authorization: str | None) -> bool:
        if self.asks == "basic":
            return authorization == _basic("me:secret")
        granted = self.tokens.get((authorization or "").removeprefix("Bearer "), None)
        resource, _, wanted = _scope(handler).rpartition(":")
        if not wanted:
            return granted is not None
        actions = {
            action
            for scope in granted or ()
            if scope.startswith(f"{resource}:")
            for action in scope.rpartition(":")[2].split(",")
        }
        return set(wanted.split(",")) <= actions

    # ---------------------------------------------------------------------------------------- answers

    def send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        data: bytes = b"",
        headers: dict[str, str] | None = None,
        broken: int | None = None,
    ) -> None:
        b"".join(read_body(handler))
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data[:broken])
        if broken is not None:
            handler.close_connection = True

    def _refuse(self, handler: BaseHTTPRequestHandler, status: int, code: str, message: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]} if code else {}).encode()
        self.send(handler, status, body, headers)


def read_body(handler: Any) -> Any:
    """Give what is left of a request's body, piece by piece."""
    if handler.left is None:
        handler.left = True
        if handler.headers.get("Transfer-Encoding") == "chunked":
            while size := int(handler.rfile.readline() or _cut(), 16):
                yield handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
        else:
            length = int(handler.headers.get("Content-Length", 0))
            while length > 0:
                piece = handler.rfile.read(min(length, 1 << 16))
                if not piece:
                    break
                length -= len(piece)
                yield piece


def _cut() -> bytes:
    raise ConnectionError("the client has left")


class _Server(ThreadingHTTPServer):
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the client has left
            super().handle_error(request, client_address)


def _scope(handler: BaseHTTPRequestHandler) -> str:
    repository = urlsplit(handler.path).path.removeprefix("/v2/").partition("/blobs/")[0].partition("/manifests/")[0]
    if not repository:
        return ""
    actions = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(handler.command, "pull,push")
    return f"repository:{repository.removesuffix('/tags/list')}:{actions}"


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()
