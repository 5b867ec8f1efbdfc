"""`sampan system socket`: what to put into DOCKER_HOST."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.output import say


def socket(call: Call) -> int:
    """Print the address of the API. The engine need not run: it is started by whoever comes first with `sampan`."""
    say(f"unix://{call.session.socket}")
    return 0


COMMAND = Command("socket", "Print the address of the API, for DOCKER_HOST", socket)
