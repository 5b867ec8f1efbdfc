"""The words that criu is called with, of a configuration and the options of `checkpoint` and `restore`."""

from __future__ import annotations

import os
import stat
from itertools import pairwise

import msgspec
import pytest

from sampan.errors import InvalidInput, Unsupported
from sampan.kernel.mount import parse_mountinfo
from sampan.oci import criu
from sampan.oci.commands import checkpoint, restore
from sampan.oci.options import parse
from sampan.spec.runtime import Linux, Mount, Namespace, Root, Spec, read

PLACES = criu.Directories("/images", "/work", "dump.log")
V2 = (("", "/sys/fs/cgroup/a/c1"),)
V1 = (("memory", "/sys/fs/cgroup/memory/a/c1"), ("freezer", "/sys/fs/cgroup/freezer/a/c1"))
MOUNTINFO = """\
158 101 254:0 /bundle/rootfs / rw,relatime - ext4 /dev/vda rw
160 158 0:54 / /dev rw,nosuid - tmpfs tmpfs rw
161 160 0:55 / /dev/pts rw - devpts devpts rw
164 160 0:55 /0 /dev/console rw - devpts devpts rw
165 159 0:6 /null /proc/kcore ro - devtmpfs devtmpfs rw
166 158 254:0 /srv /data rw - ext4 /dev/vda rw
"""


def spec(*mounts: Mount, namespaces: tuple[Namespace, ...] = (), **fields) -> Spec:
    return Spec(
        oci_version="1.0.2",
        root=Root(path="/bundle/rootfs"),
        mounts=mounts,
        linux=Linux(namespaces=namespaces),
        **fields,
    )


def dumped(*words: str, cgroups=V2, external=(), of: Spec | None = None) -> list[str]:
    return criu.dump(parse(checkpoint.OPTIONS, words), of or spec(), 42, PLACES, cgroups, external)


def restored(*words: str, of: Spec | None = None, roots=(), mounts=(), inherited={}) -> list[str]:
    given = parse(restore.OPTIONS, words)
    return criu.restore(given, of or spec(), PLACES, "/state/restored", roots, mounts, inherited)


def pairs(words: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


def unlinked(path: str) -> str:
    return {"/var/run": "/run"}.get(path, path)


def test_a_dump_without_options_is_of_the_whole_tree_with_its_groups_frozen():
    assert dumped() == [
        "dump", "--tree", "42", "--images-dir", "/images", "--work-dir", "/work", "--log-file", "dump.log", "-v4",
        "--root", "/bundle/rootfs", "--manage-cgroups=soft", "--freeze-cgroup", "/sys/fs/cgroup/a/c1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flag", ["tcp-established", "ext-unix-sk", "shell-job", "file-locks", "auto-dedup", "lazy-pages"]
)
def test_flags_that_criu_has_too_are_passed_on_by_both_commands(flag):
    assert f"--{flag}" in dumped(f"--{flag}")
    assert f"--{flag}" in restored(f"--{flag}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--leave-running",), ["--leave-running"]),
        (("--empty-ns", "network"), ["--empty-ns", "net"]),
        (("--manage-cgroups-mode", "full"), ["--manage-cgroups=full"]),
        (("--page-server", "10.0.0.1:99"), ["--page-server", "--address", "10.0.0.1", "--port", "99"]),
        (("--page-server", "[::1]:99"), ["--page-server", "--address", "::1", "--port", "99"]),
        (("--parent-path", "../1"), ["--track-mem", "--prev-images-dir", "../1"]),
        (("--status-fd", "5"), ["--status-fd", "5"]),
    ],
)
def test_options_of_a_dump_in_criu_s_words(words, expected):
    said = dumped(*words)

    at = said.index(expected[0])
    assert said[at : at + len(expected)] == expected


