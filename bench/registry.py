"""Push and pull one large blob with several clients at once, at our registry and at Debian's docker-registry.

    python bench/registry.py [--clients N] [--size MIB] [--directory DIR] [--turns N]

Each client is a process of its own that costs as little as can be: it sends with sendfile(2) from a sparse file and
lets the kernel throw away what it receives (MSG_TRUNC, tcp(7)). Printed are, for each registry and each way: the time
by the clock (the least of the turns), the registry's own CPU time, the bytes a second, and the most memory that it
had, as PSS without the files' own pages in the page cache. The directory is best a tmpfs, or for more than it holds a
compressed btrfs: the blob is nearly all zeros.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]
from support.own_registry import OwnRegistry  # noqa: E402
from support.registry import Registry  # noqa: E402

MSG_TRUNC = 0x20


class Running(NamedTuple):
    """A registry that runs."""

    name: str
    port: int
    pid: int


class Measured(NamedTuple):
    """What one turn cost."""

    wall_s: float
    cpu_s: float
    peak_kib: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="MiB of the blob")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="registry-bench-", dir=options.directory))
    try:
        blob, digest = make_blob(base / "blob", options.size << 20)
        total = options.clients * options.size / 1024
        print(f"{options.clients} clients, a blob of {options.size} MiB each; Python {sys.version.split()[0]}")
        print(f"{'':16} {'':5} {'wall s':>8} {'CPU s':>8} {'GiB/s':>8} {'CPU s/GiB':>10} {'most PSS MiB':>13}")
        for contender in (ours, debians):
            for work in (push, pull):
                taken = []
                for number in range(options.turns):
                    with contender(base / f"{contender.__name__}-{number}") as registry:
                        push(registry, blob, digest, "r0")
                        taken.append(measure(registry, options.clients, partial(work, registry, blob, digest)))
                show(registry.name, work.__name__, taken, total)
    finally:
        shutil.rmtree(base)
    return 0


def show(name: str, work: str, taken: list[Measured], total_gib: float) -> None:
    wall, cpu = min(one.wall_s for one in taken), min(one.cpu_s for one in taken)
    peak = max(one.peak_kib for one in taken) / 1024
    rate, per_gib = total_gib / wall, cpu / total_gib
    print(f"{name:16} {work:5} {wall:8.2f} {cpu:8.2f} {rate:8.2f} {per_gib:10.2f} {peak:13.1f}", flush=True)


def make_blob(path: Path, size: int) -> tuple[Path, str]:
    """Make a file of zeros, but for its beginning, that takes no room; return it and its digest."""
    with path.open("wb") as file:
        file.write(os.urandom(4096))
        file.truncate(size)
    with path.open("rb") as file:
        return path, "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def ours(directory: Path) -> Iterator[Running]:
    directory.mkdir()
    registry = OwnRegistry(directory / "data", directory / "log", "--quiet")
    try:
        yield Running("sampan", registry.port, registry.process.pid)
    finally:
        registry.end()
        shutil.rmtree(directory)


@contextmanager
def debians(directory: Path) -> Iterator[Running]:
    directory.mkdir()
    registry = Registry(directory)
    try:
        yield Running("docker-registry", int(registry.address.rpartition(":")[2]), registry._server.pid)
    finally:
        registry.end()
        shutil.rmtree(directory)


# ---------------------------------------------------------------------------------------------------- a client


def answer(client: socket.socket) -> str:
    """Return an answer's head, with what was read of the body."""
    said = b""
    while b"\r\n\r\n" not in said:
        piece = client.recv(4096)
        if not piece:
            raise ConnectionError(f"no answer: {said!r}")
        said += piece
    return said.decode("latin-1")


def push(registry: Running, blob: Path, digest: str, name: str) -> None:
    with socket.create_connection(("127.0.0.1", registry.port)) as client, blob.open("rb") as file:
        client.sendall(f"POST /v2/{name}/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        said = answer(client)
        location = re.search(r"(?i)^location: (?:http://[^/]*)?(.*)\r$", said, re.MULTILINE)
        assert location, said
        size = os.fstat(file.fileno()).st_size
        mark = "&" if "?" in location[1] else "?"
        client.sendall(
            f"PUT {location[1]}{mark}digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        client.sendfile(file)
        assert " 201 " in answer(client).splitlines()[0]


def pull(registry: Running, blob: Path, digest: str, name: str) -> None:
    del name  # all from the repository that has it
    with socket.create_connection(("127.0.0.1", registry.port)) as client:
        client.sendall(f"GET /v2/r0/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        left = blob.stat().st_size
        said = answer(client)
        left -= len(said.partition("\r\n\r\n")[2])
        while left > 0:
            count = client.recv_into(_NOWHERE, min(left, 1 << 20), MSG_TRUNC)
            assert count
            left -= count


_NOWHERE = bytearray(1 << 20)


# ---------------------------------------------------------------------------------------------------- what it costs


def measure(registry: Running, clients: int, work: Callable[[str], None]) -> Measured:
    """Let the clients work, each in a process and at a repository of its own; return what it cost the registry."""
    peak = [0]
    over = threading.Event()
    sampler = threading.Thread(target=sample, args=(registry.pid, peak, over))
    before, began = cpu_s(registry.pid), time.monotonic()
    children = [fork(partial(work, f"r{number + 1}")) for number in range(clients)]
    sampler.start()
    failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    wall = time.monotonic() - began
    over.set()
    sampler.join()
    if any(failed):
        raise RuntimeError(f"{registry.name}: a client failed")
    return Measured(wall, cpu_s(registry.pid) - before, peak[0])


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def sample(pid: int, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.1):
        peak[0] = max(peak[0], pss_kib(pid))


def pss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
