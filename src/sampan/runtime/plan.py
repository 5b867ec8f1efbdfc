"""From a container's configuration to the kernel steps that make it: pure, no clock, no files, no kernel.

`plan` is the order of a container's birth. The shim performs the steps marked `outside`, the new process those marked
`inside`; they run side by side and meet at `Clone` and `Await`. Everything up to `PivotRoot` is done from the host's
side, through descriptors of the container's root; after it only the process's own rights are left to be given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from sampan.errors import Unsupported
from sampan.runtime import attributes, cgroups, mounts, ops
from sampan.runtime.refuse import namespace_of, refuse, refuse_process
from sampan.runtime.rights import Rights, agent, become_the_program
from sampan.spec import runtime as oci
from sampan.spec.host import CgroupMode, Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One operation, and who performs it."""

    who: Literal["outside", "inside"]
    op: ops.Outside | ops.Inside


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ordered steps that make a container, or a process in one."""

    id: str
    steps: tuple[Step, ...]
    root: str = ""  # the host's path of what becomes `/`; empty: the container's own, which was entered
    cgroups: tuple[tuple[str, str], ...] = ()  # (controller, directory); v2: ("", directory)
    warnings: tuple[str, ...] = ()  # what was asked for and is done in part only


_decoder = msgspec.msgpack.Decoder(Plan)
_encoder = msgspec.msgpack.Encoder()


def encode(plan: Plan) -> bytes:
    """Write a plan as MessagePack, to be sent to the process that performs it."""
    return _encoder.encode(plan)


def decode(document: bytes) -> Plan:
    """Read what `encode` wrote."""
    return _decoder.decode(document)


def plan(spec: oci.Spec, host: Host, *, id: str, cgroup_parent: str = "", bundle: str = "") -> Plan:
    """Compute the steps that make the container `id`; raise Unsupported for what can't be done as asked.

    Its control groups are `linux.cgroupsPath`, else `cgroup_parent`/`id`. Hooks are told of `bundle`.
    """
    refuse(spec, host)
    assert spec.root
    assert spec.process
    own = cgroups.of_container(spec, host, f"{cgroup_parent}/{id}")
    rights = Rights(spec.process, host, other_user=mounts.has_user(spec))
    state = oci.ContainerState(oci_version=spec.oci_version, id=id, bundle=bundle, annotations=spec.annotations)
    hooks = _Hooks(spec, state)
    connect, describe = agent(spec, state, "creating")
    rdt = attributes.resctrl(spec.linux, host, id)
    outside = [*connect, *_outside(spec, host, own), *([rdt] if rdt else []), *hooks.outside()]
    inside = [
        *_enter_namespaces(spec, spec.process),
        ops.NewKeyring(f"_ses.{id}"),
        *mounts.opened_early(spec),
        *mounts.root(spec, host),
        *mounts.filesystems(spec, host),
        *mounts.devices(spec),
        *([ops.MakeConsole()] if spec.process.terminal else []),
        *_names_and_parameters(spec),
        *mounts.masks(spec),
        _look_up_user(spec.process, spec.annotations),
        ops.MakeDirectory(spec.process.cwd),
        *_once_in_the_cgroups(spec, host, own),
        *hooks.inside(),
        *attributes.steps(spec.process, spec.linux),
        *_labels(spec.process),
        *describe,
        *([ops.MakeReadOnly("/", mounted=True)] if spec.root.readonly else []),
        ops.PivotRoot(spec.root.path),
        *([ops.SetPropagation("/", propagation)] if (propagation := spec.linux.rootfs_propagation) else []),
        *become_the_program(spec.process, rights, spec, at_start=[*_reap(spec), *hooks.at_start()]),
    ]
    # A class of service that was made for this container alone goes with it, as does where it was watched.
    if rdt:
        own += tuple(("resctrl", d) for d in (rdt.monitor, "" if rdt.shared else rdt.directory) if d)
    return Plan(id=id, steps=_merge(outside, inside), root=spec.root.path, cgroups=own, warnings=rights.warnings)


def plan_exec(
    process: oci.Process, spec: oci.Spec, host: Host, *, id: str, cgroup_parent: str = "", bundle: str = ""
) -> Plan:
    """Compute the steps that run another process in the container that `spec` described, under its restrictions."""
    refuse_process(process, host)
    own = cgroups.of_container(spec, host, f"{cgroup_parent}/{id}")
    types = [n.type for n in spec.linux.namespaces]
    rights = Rights(process, host, other_user="user" in types)
    first, last = attributes.affinity(process)
    state = oci.ContainerState(oci_version=spec.oci_version, id=id, bundle=bundle, annotations=spec.annotations)
    connect, describe = agent(spec, state, "running")
    # A pid namespace takes in the children to come only; setns(2).
    outside: list[ops.Outside] = [*connect, *_own_streams(spec)]
    outside += [ops.JoinContainer(("pid",))] if "pid" in types else []
    groups: list[ops.Inside] = []
    if host.cgroup_mode is CgroupMode.V2 and first:  # it is not to be born in the group, but to enter it
        outside += [ops.Clone(()), ops.EnterCgroup(own[0][1])]
        groups = [ops.Await("cgroups")]
    else:
        outside += _clone((), host, own)
        groups += () if host.cgroup_mode is CgroupMode.V2 else (ops.MoveIntoCgroup(directory) for _, directory in own)
    inside: list[ops.Inside] = [
        *([first] if first else []),
        *_oom_score(process),
        ops.NewKeyring(f"_ses.{id}"),
        *groups,
        *attributes.steps(process, spec.linux),
        *([last] if last else []),
        *_labels(process),
        *describe,
        ops.JoinContainer(tuple(t for t in types if t != "pid")),
        *([ops.BecomeMappedRoot()] if "user" in types else []),
        _look_up_user(process, spec.annotations),
        *([ops.MakeConsole(bind=False)] if process.terminal else []),
        *become_the_program(process, rights, spec),
    ]
    return Plan(id=id, steps=_merge(outside, inside), cgroups=own, warnings=rights.warnings)


def _merge(outside: list[ops.Outside], inside: list[ops.Inside]) -> tuple[Step, ...]:
    """Put what the new process does behind its birth, and what is done for it outside before it waits for that."""
    born = next(n for n, op in enumerate(outside) if isinstance(op, ops.Clone)) + 1
    born += 2 if inside and inside[0] == ops.Await("maps") else 0
    mounted = _place(outside, ops.Await("mounts"))
    waits = _place(inside, ops.Await("cgroups"))
    waits_again = _place(inside, ops.Await("runtime"))
    waits = min(waits, waits_again)
    return (
        *(Step("outside", op) for op in outside[:born]),
        *(Step("inside", op) for op in inside[:waits]),
        *(Step("outside", op) for op in outside[born:mounted]),
        *(Step("inside", op) for op in inside[waits:waits_again]),
        *(Step("outside", op) for op in outside[mounted:]),
        *(Step("inside", op) for op in inside[waits_again:]),
    )


def _place(operations: Sequence[ops.Operation], op: ops.Operation) -> int:
    return operations.index(op) if op in operations else len(operations)


class _Hooks:
    """The steps that are hooks, and the moving of network devices.

    `outside` and `inside` meet where the mounts are made and the root has not changed.
    """

    def __init__(self, spec: oci.Spec, state: oci.ContainerState) -> None:
        self._hooks = spec.hooks or oci.Hooks()
        self._state = state
        self._devices = tuple((name, d.name or name) for name, d in sorted(spec.linux.net_devices.items()))
        self._meets = bool(self._hooks.prestart or self._hooks.create_runtime or self._devices)

    def outside(self) -> Iterator[ops.Outside]:
        if self._meets:
            yield ops.Await("mounts")
            yield from (ops.MoveNetDevice(device, name) for device, name in self._devices)
            yield from self._run("prestart", self._hooks.prestart)
            yield from self._run("createRuntime", self._hooks.create_runtime)

    def inside(self) -> Iterator[ops.Inside]:
        if self._meets:
            yield ops.Await("runtime")
        yield from self._run("createContainer", self._hooks.create_container)

    def at_start(self) -> Iterator[ops.RunHooks]:
        yield from self._run("startContainer", self._hooks.start_container)

    def _run(self, stage: ops.HookStage, hooks: tuple[oci.Hook, ...]) -> Iterator[ops.RunHooks]:
        if hooks:
            yield ops.RunHooks(stage, hooks, self._state)


# ------------------------------------------------------------------------------------------ outside: what the shim does


def _outside(spec: oci.Spec, host: Host, own: tuple[tuple[str, str], ...]) -> list[ops.Outside]:
    new = _new(spec)
    steps: list[ops.Outside] = []
    if mounts.has_user(spec):
        steps += mounts.overlay(spec, host, detached=True)
        steps += mounts.layered(spec, host)
        steps += mounts.apart(spec)
        steps += mounts.opened_outside(spec)
        steps += _own_streams(spec)
    steps += mounts.mapped(spec)
    # From inside a new user namespace nothing of the host's can be entered any more.
    early = None if "user" in new else "pid"
    steps += [join for join in _joins(spec) if early in {None, join.namespace}]
    if "time" in new:
        offsets = tuple((clock, o.secs, o.nanosecs) for clock, o in sorted(spec.linux.time_offsets.items()))
        steps.append(ops.OffsetClocks(offsets))
    limits = list(_limit(spec, host, own))  # all of it: what has no file here is refused
    # A process is born into a v2 group, which so must be there; v1 work goes on while the process makes its mounts.
    if host.cgroup_mode is CgroupMode.V2:
        steps += limits
    born_again = _is_born_again(spec)
    steps += _clone(tuple(n for n in ("user", "pid") if n in new and not born_again), host, own)
    if born_again:
        steps.append(ops.Await("rebirth"))
    if "user" in new:
        maps: list[ops.Outside] = [
            ops.MapIds("uid", spec.linux.uid_mappings),
            ops.MapIds("gid", spec.linux.gid_mappings),
        ]
        at = next(n for n, op in enumerate(steps) if isinstance(op, ops.Clone)) + 1
        steps[at:at] = maps
    if host.cgroup_mode is CgroupMode.V1:
        steps += limits
        if not _may_move_itself(spec):
            steps += (ops.EnterCgroup(directory) for _, directory in own)
    return steps


def _joins(spec: oci.Spec) -> list[ops.Join]:
    """Return the entering of what is there already; with `foreign` where the configuration changes something in it."""
    changed = {namespace_of(key.replace("/", ".")) for key in spec.linux.sysctl}
    if spec.hostname or spec.domainname:
        changed.add("uts")
    if spec.linux.net_devices:
        changed.add("network")
    return [ops.Join(n.type, n.path, n.type in changed) for n in spec.linux.namespaces if n.path]


def _own_streams(spec: oci.Spec) -> Iterator[ops.OwnStreams]:
    """Give the container's root its pipes, where the engine has said who that is."""
    uid, gid = (_host_id(table, 0) for table in (spec.linux.uid_mappings, spec.linux.gid_mappings))
    if uid is not None and gid is not None:
        yield ops.OwnStreams(uid, gid)


