"""`sampan update`: change which ports a container publishes, also while it runs."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import container, each
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LATER = "limits are set at creation; changing them comes later"
_RESTART = "restart policies come later"


def update(call: Call) -> int:
    """Change each container."""
    from sampan.cli.body_ports import bindings_of, removal_of

    options = call.options
    if not options.given:
        raise Failure("you must provide one or more flags when using this command")
    body: dict[str, Any] = {
        "Add": bindings_of(options["publish-add"]),
        "Remove": [removal_of(text) for text in options["publish-rm"]],
    }
    return each(call, lambda name: call.session.ask("POST", "/sampan" + container(name, "/ports"), body).read())


COMMAND = Command(
    "update [OPTIONS] CONTAINER [CONTAINER...]",
    "Change the published ports of one or more containers, running or not",
    update,
    flags=(
        Flag("publish-add", "list", "Publish one more port: [[ADDRESS:][HOST]:]PORT[/PROTOCOL]; ranges too"),
        Flag("publish-rm", "list", "Publish it no longer: [ADDRESS:]HOST[/PROTOCOL]; ranges too"),
        Flag("blkio-weight", "int", "Block IO weight", unsupported=_LATER),
        Flag("cpu-period", "int", "CFS period", unsupported=_LATER),
        Flag("cpu-quota", "int", "CFS quota", unsupported=_LATER),
        Flag("cpu-rt-period", "int", "Realtime period", unsupported=_LATER),
        Flag("cpu-rt-runtime", "int", "Realtime runtime", unsupported=_LATER),
        Flag("cpu-shares", "int", "CPU shares", short="c", unsupported=_LATER),
        Flag("cpus", "cpus", "Number of CPUs", unsupported=_LATER),
        Flag("cpuset-cpus", "string", "CPUs to run on", unsupported=_LATER),
        Flag("cpuset-mems", "string", "Memory nodes to use", unsupported=_LATER),
        Flag("memory", "bytes", "Memory limit", short="m", unsupported=_LATER),
        Flag("memory-reservation", "bytes", "Memory soft limit", unsupported=_LATER),
        Flag("memory-swap", "swap", "Memory and swap", unsupported=_LATER),
        Flag("pids-limit", "int", "Processes", unsupported=_LATER),
        Flag("restart", "string", "Restart policy", unsupported=_RESTART),
    ),
    arguments=(1, None),
)
