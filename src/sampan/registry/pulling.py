"""Blobs going out and being removed: GET, HEAD and DELETE of `/v2/<name>/blobs/<digest>`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sampan.registry import ranges
from sampan.registry.refusal import Refusal

if TYPE_CHECKING:
    from sampan.registry.call import Call

OCTETS = "application/octet-stream"


def get_blob(call: Call) -> None:
    """Send a blob, or the part that a Range header asks for; for HEAD only what would be said of it."""
    digest = call.last
    # HEAD is how a client finds that it need not push a blob: it counts on it now.
    used = call.method == "HEAD" and not call.policy.read_only
    with call.store.linking() if used else contextlib.nullcontext():
        if not call.repositories.has_blob(call.name, digest, used=used):
            raise blob_unknown(digest)
    with call.store.blobs.open(digest) as found:
        if found is None:
            raise blob_unknown(digest)
        file, size = found
        headers = {
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
            "Cache-Control": "max-age=31536000",
            "Accept-Ranges": "bytes",
        }
        if ranges.matches(call.header("if-none-match"), digest):
            call.done(304, headers)
            return
        span = _span(call, size)
        if span is None:
            call.send_file(200, file, range(size), OCTETS, headers)
        else:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
            call.send_file(206, file, span, OCTETS, headers)


def _span(call: Call, size: int) -> range | None:
    condition = call.header("if-range")
    if condition and not ranges.matches(condition, call.last):
        return None
    try:
        return ranges.wanted(call.header("range"), size)
    except ranges.Unsatisfiable:
        raise Refusal(
            "SIZE_INVALID",
            "no byte of the blob is in the range",
            status=416,
            headers={"Content-Range": f"bytes */{size}"},
        ) from None


def delete_blob(call: Call) -> None:
    """Take a blob away from the repository. Its bytes are gc's business."""
    if not call.repositories.unlink_blob(call.name, call.last):
        raise blob_unknown(call.last)
    call.done(202)


def blob_unknown(digest: str) -> Refusal:
    """Return the refusal of a blob that the repository hasn't."""
    return Refusal("BLOB_UNKNOWN", "blob unknown to registry", detail={"digest": digest})
