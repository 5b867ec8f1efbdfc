"""Builds: `POST /sampan/build` of our own clients, and Docker's classic `POST /build`.

Ours is a JSON line, `spec.build.BuildRequest`, after which the tar of a context may follow, and answers events, a JSON
object a line. The files of outputs that are the client's come in the same answer: cli/building/receiving reads them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.api import build_query
from sampan.api.build_classic import Classic
from sampan.errors import InvalidInput, SampanError
from sampan.spec import build as spec
from sampan.spec.decoding import decode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.api.call import BodyReader, Call
    from sampan.http11.channel import Stream

_LONGEST_REQUEST = 64 << 20  # a secret has up to 500 KiB, and there may be many
_LINES = "application/x-ndjson"
_PIECE = 1 << 16
_BROKEN = b"\xff" * 8  # no frame's length: what is wrong is told in the next line


def build(call: Call) -> None:
    """POST /sampan/build."""
    line, archive = _split(call.archive())
    if b"\\u0000" in line:
        raise InvalidInput("invalid build request: no path, name or text has a NUL in it")
    try:
        request = decode_json(line, spec.BuildRequest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise InvalidInput(f"invalid build request: {e}") from e
    lines, speaking = call.lines(_LINES), threading.Lock()

    def report(event: spec.BuildEvent | spec.OutputBegan) -> None:
        with speaking:
            lines.write(event)

    try:
        with call.engine.outputs(request) as outputs, call.engine.building() as building:
            with call.if_client_leaves(building.stop):
                built = building.build(outputs.request, report, archive)
            for number, write in outputs.of(built) if built is not None else ():
                report(spec.OutputBegan(number=number))
                with _frames(lines.begin()) as frames:
                    write(frames)
    except SampanError as e:
        if not lines.begun:
            raise
        report(spec.StepFailed(step=0, text="", message=e.message, hint=e.hint))
    lines.end()


def classic(call: Call) -> None:
    """POST /build."""
    request = build_query.request_of(call)
    lines, speaking = call.lines(), threading.Lock()
    stream = Classic(lines.write, quiet=call.flag("q"))

    def report(event: spec.BuildEvent) -> None:
        with speaking:
            stream.take(event)

    try:
        with call.engine.building() as building, call.if_client_leaves(building.stop):
            with _cancelled_by(call.text("buildid"), building.stop):
                building.build(request, report, call.archive())
    except SampanError as e:
        if not lines.begun:
            raise
        stream.fail(e.message, e.hint)
    lines.end()


def cancel(call: Call) -> None:
    """POST /build/cancel: of a classic build that was given an id."""
    if not call.text("id"):
        raise InvalidInput("build ID not provided")
    with _lock:
        stop = _stops.get(call.text("id"))
    if stop is not None:
        stop()
    call.done(200)


_lock = threading.Lock()
_stops: dict[str, Callable[[], object]] = {}


@contextmanager
def _cancelled_by(id: str, stop: Callable[[], object]) -> Iterator[None]:
    with _lock:
        _stops.update({id: stop} if id else {})
    try:
        yield
    finally:
        with _lock:
            _stops.pop(id, None)


def _split(body: BodyReader) -> tuple[bytes, Rest]:
    """Return the first line of a body, and the rest to be read."""
    read = b""
    while b"\n" not in read:
        piece = body.read(_PIECE)
        read += piece
        if not piece:
            return read, Rest(b"", body)
        if len(read) > _LONGEST_REQUEST:
            raise InvalidInput("invalid build request: it is too long")
    line, _, rest = read.partition(b"\n")
    return line, Rest(rest, body)


class Rest:
    """What follows the line."""

    def __init__(self, read: bytes, body: BodyReader) -> None:
        self._read = read
        self._body = body

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, fewer only at the end; all of them for -1."""
        if not self._read:
            return self._body.read(size)
        part, self._read = (self._read, b"") if size < 0 else (self._read[:size], self._read[size:])
        if len(part) == size:
            return part
        return part + self._body.read(size - len(part) if size >= 0 else -1)


class Frames:
    """Bytes in frames: eight bytes of length before each piece."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Send one frame."""
        if data:
            self._stream.write(len(data).to_bytes(8, "big") + data)

    @contextmanager
    def direct(self, size: int) -> Iterator[int]:
        """Give the descriptor to which somebody else writes the next `size` bytes."""
        if size:
            self._stream.write(size.to_bytes(8, "big"))
        with self._stream.direct(size) as descriptor:
            yield descriptor


@contextmanager
def _frames(stream: Stream) -> Iterator[Frames]:
    """In the block an output's bytes are sent; after it their end, or that they broke off."""
    try:
        yield Frames(stream)
    except SampanError:
        stream.write(_BROKEN)
        raise
    stream.write(bytes(8))
