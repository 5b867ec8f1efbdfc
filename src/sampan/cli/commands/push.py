"""`sampan push`: an image, or all tags of a repository, to a registry; or as Podman has it, an image to a place."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.credentials import headers_for
from sampan.cli.failure import Failure, UsageError
from sampan.cli.flags import Flag
from sampan.cli.moving import FORM, retries_of, write_digest
from sampan.cli.options import retries
from sampan.cli.output import say
from sampan.cli.progress import show
from sampan.cli.references import named
from sampan.client.wire import query, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.client.wire import Response
    from sampan.spec.reference import Reference


def push(call: Call) -> int:
    """Push and, with -q, print the whole name."""
    if len(call.arguments) > 1:
        return _to_destination(call)
    name, options = call.arguments[0], call.options
    reference = named(call.session, name)
    if reference.digest is not None:
        raise Failure("cannot push a digest reference", "push a tag")
    tagged = name.rpartition("/")[2].rpartition(":")[0] != ""
    if options["all-tags"] and tagged:
        raise Failure("tag can't be used with --all-tags/-a")
    if options["digestfile"] and options["all-tags"]:
        raise UsageError("--digestfile is for one tag", "leave out --all-tags")
    if not (tagged or options["all-tags"] or options["quiet"]):
        say(f"Using default tag: {reference.tag}")
    answer = ask(
        call.session,
        reference,
        options["creds"],
        tag="" if options["all-tags"] else reference.tag,
        platform=options["platform"],
        annotation=options["annotation"],
        format=options["format"],
        compressionFormat=options["compression-format"],
        compressionLevel=options["compression-level"] or None,
        forceCompressionFormat=options["force-compression"],
        **retries_of(options),
    )
    pushed = show(answer.lines(), quiet=options["quiet"])
    if options["digestfile"] and pushed:
        write_digest(options["digestfile"], pushed[-1]["Digest"])
    if options["quiet"]:
        say(reference.name if options["all-tags"] else str(reference))
    return 0


def ask(session: Session, reference: Reference, creds: str = "", **parameters: object) -> Response:
    """Have the engine push; return its answer, lines of progress. Parameters are the API's."""
    target = f"/images/{quote(reference.name)}/push{query(**parameters)}"
    return session.ask("POST", target, b"", headers_for(session, reference.registry, reference.repository, creds))


def _to_destination(call: Call) -> int:
    from sampan.cli.commands.copy import copy_image
    from sampan.cli.places import auth_for, located, named_place

    options, destination = call.options, named_place(call.arguments[1])
    for flag in ("all-tags", "annotation"):
        if options[flag]:
            raise UsageError(f"--{flag} is not for a DESTINATION", "tag the image with that name, and push the name")
    digest = copy_image(
        call.session,
        located(f"store:{call.arguments[0]}"),
        destination,
        query(**retries_of(options)),
        quiet=options["quiet"],
        Verb="push",
        Platform=options["platform"],
        Format=options["format"],
        Compression=options["compression-format"],
        CompressionLevel=options["compression-level"] or None,
        ForceCompression=options["force-compression"],
        DestinationAuth=auth_for(call.session, destination, options["creds"]).get("X-Registry-Auth"),
    )
    if options["digestfile"]:
        write_digest(options["digestfile"], digest)
    if options["quiet"]:
        say(str(destination))
    return 0


COMMAND = Command(
    "push [OPTIONS] NAME[:TAG] [DESTINATION]",
    "Upload an image to a registry",
    push,
    flags=(
        Flag("all-tags", "bool", "Push all tags of the repository", short="a"),
        Flag("annotation", "list", "Annotate the manifest: NAME=VALUE; its digest is another then"),
        *FORM,
        Flag("creds", "string", "Credentials for the registry: USER[:PASSWORD]"),
        Flag("digestfile", "string", "Write the digest to this file"),
        Flag("disable-content-trust", "bool", "Skip signing", default=True, unsupported="there is no content trust"),
        Flag("platform", "string", "Push it if it is for OS[/ARCH[/VARIANT]]"),
        Flag("quiet", "bool", "Print the name only", short="q"),
        *retries(),
    ),
    arguments=(1, 2),
)
