"""Outputs of a build that are files of the client's: an archive, or a directory into which one is unpacked."""

from __future__ import annotations

import os
import stat

from sampan.cli.failure import Failure
from sampan.cli.output import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Json = dict[str, Any]

CLIENT = ("local", "tar", "oci", "docker")
"""Types whose files come to the client."""


def check(output: Json) -> None:
    """Refuse a place that can't be written to before anything is built."""
    where = output["attributes"].get("dest", "")
    if output["type"] not in CLIENT or where in ("", "-"):
        if where == "-" and os.isatty(1):
            raise Failure(f"dest file is required for {output['type']} exporter. refusing to write to console")
        return
    if is_directory(output):
        if os.path.exists(where) and not os.path.isdir(where):
            raise Failure(f"can't write the output to {where}: not a directory")
    elif os.path.isdir(where):
        raise Failure(f"destination directory {where} is a directory: a {output['type']} output is a file", "add /NAME")
    elif not os.path.isdir(os.path.dirname(where)):
        raise Failure(f"can't write the output to {where}: no such directory: {os.path.dirname(where)}")


def title(output: Json) -> str:
    """Return how progress calls it, as BuildKit does."""
    kinds = {
        "local": "client directory",
        "tar": "client tarball",
        "oci": "oci image format",
        "docker": "docker image format",
    }
    return f"exporting to {kinds[output['type']]}"


def is_directory(output: Json) -> bool:
    """Tell whether an output is unpacked: local, and an OCI layout with tar=false."""
    return bool(output["type"] == "local" or output["attributes"].get("tar") == "false")


def write(output: Json, pieces: Iterable[bytes]) -> None:
    """Put the bytes where they belong."""
    where = output["attributes"].get("dest", "-")
    try:
        if is_directory(output):
            from sampan.cli.unpacking import unpack

            os.makedirs(where, exist_ok=True)
            unpack(where, pieces)
        elif where == "-":
            for piece in pieces:
                write_all(1, piece)
        else:
            _file(where, pieces)
    except OSError as e:
        raise Failure(f"can't write the output to {where}: {(e.strerror or str(e)).lower()}") from None


def _file(path: str, pieces: Iterable[bytes]) -> None:
    from sampan.kernel.newfile import new_file

    path = os.path.realpath(path)
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):  # a device or a pipe is written to
        with open(path, "wb", buffering=0) as file:
            for piece in pieces:
                write_all(file.fileno(), piece)
        return
    with new_file(path) as new:
        for piece in pieces:
            new.write(piece)