def test_pages_that_are_brought_later_are_served_by_the_dump_itself():
    said = dumped("--lazy-pages", "--page-server", "0.0.0.0:99")

    assert "--page-server" not in said
    assert pairs(said, "--address") == ["0.0.0.0"]


def test_a_pre_dump_keeps_track_of_memory():
    assert dumped("--pre-dump")[0] == "pre-dump"
    assert "--track-mem" in dumped("--pre-dump")


def test_without_a_status_descriptor_there_is_none():
    assert "--status-fd" not in dumped("--status-fd", "-1")


def test_on_v1_the_freezer_s_group_is_frozen():
    assert pairs(dumped(cgroups=V1), "--freeze-cgroup") == ["/sys/fs/cgroup/freezer/a/c1"]


@pytest.mark.parametrize(
    "words",
    [
        ("--manage-cgroups-mode", "none"),
        ("--empty-ns", "ipc"),
        ("--page-server", "here"),
        ("--page-server", ":99"),
        ("--status-fd", "x"),
    ],
)
def test_what_criu_has_no_word_for_is_refused(words):
    with pytest.raises(InvalidInput, match=words[0]):
        dumped(*words)


def test_criu_s_own_configuration_is_named_by_an_annotation():
    assert pairs(dumped(of=spec(annotations={"org.criu.config": "/etc/own"})), "--config") == ["/etc/own"]
    assert "--no-default-config" in dumped(of=spec(annotations={"org.criu.config": ""}))


def test_mounts_of_the_host_are_not_dumped_but_named():
    bind = Mount(destination="/data", type="bind", source="/srv")
    linked = Mount(destination="/var/run", type="none", source="/srv/run", options=("rbind",))

    names = criu.external(spec(bind, linked), parse_mountinfo(MOUNTINFO), {}, unlinked)

    assert names == [
        "mnt[/data]:/data", "mnt[/run]:/run", "mnt[/dev/console]:/dev/console", "mnt[/proc/kcore]:/dev/null",
    ]  # fmt: skip


def test_mounts_of_the_host_are_given_again():
    linked = Mount(destination="/var/run", type="none", source="/srv/run", options=("rbind",))

    names = criu.external_again(spec(linked, Mount(destination="/proc", type="proc")), unlinked, "/dev/pts/7")

    assert names[0] == "mnt[/run]:/srv/run"
    assert "mnt[/dev/null]:/dev/null" in names
    assert names[-1] == "mnt[/dev/console]:/dev/pts/7"
    assert not [name for name in names if "proc" in name]


def test_namespaces_with_a_path_are_the_host_s():
    own, given = Namespace(type="pid"), Namespace(type="network", path="/run/netns/a")
    one = spec(namespaces=(own, given))

    assert criu.namespaces(one) == {"network": "/run/netns/a"}
    assert criu.external(one, [], {"network": 4026531}, unlinked) == ["net[4026531]:extRootNetNS"]
    assert criu.namespace_key("network") == "extRootNetNS"


def test_a_restore_joins_the_other_namespaces_that_have_a_path():
    said = restored(of=spec(namespaces=(Namespace(type="ipc", path="/ipc"), Namespace(type="network", path="/net"))))

    assert pairs(said, "--join-ns") == ["ipc:/ipc"]


def test_a_cgroup_namespace_that_is_there_can_not_be_joined():
    with pytest.raises(Unsupported, match="cgroup namespace"):
        restored(of=spec(namespaces=(Namespace(type="cgroup", path="/c"),)))


def test_restored_processes_are_the_caller_s_children_and_their_pid_is_told():
    said = restored("--lsm-profile", "apparmor:own", inherited={"extRootNetNS": 5, "pipe:[9]": 1}, roots=["/a/c1"])

    assert said[:5] == ["restore", "--restore-detached", "--restore-sibling", "--pidfile", "/state/restored"]
    assert pairs(said, "--inherit-fd") == ["fd[5]:extRootNetNS", "fd[1]:pipe:[9]"]
    assert pairs(said, "--lsm-profile") == ["apparmor:own"]
    assert pairs(said, "--cgroup-root") == ["/a/c1"]


