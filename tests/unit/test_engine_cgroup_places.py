"""Where control groups are that were given a parent: what is a parent, and what is remembered of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.engine.cgroup_places import CgroupPlaces, place
from sampan.errors import InvalidInput
from support.engine import ID, translated

OWN = "/sampan-12345678"


@pytest.mark.parametrize(
    ("parent", "found"),
    [
        ("", f"{OWN}/{ID}"),
        ("/team", f"/team/{ID}"),
        ("team/a/", f"/team/a/{ID}"),
        ("/", f"/{ID}"),
        ("../../team", f"/team/{ID}"),
        ("a-b.slice", f"/a.slice/a-b.slice/{ID}"),
        ("/a-b.slice", f"/a-b.slice/{ID}"),
        (OWN, f"{OWN}/{ID}"),
        (f"{OWN}/team", f"{OWN}/team/{ID}"),
        ("x:y:z", f"/x:y:z/{ID}"),
    ],
)
def test_a_parent_is_a_path_below_the_root_or_a_slice(parent: str, found: str) -> None:
    assert place(parent, OWN, ID) == found


@pytest.mark.parametrize(
    "parent", [f"{OWN}/{'a' * 64}", f"x/..{OWN}/{'a' * 64}/below", f"{OWN}/engine", "a\nb", "a-.slice"]
)
def test_a_group_of_another_container_or_of_the_engine_is_no_parent(parent: str) -> None:
    with pytest.raises(InvalidInput):
        place(parent, OWN, ID)


def test_the_configuration_has_the_path() -> None:
    assert translated({"CgroupParent": "team"}).linux.cgroups_path == f"/team/{ID}"


def test_a_place_is_known_to_the_next_server_until_it_is_forgotten(tmp_path: Path) -> None:
    CgroupPlaces(str(tmp_path)).note(ID, f"/team/{ID}")
    places = CgroupPlaces(str(tmp_path))

    assert (places.of(ID), places.ids()) == (f"/team/{ID}", (ID,))
    places.forget(ID)
    places.forget(ID)
    assert list(tmp_path.iterdir()) == []
    assert CgroupPlaces(str(tmp_path)).of(ID) is None
