"""Progress of a pull or a load: a line for each layer that is redrawn on a terminal, plain lines elsewhere.

On a terminal a last line has what Docker lacks: the total, the speed and the time that is left.
"""

from __future__ import annotations

import os
import time

from sampan.cli.failure import Failure
from sampan.cli.output import write_all
from sampan.client.jsontext import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Message = dict[str, Any]

_BAR = 50
_EVERY_S = 0.1
_WIDTH = 79
_MOVING = ("Downloading", "Pushing", "Copying")


def show(lines: Iterable[bytes], *, stream: int = 1, quiet: bool = False) -> list[Any]:
    """Show a stream of the API's progress messages as it comes; return its `aux` values.

    Raises Failure with the error that the stream may end with.
    """
    screen: Plain | Terminal = Quiet() if quiet else Terminal(stream) if os.isatty(stream) else Plain(stream)
    aux = []
    try:
        for line in lines:
            if not line.strip():
                continue
            message = loads(line)
            if "error" in message or "errorDetail" in message:
                text = (message.get("errorDetail") or {}).get("message") or message.get("error")
                raise Failure(str(text), str(message.get("hint") or ""))
            if "aux" in message:
                aux.append(message["aux"])
            else:
                screen.take(message)
    finally:
        screen.finish()
    return aux


class Plain:
    """For files and pipes: what happened, one line each, without the numbers in between."""

    def __init__(self, stream: int) -> None:
        self._stream = stream

    def take(self, message: Message) -> None:
        """Show one message."""
        if message.get("stream"):
            self._write(str(message["stream"]))
        elif message.get("status") and not (message.get("progressDetail") or {}).get("current"):
            id = message.get("id")
            self._write(f"{id}: {message['status']}\n" if id else f"{message['status']}\n")

    def finish(self) -> None:
        """Nothing is left open."""

    def _write(self, text: str) -> None:
        write_all(self._stream, text.encode("utf-8", "surrogateescape"))


class Quiet(Plain):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(-1)

    def _write(self, text: str) -> None:
        """Say nothing."""


class Terminal(Plain):
    """For terminals: layers' lines stay where they are and change; the total is below them."""

    def __init__(self, stream: int) -> None:
        super().__init__(stream)
        self._order: list[str] = []
        self._text: dict[str, str] = {}
        self._bytes: dict[str, tuple[int, int]] = {}
        self._shown = 0
        self._changed: set[str] = set()
        self._began = self._drawn = time.monotonic()

    def take(self, message: Message) -> None:
        """Redraw the line that a message is about; at most ten times a second where only a number changed."""
        id = message.get("id")
        if not id or message.get("stream"):
            self._draw(total=False)
            self._order, self._text, self._shown = [], {}, 0
            super().take({**message, "progressDetail": None})
            return
        if id not in self._text:
            self._order.append(id)
        status = str(message.get("status", ""))
        detail = message.get("progressDetail") or {}
        current, total = detail.get("current") or 0, detail.get("total") or 0
        if status in _MOVING:
            self._bytes[id] = (current, total)
        elif id in self._bytes and not current:
            self._bytes[id] = (self._bytes[id][1], self._bytes[id][1])
        self._text[id] = f"{id}: {status} {bar(current, total)}".rstrip() if current else f"{id}: {status}"
        if not current or time.monotonic() - self._drawn > _EVERY_S:
            self._draw(total=True)

    def finish(self) -> None:
        """Leave the last state of each line, without the total."""
        self._draw(total=False)

    def _draw(self, *, total: bool) -> None:
        self._drawn = time.monotonic()
        width = self._width()
        lines = [self._text[id][:width] for id in self._order]
        summary = self._summary() if total else ""
        if summary:
            lines.append(summary[:width])
        out = f"\x1b[{self._shown}A" if self._shown else ""
        out += "".join(f"\r\x1b[2K{line}\n" for line in lines)
        out += "\x1b[0J" if self._shown > len(lines) else ""
        self._shown = len(lines)
        if lines or out:
            self._write(out)

    def _width(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream).columns
        except OSError:
            columns = 0
        return columns - 1 if columns > 1 else _WIDTH

    def _summary(self) -> str:
        current = sum(c for c, _ in self._bytes.values())
        whole = sum(t for _, t in self._bytes.values())
        seconds = time.monotonic() - self._began
        if not whole or current >= whole or seconds <= 0:
            return ""
        from sampan.units import format_bytes

        speed = current / seconds
        left = f", {(whole - current) / speed:.0f} s left" if speed else ""
        return f"Total: {format_bytes(current)}/{format_bytes(whole)}  {format_bytes(int(speed))}/s{left}"


def bar(current: int, total: int) -> str:
    """Return `[====>     ]  12.3MB/45MB`, or the number alone where the total is not known."""
    from sampan.units import format_bytes

    if total <= 0 or current > total:
        return format_bytes(current)
    filled = _BAR * current // total
    head = "=" * _BAR if filled == _BAR else "=" * filled + ">"
    return f"[{head:<{_BAR}}]  {format_bytes(current)}/{format_bytes(total)}"
