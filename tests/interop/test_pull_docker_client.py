"""The real docker client pulls from sampan, and shows what it shows of dockerd."""

from __future__ import annotations

from support.peers import client
from support.pulling import BLOB, stalling
from support.sampan import Sampan


def test_the_real_docker_client_pulls(instance: Sampan) -> None:
    fake = stalling()
    try:
        fake.hold_at.clear()
        instance("ps")

        done = client(instance.socket, instance.root, "pull", f"{fake.address}/app:1", check=True)
        again = client(instance.socket, instance.root, "pull", "-a", f"{fake.address}/app", check=True)
        missing = client(instance.socket, instance.root, "pull", f"{fake.address}/app:2")
    finally:
        fake.end()

    id = BLOB[7:19]
    assert [line for line in done.lines if not line.startswith("Digest: ")] == [
        "1: Pulling from app", f"{id}: Pulling fs layer", f"{id}: Verifying Checksum", f"{id}: Download complete",
        f"{id}: Pull complete", f"Status: Downloaded newer image for {fake.address}/app:1", f"{fake.address}/app:1",
    ]  # fmt: skip
    assert again.lines[-2:] == [f"Status: Image is up to date for {fake.address}/app", f"{fake.address}/app"]
    assert missing.code == 1
    assert missing.err == (
        f"Error response from daemon: manifest for {fake.address}/app:2 not found: manifest unknown: manifest unknown\n"
    )
