"""`sampan registry gc`: give back what nothing leads to."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.registry_serve import execute
from sampan.cli.failure import UsageError
from sampan.cli.flags import Flag
from sampan.errors import InvalidInput

FLAGS = (
    Flag("older-than", "string", "Spare blobs and untagged manifests used within this time", default="1h"),
    Flag("untagged", "bool", "Also remove manifests that no tag leads to"),
    Flag("dry-run", "bool", "Only say what would be removed"),
    Flag("quiet", "bool", "Say only how much it was", short="q"),
)


def gc(call: Call) -> int:
    """Become the collector: the command line imports nothing of the registry."""
    from sampan.units import parse_duration

    options = call.options
    try:
        older = parse_duration(options["older-than"])
    except InvalidInput as e:
        raise UsageError(f"{e.message}", e.hint) from None
    execute(
        "gc",
        {
            "directory": call.arguments[0] if call.arguments else call.session.dirs.registry,
            "older_s": max(older, 0) // 10**9,
            "untagged": options["untagged"],
            "dry_run": options["dry-run"],
            "quiet": options["quiet"],
        },
    )


COMMAND = Command(
    "gc [OPTIONS] [DIRECTORY]",
    "Remove from a registry's directory what nothing leads to",
    gc,
    flags=FLAGS,
    arguments=(0, 1),
)