def test_restored_processes_come_into_the_groups_of_the_new_configuration():
    mounts = {"": "/sys/fs/cgroup", "memory": "/sys/fs/cgroup/memory", "freezer": "/sys/fs/cgroup/freezer"}

    assert criu.cgroup_roots(V2, mounts) == ["/a/c1"]
    assert criu.cgroup_roots(V1, mounts) == ["memory:/a/c1", "freezer:/a/c1"]


def facts(mode: int, device: int = 0) -> os.stat_result:
    return os.stat_result((mode, 0xAB, 0x1C, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": device})


@pytest.mark.parametrize(
    ("link", "mode", "mount", "expected"),
    [
        ("pipe:[9]", stat.S_IFIFO, 16, "pipe:[9]"),
        ("/srv/log", stat.S_IFREG, 99, "file[63:ab]"),
        ("/dev/null", stat.S_IFCHR, 99, "file[63:ab]"),
        ("/log", stat.S_IFREG, 158, "/log"),
        ("socket:[9]", stat.S_IFSOCK, 9, "socket:[9]"),
    ],
)
def test_a_descriptor_is_inherited_where_its_file_is_not_the_container_s(link, mode, mount, expected):
    assert criu.stdio_name(link, facts(mode), mount, frozenset({158})) == expected


def test_a_terminal_is_named_by_its_device():
    assert (
        criu.stdio_name("/dev/pts/0", facts(stat.S_IFCHR, os.makedev(136, 0)), 161, frozenset({161})) == "tty[8800:1c]"
    )


def test_descriptors_that_were_one_file_are_one_and_the_terminal_is_the_new_one():
    assert criu.inherited_stdio(["file[1:2]", "file[1:2]", "pipe:[3]"], -1, 9) == {"file[1:2]": 1, "pipe:[3]": 2}
    assert criu.inherited_stdio(["tty[8800:1c]", "/log", ""], 7, 9) == {"tty[8800:1c]": 7}


def test_the_null_device_is_so_again():
    name = criu.stdio_name("/dev/null", facts(stat.S_IFCHR, os.makedev(1, 3)), 99, frozenset({158}))

    assert criu.external_stdio([name, name, "pipe:[3]"]) == ["file[63:ab]"]
    assert criu.inherited_stdio([name, "pipe:[3]"], -1, 9) == {"file[63:ab]": 9, "pipe:[3]": 1}


def test_places_below_another_mount_are_not_made_on_the_root():
    tmpfs, below = Mount(destination="/dev", type="tmpfs"), Mount(destination="/dev/pts", type="devpts")
    bind = Mount(destination="/data/", type="bind", source="/srv")

    assert list(criu.places(spec(tmpfs, below, bind))) == [("/dev", ""), ("/data", "/srv")]


@pytest.mark.parametrize("stage", ["prestart", "createRuntime"])
def test_hooks_that_would_run_while_criu_works_are_refused(stage):
    hooks = {"ociVersion": "1.0.2", "root": {"path": "/r"}, "hooks": {stage: [{"path": "/bin/true"}]}}

    with pytest.raises(Unsupported, match="hooks"):
        criu.refuse(read(msgspec.json.encode(hooks)))


def test_a_root_that_only_the_container_sees_is_refused():
    with pytest.raises(Unsupported, match="overlay"):
        criu.refuse(spec(Mount(destination="/", type="overlay")))


def test_the_last_errors_of_a_log_are_told_without_times():
    log = "(00.01) one\n(00.02) Error (a.c:1): first\n(00.03)  12: Error (b.c:2): second\n(00.04) fine\n"

    assert criu.last_errors(log) == "Error (a.c:1): first; Error (b.c:2): second"
    assert criu.last_errors(log, 1) == "Error (b.c:2): second"
    assert criu.last_errors("nothing") == ""
