"""Read from one place: manifests and blobs, verified as far as one place can."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from sampan.errors import Failed, InvalidInput
from sampan.ids import check_digest
from sampan.image.blobs import digest_of
from sampan.image.transport import Request
from sampan.spec.distribution import INDEXES, MANIFESTS, Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.image.endpoint import Endpoint
    from sampan.image.transport import Answer

LARGEST_MANIFEST = 4 << 20  # what registries accept; distribution-spec, "Pushing Manifests"
_ACCEPT = ", ".join(sorted(INDEXES | MANIFESTS))


def manifest_path(endpoint: Endpoint, tag_or_digest: str) -> str:
    """Return the path of a manifest below its host."""
    name = check_digest(tag_or_digest) if ":" in tag_or_digest else quote(tag_or_digest, safe="")
    return endpoint.path(f"manifests/{name}")


def manifest(endpoint: Endpoint, tag_or_digest: str) -> tuple[bytes, str | None]:
    """Fetch a manifest or index; return its bytes, verified where asked for by digest, and its media type."""
    answer = endpoint.ask(Request("GET", manifest_path(endpoint, tag_or_digest), {"Accept": _ACCEPT}))
    data = answer.document(LARGEST_MANIFEST, f"manifest {tag_or_digest}")
    if ":" in tag_or_digest:
        _verify(data, tag_or_digest)
    return data, _media_type(answer)


def resolve(endpoint: Endpoint, tag_or_digest: str) -> Descriptor:
    """Ask what a name means: the digest is what the registry says."""
    request = Request("HEAD", manifest_path(endpoint, tag_or_digest), {"Accept": _ACCEPT})
    answer = endpoint.ask(request, also=(404, 405))
    digest, size = answer.header("Docker-Content-Digest"), answer.header("Content-Length")
    answer.discard()
    media_type = _media_type(answer)
    if answer.status >= 300 or not digest or not size.isdigit() or not media_type:
        data, media_type = manifest(endpoint, tag_or_digest)  # an error of GET has a body to explain it
        return Descriptor(media_type=media_type or "", digest=digest_of(data), size=len(data))
    if ":" in tag_or_digest and digest != tag_or_digest:
        raise InvalidInput(f"digest does not match: the registry says {digest[:100]} to {tag_or_digest}")
    return Descriptor(media_type=media_type, digest=check_digest(digest), size=int(size))


def document(endpoint: Endpoint, wanted: Descriptor) -> bytes:
    """Fetch a small blob, verified."""
    answer = endpoint.ask(Request("GET", endpoint.path(f"blobs/{check_digest(wanted.digest)}")))
    data = answer.document(wanted.size, f"blob {wanted.digest}")
    _verify(data, wanted.digest)
    return data


def blob(endpoint: Endpoint, wanted: Descriptor, offset: int, tries: int) -> Iterator[bytes]:
    """Fetch a blob from `offset` on; where the connection breaks, go on where it broke. The caller verifies it."""
    count, failures = offset, 0
    while count < wanted.size:
        before = count
        cause: Exception | None = None
        try:
            for piece in _blob_pieces(endpoint, wanted, count):
                count += len(piece)
                yield piece
        except HTTPError as e:
            cause = e
        if count < wanted.size:
            endpoint.transport.check_stopped(cause)
            failures = failures + 1 if count == before else 1
            if failures >= tries:
                raise Failed(f"blob {wanted.digest} broke off after {count} of {wanted.size} bytes") from cause
            endpoint.pause(failures)


def _blob_pieces(endpoint: Endpoint, wanted: Descriptor, offset: int) -> Iterator[bytes]:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    answer = endpoint.ask(Request("GET", endpoint.path(f"blobs/{check_digest(wanted.digest)}"), headers))
    at = offset
    if answer.status != 206:
        at = 0  # a server without ranges starts anew
    elif not answer.header("Content-Range").startswith(f"bytes {offset}-"):
        answer.discard()
        raise Failed(f"can't read blob {wanted.digest}: the registry sends another part than was asked for")
    for piece in endpoint.transport.stream(answer):
        fresh = piece[offset - at :] if at < offset else piece
        at += len(piece)
        if at > wanted.size:
            raise InvalidInput(f"blob {wanted.digest} is longer than {wanted.size} bytes")
        if fresh:
            yield fresh


def _media_type(answer: Answer) -> str | None:
    return answer.header("Content-Type").partition(";")[0].strip() or None


def _verify(data: bytes, digest: str) -> None:
    if not digest.startswith("sha256:"):
        raise InvalidInput(f"can't verify {digest}: only sha256 is understood")
    found = digest_of(data)
    if found != digest:
        raise InvalidInput(
            f"digest does not match: what came is {found} and should be {digest}",
            "the data was damaged on its way, or the registry is wrong",
        )
