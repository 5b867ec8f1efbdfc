"""Killing a process at a chosen system call, a small disk, raw bytes to the API: what the tests of faults do to it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from support.sampan import Sampan, wait_until


class Step(NamedTuple):
    """A system call of a traced process: its name, and which of them."""

    call: str
    number: int


class Strace:
    """strace on processes: records their calls, or kills the one that enters a certain one of them."""

    def __init__(self, pids: list[int], kill_at: Step | None = None) -> None:
        self._out = Path(tempfile.mkstemp(prefix="strace-")[1])
        inject = [f"--inject={kill_at.call}:signal=KILL:when={kill_at.number}"] if kill_at else []
        argv = ["strace", "-f", "-qq", "-e", "trace=all", *inject, "-o", str(self._out)]
        for pid in pids:
            argv += ["-p", str(pid)]
        self._process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        wait_until(lambda: all("TracerPid:\t0\n" not in status(pid) for pid in pids), fail=False, timeout=5)

    def steps(self) -> list[Step]:
        """Detach; return what the processes, their threads and their children have called, each step once."""
        self.end(keep=True)
        counts: dict[str, Counter[str]] = {}
        steps = {}
        for line in self._out.read_text(errors="replace").splitlines():
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found:
                count = counts.setdefault(found[1], Counter())
                count[found[2]] += 1
                steps[Step(found[2], count[found[2]])] = None
        self._out.unlink()
        return list(steps)

    def end(self, *, keep: bool = False) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not keep:
            self._out.unlink(missing_ok=True)


@contextmanager
def slowed(pid: int, call: str, seconds: float) -> Iterator[None]:
    """A process that waits before each of its calls of a kind; its children are as quick as ever."""
    slow = f"--inject={call}:delay_enter={round(seconds * 1e6)}"
    with subprocess.Popen(["strace", "-qq", "-e", f"trace={call}", slow, "-o", "/dev/null", "-p", str(pid)]) as tracer:
        try:
            wait_until(lambda: "TracerPid:\t0\n" not in status(pid))
            yield
        finally:
            tracer.terminate()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that stand still meanwhile, those of them that live so long."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def roles(sampan: Sampan) -> dict[str, list[int]]:
    """The instance's processes: keeper, server, nursery, shim …"""
    found: dict[str, list[int]] = {}
    for pid, command in sampan.ours():
        name = (re.match(r"Name:\t(.*)", status(pid)) or ["", ""])[1]
        role = name.removeprefix("sampan-") if name.startswith("sampan-") else ""
        if not role and "-m sampan.api.server" in command:
            role = "server"
        found.setdefault(role, []).append(pid)
    return found


def counts(pids: list[int]) -> list[tuple[int, int]]:
    """How many descriptors and threads each has."""
    return [(len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))) for pid in pids]


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """A tmpfs at `directory`, which is unmounted at the end."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(directory)], check=True)
    try:
        yield directory
    finally:

        def unmounted() -> bool:
            return subprocess.run(["umount", str(directory)], check=False, stderr=subprocess.DEVNULL).returncode == 0

        wait_until(unmounted, what="the small disk is busy")
        directory.rmdir()


@contextmanager
def filled(disk: Path, leave_bytes: int = 0) -> Iterator[None]:
    """No room on a disk, but for `leave_bytes`."""
    filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            info = os.statvfs(disk)
            left = info.f_bavail * info.f_bsize - leave_bytes
            if left <= 0:
                break
            try:
                os.write(filler, bytes(min(left, 1 << 20)))
            except OSError:
                break
        yield
    finally:
        os.close(filler)
        (disk / "filler").unlink()


def say(sampan: Sampan, data: bytes, timeout: float = 5) -> bytes:
    """Send bytes to the API's socket, and no more; return all that comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(str(sampan.socket))
        answer = b""
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has refused before it heard all
        try:
            while data := sock.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    if body:
        head += "Content-Type: application/json\r\n"
    return head.encode() + b"\r\n" + body
