"""What a build sends to its client: events, one JSON object a line, and after them the files of outputs.

An output's bytes follow its `OutputBegan` event in frames: eight bytes of length, big-endian, then the data; a
length of 0 ends them, and one of all ones says that it broke off: why is in the next line.
"""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.client.jsontext import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Event = dict[str, Any]

_BROKEN = (1 << 64) - 1
_CUT = "the engine's answer ends in the middle"


class Answer:
    """The answer, read once and in order."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._read = b""

    def events(self) -> Iterator[Event]:
        """Give the events. After an `OutputBegan` its `frames` have to be taken before the next."""
        while True:
            line, end, rest = self._read.partition(b"\n")
            if end:
                self._read = rest
                if line.strip():
                    yield loads(line)
            elif not self._more():
                if self._read.strip():
                    raise Failure(_CUT)
                return

    def frames(self) -> Iterator[bytes]:
        """Give the bytes of the output whose event was just given."""
        while size := int.from_bytes(self._exactly(8), "big"):
            if size == _BROKEN:
                raise Failure(str(next(self.events())["message"]))
            while size:
                if not self._read and not self._more():
                    raise Failure(_CUT)
                part, self._read = self._read[:size], self._read[size:]
                size -= len(part)
                yield part

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            if not self._more():
                raise Failure(_CUT)
        part, self._read = self._read[:size], self._read[size:]
        return part

    def _more(self) -> bool:
        piece = next(self._pieces, b"")
        self._read += piece
        return bool(piece)
