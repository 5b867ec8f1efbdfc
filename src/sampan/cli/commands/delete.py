"""`sampan delete`: an image from its registry."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.cli.places import auth_for, is_place, located
from sampan.client.wire import query


def delete(call: Call) -> int:
    """Delete the manifest that the name means, with all tags that it has."""
    text = call.arguments[0]
    if not is_place(text):
        raise Failure(
            f'Invalid image name "{text}", expected colon-separated transport:reference',
            f"docker://{text} is the image at its registry; `sampan rmi {text}` removes the one that is here",
        )
    place = located(text)
    headers = auth_for(call.session, place, call.options["creds"])
    gone = call.session.ask("DELETE", f"/sampan/remote{query(name=str(place))}", None, headers).json()
    say(f"Deleted: {gone['Digest']}")
    return 0


COMMAND = Command(
    "delete [OPTIONS] docker://NAME[:TAG|@DIGEST]",
    "Delete an image from its registry, with all tags that it has there",
    delete,
    flags=(Flag("creds", "string", "Credentials for the registry: USER[:PASSWORD]"),),
    arguments=(1, 1),
)
