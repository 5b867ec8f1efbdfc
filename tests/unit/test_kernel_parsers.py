"""The texts that the kernel writes, read back."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sampan.kernel import cgroupfs, credentials, features, libc, mount, process
from sampan.kernel.cgroupfs import CgroupMount
from sampan.kernel.mount import MountInfo

PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(lambda s: "/" + s)
WORDS = st.text("abcdefgh_:=0123456789", min_size=1)
RECORDS = st.builds(
    MountInfo,
    mount_id=st.integers(0, 10**6),
    parent_id=st.integers(0, 10**6),
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20)),
    root=PATHS,
    mount_point=PATHS,
    options=st.lists(WORDS, min_size=1).map(tuple),
    propagation=st.lists(st.sampled_from(["shared:1", "master:2", "propagate_from:3", "unbindable"])).map(tuple),
    fstype=WORDS,
    source=PATHS,
    super_options=st.lists(WORDS, min_size=1).map(tuple),
)


def as_the_kernel_writes_it(m: MountInfo) -> str:
    def escaped(text: str) -> str:
        for character in "\\ \t\n#":
            text = text.replace(character, f"\\{ord(character):03o}")
        return text

    left = [str(m.mount_id), str(m.parent_id), f"{m.device[0]}:{m.device[1]}", escaped(m.root), escaped(m.mount_point)]
    right = [m.fstype, escaped(m.source), ",".join(m.super_options)]
    return " ".join([*left, ",".join(m.options), *m.propagation, "-", *right]) + "\n"


@given(st.lists(RECORDS))
def test_mountinfo_reads_back_what_the_kernel_writes(records: list[MountInfo]) -> None:
    assert mount.parse_mountinfo("".join(map(as_the_kernel_writes_it, records))) == records


def test_a_mount_point_may_hold_a_dash_between_blanks() -> None:
    (m,) = mount.parse_mountinfo(r"22 27 0:21 / /a\040-\040b rw shared:5 master:1 - tmpfs none rw,size=4k" + "\n")

    assert m.mount_point == "/a - b"
    assert m.propagation == ("shared:5", "master:1")
    assert (m.fstype, m.source, m.super_options) == ("tmpfs", "none", ("rw", "size=4k"))


def test_a_mount_without_a_source_is_read() -> None:
    (m,) = mount.parse_mountinfo("22 27 0:21 / /x rw - tmpfs  rw\n")

    assert (m.source, m.super_options) == ("", ("rw",))


CONTROLLERS = st.sampled_from(["cpu", "cpuacct", "memory", "name=systemd", ""])


@given(st.dictionaries(CONTROLLERS, PATHS.filter(lambda p: "\n" not in p)))
def test_a_cgroup_file_reads_back(paths: dict[str, str]) -> None:
    text = "".join(f"{i}:{controller}:{path}\n" for i, (controller, path) in enumerate(paths.items()))

    assert cgroupfs.parse_cgroup(text) == paths


def test_controllers_that_share_a_hierarchy_each_get_the_path() -> None:
    assert cgroupfs.parse_cgroup("4:cpu,cpuacct:/a:b\n0::/\n") == {"cpu": "/a:b", "cpuacct": "/a:b", "": "/"}


def test_flat_keyed_files_give_numbers() -> None:
    assert cgroupfs.flat_keyed("populated 1\nfrozen 0\nmax\nword text\n") == {"populated": 1, "frozen": 0}


V1 = """\
34 31 0:31 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct
37 31 0:37 / /c/systemd rw - cgroup cgroup rw,name=systemd
"""
V2 = "41 31 0:38 / /c/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("text", "mode", "controllers"),
    [
        (V1, "v1", ["cpu", "cpuacct", "name=systemd"]),
        (V1 + V2, "v1", ["cpu", "cpuacct", "name=systemd"]),
        (V2, "v2", [""]),
        (V1.splitlines()[1] + "\n" + V2, "v2", [""]),
        ("", "none", []),
    ],
)
def test_the_cgroup_mode_is_that_of_the_mounts(text: str, mode: str, controllers: list[str]) -> None:
    found, mounts = features.cgroup_mode(cgroupfs.cgroup_mounts(mount.parse_mountinfo(text)))

    assert (found, [m.controller for m in mounts]) == (mode, controllers)


def test_of_two_mounts_of_a_hierarchy_the_first_counts() -> None:
    text = V2 + V2.replace("/c/unified", "/other")

    assert cgroupfs.cgroup_mounts(mount.parse_mountinfo(text)) == [CgroupMount("", "/c/unified", "/")]


@pytest.mark.parametrize("name", [b"sh", b"a b", b") R 1 (", b"x) S 7"])
def test_the_start_time_is_found_after_any_process_name(name: bytes) -> None:
    fields = b" ".join(b"%d" % n for n in range(4, 53))

    assert process.parse_start_time(b"7 (" + name + b") S " + fields) == 22


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc-v657", (6, 18)), ("5.10.0-8-amd64", (5, 10)), ("7.0-rc1", (7, 0)), ("4.4.0+", (4, 4))],
)
def test_the_kernel_version_is_read_from_any_release(release: str, version: tuple[int, int]) -> None:
    assert features.kernel_version(release) == version


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "architecture"),
    [
        ("x86_64", 8, "x86_64"),
        ("x86_64", 4, "i686"),
        ("i586", 4, "i686"),
        ("aarch64", 4, "arm"),
        ("armv7l", 4, "arm"),
        ("riscv64", 8, "riscv64"),
        ("sparc64", 8, "sparc64"),
    ],
)
def test_the_architecture_is_the_process_s_not_the_kernel_s(
    machine: str, pointer_bytes: int, architecture: str
) -> None:
    assert libc.architecture(machine, pointer_bytes) == architecture


def test_an_unknown_architecture_has_the_common_calls_only() -> None:
    numbers = libc.syscall_numbers("sparc64")

    assert numbers["openat2"] == 437
    assert "pivot_root" not in numbers


@given(st.frozensets(st.sampled_from(sorted(credentials.CAPABILITIES))))
def test_capability_names_and_bits_are_the_same_thing(names: frozenset[str]) -> None:
    assert credentials.names(credentials.mask(names)) == names
