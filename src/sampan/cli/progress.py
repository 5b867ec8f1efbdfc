"""Progress of a pull, push or load: a line for each layer that is redrawn on a terminal, plain lines elsewhere.

On a terminal a last line has what Docker lacks: the total, the speed and the time that is left.
"""

from __future__ import annotations

import os
import time

from sampan.cli.failure import Failure
from sampan.cli.output import harmless, write_all
from sampan.client.jsontext import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Message = dict[str, Any]

MODES = ("auto", "plain", "tty", "quiet", "rawjson")
"""What --progress takes."""

_BAR = 50
_EVERY_S = 0.1
_REDRAW_S = 0.5
_WIDTH = 79
_ROWS = 24
_MOVING = ("Downloading", "Pushing", "Copying")
_DONE = ("Pull complete", "Already exists", "Pushed", "Layer already exists", "Copied")
_SPEED_OVER_S = 5.0


def show(lines: Iterable[bytes], *, stream: int = 1, quiet: bool = False, mode: str = "auto") -> list[Any]:
    """Show a stream of the API's progress messages as it comes, in one of MODES; return its `aux` values.

    Raises Failure with the error that the stream may end with.
    """
    screen = _screen(stream, "quiet" if quiet else mode)
    aux = []
    try:
        for line in lines:
            if not line.strip():
                continue
            screen.hear(line)
            message = loads(line)
            if "error" in message or "errorDetail" in message:
                detail = message.get("errorDetail") or {}
                raise Failure(str(detail.get("message") or message.get("error")), str(detail.get("hint") or ""))
            if "aux" in message:
                aux.append(message["aux"])
                screen.learn(message["aux"])
            else:
                screen.take(message)
    finally:
        screen.finish()
    return aux


def check_mode(mode: str) -> str:
    """Return the mode, or raise Failure."""
    if mode not in MODES:
        raise Failure(f"sampan: invalid value for --progress: {mode}", f"it is one of {', '.join(MODES)}", 125)
    return mode


def has_total(stream: int, mode: str) -> bool:
    """Tell whether `show` draws a line of all that moves, for which it wants to be told the sizes."""
    return _resolved(stream, mode) == "tty"


def _resolved(stream: int, mode: str) -> str:
    if mode != "auto":
        return mode
    return "tty" if os.isatty(stream) and os.environ.get("TERM") != "dumb" else "plain"


def _screen(stream: int, mode: str) -> Plain:
    mode = _resolved(stream, mode)
    return {"plain": Plain, "tty": Terminal, "quiet": Quiet, "rawjson": Raw}[mode](stream)


class Plain:
    """For files and pipes: what happened, one line each, without the numbers in between."""

    def __init__(self, stream: int) -> None:
        self._stream = stream

    def take(self, message: Message) -> None:
        """Show one message."""
        if message.get("stream"):
            self._write(harmless(str(message["stream"])))
        elif message.get("status") and not (message.get("progressDetail") or {}).get("current"):
            id, status = message.get("id"), harmless(str(message["status"]))
            self._write(f"{id}: {status}\n" if id else f"{status}\n")

    def hear(self, line: bytes) -> None:
        """Get a line as it came, before it is understood."""

    def learn(self, aux: Message) -> None:
        """Get what is told to programs."""

    def finish(self) -> None:
        """Nothing is left open."""

    def _write(self, text: str) -> None:
        write_all(self._stream, text.encode("utf-8", "surrogateescape"))


class Quiet(Plain):
    """Shows nothing."""

    def _write(self, text: str) -> None:
        """Say nothing."""


class Raw(Quiet):
    """Passes the API's lines on, for programs."""

    def hear(self, line: bytes) -> None:
        """Write it."""
        write_all(self._stream, line.rstrip() + b"\n")


