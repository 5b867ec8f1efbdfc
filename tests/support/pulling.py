"""What the tests of pulls share: a layer that its registry stalls in, and how to see how far a pull is."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import termios
from pathlib import Path

from support.fake_registry import digest_of, packed
from support.image_store import tarball
from support.sampan import Sampan, wait_until
from support.stalling_registry import StallingRegistry

NOISE = random.Random(7).randbytes(3_000_000)
LAYER = tarball(a=NOISE, b=b"small")
OTHER = tarball(c=NOISE[:1_000_000])
BLOB = digest_of(packed(LAYER))
SIZE = len(packed(LAYER))
HALF = 1_500_000


def stalling() -> StallingRegistry:
    """Return a registry with the image app:1 of LAYER, which comes to HALF and no further."""
    registry = StallingRegistry()
    registry.put_image("app", "1", LAYER, compress=packed)
    registry.hold_at[BLOB] = HALF
    return registry


def begun(sampan: Sampan, fake: StallingRegistry, name: str = "app:1") -> subprocess.Popen[bytes]:
    """Start a pull; return when half of its layer is at the worker, and the registry stalls."""
    client = sampan.start("pull", f"{fake.address}/{name}")
    wait_until(lambda: fake.sent[BLOB] == HALF, what="half of the layer")
    wait_until(lambda: unpacked(sampan) > HALF - 600_000)
    return client


def unpacked(sampan: Sampan) -> int:
    """Return how much of the layer's large file is written: about as much as of the layer was read."""
    try:
        return sum(f.stat().st_size for f in (sampan.root / "tmp").rglob("a"))
    except FileNotFoundError:  # another layer has just gone to its place
        return 0


def interrupted(sampan: Sampan, name: str) -> bool:
    """Tell whether a layer of an image waits half unpacked: that its client has left is seen in a moment."""
    (plan,) = sampan.json("pull", "--plan", "--format", "json", name)
    return any(layer["State"] == "interrupted" for layer in plan["Layers"])


def queued(pid: int) -> int:
    """Return how many bytes a process has still to read from its pipes."""
    return sum(_readable(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))


def _readable(path: str) -> int:
    if not os.readlink(path).startswith("pipe:"):
        return 0
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(fd)


def workers(sampan: Sampan) -> list[int]:
    """Return the instance's worker processes."""
    found = []
    for pid, _ in sampan.ours():
        try:
            if Path(f"/proc/{pid}/comm").read_text() == "sampan-worker\n":
                found.append(pid)
        except OSError:
            continue
    return found
