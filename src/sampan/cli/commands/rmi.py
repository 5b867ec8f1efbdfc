"""`sampan rmi`: remove images, or names of them."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.cli.platforms import as_json
from sampan.cli.session import ServerError
from sampan.client.wire import query, quote


def rmi(call: Call) -> int:
    """Remove each image and print what went."""
    options = call.options
    platforms = [as_json(text) for text in options["platform"]]
    parameters = query(force=options["force"], noprune=options["no-prune"], platforms=platforms)
    status = 0
    for name in call.arguments:
        try:
            gone = call.session.ask("DELETE", f"/images/{quote(name)}{parameters}").json()
        except ServerError as e:
            if not (options["force"] and e.http_status == 404):
                status = 1
            warn(e.message + (f"\n  hint: {e.hint}" if e.hint else ""))
            continue
        for item in gone:
            say(f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item['Untagged']}")
    return status


COMMAND = Command(
    "rmi [OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    rmi,
    flags=(
        Flag("force", "bool", "Remove it although it has other names", short="f"),
        Flag("no-prune", "bool", "Leave parents without a name"),
        Flag("platform", "list", "If it is for this: OS[/ARCH[/VARIANT]]"),
    ),
    arguments=(1, None),
)
