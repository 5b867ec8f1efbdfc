"""A pull that was interrupted goes on where it was: no byte is fetched twice. Of one that does not, nothing is left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from support.fake_registry import digest_of, packed
from support.image_store import tarball
from support.pulling import (
    BLOB,
    HALF,
    LAYER,
    NOISE,
    OTHER,
    SIZE,
    begun,
    interrupted,
    queued,
    stalling,
    unpacked,
    workers,
)
from support.sampan import Sampan, has_ended, wait_until
from support.stalling_registry import StallingRegistry

MOST = 8  # wait at once


@pytest.fixture
def fake() -> Iterator[StallingRegistry]:
    registry = stalling()
    yield registry
    registry.end()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: has_ended(pid), what=f"the end of {pid}")


def goes_on(sampan: Sampan, fake: StallingRegistry, name: str = "app:1") -> None:
    fake.down = False
    wait_until(lambda: interrupted(sampan, f"{fake.address}/{name}"))
    fake.hold_at.clear()
    said = sampan("pull", f"{fake.address}/{name}")
    assert "Downloaded newer image" in said.out
    assert HALF - 600_000 < fake.starts[BLOB][-1] <= HALF  # a server that is killed may have had more than the worker
    layer = sampan.root / "layers/sha256" / digest_of(LAYER)[7:]
    assert (layer / "diff/a").read_bytes() == NOISE
    assert not list((sampan.root / "tmp").iterdir())
    wait_until(lambda: not workers(sampan), what="its end")


def test_after_the_server_was_killed(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    worker = workers(instance)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)

    assert workers(instance) == worker
    goes_on(instance, fake)


def test_after_the_client_has_left(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=10)

    assert client.returncode == 130
    goes_on(instance, fake)


def test_after_a_network_that_was_down_for_long(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    fake.down = True
    _, err = client.communicate(timeout=60)

    assert client.returncode == 1
    assert b"can't get layer" in err
    goes_on(instance, fake)


def test_after_a_registry_that_stalls(instance: Sampan, fake: StallingRegistry) -> None:
    (instance.root / "config.toml").write_text('[registries]\ntimeout = "500ms"\ntries = 2\nwait = "10ms"\n')
    fake.hold_at[BLOB] = HALF
    said = instance.fails(1, "pull", f"{fake.address}/app:1")

    assert f"broke off after {HALF} of {SIZE} bytes" in said.err
    goes_on(instance, fake)


def test_after_another_layer_has_failed(instance: Sampan, fake: StallingRegistry) -> None:
    other = digest_of(packed(OTHER))
    fake.put_image("app", "2", LAYER, OTHER, compress=packed)
    media_type, data = fake.documents[f"app/blobs/{other}"]
    fake.documents[f"app/blobs/{other}"] = (media_type, data[:2000] + bytes(len(data) - 2000))
    fake.hold_at[other] = 1000
    client = begun(instance, fake, "app:2")
    del fake.hold_at[other]
    _, err = client.communicate(timeout=60)
    fake.documents[f"app/blobs/{other}"] = (media_type, data)

    assert client.returncode == 1
    assert f"can't get layer {other[7:19]}" in err.decode()
    goes_on(instance, fake, "app:2")


def test_another_image_goes_on_with_the_layer(instance: Sampan, fake: StallingRegistry) -> None:
    fake.put_image("else/where", "7", LAYER, OTHER, compress=packed)
    client = begun(instance, fake)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)

    goes_on(instance, fake, "else/where:7")


def test_after_the_keeper_was_killed(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    kill(instance.info("KeeperPid"))
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)

    goes_on(instance, fake)


def test_when_all_bytes_had_come_as_the_server_was_killed(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    (worker,) = workers(instance)
    os.kill(worker, signal.SIGSTOP)
    fake.hold_at.clear()
    wait_until(lambda: fake.sent[BLOB] == SIZE and queued(worker))
    read = unpacked(instance) + queued(worker)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)
    os.kill(worker, signal.SIGCONT)

    assert "Downloaded newer image" in instance("pull", f"{fake.address}/app:1").out
    assert fake.starts[BLOB][-1] >= read


def test_a_killed_worker_leaves_nothing_and_the_layer_is_fetched_anew(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)
    kill(*workers(instance))
    fake.hold_at.clear()

    assert "Downloaded newer image" in instance("pull", f"{fake.address}/app:1").out
    assert fake.starts[BLOB] == [0, 0]
    assert not list((instance.root / "tmp").iterdir())


def test_what_a_killed_worker_left_is_removed_by_the_next_server(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)
    kill(*workers(instance))
    kill(instance.info("ServerPid"))

    instance("ps")
    assert not list((instance.root / "tmp").iterdir())


def test_a_worker_killed_while_it_is_fed_fails_the_pull(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    kill(*workers(instance))
    fake.hold_at.clear()
    _, err = client.communicate(timeout=30)

    assert client.returncode == 1
    assert b"the worker: it has ended" in err
    assert not list((instance.root / "tmp").iterdir())


def test_a_worker_that_waited_long_gives_up(instance: Sampan, fake: StallingRegistry) -> None:
    instance.env["SAMPAN_PARKED_S"] = "0.5"
    client = begun(instance, fake)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)

    wait_until(lambda: not workers(instance))
    assert not list((instance.root / "tmp").iterdir())


def test_a_prune_gives_back_what_was_interrupted(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)
    instance("image", "prune", "-f", "--filter", "until=1h")
    assert workers(instance)
    (images, *_) = [json.loads(line) for line in instance("system", "df", "--format", "json").lines]
    assert images["Reclaimable"].startswith("1.")

    assert "Total reclaimed space: 1." in instance("image", "prune", "-f").out
    wait_until(lambda: not workers(instance))
    assert not list((instance.root / "tmp").iterdir())


def test_stopping_ends_those_that_wait(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)
    kill(instance.info("ServerPid"))
    client.communicate(timeout=10)
    assert workers(instance)

    instance("system", "stop")
    wait_until(lambda: not instance.ours())
    assert not list((instance.root / "tmp").iterdir())


def test_stopping_ends_those_that_are_fed(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)

    instance("system", "stop")
    client.communicate(timeout=30)
    wait_until(lambda: not instance.ours())
    assert not list((instance.root / "tmp").iterdir())


def test_the_server_rests_when_none_waits_any_more(instance: Sampan, fake: StallingRegistry) -> None:
    instance.env |= {"SAMPAN_PARKED_S": "2", "SAMPAN_IDLE_S": "0.3"}
    client = begun(instance, fake)
    client.kill()
    client.communicate()

    wait_until(lambda: not instance.ours())
    assert not list((instance.root / "tmp").iterdir())


def test_no_more_than_a_few_wait(instance: Sampan, fake: StallingRegistry) -> None:
    tars = [tarball(**{f"f{number}": NOISE[: 200_000 + number]}) for number in range(11)]
    for number, tar in enumerate(tars):
        fake.put_image("many", str(number), tar, compress=packed)
        fake.hold_at[digest_of(packed(tar))] = 150_000
    for number, tar in enumerate(tars):
        client = instance.start("pull", f"{fake.address}/many:{number}")
        wait_until(lambda tar=tar: fake.sent[digest_of(packed(tar))] == 150_000)
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=10)
        wait_until(lambda number=number: interrupted(instance, f"{fake.address}/many:{number}"))

    wait_until(lambda: len(workers(instance)) == MOST)
    fake.hold_at.clear()
    for number in (10, 0):
        instance("pull", f"{fake.address}/many:{number}")
    assert fake.starts[digest_of(packed(tars[10]))] == [0, 150_000]
    assert fake.starts[digest_of(packed(tars[0]))] == [0, 0]
    instance("system", "stop")
