"""Blobs coming in: in one request, in two, in chunks, or mounted from another repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.ids import is_digest
from sampan.registry import ranges
from sampan.registry.refusal import Refusal
from sampan.registry.routes import check_digest
from sampan.spec.reference import is_repository

if TYPE_CHECKING:
    from sampan.registry.call import Call
    from sampan.registry.uploads import Upload


def start_upload(call: Call) -> None:
    """`POST …/uploads/`: mount a blob, take a whole one, or open an upload."""
    mount = call.query("mount")
    if is_digest(mount) and _mount(call, mount):
        _created(call, mount)
        return
    digest = call.query("digest")
    whole = bool(digest) and call.length != 0
    if whole:
        check_digest(digest)
    with call.store.uploads.start(call.name) as upload:
        if not whole:
            call.done(202, _progress(call, upload))
            return
        with upload.held(call.interrupt):
            try:
                upload.append(call.pieces(), digest.partition(":")[0])
            except BaseException:  # nobody was told of this upload, so nobody will go on with it
                call.store.uploads.end(upload)
                raise
            _finish(call, upload, digest)


def _mount(call: Call, digest: str) -> bool:
    """Give the repository a blob of another one; without `from`, of any."""
    source = call.query("from")
    with call.store.linking():
        if source and not (is_repository(source) and call.repositories.has_blob(source, digest)):
            return False
        if not call.store.blobs.touch(digest):
            return False
        call.repositories.link_blob(call.name, digest)
    return True


def get_upload(call: Call) -> None:
    """`GET …/uploads/<id>`: how far it is."""
    with call.store.uploads.use(call.name, call.last) as upload:
        call.done(204, _progress(call, upload))


def patch_upload(call: Call) -> None:
    """`PATCH …/uploads/<id>`: add a chunk, or all that comes."""
    with call.store.uploads.use(call.name, call.last) as upload, upload.held(call.interrupt):
        upload.append(call.pieces(), most=_expected(call, upload))
        call.done(202, _progress(call, upload))


def put_upload(call: Call) -> None:
    """`PUT …/uploads/<id>?digest=`: add the last chunk, if any, and make it a blob."""
    with call.store.uploads.use(call.name, call.last) as upload, upload.held(call.interrupt):
        digest = check_digest(call.query("digest"))
        if call.length != 0:
            algorithm = "sha256" if upload.size else digest.partition(":")[0]
            upload.append(call.pieces(), algorithm, most=_expected(call, upload))
        _finish(call, upload, digest)


def delete_upload(call: Call) -> None:
    """`DELETE …/uploads/<id>`: forget it."""
    with call.store.uploads.use(call.name, call.last) as upload, upload.held(call.interrupt):
        call.store.uploads.end(upload)
    call.done(204)


def _expected(call: Call, upload: Upload) -> int | None:
    """Return how long the chunk is, if it says so in Content-Range. Raises Refusal where it is not the next one."""
    header = call.header("content-range")
    if not header:
        return None
    span = ranges.chunk(header)
    if span is None or span.start != upload.size:
        raise Refusal(
            "BLOB_UPLOAD_INVALID",
            f"the next chunk begins at {upload.size}",
            status=416,
            headers=_progress(call, upload),
        )
    if call.length is not None and call.length != len(span):
        raise Refusal("SIZE_INVALID", f"Content-Length is {call.length} and Content-Range has {len(span)} bytes")
    return len(span)


def _finish(call: Call, upload: Upload, digest: str) -> None:
    try:
        upload.seal(digest)
        with call.store.linking():
            call.store.blobs.adopt(upload.path, digest)
            call.repositories.link_blob(call.name, digest)
    except Refusal:
        call.store.uploads.end(upload)
        raise
    call.store.uploads.end(upload)
    _created(call, digest)


def _created(call: Call, digest: str) -> None:
    call.done(201, {"Location": f"/v2/{call.name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _progress(call: Call, upload: Upload) -> dict[str, str]:
    return {
        "Location": f"/v2/{call.name}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(upload.size - 1, 0)}",  # of nothing too: so Docker's registry has it
        "Docker-Upload-UUID": upload.id,
    }
