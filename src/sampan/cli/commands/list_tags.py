"""`sampan list-tags`: the tags of a repository, at its registry."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.places import auth_for, located
from sampan.client.wire import query


def list_tags(call: Call) -> int:
    """Print skopeo's JSON."""
    import json

    place = located(call.arguments[0], "docker://")
    headers = auth_for(call.session, place, call.options["creds"])
    found = call.session.ask("GET", f"/sampan/remote/tags{query(name=str(place))}", None, headers).json()
    write(json.dumps(found, indent=4, ensure_ascii=False) + "\n")
    return 0


COMMAND = Command(
    "list-tags [OPTIONS] docker://NAME",
    "List the tags of a repository at its registry",
    list_tags,
    flags=(Flag("creds", "string", "Credentials for the registry: USER[:PASSWORD]"),),
    arguments=(1, 1),
)
