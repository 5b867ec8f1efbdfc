"""`sampan secret inspect`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import FORMAT, get_secret
from sampan.cli.failure import Failure, UsageError
from sampan.cli.flags import Flag
from sampan.cli.inspecting import show_all
from sampan.cli.moments import as_go
from sampan.cli.output import say, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def inspect(call: Call) -> int:
    """Print secrets; their data where it is asked for."""
    if not call.options["pretty"]:
        return show_all(call.arguments, lambda name: get_secret(call, name), call.options["format"])
    if call.options["format"]:
        raise UsageError("--format is incompatible with human friendly format")
    status = 0
    for name in call.arguments:
        try:
            say(_pretty(get_secret(call, name)))
        except Failure as e:
            warn(e.message + (f"\n  hint: {e.hint}" if e.hint else ""))
            status = 1
    return status


def _pretty(found: Any) -> str:
    """Return it as Docker's client shows it, its gaps and small letters, too."""
    spec = found["Spec"]
    labels = [f" - {name}={value}" if value else f" - {name}" for name, value in sorted((spec["Labels"] or {}).items())]
    lines = [
        f"ID:              {found['ID']}",
        f"Name:              {spec['Name']}",
        *(["Labels:", *labels] if labels else ()),
        f"Driver:            {(spec.get('Driver') or {}).get('Name', '')}",
        f"Created at:        {as_go(found['CreatedAt']).lower()}",
        f"Updated at:        {as_go(found['UpdatedAt']).lower()}",
        *([f"Data:              {found['SecretData']}"] if "SecretData" in found else ()),
    ]
    return "\n".join(lines)


COMMAND = Command(
    "inspect [OPTIONS] SECRET [SECRET...]",
    "Display detailed information on one or more secrets",
    inspect,
    flags=(
        FORMAT,
        Flag("pretty", "bool", "Show it for people"),
        Flag("showsecret", "bool", "Show the data, too"),
    ),
    arguments=(1, None),
)
