"""An instance of sampan for those that look for what breaks under load."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images import in_own_network
from support.images import busybox_tar
from support.sampan import Sampan, new_root


@contextmanager
def stocked() -> Iterator[Sampan]:
    """Yield one with the image busybox, in a network namespace of its own; print its log and end it."""
    in_own_network()
    sampan = Sampan(new_root())
    try:
        with tempfile.TemporaryDirectory() as directory:
            sampan("import", busybox_tar(Path(directory) / "busybox.tar"), "busybox")
        yield sampan
    finally:
        print(sampan.log(), flush=True)
        sampan.end()
