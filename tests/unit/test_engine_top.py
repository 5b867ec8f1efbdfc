"""`top` by the host's ps."""

from __future__ import annotations

import os

from sampan.engine.top import _ps
from support.descriptors import descriptors


def test_a_container_may_have_more_processes_than_one_argument_can_name() -> None:
    before = descriptors()
    many = {os.getpid(), *range(1 << 23, (1 << 23) + 20_000)}

    found = _ps(["-o", "pid,comm"], many)
    assert found.titles == ("PID", "COMMAND")
    assert str(os.getpid()) in {row[0] for row in found.processes}
    assert descriptors() <= before
