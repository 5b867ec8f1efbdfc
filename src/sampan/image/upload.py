"""Write one blob into a registry: in one request if it is small, else as a stream that is taken up where it broke off.

The size need not be known: then the stream is sent in HTTP's chunks, as Docker does, and to the few registries that
refuse those (411) in pieces of a few MiB. Sources: distribution-spec, "Pushing blobs"; RFC 9112, 7.1.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from sampan.errors import Failed, SampanError, from_os_error
from sampan.ids import check_digest
from sampan.image.address import leads_to
from sampan.image.connections import refused, unreachable
from sampan.image.endpoint import PUSH
from sampan.image.transport import Request
from sampan.spec.distribution import Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sampan.image.endpoint import Endpoint
    from sampan.image.transport import Answer

    Open = Callable[[int], Iterator[bytes]]

_SMALL = 1 << 20
_CHUNK = 8 << 20
_LARGEST_CHUNK = 64 << 20  # a registry may ask for longer ones; each is held in memory
_PATIENCE = 10  # a registry may have to copy the blob, or to read it again, before it answers
_OCTETS = {"Content-Type": "application/octet-stream"}
_NO_STREAMS = frozenset((411, 501))
_BUSY = frozenset((429, 500, 502, 503, 504))


class Upload:
    """One blob on its way."""

    def __init__(self, endpoint: Endpoint, open: Open, *, digest: str | None, size: int | None, tries: int) -> None:
        self._endpoint = endpoint
        self._what = f"blob {digest}" if digest else "a blob"
        self._source = _Source(open, self._what, size, hashing=digest is None)
        self._digest = check_digest(digest) if digest is not None else None
        self._size = size
        self._tries = tries
        self._failures = 0
        self._furthest = 0
        self._location = ""
        self._chunk = _CHUNK
        self._in_chunks = False  # for a registry that takes no stream

    def run(self, session: Answer | None) -> Descriptor:
        """Upload it all, in a session that was begun already if there is one."""
        try:
            self._begin(session)
            if self._size is not None and self._size <= _SMALL:
                return self._send_small()
            at = 0
            while True:
                self._send_rest(at)
                if self._finish():
                    return self._descriptor()
                at = self._where()
        except BaseException as e:
            self._cancel(e)
            raise

    def _begin(self, session: Answer | None = None) -> None:
        if session is None:
            session = self._endpoint.ask(Request("POST", self._endpoint.path("blobs/uploads/")), PUSH)
            session.discard()
        self._location = ""
        self._follow(session)
        if not self._location:
            raise self._error("the registry begins an upload and does not say where")

    def _follow(self, answer: Answer) -> None:
        """The next request of a session goes where the answer to the last one says."""
        location = answer.header("Location")
        if location:
            self._location = leads_to(answer.url, location)
        least = answer.header("OCI-Chunk-Min-Length")
        if least.isascii() and least.isdigit():
            self._chunk = max(self._chunk, min(int(least[:12]), _LARGEST_CHUNK))

    # ---------------------------------------------------------------------------------------- the bytes

    def _send_small(self) -> Descriptor:
        data = b"".join(self._source.read(0))
        digest = self._digest or self._source.digest()
        headers = {**_OCTETS, "Content-Length": str(len(data))}
        while True:
            request = Request("PUT", self._with_digest(digest), headers, lambda: (data,), _PATIENCE)
            if self._is_complete(request, digest, len(data)):
                return self._descriptor()
            self._begin()

    def _send_rest(self, at: int) -> None:
        """Send from `at` to the end, however often that takes."""
        while self._source.end is None or at < self._source.end:
            at = self._send_chunk(at) if self._in_chunks else self._send_stream(at)

    def _send_stream(self, at: int) -> int:
        headers = dict(_OCTETS)
        if self._size is not None:
            headers["Content-Length"] = str(self._size - at)
            headers["Content-Range"] = f"{at}-{self._size - 1}"
        return self._send(at, headers, lambda: self._source.read(at))

    def _send_chunk(self, at: int) -> int:
        data = self._source.take(at, self._chunk)
        if not data:  # the end was at the last one's end
            return at
        headers = {**_OCTETS, "Content-Length": str(len(data)), "Content-Range": f"{at}-{at + len(data) - 1}"}
        return self._send(at, headers, lambda: (data,))

    def _send(self, at: int, headers: dict[str, str], body: Callable[[], Iterable[bytes]]) -> int:
        """Send one request's worth from `at`; return up to where the registry has it then."""
        request = Request("PATCH", self._location, headers, body, _PATIENCE)
        try:
            answer = self._endpoint.ask_once(request, PUSH, self._endpoint.scopes(PUSH))
        except HTTPError as e:
            self._failed(e)
            return self._where()
        if answer.status in _NO_STREAMS and self._size is None and not self._in_chunks:
            self._in_chunks = True
            answer.discard()
            self._follow(answer)
            return at
        if answer.status in _BUSY or answer.status in (404, 416):
            self._failed(answer)
            return self._where()
        if answer.status >= 300:
            raise self._endpoint.refusal(answer, PUSH)
        answer.discard()
        self._follow(answer)
        end = _range_end(answer)
        sent_to = at + int(headers["Content-Length"]) if self._in_chunks else self._source.position
        if end is None or sent_to <= 1:
            end = sent_to
        elif end < sent_to:
            self._failed(answer)
            return self._where()
        return self._reached(end)

    def _where(self) -> int:
        """Ask how much the registry has; begin anew where it does not know any more."""
        request = Request("GET", self._location)
        answer = self._endpoint.ask(request, PUSH, also=(400, 404, 405, 410, 416))
        answer.discard()
        end = _range_end(answer)
        # "0-0" is one byte, or none: registries say so of an empty upload, too.
        if answer.status >= 300 or end is None or end <= 1:
            self._begin()
            return 0
        self._follow(answer)
        return self._reached(end)

    def _reached(self, end: int) -> int:
        if end > self._source.position:
            raise self._error("the registry says that it has more than was sent")
        if end >= self._furthest + _SMALL:  # a few bytes at a time are no progress
            self._furthest, self._failures = end, 0
        return end

    def _failed(self, why: HTTPError | Answer) -> None:
        """Wait after a failure, or give up after too many in a row without getting further."""
        self._failures += 1
        if isinstance(why, HTTPError):
            if self._failures >= self._tries or refused(why, for_good=self._endpoint.patience.is_asked):
                raise unreachable(self._endpoint.transport.host, why) from why
        elif self._failures >= self._tries:
            raise self._endpoint.refusal(why, PUSH)
        else:
            why.discard()
        self._endpoint.pause(self._failures)

    # ---------------------------------------------------------------------------------------- the end

    def _finish(self) -> bool:
        """Close the session; tell whether the blob is in the registry now."""
        if self._digest is None:
            self._digest = self._source.digest()
        request = Request("PUT", self._with_digest(self._digest), {**_OCTETS, "Content-Length": "0"}, None, _PATIENCE)
        return self._is_complete(request, self._digest, self._source.end or 0)

    def _is_complete(self, request: Request, digest: str, size: int) -> bool:
        try:
            answer = self._endpoint.ask_once(request, PUSH, self._endpoint.scopes(PUSH))
        except HTTPError as e:
            self._failed(e)
            return self._is_there(digest, size)
        if answer.status in _BUSY or answer.status in (404, 416):
            self._failed(answer)
            return self._is_there(digest, size)
        if answer.status >= 300:
            raise self._endpoint.refusal(answer, PUSH)
        answer.discard()
        told = answer.header("Docker-Content-Digest")
        if told and told != digest:
            raise self._error(f"the registry keeps it as {told[:100]}, not as {digest}")
        return True

    def _is_there(self, digest: str, size: int) -> bool:
        """Tell whether the session that did not end well did end after all."""
        answer = self._endpoint.ask(Request("HEAD", self._endpoint.path(f"blobs/{digest}")), PUSH, also=(404,))
        answer.discard()
        return answer.status < 300 and answer.header("Content-Length") == str(size)

    def _with_digest(self, digest: str) -> str:
        return f"{self._location}{'&' if '?' in self._location else '?'}digest={quote(digest)}"

    def _error(self, cause: str) -> Failed:
        return Failed(f"can't push {self._what}: {cause}")

    def _descriptor(self) -> Descriptor:
        return Descriptor(
            media_type=_OCTETS["Content-Type"],
            digest=self._digest or self._source.digest(),
            size=self._source.end or 0,
        )

    def _cancel(self, error: BaseException) -> None:
        """Have the registry forget what it has; it forgets by itself, some day, where it can't be told."""
        if not self._location or isinstance(error.__cause__, HTTPError):
            return
        try:
            request = Request("DELETE", self._location)
            self._endpoint.ask_once(request, PUSH, self._endpoint.scopes(PUSH)).discard()
        except (HTTPError, SampanError):
            pass


