"""`build --check`: what is said of a Dockerfile, in the form of buildx's `--call=check`."""

from __future__ import annotations

from sampan.cli.building.trace import warning_text
from sampan.cli.output import harmless, warn, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.building.trace import Trace

    Event = dict[str, Any]


def report(trace: Trace) -> None:
    """Print the warnings whole."""
    found = trace.warnings
    write(f"Check complete, {len(found)} warning{'s have' if len(found) > 1 else ' has'} been found!\n")
    for warning in found:
        write(harmless(one(warning)))
    write("\n")


def one(warning: Event) -> str:
    """Return the text of one warning."""
    rule = warning.get("rule") or "Warning"
    text = f"\nWARNING: {rule}" + (f" - {warning['url']}" if warning.get("url") else "") + "\n"
    source = f"{warning['source']}\n" if warning.get("source") else ""
    return f"{text}{warning['message']}\n{source}"


def summary(trace: Trace) -> None:
    """Print a line for each piece of advice on standard error, after a build's progress."""
    found = [warning for warning in trace.warnings if warning.get("rule")]
    if found:
        warn(f"\n {len(found)} warning{'s' * (len(found) > 1)} found (--check shows the lines):")
    for warning in found:
        warn(f" - {warning_text(warning)}")
