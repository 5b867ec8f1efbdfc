"""`sampan system start`: start the engine, if it does not run. Other commands do that by themselves."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.output import say


def start(call: Call) -> int:
    """Start it, and print the address of the API once it answers."""
    call.session.ask("GET", "/_ping").read()
    say(f"unix://{call.session.socket}")
    return 0


COMMAND = Command("start", "Start the engine; every other command does so too where it is needed", start)
