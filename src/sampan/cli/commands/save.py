"""`sampan save`: images into an archive, or a directory."""

from __future__ import annotations

from sampan.cli import outfile
from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure, UsageError
from sampan.cli.flags import Flag
from sampan.cli.output import warn
from sampan.client.wire import query

_VERB = "save image"
_ARCHIVES = ("docker-archive", "oci-archive")
_DIRECTORIES = {"oci-dir": "oci", "docker-dir": "dir"}


def save(call: Call) -> int:
    """Write the archive to standard output, or to a file that appears when it is whole."""
    options = call.options
    format = options["format"]
    if format in _DIRECTORIES:
        return _save_directory(call)
    if format not in _ARCHIVES:
        raise UsageError(f"unknown format {format!r}", "there are docker-archive, oci-archive, oci-dir and docker-dir")
    if options["compress"] and format == "docker-archive":
        raise UsageError("--compress is not for docker-archive: its layers are plain", "sampan save IMAGE | gzip")
    outfile.check(options["output"], _VERB)
    parameters = query(
        names=call.arguments,
        platform=options["platform"],
        format=format if format != "docker-archive" else "",
        compress=options["compress"],
    )
    answer = call.session.ask("GET", f"/images/get{parameters}")
    if answer.headers.get("sampan-notes"):
        warn(answer.headers["sampan-notes"])
    outfile.write(answer, options["output"], _VERB)
    return 0


def _save_directory(call: Call) -> int:
    from sampan.cli.commands.copy import copy_image
    from sampan.cli.places import located

    options = call.options
    if not options["output"]:
        raise UsageError(f"--format {options['format']} needs a directory", "name it with --output")
    if len(call.arguments) > 1 and options["format"] == "docker-dir":
        raise UsageError("a directory of the format docker-dir has one image", "save the others elsewhere, or oci-dir")
    for name in call.arguments:
        transport = _DIRECTORIES[options["format"]]
        target = f"{transport}:{options['output']}" + (f":{_tag(name)}" if transport == "oci" else "")
        copy_image(
            call.session,
            located(f"store:{name}"),
            located(target),
            quiet=options["quiet"],
            Platform=options["platform"],
            Format="oci" if transport == "oci" else "docker",
            Compression="gzip" if options["compress"] else "none",
        )
    return 0


def _tag(name: str) -> str:
    from sampan.errors import InvalidInput
    from sampan.spec.reference import Reference

    try:
        reference = Reference.parse(name)
    except InvalidInput as e:
        raise Failure(e.message, e.hint) from None
    return reference.familiar() if reference.tag else ""


COMMAND = Command(
    "save [OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    save,
    flags=(
        Flag("compress", "bool", "Compress layers with gzip (not in docker-archive)"),
        Flag("format", "string", "docker-archive, oci-archive, oci-dir or docker-dir", default="docker-archive"),
        Flag("output", "string", "Write to this file or directory and not to standard output", short="o"),
        Flag("platform", "string", "Save it if it is for OS[/ARCH[/VARIANT]]"),
        Flag("quiet", "bool", "Show no progress of oci-dir and docker-dir", short="q"),
    ),
    arguments=(1, None),
)
