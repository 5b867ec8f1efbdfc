"""Manifests: GET, HEAD, PUT and DELETE of `/v2/<name>/manifests/<reference>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.ids import is_digest
from sampan.registry import document, ranges
from sampan.registry.blobs import digest_of
from sampan.registry.refusal import Refusal
from sampan.registry.routes import check_digest
from sampan.spec.reference import is_tag

if TYPE_CHECKING:
    from sampan.registry.call import Call
    from sampan.registry.document import Manifest
    from sampan.spec.distribution import Descriptor


def get_manifest(call: Call) -> None:
    """Send a manifest under the media type that it was pushed with, whatever is accepted: there is no other form."""
    stored = call.repositories.manifest(call.name, call.last)
    if stored is None:
        raise manifest_unknown(call.last)
    headers = {"Docker-Content-Digest": stored.digest, "ETag": f'"{stored.digest}"'}
    if ranges.matches(call.header("if-none-match"), stored.digest):
        call.done(304, headers)
        return
    with call.store.blobs.open(stored.digest) as found:
        if found is None:
            raise manifest_unknown(call.last)
        call.send_file(200, found[0], range(found[1]), stored.media_type, headers)


def put_manifest(call: Call) -> None:
    """Check a manifest and keep it; the tag, if it is named by one, leads to it from now on."""
    by_digest = ":" in call.last
    # Tags beside a digest are how one of sha512 gets any; the specification has it since 1.2.
    tags = [check_tag(tag) for tag in (call.queries("tag") if by_digest else [call.last])]
    data = call.body(document.LONGEST)
    digest = _checked_digest(data, check_digest(call.last)) if by_digest else digest_of(data)
    manifest = document.read(data, call.header("content-type"), digest)
    with call.store.linking():
        _check_references(call, manifest)
        call.store.blobs.put(data, digest)
        call.repositories.put_manifest(call.name, manifest)
        for tag in tags:
            call.repositories.put_tag(call.name, tag, manifest)
    headers: dict[str, str | list[str]] = {
        "Location": f"/v2/{call.name}/manifests/{digest}",
        "Docker-Content-Digest": digest,
    }
    if manifest.subject:
        headers["OCI-Subject"] = manifest.subject
    if by_digest and tags:
        headers["OCI-Tag"] = tags
    call.done(201, headers)


def check_tag(tag: str) -> str:
    """Return a tag as it is. Raises Refusal."""
    if not is_tag(tag):
        raise Refusal("TAG_INVALID", "invalid tag", detail={"tag": tag[:300]})
    return tag


def _checked_digest(data: bytes, digest: str) -> str:
    received = digest_of(data, digest.partition(":")[0])
    if received != digest:
        detail = {"digest": digest, "received": received}
        raise Refusal("DIGEST_INVALID", "provided digest did not match uploaded content", detail=detail)
    return digest


def _check_references(call: Call, manifest: Manifest) -> None:
    """Insist that the repository has all that the manifest names, in the size that it says."""
    for blob in {one.digest: one for one in manifest.blobs}.values():
        if not call.repositories.has_blob(call.name, blob.digest, used=True):
            raise _missing(blob)
        _check_size(call, blob)
    for child in {one.digest: one for one in manifest.manifests}.values():
        if call.repositories.manifest(call.name, child.digest, used=True) or call.repositories.has_blob(
            call.name, child.digest, used=True
        ):
            _check_size(call, child)
        elif not call.policy.sparse_indexes:
            raise _missing(child)


def _check_size(call: Call, one: Descriptor) -> None:
    size = call.store.blobs.size(one.digest)
    if size is None:
        raise _missing(one)
    if size != one.size:
        raise Refusal(
            "SIZE_INVALID",
            f"the manifest says that {one.digest} has {one.size} bytes, and it has {size}",
            detail={"digest": one.digest, "size": size},
        )


def _missing(one: Descriptor) -> Refusal:
    return Refusal("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", detail={"digest": one.digest})


def delete_manifest(call: Call) -> None:
    """Remove a tag, or a manifest with all tags to it."""
    with call.store.linking():
        if is_digest(call.last):
            gone = call.repositories.delete_manifest(call.name, call.last)
        else:
            gone = call.repositories.delete_tag(call.name, call.last)
    if not gone:
        raise manifest_unknown(call.last)
    call.done(202)


def manifest_unknown(reference: str) -> Refusal:
    """Return the refusal of a manifest that the repository hasn't."""
    return Refusal("MANIFEST_UNKNOWN", "manifest unknown", detail={"reference": reference[:300]})
