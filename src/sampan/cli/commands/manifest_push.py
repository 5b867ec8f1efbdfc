"""`sampan manifest push`: an index and its images to a registry."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.lists import INSECURE, auths, list_path
from sampan.cli.moving import write_digest
from sampan.cli.progress import show
from sampan.client.wire import query


def push(call: Call) -> int:
    """Push; the last line is the digest."""
    name = call.arguments[0]
    destination = call.arguments[1] if len(call.arguments) > 1 else ""
    options = call.options
    known = call.session.ask("GET", list_path(name, query(local=True))).json()
    images = [one["Ref"] for one in known["Manifests"]]
    body = {
        "Destination": destination,
        "All": options["all"],
        "Format": options["format"],
        "Purge": options["purge"] or options["rm"],
        "Auths": {
            **auths(call.session, images),
            **auths(call.session, [destination or name], options["creds"]),
        },
    }
    told = show(call.session.ask("POST", list_path(name, "/push"), body).lines(), quiet=options["quiet"])
    if options["digestfile"]:
        write_digest(options["digestfile"], told[-1]["Digest"])
    return 0


COMMAND = Command(
    "push [OPTIONS] LIST [DESTINATION]",
    "Push an index and its images to a registry",
    push,
    flags=(
        Flag("all", "bool", "Push the images, too; else they must be there", default=True),
        Flag("creds", "string", "Credentials for the destination's registry: USER[:PASSWORD]"),
        Flag("digestfile", "string", "Write the digest to this file"),
        Flag("format", "string", "Form of the manifests: oci, or docker (v2s2)", short="f"),
        INSECURE,
        Flag("purge", "bool", "Forget the list after the push", short="p"),
        Flag("quiet", "bool", "Show no progress", short="q"),
        Flag("rm", "bool", "The same as --purge"),
    ),
    arguments=(1, 2),
)
