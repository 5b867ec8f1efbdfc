"""Logs of several containers at once: whole lines, each with the container that wrote it before it."""

from __future__ import annotations

import select

from sampan.cli.output import write_all
from sampan.cli.stream import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from sampan.cli.flags import Options
    from sampan.cli.session import Session
    from sampan.client.wire import Response

    Json = dict[str, Any]

_COLOURS = (37, 31, 33, 34, 35, 36, 32)
_ID = 12
_LONGEST = 1 << 20


class Labelled:
    """Writes a container's lines, each between `before` and `after`, once they are whole; endless ones in parts."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._rest = {1: b"", 2: b""}

    def write(self, descriptor: int, data: bytes) -> None:
        """Take what comes next on one of the streams."""
        *lines, self._rest[descriptor] = (self._rest[descriptor] + data).split(b"\n")
        if len(self._rest[descriptor]) > _LONGEST:  # no line for a reader
            lines.append(self._rest[descriptor])
            self._rest[descriptor] = b""
        if lines:
            write_all(descriptor, b"".join(self._before + line + self._after + b"\n" for line in lines))

    def end(self) -> None:
        """Write what came without a newline as a line: another container's may follow."""
        for descriptor, rest in self._rest.items():
            if rest:
                self.write(descriptor, b"\n")


def print_logs(session: Session, inspected: Sequence[Json], path: Callable[[Json], str], options: Options) -> int:
    """Print the logs of these containers: with --follow as the lines come, else one container's behind another's."""
    sinks = [_labelled(one, index, len(inspected) > 1, options) for index, one in enumerate(inspected)]
    outputs = [Output(tty=one["Config"]["Tty"], sink=sink.write) for one, sink in zip(inspected, sinks, strict=True)]
    answers = (session.open("GET", path(one)) for one in inspected)
    arriving = _together(list(answers)) if options["follow"] else _in_turn(answers)
    for index, piece in arriving:
        if piece:
            outputs[index].write(piece)
        else:
            sinks[index].end()
    return 0


def _labelled(inspected: Json, index: int, several: bool, options: Options) -> Labelled:
    label = inspected["Name"].lstrip("/") if options["names"] else inspected["Id"][:_ID]
    before, after = f"{label} " if several else "", ""
    if options["color"]:
        before, after = f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{before}", "\x1b[0m"
    return Labelled(before.encode(), after.encode())


def _in_turn(answers: Iterable[Response]) -> Iterator[tuple[int, bytes]]:
    """Give the pieces of each answer, and b"" at its end."""
    for index, answer in enumerate(answers):
        for piece in answer.pieces():
            yield index, piece
        yield index, b""


def _together(answers: Sequence[Response]) -> Iterator[tuple[int, bytes]]:
    """Give the same as soon as there is something, of whichever answer."""
    poll = select.poll()
    unfinished: dict[int, int] = {}
    for index, answer in enumerate(answers):
        if piece := answer.unread():  # it came with the head: nothing need make it readable any more
            yield index, piece
        if answer.done:
            yield index, b""
        else:
            unfinished[answer.fileno()] = index
            poll.register(answer.fileno(), select.POLLIN)
    while unfinished:
        for descriptor, _ in poll.poll():
            index = unfinished[descriptor]
            if come := answers[index].poll():
                yield index, come
            if answers[index].done:
                yield index, b""
                poll.unregister(descriptor)
                del unfinished[descriptor]
