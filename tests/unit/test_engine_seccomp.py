"""Which seccomp filter a container gets, and that each is compiled once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan import dirs
from sampan.engine.seccomp import seccomp_for
from sampan.errors import InvalidInput
from sampan.spec.defaults.capabilities import ALL, DEFAULT

DENY = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}'
ADMIN = (*DEFAULT, "CAP_SYS_ADMIN")


@pytest.fixture
def where(tmp_path: Path) -> dirs.Dirs:
    return dirs.find(str(tmp_path))


def kept(where: dirs.Dirs) -> list[str]:
    return os.listdir(where.seccomp) if os.path.isdir(where.seccomp) else []


@pytest.mark.parametrize("capabilities", [DEFAULT, (), ALL])
def test_the_shipped_filters_need_no_compiling(where: dirs.Dirs, capabilities: tuple[str, ...]) -> None:
    assert seccomp_for(where, "default", capabilities) == "default"
    assert seccomp_for(where, "unconfined", capabilities) == "unconfined"
    assert kept(where) == []


@pytest.mark.parametrize(("wanted", "capabilities"), [("default", ADMIN), (DENY, DEFAULT)])
def test_what_is_compiled_once_is_not_compiled_again(
    where: dirs.Dirs, wanted: str, capabilities: tuple[str, ...]
) -> None:
    path = seccomp_for(where, wanted, capabilities)
    assert len(Path(path).read_bytes()) % 8 == 0
    Path(path).write_bytes(b"kept")

    assert seccomp_for(where, wanted, tuple(reversed(capabilities))) == path
    assert Path(path).read_bytes() == b"kept"
    assert kept(where) == [os.path.basename(path)]


def test_other_capabilities_and_other_profiles_are_other_filters(where: dirs.Dirs) -> None:
    paths = {seccomp_for(where, wanted, held) for wanted in ("default", DENY) for held in (ADMIN, ("CAP_SYS_ADMIN",))}

    assert len(paths) == len(kept(where)) == 4


@pytest.mark.parametrize(
    ("profile", "place"), [("{", "Expecting"), ("[]", "must be an object"), ("{}", "defaultAction")]
)
def test_a_bad_profile_is_named_once_and_leaves_nothing(where: dirs.Dirs, profile: str, place: str) -> None:
    with pytest.raises(InvalidInput, match=f"^can't read the seccomp profile: .*{place}"):
        seccomp_for(where, profile, DEFAULT)
    assert kept(where) == []
