"""What is known of a build so far, put together from its events: one vertex for each thing that it does.

The names are BuildKit's: a vertex is a line of the progress, a status one below it.
"""

from __future__ import annotations

import time

from sampan.cli.output import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Event = dict[str, Any]

TAIL = 6
"""Lines of a step's output that a terminal shows while it runs."""

_NO_VERTEX = (
    "ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL",
    "USER", "VOLUME",
)  # fmt: skip
_KEPT = 200  # lines of output, for the message of a failure
_LONGEST_LINE = 4096


class Status:
    """How much of something has come or gone."""

    __slots__ = ("began", "current", "ended", "name", "total")

    def __init__(self, name: str, began: float) -> None:
        self.name = name
        self.began = began
        self.ended: float | None = None
        self.current = 0
        self.total = 0


class Vertex:
    """A step, an image that is fetched, a context. Times are seconds of the trace's clock."""

    __slots__ = (
        "began", "cached", "digest", "ended", "error", "index", "last", "miss", "name", "output", "partial", "statuses",
        "warnings",
    )  # fmt: skip

    def __init__(self, index: int, name: str, began: float) -> None:
        self.index = index  # from 1
        self.name = name
        self.began = began
        self.ended: float | None = None
        self.cached = False
        self.error = ""
        self.miss = ""
        self.statuses: dict[str, Status] = {}
        self.warnings: list[str] = []
        self.output: list[str] = []  # the last whole lines, each after the time at which it came
        self.last: list[str] = []  # the same without times, as many as a terminal shows
        self.partial = ""
        self.digest = ""

    def tail(self) -> list[str]:
        """Return the last lines of its output, with the one that is not whole yet."""
        return [line for line in [*self.last, last_of(self.partial)] if line.strip()][-TAIL:]

    def write(self, text: str, now: float) -> list[str]:
        """Take output; return the lines that are whole now, with the time."""
        *lines, self.partial = (self.partial + text).split("\n")
        self.partial = self.partial[-_LONGEST_LINE:]
        after = now - self.began
        moment = f"{after:.{3 if after < 10 else 2 if after < 100 else 1}f}"
        shown = [last_of(line) for line in lines]
        self.last = [*self.last, *shown][-TAIL:]
        timed = [f"{moment} {line}" for line in shown]
        self.output = [*self.output, *timed][-_KEPT:]
        return timed


class Trace:
    """All vertices in the order in which they began."""

    def __init__(self, now: Callable[[], float] = time.monotonic, *, stored: bool = True) -> None:
        """`stored`: what is built stays in the store, and that is told at the end."""
        self.now = now
        self.stored = stored
        self.began = now()
        self.vertices: dict[int, Vertex] = {}
        self.failure: Event | None = None
        self.built: Event | None = None
        self.warnings: list[Event] = []

    def take(self, event: Event) -> Vertex | None:
        """Take one event; return the vertex that it is about."""
        kind = event["event"]
        if kind == "StepBegan":
            if _makes_nothing(event):
                return None
            vertex = Vertex(len(self.vertices) + 1, name_of(event), self.now())
            self.vertices[event["step"]] = vertex
            return vertex
        if kind == "Built":
            self.built = event
            return self._exported(event)
        if kind == "StepFailed":
            self.failure = event
        elif kind == "Warned":
            self.warnings.append(event)
        found = self.vertices.get(event.get("step", 0))
        if found is None and kind == "StepFailed" and len(self.open) == 1:
            (found,) = self.open  # what was going on
        if found is not None:
            self._change(found, kind, event)
        return found

    def _exported(self, event: Event) -> Vertex | None:
        """Return the line that tells what was made and how it is called."""
        now = self.now()
        made = [f"writing image {image['id']}" for image in event.get("images", ()) if self.stored]
        names = [f"naming to {name}" for name in event.get("names", ())]
        if not made:
            return None
        vertex = Vertex(len(self.vertices) + 1, "exporting to image", now)
        vertex.ended = now
        for name in made + names:
            vertex.statuses[name] = Status(name, now)
            vertex.statuses[name].ended = now
        self.vertices[-1] = vertex
        return vertex

    def _change(self, vertex: Vertex, kind: str, event: Event) -> None:
        if kind == "StepEnded":
            vertex.ended = vertex.began + event["ns"] / 1e9 if event.get("ns") else self.now()
            vertex.cached = event.get("cached", False)
            vertex.miss = f"not cached: {event['miss']}" if event.get("miss") else ""
        elif kind == "StepFailed":
            vertex.ended = self.now()
            vertex.error = event.get("message", "")
        elif kind == "Transfer":
            status = vertex.statuses.setdefault(event["what"], Status(event["what"], self.now()))
            status.current, status.total = event["current"], event.get("total", 0)
            if status.total and status.current >= status.total and status.ended is None:
                status.ended = self.now()
        elif kind == "Warned":
            vertex.warnings.append(warning_text(event))

    @property
    def open(self) -> list[Vertex]:
        """Those that have begun and not ended."""
        return [vertex for vertex in self.vertices.values() if vertex.ended is None]

    def failed_output(self) -> str:
        """Return the last output of what failed, "" if nothing has."""
        text = ""
        for vertex in self.vertices.values():
            if vertex.error:
                lines = [*vertex.output, *([last_of(vertex.partial)] if vertex.partial else ())]
                text += "".join(f"{line}\n" for line in ("------", f" > {vertex.name}:", *lines, "------"))
        return text