class _Source:
    """The blob's bytes, hashed once however often parts of them are sent."""

    def __init__(self, open: Open, what: str, size: int | None, *, hashing: bool) -> None:
        self._open = open
        self._what = what
        self._size = size
        self._hash = hashlib.sha256() if hashing else None
        self._hashed = 0
        self._reading: Iterator[bytes] | None = None
        self._held = b""
        self.position = 0  # up to where it was read
        self.end: int | None = None  # the size, once the end was seen

    def read(self, offset: int) -> Iterator[bytes]:
        """Give the bytes from `offset` on."""
        pieces = self._open(offset)
        self.position = offset
        while True:
            try:
                piece = next(pieces, None)
            except OSError as e:  # not to be taken for one of the connection
                raise from_os_error(e).within(f"can't read {self._what}") from e
            if piece is None:
                break
            start, self.position = self.position, self.position + len(piece)
            if self._hash is not None and self.position > self._hashed:
                self._hash.update(memoryview(piece)[self._hashed - start :] if start < self._hashed else piece)
                self._hashed = self.position
            if self._size is not None and self.position > self._size:
                break
            yield piece
        wanted = self._size if self._size is not None else self.end
        if wanted is not None and wanted != self.position:
            raise Failed(f"can't push {self._what}: it has {self.position} bytes and should have {wanted}")
        self.end = self.position

    def take(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes at `offset`, fewer only at the end."""
        if self._reading is None or self.position - len(self._held) != offset:
            self._reading, self._held = self.read(offset), b""
        parts, count = [self._held], len(self._held)
        while count < size:
            piece = next(self._reading, None)
            if piece is None:
                break
            parts.append(piece)
            count += len(piece)
        whole = b"".join(parts)
        self._held = whole[size:]
        return whole[:size]

    def digest(self) -> str:
        """Return the digest, once the end was seen."""
        assert self._hash is not None
        return "sha256:" + self._hash.hexdigest()


def _range_end(answer: Answer) -> int | None:
    """Return up to where the registry has the blob: one more than the last byte of its Range header, `0-LAST`."""
    first, dash, last = answer.header("Range").removeprefix("bytes=").partition("-")
    return int(last[:18]) + 1 if dash and first == "0" and last.isdigit() else None
