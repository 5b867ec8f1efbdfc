"""Writing to standard output and error without the text layers' buffers: what is said is said at once."""

from __future__ import annotations

import os

_SIGPIPE = 13


def say(text: str) -> None:
    """Write a line to standard output."""
    write(f"{text}\n")


def warn(text: str) -> None:
    """Write a line to standard error."""
    write_all(2, f"{harmless(text)}\n".encode("utf-8", "surrogateescape"))


def harmless(text: str) -> str:
    """Show control characters instead of having a terminal obey them: a registry's words may be in a message."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not (c < " " or "\x7f" <= c < "\xa0") else f"\\x{ord(c):02x}" for c in text)


def write(text: str) -> None:
    """Write text to standard output as it is."""
    write_all(1, text.encode("utf-8", "surrogateescape"))


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, or end without a word when nobody reads any more, as a program that SIGPIPE ends."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody else made our terminal non-blocking
            import select

            waiter = select.poll()
            waiter.register(descriptor, select.POLLOUT)
            waiter.poll()
        except BrokenPipeError:
            raise SystemExit(128 + _SIGPIPE) from None  # no Exit: what has failed is shown where none is caught
