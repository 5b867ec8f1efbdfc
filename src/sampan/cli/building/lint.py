"""`build --check`: what is said of a Dockerfile, in the form of buildx's `--call=check`."""

from __future__ import annotations

from sampan.cli.output import harmless, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.building.trace import Trace

    Event = dict[str, Any]

_RULE = "-" * 20


def report(trace: Trace, dockerfile: str) -> int:
    """Print the warnings; 1 if there are any."""
    found = trace.warnings
    if not found:
        write("Check complete, no warnings found.\n")
        return 0
    write(f"Check complete, {len(found)} warning{'s have' if len(found) > 1 else ' has'} been found!\n")
    for warning in found:
        write(harmless(one(warning, dockerfile)))
    return 1


def one(warning: Event, dockerfile: str) -> str:
    """Return the text of one warning."""
    rule = warning.get("rule") or "Warning"
    text = f"\nWARNING: {rule}" + (f" - {warning['url']}" if warning.get("url") else "") + "\n"
    text += f"{warning.get('description') or warning['message']}\n"
    if warning.get("description"):
        text += f"{warning['message']}\n"
    location = warning.get("location")
    if location:
        text += f"\n{dockerfile}:{location['line']}\n{_RULE}\n"
        lines = str(warning.get("source", "")).split("\n")
        for number, line in enumerate(lines, location["line"]):
            text += f" {number:3} | >>> {line}\n"
        text += f"{_RULE}\n"
    return text
