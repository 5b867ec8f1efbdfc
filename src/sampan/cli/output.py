"""Writing to standard output and error without the text layers' buffers: what is said is said at once."""

from __future__ import annotations

from sampan.cli.stream import write_all


def say(text: str) -> None:
    """Write a line to standard output."""
    write_all(1, f"{text}\n".encode("utf-8", "surrogateescape"))


def warn(text: str) -> None:
    """Write a line to standard error."""
    write_all(2, f"{text}\n".encode("utf-8", "surrogateescape"))
