"""Which users of the host a container's users are: what is asked for, whose ids there are, and which are free."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sampan.engine import id_ranges, user_modes
from sampan.engine.id_ranges import Range
from sampan.engine.mounts import Wanted, to_oci
from sampan.engine.passwd_files import with_lines
from sampan.engine.user_modes import UserMode, UserNamespace, around, parse
from sampan.errors import Failed, InvalidInput, SampanError
from sampan.spec.docker import HostConfig
from sampan.spec.runtime import IdMapping
from support.engine import HOST, translated


def asked(mode: str = "", default: str = "host", **annotations: str) -> UserMode:
    named = {f"sampan.{name.replace('_', '-')}": text for name, text in annotations.items()}
    return parse(HostConfig(userns_mode=mode, annotations=named), default)


def rows(*maps: tuple[int, int, int]) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(container_id=c, host_id=h, size=n) for c, h, n in maps)


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        (asked(), UserMode("host")),
        (asked("", "remap"), UserMode("remap")),
        (asked("host", "remap"), UserMode("host")),
        (asked("nomap"), UserMode("remap")),
        (asked("auto:size=1000"), UserMode("auto", 1000)),
        (asked("keep-id", own_ids="5:6"), UserMode("keep-id", own=(5, 6), inner=(5, 6))),
        (asked("keep-id:uid=1,gid=2", own_ids="5:6"), UserMode("keep-id", own=(5, 6), inner=(1, 2))),
        (asked("container:web"), UserMode("container", container="web")),
        (asked(uidmap="0:9:3,3:1"), UserMode("private", maps=(rows((0, 9, 3), (3, 1, 1)),) * 2)),
        (asked(subuidname="me"), UserMode("private", names=("me", "me"))),
    ],
)
def test_a_mode_is_read_with_its_options(mode: UserMode, found: UserMode) -> None:
    assert mode == found


@pytest.mark.parametrize(
    ("mode", "annotations"),
    [
        ("x", {}), ("host:1", {}), ("remap:", {}), ("auto:size=0", {}), ("auto:uid=1", {}), ("auto:size=-1", {}),
        ("auto:uidmapping=0:1:2", {}), ("container:", {}), ("private", {}), ("keep-id:uid=4294967296", {}),
        ("keep-id", {"own_ids": "x"}), ("auto", {"uidmap": "0:1:1"}), ("", {"uidmap": "0:1", "subuidname": "x"}),
        ("", {"uidmap": "0"}), ("", {"uidmap": "0:1:0"}), ("", {"uidmap": "0:1:4294967296"}),
        ("", {"uidmap": "0:1:9,5:100:1"}), ("", {"gidmap": "0:1:9,9:5:1"}),
        ("", {"uidmap": ",".join(f"{n}:{n}" for n in range(341))}),
    ],
)  # fmt: skip
def test_what_is_no_mode_is_refused(mode: str, annotations: dict[str, str]) -> None:
    with pytest.raises(SampanError):
        asked(mode, **annotations)


@given(st.integers(0, 100), st.integers(0, 1 << 31), st.integers(1, 200))
def test_all_ids_but_the_kept_one_are_those_of_the_range(inner: int, outer: int, size: int) -> None:
    start = 1 << 31
    found = {m.container_id + n: m.host_id + n for m in around(inner, outer, start, size) for n in range(m.size)}

    wanted = {id: start + id - (id > inner) for id in range(max(size, inner + 1)) if id != inner and id < size}
    assert found == {**wanted, inner: outer}


def test_rows_of_subuid_are_found_by_name_or_number() -> None:
    text = "# me\nme:100000:65536\nother:1:5\n1000:300000:10\nme:x:5\nme:0:9\nme:4294967290:100\n"

    assert id_ranges.read(text, {"me", "1000"}) == (Range(100_000, 65536), Range(300_000, 10))


def test_several_ranges_are_used_one_after_another() -> None:
    assert id_ranges.first([Range(50, 10), Range(90, 10)], 15) == rows((0, 50, 10), (10, 90, 5))


@pytest.mark.parametrize(
    ("taken", "size", "found"),
    [
        ([], 50, 1010),
        ([Range(1010, 30)], 50, 1040),
        ([Range(1060, 20), Range(1010, 20)], 30, 1030),
        ([Range(1000, 95)], 50, 5000),
        ([Range(5000, 10)], 95, 5010),
    ],
)
def test_a_range_of_its_own_begins_behind_the_shared_one_where_nobody_is(
    taken: list[Range], size: int, found: int
) -> None:
    assert id_ranges.free([Range(1000, 100), Range(5000, 200)], taken, size, reserved=10) == found


def test_where_none_is_left_it_is_said_what_helps() -> None:
    with pytest.raises(Failed, match="can't find 91 ids"):
        id_ranges.free([Range(1000, 100)], [], 91, reserved=10)


USERS = UserNamespace(rows((0, 7000, 9)), rows((0, 8000, 9)))


def test_a_configuration_has_the_mappings_and_files_of_ours_the_containers_owners() -> None:
    spec = translated({"Binds": ["data:/data", "/srv:/srv"], "NetworkMode": "none"}, given={"users": USERS})

    assert (spec.linux.uid_mappings, spec.linux.gid_mappings) == USERS[:2]
    assert [n.path for n in spec.linux.namespaces if n.type == "user"] == [""]
    mapped = {mount.destination for mount in spec.mounts if "idmap" in mount.options}
    assert mapped == {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/data"}
    assert "net.ipv4.ping_group_range" not in spec.linux.sysctl


def test_the_files_of_a_filesystem_of_its_own_have_the_containers_owners_too() -> None:
    mount = Wanted(type="volume", target="/x", name="disk", source="/dev/sdb1", filesystem="ext4")

    assert to_oci(mount, HOST).options == ("rw",)
    assert to_oci(mount, HOST, USERS[:2]).options == ("rw", "idmap")


def test_who_is_not_mapped_can_not_be_who_runs() -> None:
    for user in ("0", "8:8", "app", ""):
        user_modes.check_user(USERS, user)
    for user in ("9", "9:0", "0:9"):
        with pytest.raises(InvalidInput, match="9: it is not mapped in the container's user namespace"):
            user_modes.check_user(USERS, user)


def test_terminals_have_their_group_if_the_container_has_it() -> None:
    def options(users: UserNamespace | None) -> tuple[str, ...]:
        return next(m.options for m in translated(given={"users": users}).mounts if m.destination == "/dev/pts")

    assert "gid=5" in options(None)
    assert "gid=5" in options(USERS)
    assert "gid=5" not in options(UserNamespace(rows((0, 1, 1)), rows((0, 1, 1))))


@pytest.mark.parametrize("host_config", [{"privileged": True}, {"network_mode": "host"}, {"pid_mode": "host"}])
def test_what_leads_out_of_a_user_namespace_is_refused(host_config: dict) -> None:
    with pytest.raises(InvalidInput, match="user namespaces"):
        user_modes.check(HostConfig(**host_config))


@pytest.mark.parametrize(
    ("before", "lines", "after"),
    [
        (b"root:x:0:0", ["me:*:7:7"], "root:x:0:0\nme:*:7:7\n"),
        (b"", ["", "me:*:7:7"], "me:*:7:7\n"),
        (b"me:x:1:1\n", ["me:*:7:7"], "me:x:1:1\n"),
        (b"you:x:7:1\n", ["me:*:7:7"], "you:x:7:1\n"),
        (b"\xff:x:1:1\nbad\n", ["a:*:2:2", "b:*:2:2"], "\udcff:x:1:1\nbad\na:*:2:2\n"),
    ],
)
def test_lines_are_added_whose_name_and_number_are_new(before: bytes, lines: list[str], after: str) -> None:
    assert with_lines(before, lines) == after
    with pytest.raises(InvalidInput):
        with_lines(before, ["x:*:9:9\ny:*:0:0"])
