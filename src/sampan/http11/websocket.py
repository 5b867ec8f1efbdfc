"""WebSocket's frames as a server has them, RFC 6455: those that it sends, and a reader of what comes.

Our own, since a shim that speaks it must stay small and keeps no frame: a `Reader` gives a frame's bytes as they come,
where libraries (wsproto, which the tests compare with) gather them, and import h11 and dataclasses. There are no
extensions. Text is bytes here: it is for a program's standard input, which need not be UTF-8.
"""

from __future__ import annotations

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
"""Opcodes, §5.2."""

NORMAL, PROTOCOL_ERROR = 1000, 1002
"""Why a connection is closed, §7.4.1."""

_CONTINUATION = 0
_MASKED = 0x80
_FINAL = 0x80
_LONGEST_CONTROL = 125  # §5.5
_EXTENDED = {126: 2, 127: 8}
"""Bytes of a longer length behind the first two, by what is in its place there."""


def frame(opcode: int, payload: bytes | memoryview) -> bytes:
    """Return a whole message in one frame, not masked: §5.1."""
    size = len(payload)
    if size < 126:
        head = b"%c%c" % (_FINAL | opcode, size)
    elif size < 1 << 16:
        head = b"%c\x7e%b" % (_FINAL | opcode, size.to_bytes(2, "big"))
    else:
        head = b"%c\x7f%b" % (_FINAL | opcode, size.to_bytes(8, "big"))
    return head + payload


def close(status: int) -> bytes:
    """Return the frame that ends a connection."""
    return frame(CLOSE, status.to_bytes(2, "big"))


class Reader:
    """Takes a client's frames apart, in whatever pieces they come. It keeps no more than a control frame.

    After `feed`: `reply` has a frame to send, or nothing; `closed` says that this was the last, which is then the reply
    to it, or to what breaks the protocol.
    """

    __slots__ = ("_at", "_held", "_in_message", "_left", "_mask", "_opcode", "closed", "reply")

    def __init__(self) -> None:
        self.closed = False
        self.reply = b""
        self._held = bytearray()  # of a header, or of a control frame's content
        self._opcode = -1  # of the frame that has begun
        self._left = 0  # bytes of its content
        self._mask = b""
        self._at = 0  # how much of it has come, modulo the mask's length
        self._in_message = False  # a message goes on in further frames

    def feed(self, data: bytes) -> bytes:
        """Return what is content of messages. Of several pings that have come together the last is answered, §5.5.3."""
        self.reply = b""
        out = []
        at = 0
        while not self.closed and (at < len(data) or self._is_whole()):
            if self._opcode < 0:
                at += self._header(data, at)
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            piece = self._unmask(piece)
            if self._opcode < CLOSE:
                out.append(piece)
            else:
                self._held += piece
            if not self._left:
                self._end()
        return b"".join(out)

    def _is_whole(self) -> bool:
        """Tell whether an empty frame's header has come, which is all of it."""
        return self._opcode >= 0 and not self._left

    def _header(self, data: bytes, at: int) -> int:
        """Take bytes of a header, first its two that say how long it is; return how many."""
        held = self._held
        wanted = 2 if len(held) < 2 else 6 + _EXTENDED.get(held[1] & 0x7F, 0)
        piece = data[at : at + wanted - len(held)]
        held += piece
        if len(held) == wanted == 2:
            self._check(held[0], held[1])
        elif len(held) == wanted:
            self._begin(bytes(held))
            held.clear()
        return len(piece)

    def _check(self, first: int, second: int) -> None:
        """Refuse what no client may send, §5.2, by its first two bytes."""
        opcode, size, final = first & 0x0F, second & 0x7F, first & _FINAL
        control = opcode in (CLOSE, PING, PONG)
        if (
            first & 0x70  # of extensions
            or not second & _MASKED
            or not (control or opcode in (_CONTINUATION, TEXT, BINARY))
            or (control and (not final or size > _LONGEST_CONTROL))
            or (not control and (opcode == _CONTINUATION) != self._in_message)
        ):
            self._fail()
        elif not control:
            self._in_message = not final

    def _begin(self, header: bytes) -> None:
        size = header[1] & 0x7F
        if size >= 126:
            extended = int.from_bytes(header[2:-4], "big")
            if extended < (126 if size == 126 else 1 << 16) or extended >> 63:  # not the shortest form, or negative
                self._fail()
                return
            size = extended
        self._opcode = header[0] & 0x0F
        self._left, self._mask, self._at = size, header[-4:], 0

    def _unmask(self, piece: bytes) -> bytes:
        size = len(piece)
        mask = (self._mask[self._at :] + self._mask * (size // 4 + 1))[:size]
        self._at = (self._at + size) % 4
        return (int.from_bytes(piece, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")

    def _end(self) -> None:
        content, opcode = bytes(self._held), self._opcode
        self._held.clear()
        self._opcode = -1
        if opcode == PING:
            self.reply = frame(PONG, content)
        elif opcode == CLOSE:
            self.closed = True
            self.reply = close(_answer_to(content))

    def _fail(self) -> None:
        self.closed = True
        self.reply = close(PROTOCOL_ERROR)


def _answer_to(content: bytes) -> int:
    """Return the status that answers a close: its own, unless no endpoint may send it, §7.4."""
    if not content:
        return NORMAL
    status = int.from_bytes(content[:2], "big")
    usable = 1000 <= status <= 1003 or 1007 <= status <= 1014 or 3000 <= status <= 4999
    if len(content) < 2 or not usable:
        return PROTOCOL_ERROR
    try:
        content[2:].decode()
    except UnicodeDecodeError:
        return PROTOCOL_ERROR
    return status
