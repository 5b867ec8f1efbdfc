"""`sampan container clone`: another container made as one was, with other limits if wanted."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.commands.inspect import get_container
from sampan.cli.commands.update import LIMITS, limits_of
from sampan.cli.each import container
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ID_DIGITS = 12
_ENDPOINT = ("IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority")


def clone(call: Call) -> int:
    """Make it from what `inspect` tells, and print its id. Files that the first one has changed are not copied."""
    options, session = call.options, call.session
    source = get_container(call, call.arguments[0])
    name = options["name"] or (call.arguments[1] if len(call.arguments) > 1 else f"{source['Name'].lstrip('/')}-clone")
    body = create_body(source)
    body["HostConfig"].update(limits_of(options))
    if len(call.arguments) > 2:
        body["Image"] = call.arguments[2]
    if options["force"] and not options["destroy"]:
        raise Failure("sampan: cannot set --force without --destroy", status=125)
    made = session.ask("POST", f"/containers/create{query(name=name)}", body).json()
    for warning in made.get("Warnings") or ():
        warn(f"WARNING: {warning}")
    if options["destroy"]:
        session.ask("DELETE", container(source["Id"], query(force=options["force"]))).read()
    if options["run"]:
        session.ask("POST", container(made["Id"], "/start")).read()
    say(made["Id"])
    return 0


def create_body(source: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a create request for a container as `inspect` describes one; names of its own are left out."""
    config = dict(source["Config"])
    if config.get("Hostname") == source["Id"][:_ID_DIGITS]:
        del config["Hostname"]
    host = {**source["HostConfig"], "ContainerIDFile": ""}
    endpoints = {
        network: {field: endpoint[field] for field in _ENDPOINT if endpoint.get(field)}
        for network, endpoint in (source["NetworkSettings"].get("Networks") or {}).items()
    }
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}


COMMAND = Command(
    "clone [OPTIONS] CONTAINER [NAME] [IMAGE]",
    "Make a container as another one was made, with other limits or another image",
    clone,
    flags=(
        Flag("destroy", "bool", "Remove the first one"),
        Flag("force", "bool", "Also if it runs", short="f"),
        Flag("name", "string", "The new one's name; else it is the first one's with -clone"),
        Flag("run", "bool", "Start the new one"),
        *LIMITS,
    ),
    arguments=(1, 3),
)
