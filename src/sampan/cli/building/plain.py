"""Progress of a build in lines, for files, pipes and logs: BuildKit's form `#4 0.812 text`, steps one after another.

Steps that run at the same time are shown in turns. The output of one that is not shown is kept until it is: when it
ends, when the one that is shown ends, or when that has been shown for so long.
"""

from __future__ import annotations

import binascii

from sampan.cli.building.trace import Trace, repeat, size, warning_text
from sampan.cli.output import harmless, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.building.trace import Event, Status, Vertex

_TURN_S = 5.0
_SILENT_S = 0.15
_EVERY_S = 5.0
_EVERY_SHARE = 0.05


class Plain:
    """Writes what happens as it happens."""

    def __init__(self, trace: Trace, stream: int = 2) -> None:
        self.trace = trace
        self._stream = stream
        self._current: Vertex | None = None
        self._since = 0.0
        self._first = True
        self._held: dict[int, list[str]] = {}  # lines by index
        self._told: dict[tuple[int, str], tuple[float, int]] = {}  # statuses: when, how much
        self._busy = False

    def start(self) -> None:
        """Show a step that says nothing, too, when it has run for a moment."""
        repeat(_SILENT_S, self._idle)

    def take(self, event: Event) -> None:
        """Show one event."""
        self._busy = True
        try:
            self._take(event)
        finally:
            self._busy = False

    def _idle(self) -> None:
        if not self._busy and self._current is None and self.trace.open:
            self._turn_to(self.trace.open[0])

    def _take(self, event: Event) -> None:
        vertex = self.trace.take(event)
        if vertex is None:
            return
        held = self._held.setdefault(vertex.index, [])
        held += self._lines(vertex, event)
        if vertex.ended is not None:
            held.append(_end(vertex))
        self._show(vertex)

    def finish(self) -> None:
        """Show what is still held."""
        repeat(0, self._idle)
        for vertex in self.trace.vertices.values():
            held = self._held.setdefault(vertex.index, [])
            if vertex.ended is None and self.trace.failure is not None:
                held.append("CANCELED")
            if held:
                self._turn_to(vertex)
        self._write(self.trace.failed_output())

    def _lines(self, vertex: Vertex, event: Event) -> list[str]:
        kind = event["event"]
        if kind == "StepOutput":
            return self._output(vertex, binascii.a2b_base64(event["data"]).decode(errors="replace"))
        if kind in {"StepEnded", "StepFailed"}:
            rest = self._output(vertex, "\n") if vertex.partial else []
            return rest + ([f"{vertex.miss}"] if vertex.miss else [])
        if kind == "Transfer":
            return self._status(vertex, vertex.statuses[event["what"]])
        if kind == "Built":
            return [f"{harmless(name)} done" for name in vertex.statuses]
        if kind == "Warned":
            return [f"WARN: {warning_text(event)}"]
        return []

    def _output(self, vertex: Vertex, text: str) -> list[str]:
        return vertex.write(text, self.trace.now())

    def _status(self, vertex: Vertex, status: Status) -> list[str]:
        now = self.trace.now()
        last, before = self._told.get((vertex.index, status.name), (-_EVERY_S, -1))
        if before == status.current and status.ended is not None and last >= status.ended:
            return []
        share = (status.current - before) / status.total if status.total else 0
        if before >= 0 and status.ended is None and share < _EVERY_SHARE and now - last < _EVERY_S:
            return []
        self._told[(vertex.index, status.name)] = (now, status.current)
        took = (status.ended or now) - status.began
        parts = [harmless(status.name), size(status), f"{took:.1f}s" if took > 0.01 else ""]
        return [" ".join(part for part in (*parts, "done" if status.ended is not None else "") if part)]

    def _show(self, vertex: Vertex) -> None:
        current = self._current
        mine = current is None or current is vertex or vertex.ended is not None
        if self._held[vertex.index] and (mine or self.trace.now() - self._since > _TURN_S):
            self._turn_to(vertex)
        if self._current is None:  # that one is done: go on with another
            waiting = [other for other in self.trace.open if self._held.get(other.index)]
            if waiting:
                self._turn_to(waiting[0])

    def _turn_to(self, vertex: Vertex) -> None:
        text = ""
        if vertex is not self._current:
            if self._current is not None:
                text += f"#{self._current.index} ...\n"
            text += ("" if self._first else "\n") + f"#{vertex.index} {vertex.name}\n"
            self._first = False
            self._since = self.trace.now()
        text += "".join(f"#{vertex.index} {line}\n" for line in self._held.pop(vertex.index, ()))
        self._held.setdefault(vertex.index, [])
        self._current = vertex if vertex.ended is None else None
        self._write(text)

    def _write(self, text: str) -> None:
        write_all(self._stream, text.encode("utf-8", "surrogateescape"))


class Quiet(Plain):
    """Shows nothing."""

    def _write(self, text: str) -> None:
        """Say nothing."""


def _end(vertex: Vertex) -> str:
    assert vertex.ended is not None
    if vertex.error:
        return f"ERROR: {harmless(vertex.error)}"
    return "CACHED" if vertex.cached else f"DONE {vertex.ended - vertex.began:.1f}s"