def _host_id(mappings: tuple[oci.IdMapping, ...], id: int) -> int | None:
    found = (m.host_id + id - m.container_id for m in mappings if m.container_id <= id < m.container_id + m.size)
    return next(found, None)


def _is_born_again(spec: oci.Spec) -> bool:
    """Whether a pid namespace is to belong to a user namespace that is entered: it can be made only from within."""
    return "pid" in _new(spec) and mounts.has_user(spec) and "user" not in _new(spec)


def _may_move_itself(spec: oci.Spec) -> bool:
    """Whether the new process may write to the host's control groups: not as the root of another user namespace."""
    return not mounts.has_user(spec)


def _clone(namespaces: tuple[str, ...], host: Host, own: tuple[tuple[str, str], ...]) -> list[ops.Outside]:
    if host.cgroup_mode is CgroupMode.V2:
        return [ops.Clone(namespaces, own[0][1])]
    return [ops.Clone(namespaces)]


def _limit(spec: oci.Spec, host: Host, own: tuple[tuple[str, str], ...]) -> Iterator[ops.Outside]:
    """Make the groups and set their limits."""
    resources = spec.linux.resources or oci.Resources()
    table = cgroups.writes(resources, host.cgroup_mode)
    rules = cgroups.device_rules(resources)
    if host.cgroup_mode is CgroupMode.V2:
        yield from _delegate(host, own[0][1], {c for c, _, _ in table})
    for _, directory in own:
        yield ops.MakeCgroup(directory)
    if "cpuset" in dict(own):
        yield from (ops.InheritCpuset(directory) for directory in _chain(own, "cpuset", host))
    if resources.cpu and resources.cpu.realtime_runtime:
        chain = _chain(own, "cpu", host)[:-1]
        share = -(-resources.cpu.realtime_runtime * _SECOND_US // (resources.cpu.realtime_period or _SECOND_US))
        yield from [ops.GrantRealtime(chain, share)] if chain else []
    for controller, file, text in table:
        yield ops.WriteCgroup(cgroups.directory_of(own, controller, host), file, text)
    if host.cgroup_mode is CgroupMode.V2:
        if rules != (oci.DeviceRule(allow=True),):
            yield ops.FilterDevices(own[0][1], rules)
        if (uid := _owner(spec)) is not None:
            yield ops.OwnCgroup(own[0][1], uid)
        return
    if "devices" in dict(own):
        for _, file, text in cgroups.device_writes(rules):
            yield ops.WriteCgroup(cgroups.directory_of(own, "devices", host), file, text)
    uid = _host_id(spec.linux.uid_mappings, 0) if mounts.has_user(spec) else None
    if cgroups.NAMED in dict(own) and uid is not None:
        yield ops.OwnCgroup(dict(own)[cgroups.NAMED], uid)


def _chain(own: tuple[tuple[str, str], ...], controller: str, host: Host) -> tuple[str, ...]:
    """Return a v1 group and those that it is in, the outermost first, without the mount's own."""
    directory, mount = cgroups.directory_of(own, controller, host), dict(host.cgroup_mounts)[controller]
    parts = directory.removeprefix(mount).strip("/").split("/")
    return tuple("/".join((mount, *parts[:n])) for n in range(1, len(parts) + 1))


_SECOND_US = 1_000_000


def _owner(spec: oci.Spec) -> int | None:
    """Return whose the v2 group becomes: the user's, where it can write to it; config-linux.md, "Cgroup ownership"."""
    shown = any(
        m.destination == "/sys/fs/cgroup" and m.type in {"cgroup", "cgroup2"} and "ro" not in m.options
        for m in spec.mounts
    )
    if not shown or "cgroup" not in _new(spec) or not mounts.has_user(spec) or spec.process is None:
        return None
    return _host_id(spec.linux.uid_mappings, spec.process.user.uid)


def _delegate(host: Host, directory: str, asked: set[str]) -> Iterator[ops.Outside]:
    """Hand the controllers down from the mount to the parent of the container's group; cgroups(7)."""
    missing = asked - host.cgroup_controllers - {"cgroup"}
    if missing:
        raise Unsupported(
            f"can't limit {', '.join(sorted(missing))}: this host doesn't hand that controller to containers"
        )
    controllers = tuple(c for c in ("cpuset", *cgroups.V2_CONTROLLERS) if c in host.cgroup_controllers)
    controllers += tuple(sorted((asked & host.cgroup_controllers) - set(controllers)))
    above = dict(host.cgroup_mounts)[""]
    for name in directory.removeprefix(above).strip("/").split("/"):
        yield ops.DelegateControllers(above, controllers)
        above = f"{above}/{name}"
        if above != directory:
            yield ops.MakeCgroup(above)


# -------------------------------------------------------------------------------------- inside: before the root changes


def _new(spec: oci.Spec) -> tuple[str, ...]:
    return tuple(n.type for n in spec.linux.namespaces if not n.path)


def _enter_namespaces(spec: oci.Spec, process: oci.Process) -> Iterator[ops.Inside]:
    if "user" in _new(spec):
        yield ops.Await("maps")
        yield from _oom_score(process)
        yield ops.BecomeMappedRoot()
        yield from mounts.borrowed(spec)
    else:
        yield from _oom_score(process)
        joins = {join.namespace: join for join in _joins(spec)}
        yield from (join for namespace, join in joins.items() if namespace not in {"pid", "user"})
        yield from mounts.borrowed(spec)
        if "user" in joins:  # last: the others may belong to the host's
            yield joins["user"]
            yield ops.BecomeMappedRoot()
        if _is_born_again(spec):
            yield ops.BeBornAgain(("pid",))
    # A cgroup namespace shows as its root the group in which it was made, so it comes when the process is there.
    yield ops.Unshare(tuple(t for t in _new(spec) if t not in {"user", "pid", "time", "cgroup"}))


def _oom_score(process: oci.Process) -> Iterator[ops.Inside]:
    """Set it through the host's own /proc, which can be trusted (CVE-2019-16884), and as the host's root.

    The file of a process that is not dumpable belongs to root of the namespace that it was executed in: proc(5).
    """
    if process.oom_score_adj is not None:
        yield ops.SetOomScoreAdj(process.oom_score_adj)


def _labels(process: oci.Process) -> Iterator[ops.Inside]:
    """Say what the next program that is executed will be confined by: by the host's /proc still, and after hooks."""
    if process.apparmor_profile:
        yield ops.SetLabel("apparmor", process.apparmor_profile)
    if process.selinux_label:
        yield ops.SetLabel("selinux", process.selinux_label)


def _names_and_parameters(spec: oci.Spec) -> Iterator[ops.Inside]:
    if spec.hostname:
        yield ops.SetHostname(spec.hostname)
    if spec.domainname:
        yield ops.SetDomainname(spec.domainname)
    if "network" in _new(spec):
        yield ops.BringUpLoopback()
    for key, value in spec.linux.sysctl.items():
        yield ops.SetSysctl(key, value)


def _look_up_user(process: oci.Process, annotations: dict[str, str]) -> ops.Inside:
    user = process.user
    added = tuple(name for name in annotations.get(oci.GROUP_ADD, "").split(",") if name)
    return ops.LookUpUser(user.username, user.uid, user.gid, user.additional_gids, added)


def _reap(spec: oci.Spec) -> Iterator[ops.Inside]:
    if spec.annotations.get(oci.INIT) == "true":
        yield ops.Reap()


def _once_in_the_cgroups(spec: oci.Spec, host: Host, own: tuple[tuple[str, str], ...]) -> Iterator[ops.Inside]:
    if own and host.cgroup_mode is CgroupMode.V1:
        yield ops.Await("cgroups")
        if _may_move_itself(spec):
            yield from (ops.MoveIntoCgroup(directory) for _, directory in own)
    if "cgroup" in _new(spec):
        yield ops.Unshare(("cgroup",))
    yield from mounts.cgroup_filesystems(spec, host, own)
