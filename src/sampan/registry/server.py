"""One connection's requests: who may do what, which handler does it, and the line in the log."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING

import sampan
from sampan.errors import InvalidInput, SampanError
from sampan.http11.channel import Channel, ClientGone, Patience, TooLarge
from sampan.registry import listing, manifests, pulling, uploading
from sampan.registry.call import Call, Policy
from sampan.registry.refusal import Refusal, from_os_error
from sampan.registry.routes import Endpoint, find

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.http11.channel import Request
    from sampan.registry.access import Access
    from sampan.registry.log import Log
    from sampan.registry.store import Store

PATIENCE = Patience(idle_s=90, head_s=20, body_s=60, send_s=60, least_rate=500)
PREAMBLE = f"Server: sampan/{sampan.__version__}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n"
HANDLERS: dict[tuple[Endpoint, str], Callable[[Call], None]] = {
    (Endpoint.BASE, "GET"): listing.base,
    (Endpoint.CATALOG, "GET"): listing.catalog,
    (Endpoint.TAGS, "GET"): listing.tags,
    (Endpoint.REFERRERS, "GET"): listing.referrers,
    (Endpoint.MANIFEST, "GET"): manifests.get_manifest,
    (Endpoint.MANIFEST, "PUT"): manifests.put_manifest,
    (Endpoint.MANIFEST, "DELETE"): manifests.delete_manifest,
    (Endpoint.BLOB, "GET"): pulling.get_blob,
    (Endpoint.BLOB, "DELETE"): pulling.delete_blob,
    (Endpoint.UPLOADS, "POST"): uploading.start_upload,
    (Endpoint.UPLOAD, "GET"): uploading.get_upload,
    (Endpoint.UPLOAD, "PATCH"): uploading.patch_upload,
    (Endpoint.UPLOAD, "PUT"): uploading.put_upload,
    (Endpoint.UPLOAD, "DELETE"): uploading.delete_upload,
}
"""HEAD is answered as GET is, without the body."""

_READING = ("GET", "HEAD")
_DELETIONS = frozenset((Endpoint.MANIFEST, Endpoint.BLOB))


class Registry:
    """Answers requests over one store."""

    def __init__(self, store: Store, policy: Policy, access: Access, log: Log) -> None:
        self._store = store
        self._policy = policy
        self._access = access
        self._log = log

    def serve(self, channel: Channel) -> None:
        """Answer one connection's requests, one after another."""
        while True:
            try:
                request = channel.next()
            except InvalidInput as e:
                _refuse(channel, Refusal("UNSUPPORTED", e.message, status=400))
                return
            if request is None:
                return
            self._serve_one(channel, request)

    def _serve_one(self, channel: Channel, request: Request) -> None:
        began, channel.sent = time.monotonic(), 0
        line = self._log.begin(channel, request)
        try:
            self._answer(channel, request, line)
        except ClientGone:
            line.broken = True
            raise
        finally:
            line.end(time.monotonic() - began)

    def _answer(self, channel: Channel, request: Request, line: Log.Line) -> None:
        try:
            if (token := self._access.token(request)) is not None:
                channel.reply(200, token, headers={"Cache-Control": "no-store"})
                return
            writes = request.method not in _READING
            line.user = self._access.check(request, writes=writes)
            route = find(request.path)
            handler = HANDLERS.get((route.endpoint, "GET" if request.method == "HEAD" else request.method))
            if handler is None:
                allowed = [method for endpoint, method in HANDLERS if endpoint is route.endpoint]
                raise Refusal("UNSUPPORTED", "no such method here", headers={"Allow": ", ".join(allowed)})
            if writes:
                self._check_policy(route.endpoint, request.method)
            handler(Call(channel, request, route, self._store, self._policy))
        except ClientGone:
            raise
        except Refusal as e:
            _refuse(channel, e)
        except TooLarge as e:
            _refuse(channel, Refusal("MANIFEST_INVALID", e.message, status=413))
        except SampanError as e:
            _refuse(channel, Refusal("UNKNOWN", e.message, status=e.http_status))
        except OSError as e:
            self._log.problem(f"{request.method} {request.path[:300]!r}: {e}")
            _refuse(channel, from_os_error(e))
        except Exception as e:
            traceback.print_exc()
            _refuse(channel, Refusal("UNKNOWN", f"internal error: {type(e).__name__}"))

    def _check_policy(self, endpoint: Endpoint, method: str) -> None:
        if self._policy.read_only:
            raise Refusal("UNSUPPORTED", "this registry is read-only")
        if self._policy.no_delete and method == "DELETE" and endpoint in _DELETIONS:
            raise Refusal("UNSUPPORTED", "this registry deletes nothing")


def _refuse(channel: Channel, refusal: Refusal) -> None:
    """Answer an error. In the middle of an answer only breaking the connection can say that it failed."""
    if channel.answered:
        raise ClientGone
    channel.reply(refusal.status, refusal.document(), headers=refusal.headers)
