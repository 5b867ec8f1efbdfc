"""`sampan load`: images from an archive or a directory, as `docker save`, podman and skopeo write them."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.files import directory_pieces, file_pieces
from sampan.cli.flags import Flag
from sampan.cli.progress import show
from sampan.client.wire import query


def load(call: Call) -> int:
    """Send the archive and print what was loaded."""
    options = call.options
    if not options["input"] and os.isatty(0):
        raise Failure("requested load from stdin, but stdin is empty", "name the archive: sampan load -i FILE")
    quiet = options["quiet"] or not os.isatty(1)
    target = f"/images/load{query(quiet='1' if quiet else '0', platform=options['platform'])}"
    source = options["input"] or "-"
    if os.path.isdir(source) and not any(
        os.path.exists(f"{source}/{name}") for name in ("index.json", "manifest.json")
    ):
        raise Failure(f"read {source}: is a directory", "of directories OCI layouts are loaded, and skopeo's dir:")
    pieces = directory_pieces(source) if os.path.isdir(source) else file_pieces(source)
    answer = call.session.ask("POST", target, pieces, {"Content-Type": "application/x-tar"})
    show(answer.lines())
    return 0


COMMAND = Command(
    "load [OPTIONS]",
    "Load an image from a tar archive or STDIN",
    load,
    flags=(
        Flag("input", "string", "Read this file, OCI layout or dir: directory, and not standard input", short="i"),
        Flag("platform", "string", "Choose an image by OS[/ARCH[/VARIANT]]"),
        Flag("quiet", "bool", "Show no progress", short="q"),
    ),
)
