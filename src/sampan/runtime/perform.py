"""Performs a plan's steps: one `match` for what the shim does outside, one for what the new process does inside.

What a plan can't hold (descriptors, numbers of processes, what was read) is in the `Scene`.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, assert_never

from sampan.errors import Conflict, Failed, InvalidInput, SyscallError
from sampan.kernel import bpf, cgroupfs, keyring, link, namespaces, process
from sampan.kernel.namespaces import CLONE
from sampan.runtime import becoming, control, masking, mounting, ops
from sampan.runtime.scene import DONE_OUTSIDE, IN_CGROUPS, MAPPED, Mounted, Reborn
from sampan.spec.runtime import KERNEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.runtime.plan import Plan
    from sampan.runtime.scene import Scene

_NAMESPACES = {
    "mount": int(CLONE.NEWNS),
    "pid": int(CLONE.NEWPID),
    "network": int(CLONE.NEWNET),
    "uts": int(CLONE.NEWUTS),
    "ipc": int(CLONE.NEWIPC),
    "user": int(CLONE.NEWUSER),
    "cgroup": int(CLONE.NEWCGROUP),
    "time": int(CLONE.NEWTIME),
}


_SCHEDULING = (ops.SetAffinity, ops.SetIoPriority, ops.SetMemoryPolicy, ops.SetPersonality, ops.SetScheduler)


def load(plan: Plan) -> None:
    """Import what only some plans need, before the fork: after it nothing can be imported any more."""
    kinds = {type(step.op) for step in plan.steps}
    if ops.RunHooks in kinds:
        from sampan.runtime import hooks  # noqa: F401
    if any(isinstance(step.op, ops.Mount) and step.op.copy_up for step in plan.steps):
        from sampan.runtime import copy_up  # noqa: F401
    if ops.DescribeProcess in kinds:
        from sampan.runtime import notify  # noqa: F401
    if not kinds.isdisjoint(_SCHEDULING):
        from sampan.runtime import scheduling  # noqa: F401


def outside(op: ops.Outside, scene: Scene) -> None:
    """Perform a step of the shim's. After `Clone` there are two processes; in the new one `scene.pid` is 0."""
    match op:
        case ops.MakeCgroup():
            cgroupfs.make(op.directory)
        case ops.DelegateControllers():
            _delegate(op)
        case ops.InheritCpuset():
            cgroupfs.inherit_cpuset(op.directory)
        case ops.GrantRealtime():
            from sampan.runtime import realtime

            realtime.grant(op)
        case ops.WriteCgroup():
            control.write(op.directory, op.file, op.text)
        case ops.OwnCgroup():
            _own(op)
        case ops.JoinResctrl():
            from sampan.runtime import resctrl

            resctrl.join(op, scene.pid)
        case ops.FilterDevices():
            _filter_devices(op)
        case ops.EnterCgroup():
            _enter_cgroup(op.directory, scene)
        case ops.Join():
            _join(op)
        case ops.JoinContainer():
            namespaces.setns(scene.container_pidfd, flags_of(op.namespaces))
        case ops.OffsetClocks():
            _offset_clocks(op)
        case ops.MountOverlay():
            tree = _mount_overlay(op)
            if op.inside:
                scene.trees[op.target] = tree
            else:
                scene.overlay_fd = tree
        case ops.MapMount():
            from sampan.runtime import idmap

            scene.trees[op.target] = idmap.map_mount(op)
        case ops.MountMapped():
            from sampan.runtime import idmap

            scene.trees[op.target] = idmap.mount_mapped(op)
        case ops.OpenTree():
            _open_tree(op, scene)
        case ops.OwnStreams():
            _own_streams(op, scene)
        case ops.Clone():
            _clone(op, scene)
        case ops.MapIds():
            _write(f"/proc/{scene.pid}/{op.kind}_map", op.text())
        case ops.MoveNetDevice():
            from sampan.runtime import net_devices

            net_devices.move(op.device, op.name, scene.pid)
        case ops.ConnectListener():
            from sampan.runtime import notify

            scene.agent_fd = notify.connect(op.path)
        case ops.Await():
            _meet(scene)
        case ops.RunHooks():
            from sampan.runtime import hooks

            hooks.run_stage(op, scene.pid, scene.root_fd)
        case _:
            assert_never(op)


