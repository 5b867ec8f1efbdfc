"""What a push says when it fails: that it can't push, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fake_registry import FakeRegistry
from support.sampan import Sampan


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    fake = FakeRegistry()
    yield fake
    fake.end()


@pytest.fixture
def name(sampan: Sampan, fake: FakeRegistry) -> Iterator[str]:
    name = f"{fake.address}/app:1"
    sampan("tag", "busybox", name)
    yield name
    sampan("rmi", name)


def test_a_refused_push_says_how_to_log_in(sampan: Sampan, fake: FakeRegistry, name: str) -> None:
    fake.asks = "basic"

    said = sampan.fails(1, "push", name).err
    assert f"push access denied for {fake.address}/app: unauthorized: no basic auth credentials\n" in said
    assert f"  hint: check the name, and log in: `sampan login {fake.address}`\n" in said
    assert "pull" not in said


def test_a_look_for_a_blob_that_fails_is_a_push_that_fails(sampan: Sampan, fake: FakeRegistry, name: str) -> None:
    fake.fail_next = [400] * 8

    said = sampan.fails(1, "push", name).err
    assert f"can't push {name}: received unexpected HTTP status: 400 Bad Request" in said
    assert "pull" not in said


def test_a_push_to_a_destination_is_called_a_push(sampan: Sampan, fake: FakeRegistry) -> None:
    fake.fail_next = [400] * 8

    said = sampan.fails(1, "push", "busybox", f"{fake.address}/other:2").err
    assert f"can't push busybox to docker://{fake.address}/other:2: " in said
    assert "store:" not in said
