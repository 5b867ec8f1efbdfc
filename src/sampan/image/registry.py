"""Talk to a registry: the OCI distribution specification, as Docker's clients use it.

`upload` writes a blob in pieces, `endpoint` makes one request with authentication and patience, `tokens` answers
challenges, `refusals` says errors in Docker's words, `transport` knows HTTP, redirects and timeouts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec
from urllib3.exceptions import HTTPError

from sampan.errors import Failed, InvalidInput, NotFound, NotPermitted
from sampan.ids import check_digest
from sampan.image import auth as credentials, referrers
from sampan.image.blobs import digest_of
from sampan.image.endpoint import DELETE, PUSH, Endpoint
from sampan.image.transport import Request
from sampan.image.upload import Upload
from sampan.spec.distribution import INDEXES, MANIFESTS, Descriptor, MediaType
from sampan.spec.settings import DEFAULT_REGISTRIES, Registries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.image.transport import Answer
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.reference import Reference

T = TypeVar("T")

_LARGEST_MANIFEST = 4 << 20  # what registries accept; distribution-spec, "Pushing Manifests"
_LARGEST_CONFIG = 8 << 20
_LARGEST_LIST = 8 << 20
_PAGE = 1000
_MOST_PAGES = 1000
_DOCKER_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join(sorted(INDEXES | MANIFESTS))


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...] | None = None


class Repository:
    """One repository of a registry. Several threads may use it."""

    def __init__(
        self, reference: Reference, auth: AuthConfig | None = None, *, registries: Registries = DEFAULT_REGISTRIES
    ) -> None:
        """`auth` None: what the engine's own user has in config.json."""
        host = _DOCKER_HUB if reference.registry == "docker.io" else reference.registry
        self._endpoint = Endpoint(
            host,
            reference.repository,
            reference=reference,
            auth=auth if auth is not None else credentials.find(reference.registry),
            registries=registries,
        )
        self._tries = registries.tries
        self._sessions: list[Answer] = []  # uploads that the registry began where a mount was asked for

    # ---------------------------------------------------------------------------------------- reading

    def manifest(self, tag_or_digest: str) -> tuple[bytes, str | None]:
        """Fetch a manifest or index; return its bytes, verified where asked for by digest, and its media type."""
        request = Request("GET", self._manifest_path(tag_or_digest), {"Accept": _ACCEPT})
        answer = self._endpoint.ask(request)
        data = answer.document(_LARGEST_MANIFEST, f"manifest {tag_or_digest}")
        if ":" in tag_or_digest:
            _verify(data, tag_or_digest)
        return data, _media_type(answer)

    def resolve(self, tag_or_digest: str) -> Descriptor:
        """Ask what a name means, without fetching it. Raises NotFound.

        The digest is what the registry says: what is fetched by it later is verified.
        """
        path = self._manifest_path(tag_or_digest)
        answer = self._endpoint.ask(Request("HEAD", path, {"Accept": _ACCEPT}), also=(404, 405))
        digest, size = answer.header("Docker-Content-Digest"), answer.header("Content-Length")
        answer.discard()
        media_type = _media_type(answer)
        if answer.status >= 300 or not digest or not size.isdigit() or not media_type:
            data, media_type = self.manifest(tag_or_digest)  # an error of GET has a body to explain it
            return Descriptor(media_type=media_type or "", digest=digest_of(data), size=len(data))
        if ":" in tag_or_digest and digest != tag_or_digest:
            raise InvalidInput(f"digest does not match: the registry says {digest[:100]} to {tag_or_digest}")
        return Descriptor(media_type=media_type, digest=check_digest(digest), size=int(size))

    def document(self, wanted: Descriptor) -> bytes:
        """Fetch a small blob, verified."""
        if wanted.size > _LARGEST_CONFIG:
            raise InvalidInput(f"can't use {wanted.digest}: a configuration of {wanted.size} bytes")
        answer = self._endpoint.ask(Request("GET", self._blob_path(wanted.digest)))
        data = answer.document(wanted.size, f"blob {wanted.digest}")
        _verify(data, wanted.digest)
        return data

    def blob(self, wanted: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """Fetch a blob from `offset` on, piece by piece; where the connection breaks, go on where it broke.

        Never more than its size comes; the caller verifies it.
        """
        count, failures = offset, 0
        while count < wanted.size:
            before = count
            cause: Exception | None = None
            try:
                for piece in self._blob_pieces(wanted, count):
                    count += len(piece)
                    yield piece
            except HTTPError as e:
                cause = e
            if count < wanted.size:
                self._endpoint.transport.check_stopped(cause)
                failures = failures + 1 if count == before else 1
                if failures >= self._tries:
                    raise Failed(f"blob {wanted.digest} broke off after {count} of {wanted.size} bytes") from cause
                self._endpoint.pause(failures)

    def _blob_pieces(self, wanted: Descriptor, offset: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._endpoint.ask(Request("GET", self._blob_path(wanted.digest), headers))
        at = offset
        if answer.status != 206:
            at = 0  # a server without ranges starts anew
        elif not answer.header("Content-Range").startswith(f"bytes {offset}-"):
            raise Failed(f"can't read blob {wanted.digest}: the registry sends another part than was asked for")
        for piece in self._endpoint.transport.stream(answer):
            fresh = piece[offset - at :] if at < offset else piece
            at += len(piece)
            if at > wanted.size:
                raise InvalidInput(f"blob {wanted.digest} is longer than {wanted.size} bytes")
            if fresh:
                yield fresh

    def has_blob(self, digest: str) -> int | None:
        """Return the size of a blob that is there, else None."""
        answer = self._endpoint.ask(Request("HEAD", self._blob_path(digest)), also=(404,))
        answer.discard()
        if answer.status == 404:
            return None
        size = answer.header("Content-Length")
        if not size.isdigit():
            raise Failed(f"can't look for blob {digest}: the registry does not say its size")
        return int(size)

    def tags(self) -> Iterator[str]:
        """Return all tags, in the registry's order, fetched page by page."""
        path = self._endpoint.path(f"tags/list?n={_PAGE}")
        seen: set[str] = set()
        for answer in self._pages(path, "the list of tags"):
            found = _read_tags(answer)
            yield from (tag for tag in found if tag not in seen)
            seen.update(found)

    def referrers(self, digest: str, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Return the manifests that refer to another as their subject: all, or those of a type."""
        query = f"?artifactType={quote(artifact_type)}" if artifact_type else ""
        path = self._endpoint.path(f"referrers/{check_digest(digest)}{query}")
        found: list[Descriptor] = []
        for answer in self._pages(path, "the list of referrers", also=(404,)):
            if answer.status == 404:
                answer.discard()
                found += self._tagged_referrers(digest)
            else:
                raw = answer.document(_LARGEST_MANIFEST, "the list of referrers")
                found += referrers.read_index(raw).manifests
        return tuple(entry for entry in found if artifact_type in (None, entry.artifact_type))

    def _tagged_referrers(self, digest: str) -> tuple[Descriptor, ...]:
        raw = self._tagged(referrers.tag_of(digest))
        return referrers.read_index(raw).manifests if raw is not None else ()

    def _tagged(self, tag: str) -> bytes | None:
        try:
            return self.manifest(tag)[0]
        except NotFound:
            return None

    def _pages(self, path: str, what: str, also: tuple[int, ...] = ()) -> Iterator[Answer]:
        """Follow the `next` links of a list; RFC 8288. A registry's circle of pages ends, too."""
        seen: set[str] = set()
        while len(seen) < _MOST_PAGES:
            answer = self._endpoint.ask(Request("GET", path), also=also)
            yield answer
            following = _next_link(answer.header("Link"))
            if following is None:
                return
            path = self._endpoint.transport.leads_to(answer.url, following)
            if not self._endpoint.transport.is_own(path):
                raise Failed(f"can't read {what}: its next page is at another server, {path[:200]}")
            if path in seen:
                raise Failed(f"can't read {what}: its pages go in a circle")
            seen.add(path)
        raise Failed(f"can't read {what}: it has more than {_MOST_PAGES} pages")

    # ---------------------------------------------------------------------------------------- writing

    def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Have the registry take a blob over from another of its repositories; tell whether it did."""
        query = f"blobs/uploads/?mount={quote(check_digest(digest))}&from={quote(from_repository, safe='/')}"
        scopes = self._endpoint.scopes(PUSH, from_repository)
        try:
            answer = self._endpoint.ask(Request("POST", self._endpoint.path(query)), PUSH, scopes=scopes)
        except (NotPermitted, NotFound, InvalidInput):  # of the other repository: it may be there all the same
            return False
        answer.discard()
        if answer.status == 202:
            self._sessions.append(answer)
        return answer.status == 201

    def upload_blob(
        self, open: Callable[[int], Iterator[bytes]], *, digest: str | None = None, size: int | None = None
    ) -> Descriptor:
        """Write a blob; return its digest and size, which need not be known before.

        `open(offset)` gives its bytes from there on, and is called again, not always with the same offset, where the
        registry lost something.
        """
        try:
            session = self._sessions.pop()
        except IndexError:
            session = None
        return Upload(self._endpoint, open, digest=digest, size=size, tries=self._tries).run(session)

    def put_manifest(self, tag_or_digest: str, raw: bytes, media_type: str) -> str:
        """Write a manifest or index, whose blobs are there already; return its digest."""
        digest = digest_of(raw)
        if ":" in tag_or_digest and tag_or_digest != digest:
            raise InvalidInput(f"can't push manifest {tag_or_digest}: its digest is {digest}")
        if len(raw) > _LARGEST_MANIFEST:
            raise InvalidInput(f"can't push manifest {tag_or_digest}: it is longer than {_LARGEST_MANIFEST} bytes")
        subject = referrers.subject_of(raw)
        request = Request("PUT", self._manifest_path(tag_or_digest), {"Content-Type": media_type}, lambda: (raw,))
        answer = self._endpoint.ask(request, PUSH)
        answer.discard()
        told = answer.header("Docker-Content-Digest")
        if told and told != digest:
            raise Failed(f"can't push manifest {tag_or_digest}: the registry keeps it as {told[:100]}, not as {digest}")
        if subject is not None and not answer.header("OCI-Subject"):  # it keeps no list of referrers
            self._list_referrer(check_digest(subject), referrers.entry_of(raw, digest, media_type))
        return digest

    def _list_referrer(self, subject: str, entry: Descriptor) -> None:
        tag = referrers.tag_of(subject)
        index = referrers.with_entry(self._tagged(tag), entry)
        if index is not None:
            self.put_manifest(tag, index, MediaType.OCI_INDEX)

    def delete(self, tag_or_digest: str) -> None:
        """Delete a manifest by its digest; by a tag the tag only, which not every registry can. Raises NotFound."""
        self._endpoint.ask(Request("DELETE", self._manifest_path(tag_or_digest)), DELETE).discard()

    def log_in(self) -> None:
        """Have the registry check the credentials, and nothing else. Raises NotPermitted."""
        self._endpoint.ask(Request("GET", "/v2/")).discard()

    def stop(self) -> None:
        """End what any thread does here: it raises Failed."""
        self._endpoint.transport.stop()

    def _manifest_path(self, tag_or_digest: str) -> str:
        name = check_digest(tag_or_digest) if ":" in tag_or_digest else quote(tag_or_digest, safe="")
        return self._endpoint.path(f"manifests/{name}")

    def _blob_path(self, digest: str) -> str:
        return self._endpoint.path(f"blobs/{check_digest(digest)}")


def _media_type(answer: Answer) -> str | None:
    return answer.header("Content-Type").partition(";")[0].strip() or None


def _next_link(header: str) -> str | None:
    """Return the address of `<address>; rel="next"`."""
    address, end, parameters = header.strip().removeprefix("<").partition(">")
    wanted = "rel=next" in parameters.replace('"', "").replace(" ", "")
    return address if end and wanted else None


def _read_tags(answer: Answer) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(answer.document(_LARGEST_LIST, "the list of tags"), type=_Tags).tags or ()
    except (msgspec.DecodeError, RecursionError) as e:
        raise Failed(f"can't read the list of tags: {e}") from e


def _verify(data: bytes, digest: str) -> None:
    if not digest.startswith("sha256:"):
        raise InvalidInput(f"can't verify {digest}: only sha256 is understood")
    found = digest_of(data)
    if found != digest:
        raise InvalidInput(
            f"digest does not match: what came is {found} and should be {digest}",
            "the data was damaged on its way, or the registry is wrong",
        )