class Terminal(Plain):
    """For terminals: layers' lines stay where they are and change; the total is below them."""

    def __init__(self, stream: int) -> None:
        super().__init__(stream)
        self._order: list[str] = []
        self._text: dict[str, str] = {}
        self._status: dict[str, str] = {}
        self._total = Total()
        self._shown = 0
        self._drawn = time.monotonic()
        self._drawing = False
        self._wind()

    def learn(self, aux: Message) -> None:
        """Take the sizes of all that will move."""
        for id, size in (aux.get("Sizes") or {}).items():
            self._total.expect(id, size)

    def take(self, message: Message) -> None:
        """Redraw the line that a message is about; at most ten times a second where only a number changed."""
        id = message.get("id")
        status = harmless(str(message.get("status", "")))
        if not id or message.get("stream") or status.startswith("Pulling from"):
            self._draw(whole=True)
            self._order, self._text, self._status, self._shown = [], {}, {}, 0
            super().take({**message, "progressDetail": None})
            return
        detail = message.get("progressDetail") or {}
        current, total = detail.get("current") or 0, detail.get("total") or 0
        if status in _MOVING:
            self._total.move(id, current, total)
        elif not current and status not in ("Pulling fs layer", "Waiting"):
            self._total.complete(id)
        self._text[id] = f"{id}: {status} {bar(current, total)}".rstrip() if current else f"{id}: {status}"
        self._status[id] = status
        if id not in self._order:  # last: it may be drawn at any moment, `_wind`
            self._order.append(id)
        if not current or time.monotonic() - self._drawn > _EVERY_S:
            self._draw(whole=False)

    def finish(self) -> None:
        """Leave the last state of each line, without the total."""
        import signal

        signal.setitimer(signal.ITIMER_REAL, 0)
        self._draw(whole=True)

    def _wind(self) -> None:
        """Have it drawn now and then while nothing comes: the last number, and a speed that sinks."""
        import signal

        def tick(_number: int, _frame: object) -> None:
            if not self._drawing and self._total.moves:
                self._draw(whole=False)

        signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, _REDRAW_S, _REDRAW_S)

    def _draw(self, *, whole: bool) -> None:
        """Draw the lines anew: all of them at the end, before that as many as the terminal has rows, and the total."""
        self._drawing = True
        try:
            self._draw_lines(whole=whole)
        finally:
            self._drawing = False

    def _draw_lines(self, *, whole: bool) -> None:
        self._drawn = time.monotonic()
        columns, rows = self._size()
        lines = [self._text[id] for id in self._order] if whole else self._fitting(rows - 2)
        if not whole and (summary := self._total.line()):
            lines.append(summary)
        out = f"\x1b[{self._shown}A" if self._shown else ""
        out += "".join(f"\r\x1b[2K{line[:columns]}\n" for line in lines)
        out += "\x1b[0J" if self._shown > len(lines) else ""
        self._shown = len(lines)
        if lines or out:
            self._write(out)

    def _fitting(self, most: int) -> list[str]:
        if len(self._order) <= most:
            return [self._text[id] for id in self._order]
        busy = [id for id in self._order if self._status[id] not in _DONE]
        shown = busy[: most - 1]
        done = len(self._order) - len(busy)
        return [
            *(self._text[id] for id in shown), f"… and {len(self._order) - len(shown)} more, {done} of them are done",
        ]  # fmt: skip

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._stream)
        except OSError:
            columns = rows = 0
        return columns - 1 if columns > 1 else _WIDTH, rows if rows > 4 else _ROWS


class Total:
    """All that moves: how much of how much, how fast, how long still."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sizes: dict[str, int] = {}
        self._moved: dict[str, int] = {}
        self._first: dict[str, int] = {}  # where each began: it may have been interrupted before
        self._samples = [(now(), 0)]

    @property
    def moves(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._moved)

    def expect(self, id: str, size: int) -> None:
        """Something of this size will move."""
        self._sizes[id] = size

    def move(self, id: str, current: int, total: int) -> None:
        """So much of it has moved."""
        self._sizes[id] = max(total, current)
        self._first.setdefault(id, current)
        self._moved[id] = current
        moved = sum(self._moved.values()) - sum(self._first.values())
        self._samples.append((self._now(), moved))
        self._forget_old()

    def _forget_old(self) -> None:
        while len(self._samples) > 1 and self._samples[0][0] < self._now() - _SPEED_OVER_S:
            del self._samples[0]

    def complete(self, id: str) -> None:
        """All of it has."""
        if id in self._sizes:
            self._moved[id] = self._sizes[id]

    def line(self) -> str:
        """Return `Total: 12.3MB/45MB  3.4MB/s, 10 s left`; nothing while nothing moves."""
        from sampan.units import format_bytes

        moved, whole = sum(self._moved.values()), sum(self._sizes.values())
        if not self._moved or moved >= whole:
            return ""
        self._forget_old()
        (began, before), (_, after) = self._samples[0], self._samples[-1]
        seconds = self._now() - began
        speed = (after - before) / seconds if seconds > 0 else 0
        text = f"Total: {format_bytes(moved)}/{format_bytes(whole)}"
        if speed <= 0:
            return text
        return f"{text}  {format_bytes(int(speed))}/s, {remaining((whole - moved) / speed)} left"


def remaining(seconds: float) -> str:
    """Return a time that is left: `45 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def bar(current: int, total: int) -> str:
    """Return `[====>     ]  12.3MB/45MB`, or the number alone where the total is not known."""
    from sampan.units import format_bytes

    if total <= 0 or current > total:
        return format_bytes(current)
    filled = _BAR * current // total
    head = "=" * _BAR if filled == _BAR else "=" * filled + ">"
    return f"[{head:<{_BAR}}]  {format_bytes(current)}/{format_bytes(total)}"