def _makes_nothing(event: Event) -> bool:
    """Tell whether BuildKit has no line for a step: it changes the configuration only, or begins with another stage."""
    text = str(event["text"]).removeprefix("ONBUILD ") if event.get("onbuild") else str(event["text"])
    word = text.partition(" ")[0].upper()
    return word in _NO_VERTEX if event.get("number") else word == "FROM"


def repeat(every_s: float, call: Callable[[], None]) -> None:
    """Have `call` called again and again, between two instructions of this thread; 0 ends that."""
    import _signal  # type: ignore[import-not-found]  # `signal` imports enum

    _signal.signal(_signal.SIGALRM, (lambda _number, _frame: call()) if every_s else _signal.SIG_IGN)
    _signal.setitimer(_signal.ITIMER_REAL, every_s, every_s)


def warning_text(event: Event) -> str:
    """Return one line of a warning: `Rule: message (line 3)`."""
    rule = f"{event['rule']}: " if event.get("rule") else ""
    line = f" (line {event['location']['line']})" if event.get("location") else ""
    return harmless(f"{rule}{event['message']}{line}")


def name_of(event: Event) -> str:
    """Return how BuildKit names a step: `[build 2/5] RUN make`; what is of no stage has no brackets of its own."""
    text = harmless(" ".join(str(event["text"]).split("\n"))).replace("\t", " ")
    if not event.get("number"):
        return text
    width = len(str(event["total"]))
    where = [event.get("platform", ""), event.get("stage", ""), f"{event['number']:{width}}/{event['total']}"]
    return f"[{' '.join(part for part in where if part)}] {text}"


def last_of(line: str) -> str:
    """Return what a terminal would show of a line: what follows the last carriage return, without colours."""
    return harmless(without_escapes(line.rstrip("\r").rpartition("\r")[2]))


def without_escapes(text: str) -> str:
    r"""Remove a terminal's control sequences, `ESC [ … letter` and `ESC ] … BEL`; ECMA-48, 5.4."""
    if "\x1b" not in text:
        return text
    import re

    return re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_=>])", "", text)


def seconds(duration: float) -> str:
    """Return a time as the progress shows it; less than 50 ms is nothing."""
    return f"{duration if duration >= 0.05 else 0:.1f}s"


def size(status: Status) -> str:
    """Return `12.30MB / 45.60MB`; the number alone where the whole is not known, nothing for nothing."""
    if status.total:
        return f"{human(status.current)} / {human(status.total)}"
    return human(status.current) if status.current else ""


def human(size: float) -> str:
    """Return a size with two decimals: `45.60MB`, `32B`; tonistiigi/units."""
    if size < 1000:
        return f"{size:.0f}B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.2f}{unit}"
    return f"{size / 1000:.2f}TB"
