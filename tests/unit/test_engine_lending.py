"""Open files that clients lend."""

from __future__ import annotations

import array
import os
import socket
import threading

import pytest

from sampan.engine import lending
from sampan.engine.core import Core
from sampan.engine.lending import Lender
from sampan.errors import Conflict
from support.descriptors import descriptors


def lend(core: Core, count: int) -> tuple[socket.socket, threading.Thread]:
    ours, theirs = socket.socketpair()
    lender = Lender(core, count, None)

    def hand_over() -> None:
        with theirs:
            lender.hand_over(theirs.fileno())

    thread = threading.Thread(target=hand_over)
    thread.start()
    with open(os.devnull, "rb") as file:
        rights = array.array("i", [file.fileno()] * count)
        ours.sendmsg([b"d"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    assert ours.recv(100).endswith(b"\n")
    return ours, thread


def test_all_clients_together_lend_no_more_than_leaves_the_server_enough() -> None:
    core, before = Core(), descriptors()
    loans = [lend(core, 60) for _ in range(20)]

    with pytest.raises(Conflict, match="too many"):
        Lender(core, 1, None)
    for client, thread in loans:
        client.close()
        thread.join()
    Lender(core, 60, None)
    assert descriptors() == before


def test_a_client_that_lends_its_own_end_of_the_connection_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lending, "_LONGEST_S", 0.05)
    core, before = Core(), descriptors()
    ours, theirs = socket.socketpair()
    ours.sendmsg([b"d"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [ours.fileno()]))])
    ours.close()

    with theirs:
        Lender(core, 1, None).hand_over(theirs.fileno())
    assert not core.lent
    assert descriptors() == before
