"""`sampan tag`: one more name for an image."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.references import named
from sampan.client.wire import query, quote


def tag(call: Call) -> int:
    """Name an image."""
    source, target = call.arguments
    try:
        reference = named(call.session, target)
    except Failure as e:
        raise Failure(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {e.message}', e.hint
        ) from None
    if reference.digest:
        raise Failure("refusing to create a tag with a digest reference")
    parameters = query(repo=reference.name, tag=reference.tag)
    call.session.ask("POST", f"/images/{quote(source)}/tag{parameters}").read()
    return 0


COMMAND = Command(
    "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    tag,
    arguments=(2, 2),
)
