"""What a plan is for a configuration: no root, no kernel."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from sampan.errors import InvalidInput, SampanError, Unsupported
from sampan.runtime import ops
from sampan.runtime.plan import Plan, decode, encode, plan, plan_exec
from sampan.spec.host import CgroupMode, Host
from sampan.spec.runtime import (
    INIT,
    SECCOMP,
    SYSTEMD,
    Capabilities,
    Device,
    DeviceRule,
    Hook,
    Hooks,
    IdMapping,
    IntelRdt,
    Linux,
    Memory,
    Mount,
    Namespace,
    NetDevice,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    Spec,
    Syscall,
    TimeOffset,
    User,
)

EVERY = frozenset({"CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_NET_RAW"})
V1 = Host(
    architecture="x86_64",
    kernel=(6, 18),
    cgroup_mode=CgroupMode.V1,
    cgroup_mounts=tuple(
        (c, f"/cg/{p}")
        for c, p in (
            ("memory", "memory"), ("pids", "pids"), ("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct"),
            ("devices", "devices"), ("freezer", "freezer"), ("blkio", "blkio"), ("cpuset", "cpuset"),
        )
    ),
    namespaces=frozenset({"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}),
    capabilities=EVERY,
    rlimits=(("RLIMIT_NOFILE", 20_000),),
)  # fmt: skip
V2 = msgspec.structs.replace(
    V1,
    cgroup_mode=CgroupMode.V2,
    cgroup_mounts=(("", "/cg"),),
    cgroup_controllers=frozenset({"cpu", "cpuset", "memory", "pids", "io"}),
)
ODD = Syscall(names=("x",), action="SCMP_ACT_ALLOW", errno_ret=1)
NAMESPACES = ("mount", "pid", "network", "uts", "ipc", "cgroup")


def spec(*, process: dict[str, object] | None = None, linux: dict[str, object] | None = None, **fields: object) -> Spec:
    namespaces = tuple(Namespace(type=t) for t in NAMESPACES)
    return Spec(
        **{
            "oci_version": "1.2.0",
            "root": Root(path="/r"),
            "process": Process(**{"args": ("true",), **(process or {})}),
            "linux": Linux(**{"namespaces": namespaces, **(linux or {})}),
            **fields,
        }
    )


def made(what: Spec, host: Host = V1) -> Plan:
    return plan(what, host, id="c", cgroup_parent="/sampan-x")


def inside(what: Plan) -> list[ops.Operation]:
    return [s.op for s in what.steps if s.who == "inside"]


def outside(what: Plan) -> list[ops.Operation]:
    return [s.op for s in what.steps if s.who == "outside"]


def kinds(operations: list[ops.Operation]) -> list[str]:
    return [type(op).__name__ for op in operations]


def test_a_plan_survives_its_journey_to_the_shim() -> None:
    whole = made(spec(annotations={SECCOMP: "default"}, mounts=(Mount(destination="/proc", type="proc"),)))

    assert decode(encode(whole)) == whole


def test_the_order_of_a_birth() -> None:
    story = kinds(
        inside(made(spec(annotations={SECCOMP: "default"}, hostname="h", root=Root(path="/r", readonly=True))))
    )

    wanted = [
        "Unshare", "SetPropagation", "BindRoot", "MakeNode", "LookUpUser", "Await", "MakeReadOnly", "PivotRoot",
        "ChangeDirectory", "DropBounding", "BecomeUser", "SetCapabilities", "SetFilter", "Execute",
    ]  # fmt: skip
    places = [story.index(kind) for kind in wanted]
    assert places == sorted(places)
    assert story[-1] == "Execute"


def test_nothing_but_giving_up_rights_comes_after_the_root_has_changed() -> None:
    story = kinds(inside(made(spec(annotations={SECCOMP: "default", INIT: "true"}))))

    assert set(story[story.index("PivotRoot") + 1 :]) <= {
        "ChangeDirectory", "SetUmask", "SetRlimit", "DropBounding", "BecomeUser", "SetCapabilities", "SetFilter",
        "Reap",
        "Execute",
    }  # fmt: skip


def test_v1_groups_are_made_while_the_mounts_are_and_v2_is_born_into() -> None:
    first, second = kinds(outside(made(spec()))), kinds(outside(made(spec(), V2)))

    assert first.index("Clone") < first.index("MakeCgroup")
    assert second.index("MakeCgroup") < second.index("Clone")
    assert "EnterCgroup" not in first + second
    assert "MoveIntoCgroup" in kinds(inside(made(spec())))
    assert "MoveIntoCgroup" not in kinds(inside(made(spec(), V2)))
    assert ops.Clone(("pid",), "/cg/sampan-x/c") in outside(made(spec(), V2))
    assert ops.Await("cgroups") not in inside(made(spec(), V2))


def test_controllers_that_share_a_mount_are_entered_once() -> None:
    entered = [op.directory for op in inside(made(spec())) if isinstance(op, ops.MoveIntoCgroup)]

    assert entered.count("/cg/cpu,cpuacct/sampan-x/c") == 1
    assert "/cg/cpuset/sampan-x/c" not in entered


def test_a_cgroup_namespace_is_made_when_the_process_is_in_its_groups() -> None:
    story = inside(made(spec(mounts=(Mount(destination="/sys/fs/cgroup", type="cgroup", options=("ro",)),))))

    at = story.index(ops.Unshare(("cgroup",)))
    entered = [n for n, op in enumerate(story) if isinstance(op, ops.MoveIntoCgroup)]
    assert story[entered[0] - 1] == ops.Await("cgroups")
    assert at == entered[-1] + 1
    assert ops.Mount("cgroup", "cgroup", "/sys/fs/cgroup/cpu,cpuacct", ("ro",), "cpu,cpuacct") in story[at:]
    assert ops.MakeLink("/sys/fs/cgroup/cpu", "cpu,cpuacct") in story[at:]
    assert ops.MakeReadOnly("/sys/fs/cgroup", mounted=True) in story[at:]


def test_what_is_mounted_among_the_control_groups_comes_before_they_are_read_only() -> None:
    groups = Mount(destination="/sys/fs/cgroup", type="cgroup", options=("ro",))
    below = Mount(destination="/sys/fs/cgroup/systemd", type="bind", source="/cg/systemd", options=("bind",))

    story = inside(made(spec(mounts=(groups, below))))
    bound = next(op for op in story if isinstance(op, ops.Bind) and op.source == "/cg/systemd")
    assert story.index(bound) < story.index(ops.MakeReadOnly("/sys/fs/cgroup", mounted=True))


def test_without_a_cgroup_namespace_only_the_containers_own_groups_are_shown() -> None:
    namespaces = tuple(Namespace(type=t) for t in NAMESPACES if t != "cgroup")
    mounts = (Mount(destination="/sys/fs/cgroup", type="cgroup", options=("ro",)),)
    story = inside(made(spec(linux={"namespaces": namespaces}, mounts=mounts)))

    assert ops.Bind("/cg/memory/sampan-x/c", "/sys/fs/cgroup/memory", ("ro",)) in story
    assert not any(isinstance(op, ops.Mount) and op.type == "cgroup" for op in story)


def test_systemd_arranges_a_hierarchy_that_limits_nothing_and_no_other() -> None:
    host = msgspec.structs.replace(V1, cgroup_mounts=(*V1.cgroup_mounts, ("name=systemd", "/cg/systemd")))
    mounts = (Mount(destination="/sys/fs/cgroup", type="cgroup", options=("ro",)),)
    whole = spec(mounts=mounts, annotations={SYSTEMD: "true"})
    story, group = inside(made(whole, host)), "/cg/systemd/sampan-x/c"

    assert ops.Mount("cgroup", "cgroup", "/sys/fs/cgroup/systemd", (), "name=systemd") in story
    assert ops.Mount("cgroup", "cgroup", "/sys/fs/cgroup/memory", ("ro",), "memory") in story
    assert ops.MoveIntoCgroup(group) in story
    assert ("name=systemd", group) in made(whole, host).cgroups
    assert group not in dict(made(spec(mounts=mounts), host).cgroups).values()
    assert not made(whole, V2).cgroups[1:]


def test_on_v1_the_root_of_a_user_namespace_gets_the_group_that_systemd_arranges() -> None:
    host = msgspec.structs.replace(V1, cgroup_mounts=(*V1.cgroup_mounts, ("name=systemd", "/cg/systemd")))
    linux = {
        "namespaces": tuple(Namespace(type=t) for t in (*NAMESPACES, "user")),
        "uid_mappings": (IdMapping(container_id=0, host_id=100_000, size=9),),
        "gid_mappings": (IdMapping(container_id=0, host_id=100_000, size=9),),
    }

    assert ops.OwnCgroup("/cg/systemd/sampan-x/c", 100_000) in outside(
        made(spec(linux=linux, annotations={SYSTEMD: "true"}), host)
    )
    assert "OwnCgroup" not in kinds(outside(made(spec(linux=linux), host)))


def test_cpusets_inherit_what_is_not_given() -> None:
    from sampan.spec.runtime import Cpu

    story = outside(made(spec(linux={"resources": Resources(cpu=Cpu(cpus="0"))})))

    group = "/cg/cpuset/sampan-x/c"
    at = story.index(ops.InheritCpuset(group))
    assert story.index(ops.MakeCgroup(group)) < at < story.index(ops.WriteCgroup(group, "cpuset.cpus", "0"))
    assert ops.MoveIntoCgroup(group) in inside(made(spec(linux={"resources": Resources(cpu=Cpu(cpus="0"))})))


def test_v2_controllers_are_handed_down_to_the_parent_of_the_group() -> None:
    story = outside(made(spec(linux={"resources": Resources(memory=Memory(limit=7))}), V2))

    handed = [op.directory for op in story if isinstance(op, ops.DelegateControllers)]
    assert handed == ["/cg", "/cg/sampan-x"]
    assert ops.WriteCgroup("/cg/sampan-x/c", "memory.max", "7") in story
    assert any(isinstance(op, ops.FilterDevices) for op in story)


def test_a_privileged_container_has_no_device_filter() -> None:
    everything = Resources(devices=(DeviceRule(allow=True),))

    assert not any(isinstance(op, ops.FilterDevices) for op in outside(made(spec(linux={"resources": everything}), V2)))


def test_a_container_in_a_user_namespace_that_can_write_to_its_group_owns_it_on_v2() -> None:
    mounts = (Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup"),)
    linux = {"namespaces": USER, "uid_mappings": MAPPING, "gid_mappings": MAPPING}
    whole = spec(linux=linux, mounts=mounts, process={"user": User(uid=5)})

    assert ops.OwnCgroup("/cg/sampan-x/c", 100_005) in outside(made(whole, V2))
    assert "OwnCgroup" not in kinds(outside(made(spec(mounts=mounts), V2)) + outside(made(whole)))


def test_a_class_of_service_is_entered_and_one_of_its_own_goes_with_the_container() -> None:
    host = msgspec.structs.replace(V1, resctrl="/rc")
    rdt = IntelRdt(
        l3_cache_schema="MB:0=9\nL3:0=f", mem_bw_schema="MB:0=20", schemata=("L2:0=1",), enable_monitoring=True
    )
    own, named = (
        made(spec(linux={"intel_rdt": rdt}), host),
        made(spec(linux={"intel_rdt": IntelRdt(clos_id="x")}), host),
    )

    lines = ("L3:0=f", "MB:0=20", "L2:0=1")
    assert ops.JoinResctrl("/rc/c", lines, monitor="/rc/c/mon_groups/c") in outside(own)
    assert own.cgroups[-2:] == (("resctrl", "/rc/c/mon_groups/c"), ("resctrl", "/rc/c"))
    assert ops.JoinResctrl("/rc/x", shared=True) in outside(named)
    assert "resctrl" not in dict(named.cgroups)
    assert kinds(outside(own)).index("Clone") < kinds(outside(own)).index("JoinResctrl")


# ------------------------------------------------------------------------------------------------------ mounts


def mounted(*options: str, type: str = "bind", **fields: str) -> ops.Operation:
    mount = Mount(**{"destination": "/data", "source": "/srv", "type": type, "options": options, **fields})
    return next(op for op in inside(made(spec(mounts=(mount,)))) if getattr(op, "target", "") == "/data")


@pytest.mark.parametrize("type", ["bind", "none", ""])
def test_a_bind_mount_is_known_by_its_option_not_by_its_type(type: str) -> None:
    assert mounted("rbind", "ro", type=type) == ops.Bind("/srv", "/data", ("ro",))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("rbind",), ops.Bind("/srv", "/data")),
        (("bind",), ops.Bind("/srv", "/data", (), recursive=False)),
        (("rbind", "rro", "rprivate"), ops.Bind("/srv", "/data", recursive_options=("ro",))),
        (("rbind", "rw", "rslave", "nosuid"), ops.Bind("/srv", "/data", ("nosuid", "rw"), propagation="rslave")),
        (("rbind", "ro", "rw", "sync", "noatime"), ops.Bind("/srv", "/data", ("noatime", "rw"))),
        (("rbind", "rro", "rrw", "ratime"), ops.Bind("/srv", "/data", recursive_options=("rw", "atime"))),
        ((), ops.Bind("/srv", "/data")),
    ],
)
def test_options_of_a_bind(options: tuple[str, ...], wanted: ops.Bind) -> None:
    assert mounted(*options) == wanted


def test_what_the_kernel_has_a_flag_for_stays_an_option_and_the_rest_is_data() -> None:
    mount = mounted("nosuid", "size=64m", "rw", "mode=700", "noexec", type="tmpfs", source="tmpfs")

    assert mount == ops.Mount("tmpfs", "tmpfs", "/data", ("nosuid", "noexec"), "size=64m,mode=700")


@pytest.mark.parametrize(
    "mount",
    [
        Mount(destination="data", type="tmpfs"),
        Mount(destination="/data", type="bind", source="srv"),
        Mount(destination="/data", type="bind", source="/srv", options=("rbind", "size=1")),
        Mount(destination="/data", type="bind", source="/srv", options=("rbind", "idmap")),
        Mount(destination="/data", type="tmpfs", options=("idmap",)),
        Mount(destination="/data", type="proc", options=("tmpcopyup",)),
        Mount(destination="/data", type="bind", source="/srv", options=("rbind", "tmpcopyup")),
        Mount(destination="/", type="tmpfs"),
        Mount(
            destination="/data", type="bind", source="/s", uid_mappings=(IdMapping(container_id=0, host_id=1, size=1),)
        ),
    ],
)
def test_mounts_that_can_not_be_as_asked_are_refused(mount: Mount) -> None:
    with pytest.raises(SampanError):
        made(spec(mounts=(Mount(destination="/proc", type="proc"), mount)))


def test_options_of_a_filesystem_are_told_apart() -> None:
    words = ("ro", "rw", "nosuid", "rnoexec", "rshared", "unbindable", "tmpcopyup", "defaults", "loud", "iversion")

    assert mounted(*words, "size=1m", type="tmpfs", source="") == ops.Mount(
        "tmpfs",
        "tmpfs",
        "/data",
        ("nosuid", "iversion"),
        "size=1m",
        ("noexec",),
        ("rshared", "unbindable"),
        copy_up=True,
    )


def test_a_remount_changes_what_is_there() -> None:
    assert mounted("remount", "ro", "size=1m", type="tmpfs") == ops.Remount("/data", ("ro",), "size=1m")
    assert mounted("remount", "bind", "ro") == ops.Remount("/data", ("ro",), of_mount=True)


def test_a_shared_bind_is_copied_before_the_mounts_are_cut_off_from_the_hosts() -> None:
    shared = Mount(destination="/data", type="bind", source="/srv", options=("rbind", "rshared"))
    story = inside(made(spec(mounts=(shared,))))

    assert story.index(ops.OpenTree("/srv", "/data")) < story.index(ops.SetPropagation("/", "rslave"))
    assert ops.Bind("/srv", "/data", propagation="rshared") in story


MAPPING = (IdMapping(container_id=0, host_id=100_000, size=65_536),)
OTHER = (IdMapping(container_id=0, host_id=7, size=1),)
USER = tuple(Namespace(type=t) for t in (*NAMESPACES, "user"))


@pytest.mark.parametrize(
    ("mount", "linux", "wanted"),
    [
        ({"uid_mappings": OTHER, "gid_mappings": OTHER}, {}, ops.MapMount("/srv", "/data", OTHER, OTHER)),
        (
            {"uid_mappings": OTHER, "gid_mappings": OTHER, "options": ("bind", "ridmap")},
            {},
            ops.MapMount("/srv", "/data", OTHER, OTHER, recursive=False, below=True),
        ),
        (
            {"options": ("rbind", "idmap")},
            {"namespaces": USER, "uid_mappings": MAPPING, "gid_mappings": MAPPING},
            ops.MapMount("/srv", "/data", MAPPING, MAPPING),
        ),
        (
            {"options": ("rbind", "idmap")},
            {"namespaces": (Namespace(type="mount"), Namespace(type="user", path="/ns"))},
            ops.MapMount("/srv", "/data", user_namespace="/ns"),
        ),
    ],
)
def test_ids_of_a_bind_are_mapped_outside(mount: dict, linux: dict, wanted: ops.MapMount) -> None:
    bind = Mount(**{"destination": "/data", "type": "bind", "source": "/srv", "options": ("rbind",), **mount})
    story = outside(made(spec(mounts=(bind,), linux=linux)))

    assert story.index(wanted) < kinds(story).index("Clone")


def test_a_mapped_bind_without_mappings_is_refused() -> None:
    with pytest.raises(InvalidInput, match="neither the mount nor the container has both mappings"):
        made(spec(mounts=(Mount(destination="/d", type="bind", source="/s", options=("rbind", "idmap")),)))


def test_the_roots_propagation_is_set_when_it_is_the_root() -> None:
    story = inside(made(spec(linux={"rootfs_propagation": "rshared"})))

    assert story[kinds(story).index("PivotRoot") + 1] == ops.SetPropagation("/", "rshared")
    assert kinds(inside(made(spec()))).count("SetPropagation") == 1


def test_a_label_is_given_to_the_filesystems_that_take_one() -> None:
    mounts = (Mount(destination="/proc", type="proc"), Mount(destination="/t", type="tmpfs", options=("size=1m",)))
    host = msgspec.structs.replace(V1, selinux=True)
    story = inside(made(spec(mounts=mounts, linux={"mount_label": "a:b:c:s0"}), host))

    assert ops.Mount("tmpfs", "tmpfs", "/t", (), 'size=1m,context="a:b:c:s0"') in story
    assert ops.Mount("proc", "proc", "/proc") in story


def test_the_overlay_is_the_first_mount_with_its_layers_topmost_first() -> None:
    options = ("lowerdir+=/a", "lowerdir+=/b", "upperdir=/u", "workdir=/w", "volatile")
    story = inside(made(spec(mounts=(Mount(destination="/", type="overlay", source="overlay", options=options),))))

    assert ops.MountOverlay("/r", ("/a", "/b"), "/u", "/w", ("volatile",)) in story
    assert "BindRoot" not in kinds(story)


def test_what_overlayfs_would_do_by_itself_is_turned_off() -> None:
    host = msgspec.structs.replace(V1, overlay_off=("metacopy=off",))
    overlay = Mount(destination="/", type="overlay", options=("lowerdir+=/a", "volatile"))

    story = inside(made(spec(mounts=(overlay,)), host))

    assert ops.MountOverlay("/r", ("/a",), options=("volatile", "metacopy=off")) in story


def test_an_overlay_elsewhere_is_mounted_in_its_turn_or_outside_of_a_user_namespace() -> None:
    overlay = Mount(destination="/i", type="overlay", source="overlay", options=("lowerdir+=/a", "lowerdir+=/b"))
    mapping = (IdMapping(container_id=0, host_id=100_000, size=65_536),)
    namespaces = tuple(Namespace(type=t) for t in (*NAMESPACES, "user"))
    linux = {"namespaces": namespaces, "uid_mappings": mapping, "gid_mappings": mapping}

    assert ops.MountOverlay("/i", ("/a", "/b"), inside=True) in inside(made(spec(mounts=(overlay,))))
    whole = made(spec(mounts=(overlay,), linux=linux))
    assert outside(whole)[0] == ops.MountOverlay(
        "/i", ("/a", "/b"), detached=True, inside=True, uid_mappings=MAPPING, gid_mappings=MAPPING
    )
    assert ops.AttachOverlay("/i", inside=True) in inside(whole)


def test_a_filesystem_for_the_users_of_a_user_namespace_is_mounted_outside_of_it() -> None:
    disk = Mount(destination="/d", type="ext4", source="/dev/x", options=("ro", "nodev", "data=journal", "idmap"))
    namespaces = tuple(Namespace(type=t) for t in (*NAMESPACES, "user"))
    linux = {"namespaces": namespaces, "uid_mappings": MAPPING, "gid_mappings": MAPPING}
    whole = made(spec(mounts=(disk,), linux=linux))

    assert outside(whole)[0] == ops.MountMapped(
        "ext4", "/dev/x", "/d", ("ro", "nodev"), "data=journal", uid_mappings=MAPPING, gid_mappings=MAPPING
    )
    assert ops.AttachOverlay("/d", inside=True) in inside(whole)
    with pytest.raises(Unsupported, match="the ids of a bind can be mapped"):
        made(spec(mounts=(disk,)))


def test_devices_of_a_bound_dev_are_left_alone() -> None:
    bound = made(spec(mounts=(Mount(destination="/dev", type="bind", source="/dev", options=("rbind",)),)))

    assert "MakeNode" not in kinds(inside(bound))


def test_a_device_of_the_users_is_made() -> None:
    device = Device(type="c", path="/dev/fuse", major=10, minor=229, file_mode=0o660, uid=1, gid=2)

    assert ops.MakeNode("/dev/fuse", "c", 10, 229, 0o660, 1, 2) in inside(made(spec(linux={"devices": (device,)})))


# ---------------------------------------------------------------------------------------------- namespaces, rights


def test_joined_namespaces_are_entered_and_new_ones_made() -> None:
    namespaces = (
        Namespace(type="mount"),
        Namespace(type="network", path="/proc/7/ns/net"),
        Namespace(type="pid", path="/proc/7/ns/pid"),
    )
    whole = made(spec(linux={"namespaces": namespaces}))

    assert outside(whole)[0] == ops.Join("pid", "/proc/7/ns/pid")
    assert ops.Join("network", "/proc/7/ns/net") in inside(whole)
    assert ops.Unshare(("mount",)) in inside(whole)
    assert ops.BringUpLoopback() not in inside(whole)


def test_a_user_namespace_has_its_ids_mapped_before_anything_else_and_its_overlay_mounted_outside() -> None:
    mapping = (IdMapping(container_id=0, host_id=100_000, size=65_536),)
    namespaces = tuple(Namespace(type=t) for t in (*NAMESPACES, "user"))
    overlay = Mount(destination="/", type="overlay", options=("lowerdir+=/a",))
    whole = made(
        spec(linux={"namespaces": namespaces, "uid_mappings": mapping, "gid_mappings": mapping}, mounts=(overlay,))
    )

    assert kinds(outside(whole))[:5] == ["MountOverlay", "OwnStreams", "Clone", "MapIds", "MapIds"]
    assert outside(whole)[0].mapped
    assert inside(whole)[:2] == [ops.Await("maps"), ops.BecomeMappedRoot()]
    assert "AttachOverlay" in kinds(inside(whole))
    assert "MakeNode" not in kinds(inside(whole))


def test_the_score_is_set_while_the_process_is_the_hosts_root() -> None:
    linux = {"uid_mappings": MAPPING, "gid_mappings": MAPPING}
    made_one, entered = Namespace(type="user"), Namespace(type="user", path="/u")
    for user, before in ((made_one, [ops.Await("maps")]), (entered, [])):
        namespaces = (Namespace(type="mount"), Namespace(type="pid"), user)
        whole = made(spec(linux={"namespaces": namespaces, **linux}, process={"oom_score_adj": 5}))

        assert inside(whole)[: len(before) + 1] == [*before, ops.SetOomScoreAdj(5)]


def test_what_is_there_already_is_entered_before_a_new_user_namespace_is_made() -> None:
    namespaces = (Namespace(type="mount"), Namespace(type="user"), Namespace(type="network", path="/n"))
    whole = made(spec(linux={"namespaces": namespaces, "uid_mappings": MAPPING, "gid_mappings": MAPPING}))

    assert outside(whole)[1:3] == [ops.Join("network", "/n"), ops.Clone(("user",))]
    assert "Join" not in kinds(inside(whole))


def test_in_a_user_namespace_that_is_entered_the_process_is_born_again_for_its_pid_namespace() -> None:
    namespaces = tuple(Namespace(type=t) for t in NAMESPACES if t != "network")
    joined = (Namespace(type="user", path="/u"), Namespace(type="network", path="/n"))
    whole = made(spec(linux={"namespaces": (*namespaces, *joined)}))

    assert outside(whole)[:2] == [ops.Clone(()), ops.Await("rebirth")]
    assert inside(whole)[:5] == [
        ops.Join("network", "/n"), ops.Join("user", "/u"), ops.BecomeMappedRoot(), ops.BeBornAgain(("pid",)),
        ops.Unshare(("mount", "uts", "ipc")),
    ]  # fmt: skip
    assert any(isinstance(op, ops.EnterCgroup) for op in outside(whole))


def test_a_namespace_that_is_entered_and_changed_must_not_be_the_hosts() -> None:
    joined = tuple(Namespace(type=t, path=f"/{t}") for t in ("network", "uts", "ipc"))
    linux = {"namespaces": (Namespace(type="mount"), *joined), "sysctl": {"net.ipv4.ip_forward": "1"}}
    story = inside(made(spec(linux=linux, hostname="h")))

    assert ops.Join("network", "/network", foreign=True) in story
    assert ops.Join("uts", "/uts", foreign=True) in story
    assert ops.Join("ipc", "/ipc") in story


def test_network_devices_are_moved_when_there_is_somewhere_to_move_them_to() -> None:
    whole = made(spec(linux={"net_devices": {"e1": NetDevice(name="net%d"), "e0": NetDevice()}}))

    assert outside(whole)[-3:] == [ops.Await("mounts"), ops.MoveNetDevice("e0", "e0"), ops.MoveNetDevice("e1", "net%d")]
    assert ops.Await("runtime") in inside(whole)


def test_a_time_namespace_gets_its_offsets_before_the_process_is_born() -> None:
    namespaces = tuple(Namespace(type=t) for t in (*NAMESPACES, "time"))
    offsets = {"monotonic": TimeOffset(secs=5)}
    story = outside(made(spec(linux={"namespaces": namespaces, "time_offsets": offsets})))

    assert story[:2] == [ops.OffsetClocks((("monotonic", 5, 0),)), ops.Clone(("pid",))]


def rights(process: dict[str, object], host: Host = V1, **annotations: str) -> list[ops.Operation]:
    story = inside(made(spec(process=process, annotations={SECCOMP: "default", **annotations}), host))
    return story[kinds(story).index("DropBounding") :]


def test_the_filter_is_last_where_no_new_privileges_are_gained() -> None:
    assert kinds(rights({"no_new_privileges": True})) == [
        "DropBounding", "BecomeUser", "SetNoNewPrivileges", "SetCapabilities", "SetFilter", "Execute",
    ]  # fmt: skip


def test_without_that_sys_admin_is_kept_until_the_filter_is_set() -> None:
    held = Capabilities(bounding=("CAP_KILL",), effective=("CAP_KILL",), permitted=("CAP_KILL",))
    story = rights({"capabilities": held})

    assert kinds(story) == ["DropBounding", "BecomeUser", "SetCapabilities", "SetFilter", "SetCapabilities", "Execute"]
    assert story[2].permitted == ("CAP_KILL", "CAP_SYS_ADMIN")
    assert story[2].until_filtered
    assert story[4] == ops.SetCapabilities(("CAP_KILL",), ("CAP_KILL",))


@pytest.mark.parametrize(("held", "variant"), [((), "none"), (("CAP_SYS_CHROOT",), "default")])
def test_the_shipped_filter_is_that_of_the_capabilities(held: tuple[str, ...], variant: str) -> None:
    story = rights({"capabilities": Capabilities(bounding=held)})

    assert ops.SetFilter("default", variant) in story


def test_capabilities_that_no_shipped_filter_is_for_are_refused() -> None:
    with pytest.raises(Unsupported, match="none is compiled for the capabilities CAP_SYS_ADMIN"):
        rights({"capabilities": Capabilities(bounding=("CAP_SYS_CHROOT", "CAP_SYS_ADMIN"))})


def test_a_profile_of_the_configurations_own_is_carried_along() -> None:
    whole = made(spec(linux={"seccomp": Seccomp(default_action="SCMP_ACT_ALLOW")}))

    assert any(isinstance(op, ops.SetFilter) and b"SCMP_ACT_ALLOW" in op.document for op in inside(whole))


@pytest.mark.parametrize(("host", "exec"), [(V1, False), (V2, True)])
def test_an_agent_is_connected_to_outside_and_told_of_the_process_before_the_root_changes(
    host: Host, exec: bool
) -> None:
    asks = Syscall(names=("mkdir",), action="SCMP_ACT_NOTIFY")
    flags = ("SECCOMP_FILTER_FLAG_LOG",)
    own = Seccomp(
        default_action="SCMP_ACT_ALLOW", syscalls=(asks,), listener_path="/a", listener_metadata="m", flags=flags
    )
    whole = spec(linux={"seccomp": own})
    made_ = plan_exec(whole.process, whole, host, id="c") if exec else made(whole, host)

    story = inside(made_)
    told = next(op for op in story if isinstance(op, ops.DescribeProcess))
    assert outside(made_)[0] == ops.ConnectListener("/a")
    assert story.index(told) < kinds(story).index("JoinContainer" if exec else "PivotRoot")
    assert (told.metadata, told.state.status) == ("m", "running" if exec else "creating")
    filter = next(op for op in story if isinstance(op, ops.SetFilter))
    assert (filter.flags, filter.notifies) == (flags, True)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ([("RLIMIT_FOO", 1, 1)], "process.rlimits[0].type: Linux has no RLIMIT_FOO"),
        ([("RLIMIT_CORE", 0, 9)] * 2, "process.rlimits[1].type: RLIMIT_CORE is there twice"),
        ([("RLIMIT_CORE", 10, 9)], "process.rlimits[0].soft: 10 is above the hard limit, 9"),
        ([("RLIMIT_CORE", -1, 9)], "process.rlimits[0].soft: -1 is above the hard limit, 9"),
    ],
)
def test_a_limit_that_can_not_be_set_is_refused_by_its_place(limits: list[tuple[str, int, int]], said: str) -> None:
    asked = tuple(Rlimit(type=type, soft=soft, hard=hard) for type, soft, hard in limits)

    with pytest.raises(InvalidInput, match=re.escape(said)):
        made(spec(process={"rlimits": asked}))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"mounts": (Mount(destination="/a", type="tmpfs"), Mount(destination="b", type="tmpfs"))}, "mounts[1].dest"),
        ({"linux": {"devices": (Device(path="b", type="c", major=1, minor=3),)}}, "linux.devices[0].path"),
        ({"process": {"cwd": "b"}}, "process.cwd"),
    ],
)
def test_a_path_that_leads_from_nowhere_is_refused_by_its_place(what: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)):
        made(spec(**what))


def test_what_this_host_can_not_give_is_left_out_with_a_word() -> None:
    asked = Capabilities(bounding=("CAP_KILL", "CAP_SYS_RESOURCE"))
    limits = (Rlimit(type="RLIMIT_NOFILE", soft=2**64 - 1, hard=2**64 - 1), Rlimit(type="RLIMIT_CORE", soft=0, hard=9))
    whole = made(spec(process={"capabilities": asked, "rlimits": limits}))

    assert ops.DropBounding(("CAP_KILL",)) in inside(whole)
    assert ops.SetRlimit("RLIMIT_NOFILE", 20_000, 20_000) in inside(whole)
    assert ops.SetRlimit("RLIMIT_CORE", 0, 9) in inside(whole)
    assert [w.split(" ")[0] for w in whole.warnings] == ["CAP_SYS_RESOURCE", "RLIMIT_NOFILE"]


def test_the_reaper_comes_after_all_rights_are_given_up() -> None:
    assert kinds(rights({}, **{INIT: "true"}))[-2:] == ["Reap", "Execute"]


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("what", "host", "error"),
    [
        (spec(root=None), V1, InvalidInput),
        (spec(root=Root(path="r")), V1, InvalidInput),
        (spec(process={"args": ()}), V1, InvalidInput),
        (spec(process={"cwd": "x"}), V1, InvalidInput),
        (spec(process={"args": ("a\0b",)}), V1, InvalidInput),
        (spec(process={"apparmor_profile": "x"}), V1, Unsupported),
        (spec(process={"selinux_label": "x"}), V1, Unsupported),
        (spec(linux={"namespaces": ()}), V1, Unsupported),
        (spec(linux={"mount_label": "x"}), V1, Unsupported),
        (spec(linux={"sysctl": {"vm.swappiness": "1"}}), V1, InvalidInput),
        (spec(linux={"seccomp": Seccomp(default_action="SCMP_ACT_ALLOW", listener_metadata="x")}), V1, InvalidInput),
        (spec(linux={"seccomp": Seccomp(default_action="SCMP_ACT_ALLOW", listener_path="x")}), V1, InvalidInput),
        (spec(linux={"seccomp": Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(ODD,))}), V1, InvalidInput),
        (spec(linux={"sysctl": {"net/../vm/swappiness": "1"}}), V1, InvalidInput),
        (spec(linux={"namespaces": (Namespace(type="mount"),) * 2}), V1, InvalidInput),
        (spec(linux={"namespaces": (Namespace(type="mount"), Namespace(type="user"))}), V1, InvalidInput),
        (spec(linux={"uid_mappings": (IdMapping(container_id=0, host_id=1, size=2),)}), V1, InvalidInput),
        (spec(linux={"namespaces": (Namespace(type="mount"),), "net_devices": {"e": NetDevice()}}), V1, InvalidInput),
        (spec(linux={"intel_rdt": IntelRdt(clos_id="x")}), V1, Unsupported),
        (spec(linux={"intel_rdt": IntelRdt(clos_id="../x")}), msgspec.structs.replace(V1, resctrl="/rc"), InvalidInput),
        (spec(linux={"time_offsets": {"monotonic": TimeOffset(secs=1)}}), V1, InvalidInput),
        (spec(linux={"resources": Resources(memory=Memory(limit=5, swap=4))}), V1, InvalidInput),
        (spec(), msgspec.structs.replace(V1, rootful=False), Unsupported),
        (spec(), msgspec.structs.replace(V1, mount_setattr=False), Unsupported),
        (spec(), msgspec.structs.replace(V1, namespaces=frozenset({"mnt"})), Unsupported),
        (
            spec(linux={"resources": Resources(memory=Memory(limit=5))}),
            msgspec.structs.replace(V1, cgroup_mode=CgroupMode.NONE),
            Unsupported,
        ),
        (spec(linux={"resources": Resources(memory=Memory(swappiness=5))}), V2, Unsupported),
        (spec(), msgspec.structs.replace(V1, cgroup_mode=CgroupMode.NONE, cgroup_mounts=()), Unsupported),
    ],
)
def test_what_can_not_be_done_as_asked_is_refused(what: Spec, host: Host, error: type[SampanError]) -> None:
    with pytest.raises(error):
        made(what, host)


def test_a_label_is_written_where_the_host_has_the_module() -> None:
    story = inside(made(spec(process={"apparmor_profile": "sampan"}), msgspec.structs.replace(V1, apparmor=True)))

    assert story.index(ops.SetLabel("apparmor", "sampan")) < kinds(story).index("PivotRoot")


# --------------------------------------------------------------------------------------------------------- hooks


def hooked(host: Host = V1, **process: object) -> Plan:
    one = {stage: (Hook(path=f"/{stage}"),) for stage in ("prestart", "create_runtime", "create_container")}
    hooks = Hooks(**one, start_container=(Hook(path="/start"),), poststart=(Hook(path="/p"),))
    return made(spec(hooks=hooks, process=process, annotations={"a": "b", INIT: "true"}), host)


def stages(operations: list[ops.Operation]) -> list[str]:
    return [op.stage if isinstance(op, ops.RunHooks) else type(op).__name__ for op in operations]


@pytest.mark.parametrize("host", [V1, V2])
def test_runtime_hooks_run_outside_when_the_mounts_are_there_and_the_root_has_not_changed(host: Host) -> None:
    whole = hooked(host)

    assert stages(outside(whole))[-3:] == ["Await", "prestart", "createRuntime"]
    story = stages(inside(whole))
    at = story.index("createContainer")
    assert inside(whole)[at - 1] == ops.Await("runtime")
    assert story.index("LookUpUser") < at < story.index("PivotRoot")
    everything = stages([step.op for step in whole.steps])
    assert everything.index("LookUpUser") < everything.index("prestart") < everything.index("createContainer")


def test_start_hooks_run_last_with_the_programs_own_rights() -> None:
    assert stages(inside(hooked()))[-4:] == ["SetCapabilities", "Reap", "startContainer", "Execute"]


def test_a_label_is_for_the_program_and_not_for_a_hook() -> None:
    whole = hooked(msgspec.structs.replace(V1, apparmor=True), apparmor_profile="p")

    assert stages(inside(whole)).index("createContainer") < inside(whole).index(ops.SetLabel("apparmor", "p"))


def test_hooks_are_told_which_container_it_is() -> None:
    op = next(op for op in inside(hooked()) if isinstance(op, ops.RunHooks))

    assert (op.state.id, op.state.annotations["a"], op.state.oci_version) == ("c", "b", "1.2.0")


def test_cve_2019_16884_a_label_is_written_by_the_hosts_proc_and_not_by_the_containers() -> None:
    host = msgspec.structs.replace(V1, apparmor=True, selinux=True)
    whole = spec(process={"apparmor_profile": "p", "selinux_label": "a:b:c:s0"})
    first, exec = inside(made(whole, host)), inside(plan_exec(whole.process, whole, host, id="c"))

    labels = [ops.SetLabel("apparmor", "p"), ops.SetLabel("selinux", "a:b:c:s0")]
    assert max(first.index(op) for op in labels) < kinds(first).index("PivotRoot")
    assert max(exec.index(op) for op in labels) < kinds(exec).index("JoinContainer")


def test_an_exec_runs_no_hooks() -> None:
    whole = spec(hooks=Hooks(start_container=(Hook(path="/x"),)))

    assert "startContainer" not in stages(inside(plan_exec(Process(args=("id",)), whole, V1, id="c")))


# --------------------------------------------------------------------------------------------------------- exec


def test_an_exec_enters_what_the_container_has_and_takes_its_restrictions() -> None:
    whole = spec(annotations={SECCOMP: "default", INIT: "true"})
    process = Process(args=("id",), user=User(username="web"), no_new_privileges=True)
    made_ = plan_exec(process, whole, V1, id="c", cgroup_parent="/sampan-x")

    assert outside(made_)[:2] == [ops.JoinContainer(("pid",)), ops.Clone(())]
    assert ops.JoinContainer(("mount", "network", "uts", "ipc", "cgroup")) in inside(made_)
    assert kinds(inside(made_))[-4:] == ["SetNoNewPrivileges", "SetCapabilities", "SetFilter", "Execute"]
    assert made_.cgroups == made(whole).cgroups
    assert made_.root == ""


def test_an_exec_without_a_pid_namespace_of_the_containers_is_made_in_the_hosts() -> None:
    namespaces = tuple(Namespace(type=t) for t in NAMESPACES if t != "pid")
    made_ = plan_exec(Process(args=("id",)), spec(linux={"namespaces": namespaces}), V2, id="c", cgroup_parent="/s")

    assert kinds(outside(made_)) == ["Clone"]


# --------------------------------------------------------------------------------------------------- every operation


def every_plan() -> list[Plan]:
    mapping = (IdMapping(container_id=0, host_id=1, size=2),)
    user = tuple(Namespace(type=t) for t in (*NAMESPACES, "user", "time"))
    overlay = Mount(destination="/", type="overlay", options=("lowerdir+=/a:b", "upperdir=/u", "workdir=/w"))
    shm = Mount(destination="/dev/shm", type="bind", source="/proc/7/root/dev/shm", options=("rbind",))
    more = (
        Mount(destination="/a", type="bind", source="/a", options=("rbind", "rshared", "rro")),
        Mount(destination="/b", type="bind", source="/b", uid_mappings=MAPPING, gid_mappings=MAPPING),
        Mount(destination="/c", type="tmpfs", options=("tmpcopyup", "shared", "rro")),
        Mount(destination="/c", options=("remount", "bind", "ro")),
    )
    full = spec(
        process={"terminal": True, "oom_score_adj": 5, "rlimits": (Rlimit(type="RLIMIT_NOFILE", soft=1, hard=2),)},
        linux={
            "masked_paths": ("/proc/keys",),
            "readonly_paths": ("/proc/sys",),
            "sysctl": {"net.x": "1"},
            "resources": Resources(memory=Memory(limit=9)),
        },
        mounts=(overlay, Mount(destination="/proc", type="proc"), shm, *more),
        hostname="h",
        domainname="d",
        annotations={SECCOMP: "default", INIT: "true"},
        hooks=Hooks(prestart=(Hook(path="/x", timeout=3, args=("x", "y z")),)),
    )
    return [
        made(full),
        made(full, V2),
        made(spec(linux={"namespaces": user, "uid_mappings": mapping, "gid_mappings": mapping}, mounts=(overlay,))),
        plan_exec(Process(args=("a b",), env=("X=y z",)), full, V1, id="c"),
    ]


@pytest.mark.parametrize("whole", every_plan())
def test_every_step_can_say_itself(whole: Plan) -> None:
    for step in whole.steps:
        said, line = step.op.say(), step.op.shell()
        assert said == said.strip()
        assert said[0].islower()
        assert line
        assert step.op.man
        assert "Op" not in said
