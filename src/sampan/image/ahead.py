"""Make pieces in a thread while earlier ones are used: both are mostly in calls that leave the interpreter's lock."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def ahead(pieces: Iterator[bytes], most: int) -> Iterator[Iterator[bytes]]:
    """Give the pieces in order; about `most` are made before they are asked for. What fails in them is raised there.

    Leaving the block ends the thread after the piece that it is at: what it reads from may be closed then.
    """
    made: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(most)
    left = False

    def make() -> None:
        end: BaseException | None = None
        try:
            for piece in pieces:
                made.put(piece)
                room.acquire()
                if left:
                    break
        except BaseException as e:
            end = e
        made.put(end)

    def give() -> Iterator[bytes]:
        while (piece := made.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            room.release()
            yield piece

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        yield give()
    finally:
        left = True
        room.release()
        thread.join()
