"""A build that failed: the Dockerfile's lines around the step, the command, the exit code; and a shell in its files."""

from __future__ import annotations

import binascii

from sampan.cli.output import harmless, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.command import Call

    Event = dict[str, Any]

_RULE = "-" * 20


def explain(failure: Event, dockerfile: str, *, quiet: bool) -> None:
    """Print it as BuildKit's clients do; with --quiet the output that nobody has seen, too."""
    text = ""
    if quiet and failure.get("output"):
        output = binascii.a2b_base64(failure["output"]).decode(errors="replace").rstrip("\n")
        text += f"------\n > {failure['text']}:\n{output}\n------\n"
    text += excerpt(failure, dockerfile) + f"ERROR: failed to build: failed to solve: {failure['message']}\n"
    if failure.get("hint"):
        text += f"  hint: {failure['hint']}\n"
    write_all(2, harmless(text).encode("utf-8", "surrogateescape"))


def excerpt(failure: Event, dockerfile: str) -> str:
    """Return the Dockerfile's lines around the step, those of the step marked."""
    location, lines = failure.get("location"), failure.get("excerpt")
    if not location or not lines:
        return ""
    first = failure.get("excerpt_line", 1)
    shown = [f"{dockerfile}:{location['line']}", _RULE]
    for number, line in enumerate(lines, first):
        mark = ">>>" if location["line"] <= number <= location["end_line"] else "   "
        shown.append(f" {number:3} | {mark} {line}")
    return "\n".join([*shown, _RULE, ""])


def open_shell(call: Call, failure: Event) -> None:
    """Start the container that was kept of the step with a shell, attached; remove it when that ends."""
    from sampan.cli.commands.start import attached
    from sampan.cli.output import warn
    from sampan.cli.signals import ask_quietly

    container = failure["container"]
    warn(f"a shell in the files of {failure['text']}: they are gone when it ends; after a change, build again")
    try:
        attached(call.session, container, interactive=True)
    finally:
        ask_quietly(call.session, f"/containers/{container}?force=1&v=1", "DELETE")
