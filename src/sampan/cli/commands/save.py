"""`sampan save`: images into an archive, or a directory."""

from __future__ import annotations

import os
import stat

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure, UsageError
from sampan.cli.flags import Flag
from sampan.cli.output import warn, write_all
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.client.wire import Response

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
    output = options["output"]
    if not output and os.isatty(1):
        raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        _check_output(output)
    parameters = query(
        names=call.arguments,
        platform=options["platform"],
        format=format if format != "docker-archive" else "",
        compress=options["compress"],
    )
    answer = call.session.ask("GET", f"/images/get{parameters}")
    if answer.headers.get("sampan-notes"):
        warn(answer.headers["sampan-notes"])
    if output:
        _write_file(answer, output)
    else:
        for piece in answer.pieces():
            write_all(1, piece)
    return 0


def _check_output(output: str) -> None:
    """Refuse before anything is done, in Docker's words."""
    directory = os.path.dirname(output) or "."
    if not os.path.isdir(directory):
        raise Failure(f"failed to save image: invalid output path: stat {directory}: no such file or directory")
    if os.path.isdir(output):
        raise Failure("failed to save image: cannot write to a directory", "--format oci-dir writes one")


def _write_file(answer: Response, output: str) -> None:
    from sampan.kernel.newfile import new_file

    path = os.path.realpath(output)
    try:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "wb", buffering=0) as file:  # a device or a pipe: nothing can take its place
                for piece in answer.pieces():
                    write_all(file.fileno(), piece)
            return
        with new_file(path, 0o600) as new:
            for piece in answer.pieces():
                new.write(piece)
    except OSError as e:
        raise Failure(f"failed to save image: write {output}: {(e.strerror or '').lower()}") from None


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
