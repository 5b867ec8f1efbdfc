"""`sampan system doctor`: is this host fit for containers, and what to do where it is not."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.templated import parsed, show_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS = {"ok": "ok", "warning": "warning", "failed": "FAILED"}
_COLOURS = {"ok": "32", "warning": "33", "failed": "31"}


def doctor(call: Call) -> int:
    """Print each check, with its fix under it; 1 if one has failed."""
    template = parsed(call.options["format"]) if call.options["format"] else None
    found = call.session.ask("GET", "/sampan/doctor").json()
    if template:
        show_one(found, template)
    else:
        width = max(len(finding["Check"]) for finding in found)
        write("".join(_line(finding, width) for finding in found))
    return 1 if any(finding["Outcome"] == "failed" for finding in found) else 0


def _line(finding: dict[str, Any], width: int) -> str:
    word = _WORDS[finding["Outcome"]].ljust(8)
    if os.isatty(1) and not os.environ.get("NO_COLOR"):
        word = f"\x1b[{_COLOURS[finding['Outcome']]}m{word}\x1b[0m"
    line = f"{word} {finding['Check'].ljust(width)}  {finding['Said']}\n"
    return line + (f"{' ' * (width + 11)}fix: {finding['Fix']}\n" if finding.get("Fix") else "")


COMMAND = Command(
    "doctor [OPTIONS]",
    "Check what containers need of this host: kernel, control groups, firewall, disk",
    doctor,
    flags=(Flag("format", "string", "json or a Go template"),),
)
