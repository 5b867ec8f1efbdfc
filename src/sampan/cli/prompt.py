"""Questions to who sits at the terminal."""

from __future__ import annotations

import os

from sampan.cli.failure import Exit, Failure
from sampan.cli.output import write_all

_LONGEST = 4096
_NO_LOGIN = Failure("Error: Cannot perform an interactive login from a non TTY device")


def ask(question: str, *, secret: bool = False, stream: int = 1, refusal: Failure = _NO_LOGIN) -> str:
    """Return a line that was typed, without white space around it; a secret one is not shown.

    The question is written to `stream`. Raises `refusal` where nobody can type.
    """
    import termios

    if not os.isatty(0):
        raise refusal
    before = termios.tcgetattr(0)
    try:
        if secret:  # before the question: who answers at sight of it is not to be shown, nor passed over
            hidden = termios.tcgetattr(0)
            hidden[3] &= ~termios.ECHO
            termios.tcsetattr(0, termios.TCSAFLUSH, hidden)
        write_all(stream, question.encode("utf-8", "surrogateescape"))
        line = os.read(0, _LONGEST)
    except KeyboardInterrupt:
        raise Exit(130) from None
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH if secret else termios.TCSADRAIN, before)
        if secret:
            write_all(stream, b"\n")
    return line.decode("utf-8", "surrogateescape").strip()
