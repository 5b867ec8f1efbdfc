"""The event loop of keeper and shims."""

from __future__ import annotations

import os

from sampan.supervise.loop import IN, Loop


def test_what_has_the_number_of_what_was_closed_is_not_told_of_the_others_events() -> None:
    loop, wrong = Loop(), []
    ready = [os.pipe(), os.pipe()]
    quiet = os.pipe()
    for read, write in ready:
        os.write(write, b"x")
        loop.watch(read, IN, lambda _events, read=read: replace_the_other(read))

    def replace_the_other(read: int) -> None:
        (other,) = {ready[0][0], ready[1][0]} - {read}
        loop.forget(read)
        loop.forget(other)
        os.dup2(quiet[0], other)
        loop.watch(other, IN, wrong.append)
        loop.call_later(0, loop.stop)

    loop.run()

    assert wrong == []
    for fd in (*ready[0], *ready[1], *quiet):
        os.close(fd)
    loop.close()
