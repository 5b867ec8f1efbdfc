"""`sampan why`: what ended a container, or ails it, and what helps."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.templated import parsed, show_one
from sampan.client.wire import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def why(call: Call) -> int:
    """Print how the container is, each cause with its facts and fixes, and its last output."""
    (name,) = call.arguments
    template = parsed(call.options["format"]) if call.options["format"] else None
    answer = call.session.ask("GET", f"/sampan/containers/{quote(name)}/why").json()
    if template:
        show_one(answer, template)
    else:
        write(_text(answer))
    return 0


def _text(answer: dict[str, Any]) -> str:
    lines = [_strong(answer["Said"])]
    for cause in answer["Causes"]:
        lines.append(f"  {cause['Said']}")
        lines += [f"    {fact}" for fact in cause["Facts"]]
        lines += [f"    fix: {fix}" for fix in cause["Fixes"]]
    if not answer["Causes"]:
        lines.append("  nothing is wrong with it that can be seen from here")
    if answer["Output"]:
        lines += ["its last output:", *(f"  {line}" for line in answer["Output"])]
    return "\n".join(lines) + "\n"


def _strong(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if os.isatty(1) and not os.environ.get("NO_COLOR") else text


COMMAND = Command(
    "why [OPTIONS] CONTAINER",
    "Say what ended a container, or ails it, and what helps",
    why,
    arguments=(1, 1),
    flags=(Flag("format", "string", "json or a Go template"),),
)
