"""Progress of a build on a terminal: a line for each step with its time, below a running one the end of its output.

The lines stay where they are and change, as people know it from BuildKit.
"""

from __future__ import annotations

import binascii
import os

from sampan.cli.building.trace import Trace, repeat, seconds, size
from sampan.cli.output import harmless, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.building.trace import Event, Vertex

_EVERY_S = 0.1
_REDRAW_S = 0.15
_COLUMNS, _ROWS = 80, 10
_LEAST = 12  # columns of a name
_DONE, _FAILED, _CANCELED, _FAINT, _PLAIN = "\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


class Terminal:
    """Draws the trace again and again over what it drew before."""

    def __init__(self, trace: Trace, stream: int = 2) -> None:
        self.trace = trace
        self._stream = stream
        self._shown = 0
        self._drawn = float("-inf")
        self._drawing = False
        self._colours = not os.environ.get("NO_COLOR")

    def start(self) -> None:
        """Draw now and then while nothing comes: times go on."""
        repeat(_REDRAW_S, self._tick)

    def take(self, event: Event) -> None:
        """Take one event, and draw unless that was done just now."""
        drawing, self._drawing = self._drawing, True  # the signal's handler looks at the trace, too
        vertex = self.trace.take(event)
        if vertex is not None and event["event"] == "StepOutput":
            vertex.write(binascii.a2b_base64(event["data"]).decode(errors="replace"), self.trace.now())
        self._drawing = drawing
        if self.trace.now() - self._drawn >= _EVERY_S:
            self._draw(whole=False)

    def finish(self) -> None:
        """Leave the last state of each line, then the output of what failed."""
        repeat(0, self._tick)
        self._draw(whole=True)
        self._write(self.trace.failed_output())

    def _tick(self) -> None:
        if not self._drawing and self.trace.vertices:
            self._draw(whole=False)

    def _draw(self, *, whole: bool) -> None:
        self._drawing = True
        try:
            self._drawn = self.trace.now()
            columns, rows = self._size()
            lines = screen(self.trace, columns, 0 if whole else rows, colours=self._colours)
            out = f"\x1b[?25l\x1b[{self._shown}A" if self._shown else "\x1b[?25l"
            out += "".join(f"\r\x1b[2K{line}\n" for line in lines)
            out += "\x1b[0J\x1b[?25h" if self._shown > len(lines) else "\x1b[?25h"
            self._shown = len(lines)
            self._write(out)
        finally:
            self._drawing = False

    def _write(self, text: str) -> None:
        write_all(self._stream, text.encode("utf-8", "surrogateescape"))

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._stream)
        except OSError:
            columns = rows = 0
        return columns or _COLUMNS, rows or _ROWS


def screen(trace: Trace, columns: int, rows: int, *, colours: bool) -> list[str]:
    """Return the lines to show; `rows` 0: all of them, and nothing of the output."""
    jobs = [job for vertex in trace.vertices.values() for job in _jobs(trace, vertex)]
    ended = sum(vertex.ended is not None for vertex in trace.vertices.values())
    finished = " FINISHED" if not rows and trace.built is not None else ""
    head = f"[+] Building {trace.now() - trace.began:.1f}s ({ended}/{len(trace.vertices)}){finished}"
    tails = _tails(trace, jobs, rows)
    lines = [head[:columns]]
    for job in _fitting(jobs, rows - 2 - sum(map(len, tails.values()))) if rows else jobs:
        lines.append(job.line(columns, colours=colours))
        lines += [
            _coloured(f" => => # {line}"[: columns - 1], _FAINT if colours else "") for line in tails.get(id(job), ())
        ]
    return lines


class _Job:
    """A line: a vertex, or something below it."""

    __slots__ = ("colour", "done", "name", "size", "took", "vertex")

    def __init__(self, name: str, took: float, *, done: bool, colour: str = _DONE, size: str = "") -> None:
        self.name = name
        self.took = took
        self.done = done
        self.colour = colour
        self.size = size
        self.vertex: Vertex | None = None

    def line(self, columns: int, *, colours: bool) -> str:
        timer = f" {seconds(self.took)}"
        left = columns - len(" => ") - len(timer) - 2
        status = f" {self.size}" if self.size and left - len(self.size) >= _LEAST else ""
        text = f" => {self.name[: max(left - len(status), 0)]}{status}"
        return _coloured(f"{text:<{columns - len(timer) - 1}}{timer}", self.colour if self.done and colours else "")


def _coloured(text: str, colour: str) -> str:
    return f"{colour}{text}{_PLAIN}" if colour else text


def _jobs(trace: Trace, vertex: Vertex) -> list[_Job]:
    now = trace.now()
    mark = "ERROR " if vertex.error else "CACHED " if vertex.cached else ""
    ended, colour = vertex.ended, _FAILED if vertex.error else _DONE
    if ended is None and (trace.failure is not None):
        mark, ended, colour = "CANCELED ", now, _CANCELED
    first = _Job(mark + vertex.name, (ended or now) - vertex.began, done=ended is not None, colour=colour)
    first.vertex = vertex
    jobs = [first]
    for status in vertex.statuses.values():
        end = status.ended if status.ended is not None else ended
        job = _Job(f"=> {harmless(status.name)}", (end or now) - status.began, done=end is not None)
        job.size = size(status)
        jobs.append(job)
    jobs += [_Job(f"WARN: {text}", first.took, done=True, colour=_CANCELED) for text in vertex.warnings]
    if vertex.miss:
        jobs.append(_Job(f"=> {harmless(vertex.miss)}", first.took, done=True, colour=_FAINT))
    return jobs


def _tails(trace: Trace, jobs: list[_Job], rows: int) -> dict[int, list[str]]:
    """Return the lines of output below each running step, as far as there is room, the latest first."""
    free = rows - 2 - sum(not job.done for job in jobs)
    found: dict[int, list[str]] = {}
    if trace.failure is not None:
        return found
    for job in reversed(jobs):
        tail = job.vertex.tail() if job.vertex is not None and not job.done else []
        if tail and free > len(tail) + 2:
            found[id(job)] = tail
            free -= len(tail)
    return found


def _fitting(jobs: list[_Job], most: int) -> list[_Job]:
    """Return the last jobs; those further up that still run take the places of such that are done."""
    if len(jobs) <= most:
        return jobs
    hidden = len(jobs) - max(most, 1)
    running = [job for job in jobs[:hidden] if not job.done]
    kept = jobs[hidden:]
    for _job in running:
        done = next((other for other in kept if other.done), None)
        if done is None:
            break
        kept.remove(done)
    room = max(most, 1) - len(kept)
    return [*running[:room], *kept]
