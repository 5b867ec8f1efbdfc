"""The process connector, which speaks in the machine's first network namespace."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

import pytest

from sampan.kernel import proc_events
from support.network import of_the_host

ENDS = {
    "input(); raise SystemExit(9)": 9 << 8,
    "import os, signal; input(); os.kill(os.getpid(), signal.SIGTERM)": signal.SIGTERM,
    # Its first thread ends before the others: its own status is not the process's.
    "import ctypes, os, threading, time; input(); "
    "threading.Thread(target=lambda: (time.sleep(0.2), os._exit(7))).start(); ctypes.CDLL(None).pthread_exit(None)": 7
    << 8,
}


def ended(program: str, watched: Callable[[int], int]) -> tuple[int | None, int]:
    """Run a program whose input ends when `watched(its pid)` is listened to; return what is told, and its status."""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    assert process.stdin
    try:
        with of_the_host():
            sock = proc_events.listen_to_exits(watched(process.pid))
    except OSError as e:
        process.kill()
        process.communicate()
        pytest.skip(f"missing kernel feature: the process connector, here: {e}")
    process.stdin.write(b"\n")
    process.stdin.flush()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    status, told = os.waitpid(process.pid, 0)[1], None
    process.stdin.close()
    process.returncode = 0
    while told != status and select.select([sock], [], [], 1)[0]:
        told = proc_events.last_status(sock)
    proc_events.close(sock)
    return told, status


@pytest.mark.parametrize(("program", "wanted"), ENDS.items(), ids=["exit", "signal", "threads"])
def test_the_last_thread_to_end_has_the_status_of_the_process(program: str, wanted: int) -> None:
    assert ended(program, lambda pid: pid) == (wanted, wanted)


def test_nothing_is_told_of_another_process() -> None:
    assert ended("input(); raise SystemExit(9)", lambda _pid: os.getpid()) == (None, 9 << 8)


def test_an_end_that_another_program_tells_of_is_not_believed() -> None:
    told = struct.pack("=36xI16xII64x", 0x80000000, os.getpid(), 9 << 8)
    try:
        with of_the_host():
            sock = proc_events.listen_to_exits(os.getpid())
            liar = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11)
    except OSError as e:
        pytest.skip(f"missing kernel feature: the process connector, here: {e}")

    with liar:
        liar.sendto(told, sock.getsockname())
        assert select.select([sock], [], [], 1)[0]
        assert proc_events.last_status(sock) is None
    proc_events.close(sock)
