"""`sampan pull`: get an image from a registry."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.credentials import headers_for
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.cli.progress import show
from sampan.cli.references import named
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.spec.reference import Reference


def pull(call: Call) -> int:
    """Pull one image and print its whole name."""
    name, options = call.arguments[0], call.options
    reference = named(call.session, name)
    if not options["quiet"] and reference.digest is None and reference.familiar() != name and str(reference) != name:
        say(f"Using default tag: {reference.tag}")
    pull_reference(call.session, reference, platform=options["platform"], quiet=options["quiet"])
    say(str(reference))
    return 0


def pull_image(session: Session, name: str, *, platform: str, quiet: bool, stream: int = 1) -> None:
    """Pull an image by its name and show progress on `stream`."""
    pull_reference(session, named(session, name), platform=platform, quiet=quiet, stream=stream)


def pull_reference(session: Session, reference: Reference, *, platform: str, quiet: bool, stream: int = 1) -> None:
    """Pull an image and show progress on `stream`."""
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