def inside(op: ops.Inside, scene: Scene) -> None:
    """Perform a step of the new process's. Returns from `Execute` only by raising."""
    match op:
        case ops.Await():
            _await(op, scene)
        case ops.MoveIntoCgroup():
            cgroupfs.write(op.directory, "tasks", "0")
        case ops.BecomeMappedRoot():
            _become_mapped_root()
        case ops.BeBornAgain():
            _be_born_again(op, scene)
        case ops.Unshare():
            namespaces.unshare(flags_of(op.namespaces))
        case ops.Join():
            _join(op)
        case ops.JoinContainer():
            _enter_container(op, scene)
        case ops.SetPropagation():
            mounting.set_propagation(op)
        case ops.MountOverlay(inside=True):
            mounting.mount_layers(op, scene)
        case ops.MountOverlay():
            mounting.mount_root(op, scene)
        case ops.AttachOverlay(inside=True):
            mounting.attach(scene.trees.pop(op.target), op.target, scene)
        case ops.AttachOverlay():
            mounting.attach_root(scene)
        case ops.BindRoot():
            mounting.bind_root(scene)
        case ops.Mount():
            mounting.mount_filesystem(op, scene)
        case ops.Remount():
            mounting.remount(op, scene)
        case ops.OpenTree():
            _open_tree(op, scene)
        case ops.Borrow():
            mounting.borrow(op, scene)
        case ops.Bind():
            mounting.bind(op, scene)
        case ops.MakeDirectory():
            mounting.make_directory(op, scene)
        case ops.MakeNode():
            mounting.make_node(op, scene)
        case ops.MakeLink():
            mounting.make_link(op, scene)
        case ops.Mask():
            masking.mask(op, scene)
        case ops.MakeReadOnly():
            masking.make_read_only(op, scene)
        case ops.SetSysctl():
            masking.write_sysctl(op, scene)
        case ops.SetHostname():
            process.sethostname(op.name)
        case ops.SetDomainname():
            process.setdomainname(op.name)
        case ops.BringUpLoopback():
            link.loopback_up()
        case ops.SetOomScoreAdj():
            _set_oom_score_adj(op, scene)
        case ops.SetLabel():
            _set_label(op)
        case ops.NewKeyring():
            _new_keyring(op)
        case ops.MakeConsole():
            becoming.make_console(op, scene)
        case ops.LookUpUser():
            becoming.look_up_user(op, scene)
        case ops.DescribeProcess():
            from sampan.runtime import notify

            scene.agent_document = notify.describe(op, scene.container_pidfd)
        case ops.PivotRoot():
            mounting.pivot_root(scene)
            becoming.let_go_of_the_host(scene)
        case (
            ops.SetAffinity() | ops.SetIoPriority() | ops.SetMemoryPolicy() | ops.SetPersonality() | ops.SetScheduler()
        ):
            from sampan.runtime import scheduling

            scheduling.perform(op)
        case _:
            _become(op, scene)


def _become(op: ops.Becoming, scene: Scene) -> None:
    """Perform a step that comes after the root has changed."""
    match op:
        case ops.ChangeDirectory():
            becoming.change_directory(op, scene)
        case ops.SetUmask():
            os.umask(op.mask)
        case ops.SetRlimit():
            _set_rlimit(op)
        case ops.DropBounding():
            becoming.drop_bounding(op)
        case ops.BecomeUser():
            becoming.become_user(scene)
        case ops.SetNoNewPrivileges():
            process.set_no_new_privs()
        case ops.SetCapabilities():
            becoming.set_capabilities(op)
        case ops.SetFilter():
            becoming.set_filter(op, scene)
        case ops.RunHooks():
            from sampan.runtime import hooks  # loaded before the fork

            hooks.run_stage(op, os.getpid(), scene.root_fd)
        case ops.Reap():
            becoming.stay_as_reaper(scene)
        case ops.Execute():
            becoming.execute(op, scene)
        case _:
            assert_never(op)


