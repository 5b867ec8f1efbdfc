"""An answer that is an archive, written to standard output or to a file that appears when it is whole."""

from __future__ import annotations

import os
import stat

from sampan.cli.failure import Failure
from sampan.cli.output import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.client.wire import Response


def check(output: str, verb: str) -> None:
    """Refuse a place that can't be written to before anything is done, in Docker's words: `verb` is "save image"."""
    if not output:
        if os.isatty(1):
            raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        return
    directory = os.path.dirname(output) or "."
    if not os.path.isdir(directory):
        raise Failure(f"failed to {verb}: invalid output path: stat {directory}: no such file or directory")
    if os.path.isdir(output):
        raise Failure(f"failed to {verb}: cannot write to a directory")


def write(answer: Response, output: str, verb: str) -> None:
    """Write the answer to a file, with "" to standard output. A device or a pipe is written to, not replaced."""
    if not output:
        _copy(answer, 1)
        return
    from sampan.kernel.newfile import new_file

    path = os.path.realpath(output)
    try:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "wb", buffering=0) as file:
                _copy(answer, file.fileno())
            return
        with new_file(path, 0o600) as new:
            for piece in answer.pieces():
                new.write(piece)
    except OSError as e:
        raise Failure(f"failed to {verb}: write {output}: {(e.strerror or '').lower()}") from None


def _copy(answer: Response, fd: int) -> None:
    for piece in answer.pieces():
        write_all(fd, piece)
