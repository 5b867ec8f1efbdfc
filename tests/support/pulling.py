"""What the tests of pulls share: a layer that its registry stalls in, and how to see how far a pull is."""

from __future__ import annotations

import random
import subprocess
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
    wait_until(lambda: sum(f.stat().st_size for f in (sampan.root / "tmp").rglob("a")) > HALF - 600_000)
    return client


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