def flags_of(names: Iterable[str]) -> int:
    """Return the flags of clone(2), unshare(2) and setns(2) for kinds of namespaces."""
    flags = 0
    for name in names:
        flags |= _NAMESPACES[name]
    return flags


def _open_tree(op: ops.OpenTree, scene: Scene) -> None:
    def copy() -> int:
        return mounting.open_tree(op.source, recursive=op.recursive, subpath=op.subpath)

    scene.trees[op.target] = mounting.in_namespace(op.namespace, copy) if op.namespace else copy()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, os.fsencode(text))
    finally:
        os.close(fd)


# -------------------------------------------------------------------------------------------------------------- outside


def _meet(scene: Scene) -> None:
    said = scene.hear()
    if isinstance(said, Reborn):
        with suppress(ChildProcessError):  # it may be this process's sibling, whom another waits for
            os.waitid(os.P_PIDFD, scene.pidfd, os.WEXITED)
        os.close(scene.pidfd)
        scene.pid, scene.pidfd = said
    elif not isinstance(said, Mounted):
        raise Failed("its process has ended")


def _mount_overlay(op: ops.MountOverlay) -> int:
    if not op.mapped:
        return mounting.mount_overlay(op)
    from sampan.runtime import idmap

    return idmap.mount_overlay(op)


def _own_streams(op: ops.OwnStreams, scene: Scene) -> None:
    for fd in scene.stdio or ():
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, op.uid, op.gid)


def _delegate(op: ops.DelegateControllers) -> None:
    there = cgroupfs.read(op.directory, "cgroup.subtree_control").split()
    missing = [f"+{c}" for c in op.controllers if c not in there]
    try:
        if missing:
            cgroupfs.write(op.directory, "cgroup.subtree_control", " ".join(missing))
    except SyscallError as e:
        if e.errno != errno.EBUSY:
            raise
        raise Conflict(
            f"can't limit the groups below {op.directory}: processes are in it",
            "name a group without any: those that hold processes have no limited groups below them, cgroups(7)",
        ) from None


_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def _own(op: ops.OwnCgroup) -> None:
    """Give away what may be given away without the limits: the kernel lists it; cgroups(7)."""
    try:
        with open("/sys/kernel/cgroup/delegate", "rb") as file:
            names: Iterable[str] = file.read().decode().split()
    except FileNotFoundError:
        names = _DELEGATED
    os.chown(op.directory, op.uid, -1)
    for name in ("tasks", *names):  # v1 has that one, and of the others cgroup.procs
        with suppress(FileNotFoundError):
            os.chown(f"{op.directory}/{name}", op.uid, -1)


def _enter_cgroup(directory: str, scene: Scene) -> None:
    try:
        cgroupfs.add_process(directory, scene.pid)
    except SyscallError as e:
        if e.errno != errno.EBUSY or scene.container_pidfd < 0:
            raise
        cgroupfs.add_process(_group_that_takes(directory, scene), scene.pid)


