"""What a verb is made of: the usage, the flags, the function; and what the function is given."""

from __future__ import annotations

from sampan.cli.failure import ArgumentError
from sampan.cli.flags import Flag, Options, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.cli.session import Session


class Command:
    """A verb. `usage` is what follows the program's name; `least` and `most` count its arguments.

    `choosers` are flags that stand for the first of them: cli/choosing.
    """

    __slots__ = ("choosers", "flags", "interspersed", "least", "most", "path", "perform", "summary", "usage")

    def __init__(
        self,
        usage: str,
        summary: str,
        perform: Callable[[Call], int],
        *,
        flags: Sequence[Flag] = (),
        arguments: tuple[int, int | None] = (0, 0),
        interspersed: bool = True,
        choosers: tuple[str, ...] = (),
    ) -> None:
        self.usage = usage
        self.summary = summary
        self.perform = perform
        self.flags = flags
        self.least, self.most = arguments
        self.interspersed = interspersed
        self.choosers = choosers
        self.path = usage.split(" ", 1)[0]

    def parse(self, words: list[str]) -> tuple[Options, list[str]]:
        """Return options and arguments, or raise UsageError or ArgumentError."""
        options, arguments = parse(self.flags, words, interspersed=self.interspersed)
        least = self.least - self.chooses(options)
        if len(arguments) < least or (self.most is not None and len(arguments) > self.most):
            raise ArgumentError(f"'sampan {self.path}' {self._expectation()}")
        return options, arguments

    def chooses(self, options: Options) -> bool:
        """Whether containers are chosen without their names."""
        return any(options.values[name] for name in self.choosers if name in options.given)

    def _expectation(self) -> str:
        if self.most == 0:
            return "accepts no arguments"
        if self.most is None:
            return f"requires at least {_count(self.least)}"
        if self.least == self.most:
            return f"requires {_count(self.least)}"
        if self.least == 0:
            return f"requires at most {_count(self.most)}"
        return f"requires at least {self.least} and at most {_count(self.most)}"


def _count(number: int) -> str:
    return f"{number} argument" if number == 1 else f"{number} arguments"


class Call:
    """One use of a verb: its options, its arguments, the session."""

    __slots__ = ("arguments", "command", "options", "session")

    def __init__(self, command: Command, session: Session, options: Options, arguments: list[str]) -> None:
        self.command = command
        self.session = session
        self.options = options
        self.arguments = arguments
