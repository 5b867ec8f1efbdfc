"""Talk to a registry: the OCI distribution specification, as Docker's clients use it.

`upload` writes a blob in pieces, `endpoint` makes one request with authentication and patience, `tokens` answers
challenges, `refusals` says errors in Docker's words, `transport` knows HTTP, redirects and timeouts.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

import msgspec

from sampan.errors import Failed, InvalidInput, NotFound, NotPermitted, SampanError
from sampan.ids import check_digest
from sampan.image import auth as credentials, fetch, mirrors, referrers
from sampan.image.address import leads_to, shown
from sampan.image.blobs import digest_of
from sampan.image.endpoint import DELETE, PULL, PUSH, Endpoint
from sampan.image.patience import Patience, patience
from sampan.image.transport import Request
from sampan.image.upload import Upload
from sampan.spec.decoding import decode_json
from sampan.spec.distribution import Descriptor, MediaType
from sampan.spec.document import UNREADABLE
from sampan.spec.pulling import AS_CONFIGURED
from sampan.spec.reference import DEFAULT_REGISTRY
from sampan.spec.settings import DEFAULT_REGISTRIES, DOCKER_HUB, Registries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.image.transport import Answer
    from sampan.spec.distribution import AuthConfig
    from sampan.spec.pulling import Retries
    from sampan.spec.reference import Reference
    from sampan.spec.settings import Place

T = TypeVar("T")

_LARGEST_CONFIG = 8 << 20
_LARGEST_LIST = 8 << 20
_PAGE = 1000
_MOST_PAGES = 1000
_MOST_TAGS = 1_000_000
_MOST_REFERRERS = 10_000
_TRIES_OF_MIRRORS = 2


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...] | None = None


class Repository:
    """One repository of a registry, in a `with` or closed. Several threads may use it."""

    def __init__(
        self,
        reference: Reference,
        auth: AuthConfig | None = None,
        *,
        registries: Registries = DEFAULT_REGISTRIES,
        retries: Retries = AS_CONFIGURED,
    ) -> None:
        """`auth` None: what the engine's own user has in config.json."""
        patient = patience(registries, retries)
        *others, own = registries.places(reference.registry, reference.repository)
        self._own = Endpoint(
            own,
            reference=reference,
            auth=auth if auth is not None and _is_for(auth, reference.registry, own.host) else _finder(own),
            registries=registries,
            patience=patient,
        )
        impatient = Patience(tries=min(registries.tries, _TRIES_OF_MIRRORS), wait_s=registries.wait_s)
        self._mirrors = [
            Endpoint(place, reference=reference, auth=_finder(place), registries=registries, patience=impatient)
            for place in others
        ]
        self._tries = patient.tries
        self._sessions: list[Answer] = []  # uploads that the registry began where a mount was asked for

    # ------------------------------------------------------------------------- reading, from mirrors if there are any

    def manifest(self, tag_or_digest: str) -> tuple[bytes, str | None]:
        """Fetch a manifest or index; return its bytes, verified where asked for by digest, and its media type."""
        return self._first(lambda endpoint: fetch.manifest(endpoint, tag_or_digest))

    def resolve(self, tag_or_digest: str) -> Descriptor:
        """Ask what a name means, without fetching it. Raises NotFound.

        The digest is what the registry says: what is fetched by it later is verified.
        """
        return self._first(lambda endpoint: fetch.resolve(endpoint, tag_or_digest))

    def document(self, wanted: Descriptor) -> bytes:
        """Fetch a small blob, verified."""
        if wanted.size > _LARGEST_CONFIG:
            raise InvalidInput(f"can't use {wanted.digest}: a configuration of {wanted.size} bytes")
        return self._first(lambda endpoint: fetch.document(endpoint, wanted))

    def blob(self, wanted: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """Fetch a blob from `offset` on, piece by piece; where the connection breaks, go on where it broke.

        Never more than its size comes; the caller verifies it.
        """
        count = offset
        for mirror in self._working_mirrors():
            try:
                for piece in fetch.blob(mirror, wanted, count, _TRIES_OF_MIRRORS):
                    count += len(piece)
                    yield piece
            except SampanError as e:
                self._pass_over(mirror, e)
            else:
                return
        yield from fetch.blob(self._own, wanted, count, self._tries)

    def _first(self, read: Callable[[Endpoint], T]) -> T:
        for mirror in self._working_mirrors():
            try:
                return read(mirror)
            except SampanError as e:
                self._pass_over(mirror, e)
        return read(self._own)

    def _working_mirrors(self) -> Iterator[Endpoint]:
        return (mirror for mirror in self._mirrors if not mirrors.is_resting(mirror.host))

    def _pass_over(self, mirror: Endpoint, error: SampanError) -> None:
        """Go on at the next place: what a mirror has not, or refuses, another may have."""
        mirror.transport.check_stopped(error)
        if isinstance(error, Failed):
            mirrors.rest(mirror.host)

    # ---------------------------------------------------------------------------- reading, from the registry itself

    def has_blob(self, digest: str, *, pushing: bool = False) -> int | None:
        """Return the size of a blob that is there, else None. `pushing` says why it is asked."""
        answer = self._own.ask(Request("HEAD", self._blob_path(digest)), PUSH if pushing else PULL, also=(404,))
        answer.discard()
        if answer.status == 404:
            return None
        size = answer.header("Content-Length")
        if not size.isdigit():
            raise Failed(f"can't look for blob {digest}: the registry does not say its size")
        return int(size)

    def tags(self) -> Iterator[str]:
        """Return all tags, in the registry's order, fetched page by page."""
        path = self._own.path(f"tags/list?n={_PAGE}")
        seen: set[str] = set()
        for answer in self._pages(path, "the list of tags"):
            found = _read_tags(answer)
            yield from (tag for tag in found if tag not in seen)
            seen.update(found)
            if len(seen) > _MOST_TAGS:
                raise Failed(f"can't read the list of tags: it has more than {_MOST_TAGS}")

    def referrers(self, digest: str, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Return the manifests that refer to another as their subject: all, or those of a type."""
        query = f"?artifactType={quote(artifact_type)}" if artifact_type else ""
        path = self._own.path(f"referrers/{check_digest(digest)}{query}")
        found: list[Descriptor] = []
        for answer in self._pages(path, "the list of referrers", also=(404,)):
            if answer.status == 404:
                answer.discard()
                found += self._tagged_referrers(digest)
            else:
                raw = answer.document(fetch.LARGEST_MANIFEST, "the list of referrers")
                found += referrers.read_index(raw).manifests
            if len(found) > _MOST_REFERRERS:
                raise Failed(f"can't read the list of referrers: it has more than {_MOST_REFERRERS}")
        return tuple(entry for entry in found if artifact_type in (None, entry.artifact_type))

    def _tagged_referrers(self, digest: str) -> tuple[Descriptor, ...]:
        raw = self._tagged(referrers.tag_of(digest))
        return referrers.read_index(raw).manifests if raw is not None else ()

    def _tagged(self, tag: str) -> bytes | None:
        try:
            return fetch.manifest(self._own, tag)[0]
        except NotFound:
            return None

    def _pages(self, path: str, what: str, also: tuple[int, ...] = ()) -> Iterator[Answer]:
        """Follow the `next` links of a list; RFC 8288. A registry's circle of pages ends, too."""
        seen: set[str] = set()
        while len(seen) < _MOST_PAGES:
            answer = self._own.ask(Request("GET", path), also=also)
            yield answer
            following = _next_link(answer.header("Link"))
            if following is None:
                return
            path = leads_to(answer.url, following)
            if not self._own.transport.is_own(path):
                raise Failed(f"can't read {what}: its next page is at another server, {shown(path)}")
            if path in seen:
                raise Failed(f"can't read {what}: its pages go in a circle")
            seen.add(path)
        raise Failed(f"can't read {what}: it has more than {_MOST_PAGES} pages")

    # ---------------------------------------------------------------------------------------- writing

    def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Have the registry take a blob over from another of its repositories; tell whether it did."""
        query = f"blobs/uploads/?mount={quote(check_digest(digest))}&from={quote(from_repository, safe='/')}"
        scopes = self._own.scopes(PUSH, from_repository)
        try:
            answer = self._own.ask(Request("POST", self._own.path(query)), PUSH, scopes=scopes)
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
        return Upload(self._own, open, digest=digest, size=size, tries=self._tries).run(session)

    def put_manifest(self, tag_or_digest: str, raw: bytes, media_type: str) -> str:
        """Write a manifest or index, whose blobs are there already; return its digest."""
        digest = digest_of(raw)
        if ":" in tag_or_digest and tag_or_digest != digest:
            raise InvalidInput(f"can't push manifest {tag_or_digest}: its digest is {digest}")
        if len(raw) > fetch.LARGEST_MANIFEST:
            raise InvalidInput(f"can't push manifest {tag_or_digest}: it is longer than {fetch.LARGEST_MANIFEST} bytes")
        subject = referrers.subject_of(raw)
        request = Request(
            "PUT", fetch.manifest_path(self._own, tag_or_digest), {"Content-Type": media_type}, lambda: (raw,)
        )
        answer = self._own.ask(request, PUSH)
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
        """Delete a manifest by its digest; by a tag the tag only, which not every registry can. Raises NotFound.

        An artifact is taken from the list of its subject's referrers, where that is kept under a tag.
        """
        subject = None
        if ":" in tag_or_digest:
            with suppress(SampanError):  # what can't be read can be deleted
                subject = referrers.subject_of(fetch.manifest(self._own, tag_or_digest)[0])
        self._own.ask(Request("DELETE", fetch.manifest_path(self._own, tag_or_digest)), DELETE).discard()
        if subject is not None:
            self._unlist_referrer(check_digest(subject), tag_or_digest)

    def _unlist_referrer(self, subject: str, digest: str) -> None:
        answer = self._own.ask(Request("GET", self._own.path(f"referrers/{subject}")), also=(404,))
        answer.discard()
        tag = referrers.tag_of(subject)
        listed = self._tagged(tag) if answer.status == 404 else None
        left = referrers.without_entry(listed, digest) if listed is not None else None
        if left is not None:
            self.put_manifest(tag, left, MediaType.OCI_INDEX)

    def stop(self) -> None:
        """End what any thread does here: it raises Failed."""
        for endpoint in (*self._mirrors, self._own):
            endpoint.transport.stop()

    def close(self) -> None:
        """Let go of all connections; no other thread uses them now."""
        for endpoint in (*self._mirrors, self._own):
            endpoint.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _blob_path(self, digest: str) -> str:
        return self._own.path(f"blobs/{check_digest(digest)}")


def _is_for(auth: AuthConfig, registry: str, host: str) -> bool:
    """Tell whether a client's credentials are for a host: the configuration may have put another in the place of what
    the client means. Its short names are Docker Hub's, and so are its credentials for them.
    """
    if registry != DEFAULT_REGISTRY and auth.server_address.startswith("https://index.docker.io/"):
        return False
    return registry == host or (registry, host) == (DEFAULT_REGISTRY, DOCKER_HUB)


def _finder(place: Place) -> Callable[[], AuthConfig | None]:
    return lambda: credentials.find(DEFAULT_REGISTRY if place.host == DOCKER_HUB else place.host, place.repository)


def _next_link(header: str) -> str | None:
    """Return the address of `<address>; rel="next"`."""
    address, end, parameters = header.strip().removeprefix("<").partition(">")
    wanted = "rel=next" in parameters.replace('"', "").replace(" ", "")
    return address if end and wanted else None


def _read_tags(answer: Answer) -> tuple[str, ...]:
    try:
        return decode_json(answer.document(_LARGEST_LIST, "the list of tags"), _Tags).tags or ()
    except UNREADABLE as e:
        raise Failed(f"can't read the list of tags: {e}") from e
