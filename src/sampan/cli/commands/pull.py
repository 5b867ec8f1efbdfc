"""`sampan pull`: get an image from a registry."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.credentials import headers_for
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.cli.progress import show
from sampan.client.wire import query
from sampan.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session


def pull(call: Call) -> int:
    """Pull one image and print its whole name."""
    from sampan.spec.reference import Reference

    name, options = call.arguments[0], call.options
    try:
        reference = Reference.parse(name)
    except InvalidInput as e:
        raise Failure(e.message, e.hint) from None
    if not options["quiet"] and reference.digest is None and reference.familiar() != name and str(reference) != name:
        say(f"Using default tag: {reference.tag}")
    pull_image(call.session, str(reference), platform=options["platform"], quiet=options["quiet"])
    say(str(reference))
    return 0


def pull_image(session: Session, name: str, *, platform: str, quiet: bool, stream: int = 1) -> None:
    """Pull an image and show progress on `stream`."""
    from sampan.spec.reference import Reference

    reference = Reference.parse(name)
    parameters = query(fromImage=reference.familiar_name(), tag=reference.digest or reference.tag, platform=platform)
    answer = session.ask("POST", f"/images/create{parameters}", None, headers_for(session, reference.registry))
    try:
        show(answer.lines(), stream=stream, quiet=quiet)
    except Failure as e:
        raise Failure(f"Error response from daemon: {e.message}", e.hint) from None


COMMAND = Command(
    "pull [OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    pull,
    flags=(
        Flag("all-tags", "bool", "Every tag", short="a", unsupported="pull the tags one by one"),
        Flag(
            "disable-content-trust", "bool", "Skip verification", default=True, unsupported="there is no content trust"
        ),
        Flag("platform", "string", "Choose an image by OS[/ARCH[/VARIANT]]"),
        Flag("quiet", "bool", "Print the name only", short="q"),
    ),
    arguments=(1, 1),
)