def _filter_devices(op: ops.FilterDevices) -> None:
    rules = [bpf.DeviceRule(r.allow, r.type, r.major, r.minor, r.access) for r in op.rules]
    program = bpf.load(bpf.device_program(rules))
    group = os.open(op.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        bpf.attach(group, program)
    finally:
        os.close(group)
        os.close(program)


def _offset_clocks(op: ops.OffsetClocks) -> None:
    namespaces.unshare(CLONE.NEWTIME)
    if op.offsets:
        _write("/proc/self/timens_offsets", "".join(f"{c} {s} {ns}\n" for c, s, ns in op.offsets))


def _clone(op: ops.Clone, scene: Scene) -> None:
    if scene.overlay_fd >= 0:
        os.chdir(scene.root)  # where the new process attaches it
    flags = flags_of(op.namespaces) | (CLONE.PARENT if scene.sibling else 0)
    try:
        scene.pid, scene.pidfd = _clone_into(op.cgroup, flags)
    except SyscallError as e:
        if e.errno != errno.EBUSY or scene.container_pidfd < 0:
            raise
        scene.pid, scene.pidfd = _clone_into(_group_that_takes(op.cgroup, scene), flags)
    if scene.pid and scene.overlay_fd >= 0:
        os.chdir("/")


def _clone_into(cgroup: str, flags: int) -> tuple[int, int]:
    if not cgroup:
        return namespaces.clone(flags)
    group = os.open(cgroup, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return namespaces.clone(flags, cgroup_fd=group)
    finally:
        os.close(group)


def _group_that_takes(directory: str, scene: Scene) -> str:
    """Return where the container's first process is, below a v2 group that takes none.

    A container that may arrange its own groups hands controllers down to some, and is then in those; cgroups(7), "no
    internal processes".
    """
    name = os.path.basename(directory)
    own = cgroupfs.of_process(process.pidfd_pid(scene.container_pidfd))[""]
    return f"{directory}/{own.partition(f'/{name}/')[2]}"


# --------------------------------------------------------------------------------------------------------------- inside


def _await(op: ops.Await, scene: Scene) -> None:
    if op.what == "runtime":
        scene.channel.send_mounted()
    scene.channel.wait_for({"maps": MAPPED, "cgroups": IN_CGROUPS}.get(op.what, DONE_OUTSIDE))


def _join(op: ops.Join) -> None:
    fd = os.open(op.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        name = KERNEL_NAMES.get(op.namespace, op.namespace)
        if op.foreign and os.path.samestat(os.fstat(fd), os.stat(f"/proc/self/ns/{name}")):
            raise InvalidInput(
                f"can't enter the {op.namespace} namespace {op.path}: it is the host's, and the container changes it"
            )
        namespaces.setns(fd, _NAMESPACES[op.namespace])
    finally:
        os.close(fd)


def _enter_container(op: ops.JoinContainer, scene: Scene) -> None:
    """Enter all at once. From here on the container's processes see this one: no descriptor of the host's is left."""
    namespaces.setns(scene.container_pidfd, flags_of(op.namespaces))
    becoming.let_go_of_the_host(scene)
    scene.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _be_born_again(op: ops.BeBornAgain, scene: Scene) -> None:
    """Fork a sibling that goes on as the container's first process; this one tells of it and ends."""
    pid, pidfd = namespaces.clone(flags_of(op.namespaces) | CLONE.PARENT)
    if pid:
        scene.channel.send_reborn(Reborn(pid, pidfd))
        os._exit(0)
    os.setsid()
    process.set_dumpable(False)


def _become_mapped_root() -> None:
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    process.set_dumpable(False)


def _set_oom_score_adj(op: ops.SetOomScoreAdj, scene: Scene) -> None:
    try:
        _write("/proc/self/oom_score_adj", str(op.value))
    except PermissionError:  # below the present value only with CAP_SYS_RESOURCE
        scene.warnings.append(f"oom_score_adj could not be lowered to {op.value}: sampan may not do that here")


def _set_label(op: ops.SetLabel) -> None:
    if op.module != "apparmor":
        _write("/proc/self/attr/exec", op.label)
        return
    try:
        _write("/proc/self/attr/apparmor/exec", f"exec {op.label}")
    except FileNotFoundError:
        raise InvalidInput(
            f"can't confine the container: AppArmor has no profile {op.label}",
            "load it with apparmor_parser -r FILE, or name one of /sys/kernel/security/apparmor/profiles",
        ) from None


def _new_keyring(op: ops.NewKeyring) -> None:
    try:
        keyring.join_session_keyring(op.name)
    except OSError as e:
        if e.errno != errno.ENOSYS:  # a kernel without keyrings has none to leave
            raise


def _set_rlimit(op: ops.SetRlimit) -> None:
    number = getattr(resource, op.resource)
    soft, hard = (resource.RLIM_INFINITY if n is None else n for n in (op.soft, op.hard))
    try:
        resource.setrlimit(number, (soft, hard))
    except ValueError as e:  # EPERM and EINVAL in Python's words; also the superuser's files end at fs.nr_open
        limits = f"{op.resource} to {'unlimited' if op.hard is None else op.hard}"
        hint = "the most is in /proc/sys/fs/nr_open" if op.resource == "RLIMIT_NOFILE" else ""
        raise InvalidInput(f"can't set {limits}: {e}", hint) from e
