"""`sampan export`: all files of a container as a tar."""

from __future__ import annotations

from sampan.cli import outfile
from sampan.cli.command import Call, Command
from sampan.cli.each import container
from sampan.cli.flags import Flag

_VERB = "export container"


def export(call: Call) -> int:
    """Write the archive to standard output, or to a file that appears when it is whole."""
    output = call.options["output"]
    outfile.check(output, _VERB)
    answer = call.session.ask("GET", container(call.arguments[0], "/export"))
    outfile.write(answer, output, _VERB)
    return 0


COMMAND = Command(
    "export [OPTIONS] CONTAINER",
    "Export all files of a container as a tar archive",
    export,
    flags=(Flag("output", "string", "Write to this file and not to standard output", short="o"),),
    arguments=(1, 1),
)
