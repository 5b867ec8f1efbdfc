"""How an engine comes to life: open the state, look at the facts, repair, reconnect."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from sampan.build.cache import Cache
from sampan.engine import endings, health, hooking, networks, reconcile, remains, restarting, sandbox, timeouts
from sampan.engine.apparmor import default_profile
from sampan.engine.building import memory
from sampan.engine.building.cache_mounts import CacheMounts
from sampan.engine.building.turns import Turns
from sampan.engine.cgroup_places import CgroupPlaces
from sampan.engine.core import Core, read_instance, read_machine
from sampan.engine.events import Bus
from sampan.engine.imaging import in_use
from sampan.engine.janitor import Janitor
from sampan.engine.keeper import listen_to_keeper
from sampan.engine.kernel_log import KernelLog
from sampan.engine.last_readings import LastReadings
from sampan.engine.links import Links
from sampan.engine.mounts import Wanted
from sampan.engine.network_registry import Networks
from sampan.engine.oom_watch import OomWatch
from sampan.engine.reconnect import connect
from sampan.engine.registry import Container, Registry
from sampan.engine.removing import discard
from sampan.engine.secrets import Secrets
from sampan.engine.settings import SettingsFiles
from sampan.engine.stopping import thaw_all
from sampan.engine.store import Store
from sampan.engine.translate import rootfs_of
from sampan.engine.volumes import Volumes
from sampan.errors import SampanError, doing
from sampan.image import unfinished
from sampan.image.store import Images
from sampan.network.firewall import Firewall
from sampan.rootfs import host as host_image
from sampan.rootfs.snapshots import Snapshots
from sampan.runtime.probe import probe
from sampan.spec.decoding import decode_json
from sampan.spec.docker import ContainerCreate
from sampan.spec.state import State
from sampan.supervise import state as shim_state

if TYPE_CHECKING:
    from sampan.dirs import Dirs
    from sampan.engine.store import ContainerRow


def open_core(dirs: Dirs, keeper_fd: int | None, listen_fd: int | None, host_fd: int | None = None) -> Core:
    """Return everything open and repaired."""
    core = Core()
    core.host_fd = host_fd
    core.dirs = dirs
    core.started_ns = time.time_ns()
    with doing(f"can't open {dirs.root}"):
        for directory in (
            dirs.root,
            dirs.run,
            dirs.containers,
            dirs.volumes,
            dirs.tmp,
            dirs.shims,
            dirs.layers,
            dirs.networks,
            dirs.cgroups,
        ):
            os.makedirs(directory, 0o710 if directory == dirs.root else 0o711, exist_ok=True)
        _close_to_others(dirs)
    core.settings = SettingsFiles(dirs)
    core.instance = read_instance(dirs)
    core.host = probe()
    core.machine = read_machine()
    core.apparmor = default_profile(core.host)
    core.store = Store(dirs.database)
    core.registry = Registry()
    core.volumes = Volumes(dirs, core.store)
    core.secrets = Secrets(dirs, core.store)
    core.networks = Networks(core.store)
    core.firewall = Firewall(core.instance, dirs.firewall, core.tell_switch)
    core.bus = Bus()
    core.cache = Cache(dirs)
    core.images = Images(
        dirs,
        builtins=(host_image.image(core.host.architecture),),
        default_registry=lambda: core.settings.read().registries.default,
        keeper=core.cache,
    )
    core.snapshots = Snapshots(dirs)
    core.cache_mounts = CacheMounts(dirs)
    core.build_turns = Turns()
    core.cgroup_places = CgroupPlaces(dirs.cgroups)
    for row in core.store.containers():
        core.registry.add(_container(row))
    core.links = Links()
    core.janitor = Janitor()
    core.last_readings = LastReadings(core.janitor)
    core.kernel_log = KernelLog()
    core.oom_watch = OomWatch(core)
    if listen_fd is not None:
        core.listening = socket.socket(fileno=os.dup(listen_fd))
    if keeper_fd is not None:
        listen_to_keeper(core, socket.socket(fileno=keeper_fd))
    repair(core)
    return core


def _close_to_others(dirs: Dirs) -> None:
    """Let the host's users neither run setuid programs of images and containers nor read what containers are told.

    The root itself may be a directory that others have to pass, and have been made by anybody. CVE-2021-41091.
    """
    for directory in (dirs.containers, dirs.volumes, dirs.layers, dirs.shapes, dirs.tmp, dirs.build):
        os.makedirs(directory, 0o710, exist_ok=True)
        os.chmod(directory, 0o710)
    os.close(os.open(dirs.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm"):  # those that SQLite makes have the mode of the first
        with contextlib.suppress(FileNotFoundError):
            os.chmod(f"{dirs.database}{suffix}", 0o600)


def _container(row: ContainerRow) -> Container:
    body = decode_json(row.body, ContainerCreate)
    state = decode_json(row.state, State)
    container = Container(row.id, row.name, row.created_ns, (row.image_id, row.image_name), body, state)
    container.mounts = decode_json(row.mounts, tuple[Wanted, ...])
    return container


def close_core(core: Core) -> None:
    """Let go of everything; containers run on."""
    core.closing = True
    thaw_all(core)
    memory.sweep(core.dirs)
    core.janitor.close()
    networks.put_away(core)
    core.links.close()
    core.oom_watch.close()
    core.kernel_log.close()
    # What lies outside of the root goes too, unless a container uses it; if it can't, the next start does it.
    with contextlib.suppress(SampanError, OSError):
        core.snapshots.sweep(_lowerdirs(core))
    core.images.close()
    core.cache.close()
    core.store.close()


# --------------------------------------------------------------------------------------------------------- repair


def repair(core: Core) -> None:
    """Bring intent and fact together."""
    unfinished.sweep(core.dirs.tmp)
    memory.sweep(core.dirs)
    networks.make_default(core)
    intents = [
        reconcile.Intent(
            id=c.id,
            state=c.state,
            auto_remove=c.body.host_config.auto_remove,
            policy=c.body.host_config.restart_policy,
        )
        for c in core.registry
    ]
    for action in reconcile.diff(intents, _facts(core)):
        try:
            _perform(core, action)
        except (SampanError, OSError) as e:
            print(f"sampan: can't repair: {action}: {e}", flush=True)
    for container in core.registry:
        if container.state.endpoints and not container.running:  # of a start that was cut off
            container.update(endpoints=(), ports=())
    networks.repair(core)
    core.volumes.sweep()
    core.secrets.sweep()
    core.images.sweep(lambda image_id: in_use(core, image_id))
    core.snapshots.sweep(_lowerdirs(core))
    unfinished.sweep(core.dirs.tmp)


def _lowerdirs(core: Core) -> set[str]:
    """Return the lower directories that containers have in their mounts: shapes among them must stay."""
    found: set[str] = set()
    for container in core.registry:
        found.update(rootfs_of(core.spec(container)).lowerdirs)
        found.update(path for mount in container.mounts for path in mount.layers)
    return found


def _facts(core: Core) -> reconcile.Facts:
    dirs = core.dirs
    shims = tuple(_fact(core, id) for id in os.listdir(dirs.shims))
    return reconcile.Facts(
        shims=shims,
        directories=frozenset(os.listdir(dirs.containers)),
        cgroups=frozenset(_cgroups(core)),
        now_ns=time.time_ns(),
        booted=_has_booted(core),
    )


def _has_booted(core: Core) -> bool:
    """Tell whether the machine has booted since the last time that this was asked, if ever."""
    now, path = shim_state.boot_id(), core.dirs.boot
    try:
        with open(path) as file:
            before = file.read().strip()
    except FileNotFoundError:
        before = ""
    if now != before:
        with open(f"{path}.new", "w") as file:
            file.write(f"{now}\n")
        os.replace(f"{path}.new", path)
    return before not in ("", now)


def _fact(core: Core, id: str) -> reconcile.Fact:
    status = shim_state.read(core.dirs.shim(id))
    if status is None:
        return reconcile.Fact(id=id)
    # Whether it lives is for its shim to say, which may be being replaced; but a boot later nothing does.
    alive = status.phase in ("created", "running", "paused") and status.boot_id == shim_state.boot_id()
    exited = status.exited
    return reconcile.Fact(
        id=id,
        alive=alive and exited is None,
        ended=exited is not None or (status.phase in ("running", "paused") and not alive),
        pid=status.pid or 0,
        start_time=status.start_time or 0,
        started_at_ns=status.started_at_ns or 0,
        exited=exited,
        paused=status.phase == "paused",
    )


def _cgroups(core: Core) -> set[str]:
    """Return the ids that have a control group of this instance in some hierarchy, or elsewhere, by what is noted."""
    found = set(core.cgroup_places.ids())
    for _, mount_point in core.host.cgroup_mounts:
        try:
            with os.scandir(f"{mount_point}{core.cgroup_parent}") as entries:
                found.update(e.name for e in entries if e.is_dir(follow_symlinks=False) and len(e.name) == 64)
        except FileNotFoundError:
            continue
    return found


def _looked_up(core: Core, id: str, state: State) -> State:
    """Complete a container's end, which came while there was no server, by what the kernel's log says of it."""
    if state.ending is None or state.ending.at_ns != state.finished_at_ns:
        return state
    ending = endings.with_kernel_records(state.ending, id, state.oom_killed, core.kernel_log)
    return msgspec.structs.replace(state, ending=ending)


def _perform(core: Core, action: reconcile.Action) -> None:
    match action:
        case reconcile.Adopt(id, state):
            _adopt(core, id, state)
        case reconcile.Record(id, state, shim):
            container = _known(core, id)
            container.become(_looked_up(core, id, state))
            core.save(container)
            if shim:
                remains.clear(core, id)
                core.janitor.later(f"run the hooks of {container.name}", lambda: _run_hooks_left(core, container))
        case reconcile.Restart(id):
            restarting.resume(core, _known(core, id))
        case reconcile.Discard(id):
            container = _known(core, id)
            with container.lock:
                discard(core, container)
        case reconcile.Forget(id):
            core.registry.remove(_known(core, id))
            core.store.delete(id)
        case reconcile.End(id):
            remains.clear(core, id)
        case reconcile.SweepDirectory(id):
            core.snapshots.remove(id)
        case reconcile.SweepCgroup(id):
            remains.remove_cgroups(core, id)


def _run_hooks_left(core: Core, container: Container) -> None:
    with container.lock:
        if not (container.removed or container.running):
            hooking.over(core, container.id)


def _known(core: Core, id: str) -> Container:
    container = core.registry.get(id)
    assert container is not None
    return container


def _adopt(core: Core, id: str, state: State) -> None:
    container = _known(core, id)
    container.become(state)
    sandbox.adopt(core, container)
    connect(core, container)
    health.begin(core, container, anew=False)
    if state.again:
        health.restart_soon(core, container)
    timeouts.begin(core, container)
