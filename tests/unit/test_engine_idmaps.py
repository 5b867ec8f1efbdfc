"""Mapped mounts in Podman's words."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from sampan.engine import idmaps
from sampan.errors import InvalidInput
from sampan.spec.runtime import IdMapping, Linux, Mount

CONTAINER = ((IdMapping(container_id=0, host_id=100_000, size=1000),),) * 2


def of(container_id: int, host_id: int, size: int) -> IdMapping:
    return IdMapping(container_id=container_id, host_id=host_id, size=size)


def test_ranges_are_on_the_disk_then_shown_then_how_many() -> None:
    uids, gids = idmaps.mapping("idmap=uids=0-1-10#10-11-10;gids=0-100-10", "/d", ((), ()))

    assert uids == (of(0, 1, 10), of(10, 11, 10))
    assert gids == (of(0, 100, 10),)


def test_an_at_counts_from_the_containers_own_ids() -> None:
    uids, gids = idmaps.mapping("idmap=uids=@500-0-1;gids=500-@7-1", "/d", CONTAINER)

    assert (uids, gids) == ((of(500, 100_000, 1),), (of(500, 100_007, 1),))


def test_the_word_alone_is_the_containers_mapping_which_it_must_have() -> None:
    assert idmaps.mapping("idmap", "/d", CONTAINER) == CONTAINER
    with pytest.raises(InvalidInput, match="can't map the ids of /d: the container has the host's user namespace"):
        idmaps.mapping("idmap", "/d", ((), ()))


@pytest.mark.parametrize(
    "word",
    [
        "idmap=", "idmap=uids=0-0-1", "idmap=uids=0-0-1;uids=1-1-1", "idmap=uids=0-0-0;gids=0-0-1", "ridmap",
        "idmap=uids=0-0;gids=0-0-1", "idmap=uids=0-4294967295-2;gids=0-0-1", "idmap=uids=a-0-1;gids=0-0-1",
        "idmap=what", "idmap=uids=;gids=",
    ],
)  # fmt: skip
def test_what_is_no_mapping_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="invalid mode: "):
        idmaps.check(word)


@given(st.text(alphabet="uidsg=-;#@0123456789"))
def test_what_passes_is_a_mapping_and_all_else_is_refused(text: str) -> None:
    with suppress(InvalidInput):
        idmaps.check(f"idmap={text}")

        assert all(idmaps.mapping(f"idmap={text}", "/d", CONTAINER))


@pytest.mark.parametrize(
    ("mount", "linux", "disk"),
    [
        (Mount(destination="/d"), Linux(), 7),
        (Mount(destination="/d"), Linux(uid_mappings=CONTAINER[0]), 100_007),
        (Mount(destination="/d", options=("idmap",)), Linux(uid_mappings=CONTAINER[0]), 7),
        (Mount(destination="/d", options=("idmap",), uid_mappings=(of(500, 0, 10),)), Linux(), 507),
        (
            Mount(destination="/d", options=("idmap",), uid_mappings=(of(500, 100_007, 1),)),
            Linux(uid_mappings=CONTAINER[0]),
            500,
        ),
    ],
)
def test_the_owner_on_the_disk_is_who_shows_as_the_user(mount: Mount, linux: Linux, disk: int) -> None:
    assert idmaps.on_disk(7, mount, linux, group=False) == disk


def test_an_id_that_no_mapping_has_is_said() -> None:
    with pytest.raises(InvalidInput, match="the container's user namespace has no id 1000"):
        idmaps.on_disk(1000, Mount(destination="/d"), Linux(uid_mappings=CONTAINER[0]), group=False)
    mount = Mount(destination="/d", options=("idmap",), uid_mappings=(of(500, 0, 1),))
    with pytest.raises(InvalidInput, match="the mount's mapping has no id that shows as 1000"):
        idmaps.on_disk(1000, mount, Linux(), group=False)
