"""`sampan import`: an image of one layer from the archive of a root filesystem, or from a directory."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.failure import Unavailable
from sampan.cli.files import directory_pieces, file_pieces
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.client.jsontext import loads
from sampan.client.wire import query


def import_(call: Call) -> int:
    """Send the archive and print the image's id."""
    source, options = call.arguments[0], call.options
    if source.startswith(("http://", "https://")):
        raise Unavailable("import from a URL is unsupported", f"curl -fL {source} | sampan import - NAME")
    repository, tag = _split(call.arguments[1]) if len(call.arguments) > 1 else ("", "")
    parameters = query(
        fromSrc="-",
        repo=repository,
        tag=tag,
        message=options["message"],
        platform=options["platform"],
        changes=options["change"],
    )
    pieces = directory_pieces(source) if os.path.isdir(source) else file_pieces(source)
    answer = call.session.ask("POST", f"/images/create{parameters}", pieces, {"Content-Type": "application/x-tar"})
    for line in answer.lines():
        _show(line)
    return 0


def _show(line: bytes) -> None:
    if not line.strip():
        return
    message = loads(line)
    if message.get("error"):
        from sampan.cli.failure import Failure

        raise Failure(str(message["error"]), str(message.get("hint") or ""))
    if message.get("status"):
        say(str(message["status"]))


def _split(reference: str) -> tuple[str, str]:
    """Part a name from its tag; a colon before the last slash belongs to a port."""
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "")


COMMAND = Command(
    "import [OPTIONS] FILE|-|DIRECTORY [REPOSITORY[:TAG]]",
    "Create an image from the archive of a root filesystem, or from a directory",
    import_,
    flags=(
        Flag("change", "list", "Apply an instruction of a Dockerfile: 'CMD sh'", short="c"),
        Flag("message", "string", "Message in the image's history", short="m"),
        Flag("platform", "string", "State the platform: OS[/ARCH[/VARIANT]]", environment="DOCKER_DEFAULT_PLATFORM"),
    ),
    arguments=(1, 2),
)
