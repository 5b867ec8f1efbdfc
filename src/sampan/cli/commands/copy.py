"""`sampan copy`: an image from place to place, without unpacking it, and past the store unless that is one of them."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure, UsageError
from sampan.cli.flags import Flag
from sampan.cli.moving import FORM, retries_of, write_digest
from sampan.cli.options import retries
from sampan.cli.output import say
from sampan.cli.places import auth_for, located
from sampan.cli.progress import show
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.spec.location import Location


def copy(call: Call) -> int:
    """Copy, and with -q print the digest alone."""
    options, session = call.options, call.session
    source, destination = map(located, call.arguments)
    if options["multi-arch"] not in ("", "all", "system"):
        raise UsageError(f"unknown multi-arch option {options['multi-arch']!r}", "choose one of all and system")
    digest = copy_image(
        session,
        source,
        destination,
        query(**retries_of(options)),
        quiet=options["quiet"],
        All=options["all"] and options["multi-arch"] != "system",
        Platform=options["platform"],
        Format=options["format"],
        Compression=options["compression-format"],
        CompressionLevel=options["compression-level"] or None,
        ForceCompression=options["force-compression"],
        PreserveDigests=options["preserve-digests"],
        SourceAuth=auth_for(session, source, options["src-creds"]).get("X-Registry-Auth"),
        DestinationAuth=auth_for(session, destination, options["dest-creds"]).get("X-Registry-Auth"),
    )
    if options["digestfile"]:
        write_digest(options["digestfile"], digest)
    if options["quiet"]:
        say(digest)
    return 0


def copy_image(
    session: Session,
    source: Location,
    destination: Location,
    parameters: str = "",
    *,
    quiet: bool,
    **fields: object,
) -> str:
    """Have the engine copy, with these fields of `CopyRequest` and parameters of the path; return the digest."""
    body = {name: value for name, value in fields.items() if value not in (None, "")}
    body |= {"Source": str(source), "Destination": str(destination)}
    answer = session.ask("POST", f"/sampan/copy{parameters}", body)
    try:
        told = show(answer.lines(), quiet=quiet)
    except Failure as e:
        raise Failure(f"Error response from daemon: {e.message}", e.hint) from None
    return str(told[-1]["Digest"])


COMMAND = Command(
    "copy [OPTIONS] SOURCE DESTINATION",
    "Copy an image from place to place: docker://NAME, oci:PATH:TAG, dir:PATH, store:NAME …",
    copy,
    flags=(
        Flag("all", "bool", "Copy all platforms, which is what it does unless told otherwise", short="a", default=True),
        *FORM,
        Flag("dest-creds", "string", "Credentials for the destination's registry: USER[:PASSWORD]"),
        Flag("digestfile", "string", "Write the digest to this file"),
        Flag("multi-arch", "string", "Of an index copy all platforms, or this system's: all, system"),
        Flag("platform", "string", "Of an index copy this one alone: OS[/ARCH[/VARIANT]]"),
        Flag("preserve-digests", "bool", "Fail where a digest would change"),
        Flag("quiet", "bool", "Print the digest only", short="q"),
        *retries(),
        Flag("src-creds", "string", "Credentials for the source's registry: USER[:PASSWORD]"),
    ),
    arguments=(2, 2),
)
