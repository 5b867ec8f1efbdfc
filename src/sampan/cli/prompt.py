"""Questions to who sits at the terminal."""

from __future__ import annotations

import os

from sampan.cli.failure import Exit, Failure
from sampan.cli.output import write

_LONGEST = 4096


def ask(question: str, *, secret: bool = False) -> str:
    """Return a line that was typed, without white space around it; a secret one is not shown. Raises Failure."""
    import termios

    if not os.isatty(0):
        raise Failure("Error: Cannot perform an interactive login from a non TTY device")
    before = termios.tcgetattr(0)
    try:
        if secret:  # before the question: who answers at sight of it is not to be shown, nor passed over
            hidden = termios.tcgetattr(0)
            hidden[3] &= ~termios.ECHO
            termios.tcsetattr(0, termios.TCSAFLUSH, hidden)
        write(question)
        line = os.read(0, _LONGEST)
    except KeyboardInterrupt:
        raise Exit(130) from None
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH if secret else termios.TCSADRAIN, before)
        if secret:
            write("\n")
    return line.decode("utf-8", "surrogateescape").strip()
