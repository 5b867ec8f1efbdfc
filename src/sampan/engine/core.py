"""What every verb works on: the open state, the channels, and the few things that all verbs do with them."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from sampan import ids
from sampan.engine.resources import Machine, parse_set
from sampan.errors import Failed, NotFound, SampanError, doing
from sampan.spec.decoding import decode_json
from sampan.spec.reference import Reference
from sampan.supervise import messages

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from sampan.build.cache import Cache
    from sampan.dirs import Dirs
    from sampan.engine.building.cache_mounts import CacheMounts
    from sampan.engine.building.turns import Turns
    from sampan.engine.cgroup_places import CgroupPlaces
    from sampan.engine.events import Bus
    from sampan.engine.execs import Exec
    from sampan.engine.janitor import Janitor
    from sampan.engine.kernel_log import KernelLog
    from sampan.engine.last_readings import LastReadings
    from sampan.engine.lending import Lent
    from sampan.engine.links import Channel, Links
    from sampan.engine.network_registry import Networks
    from sampan.engine.oom_watch import OomWatch
    from sampan.engine.registry import Container, Registry
    from sampan.engine.secrets import Secrets
    from sampan.engine.settings import SettingsFiles
    from sampan.engine.store import Store
    from sampan.engine.user_modes import UserNamespace
    from sampan.engine.volumes import Volumes
    from sampan.image.store import Images
    from sampan.network.firewall import Firewall
    from sampan.rootfs.snapshots import Snapshots
    from sampan.spec.host import Host
    from sampan.spec.network import Network
    from sampan.spec.runtime import Spec

_KEEPER_S = 10
_FORK_S = 60
_STEP_S = 0.01

encode = msgspec.json.Encoder().encode


class Core:
    """One instance's open state. Set up by `engine.opening`."""

    dirs: Dirs
    host: Host
    machine: Machine
    instance: str
    store: Store
    registry: Registry
    volumes: Volumes
    secrets: Secrets
    networks: Networks
    firewall: Firewall
    bus: Bus
    links: Links
    janitor: Janitor
    last_readings: LastReadings
    kernel_log: KernelLog
    oom_watch: OomWatch
    images: Images
    cache: Cache
    snapshots: Snapshots
    settings: SettingsFiles
    cache_mounts: CacheMounts
    build_turns: Turns
    cgroup_places: CgroupPlaces
    keeper: Channel | None = None
    listening: socket.socket | None = None
    host_fd: int | None = None  # the mount namespace that the keeper was started in: the host's
    apparmor: str = ""  # the default AppArmor profile, if this kernel has it loaded
    started_ns: int = 0

    def __init__(self) -> None:
        self.execs: dict[str, Exec] = {}
        self.ids_of: dict[str, UserNamespace] = {}  # the ids of the host that containers have for themselves
        self.lent: dict[str, Lent] = {}  # open files that clients give: lending
        self.keeper_there = threading.Event()
        self.closing = False
        self.first_keeper_pid = os.getppid()

    @property
    def cgroup_parent(self) -> str:
        """Above all control groups of this instance, in every hierarchy."""
        return f"/sampan-{self.instance}"

    def note_cgroup(self, container: Container, spec: Spec) -> None:
        """Note where a container's control group is to be, if not below the instance's: before it is made."""
        if container.body.host_config.cgroup_parent:
            self.cgroup_places.note(container.id, spec.linux.cgroups_path)

    def save(self, container: Container) -> None:
        """Write the state of a container down; nothing if it is removed meanwhile."""
        with container.saving:
            self.store.set_state(container.id, encode(container.state))

    def tell(self, container: Container, action: str, extra: Mapping[str, str] | None = None) -> None:
        """Record an event of a container, with its labels, image and name as Docker has them."""
        attributes = {**(container.body.labels or {}), "image": container.image_name, "name": container.name}
        self.bus.tell("container", action, container.id, {**attributes, **(extra or {})})

    def tell_volumes(self, container: Container, action: str) -> None:
        """Record that a container's volumes are mounted for its run, or no longer."""
        for mount in container.mounts:
            if mount.type != "volume":
                continue
            attributes = {"container": container.id, "driver": "local"}
            if action == "mount":
                writable = "false" if mount.readonly else "true"
                attributes |= {"destination": mount.target, "propagation": "", "read/write": writable}
            self.bus.tell("volume", action, mount.name, attributes)

    def tell_network(self, network: Network, action: str, extra: Mapping[str, str] | None = None) -> None:
        """Record an event of a network."""
        self.bus.tell("network", action, network.id, {**(extra or {}), "name": network.name, "type": network.driver})

    def tell_switch(self, name: str, value: str) -> None:
        """Record that a switch of the host was set, which networks needed: an event of our own."""
        self.bus.tell("daemon", "sysctl", self.instance, {"name": name, "value": value})

    def spec(self, container: Container) -> Spec:
        """Return the OCI configuration made at creation."""
        if container.spec is not None:
            return container.spec
        from sampan.spec.runtime import Spec

        document = self.store.spec(container.id)
        if document is None:  # it is just being made, or removed: the record is there as long as the container
            raise NotFound(f"No such container: {container.name}")
        return decode_json(document, Spec)

    def the_keeper(self, after: Channel | None = None) -> Channel:
        """Return the channel to the keeper; one that was killed, as `after` was, is being replaced and waited for."""
        end = time.monotonic() + _KEEPER_S
        self.keeper_there.wait(_KEEPER_S)
        while after is not None and self.keeper in (None, after) and time.monotonic() < end:
            time.sleep(_STEP_S)
        keeper = self.keeper
        if keeper is None:
            raise Failed("can't reach the keeper: it has ended", "try again: another is being started")
        return keeper

    def keeper_pid(self) -> int:
        """Return the keeper's process: this one's parent, unless it has replaced that; then it says so by forking."""
        if os.getppid() == self.first_keeper_pid:
            return self.first_keeper_pid
        channel, theirs = self.links.pair("a worker")
        try:
            forked = self.the_keeper().ask(messages.ForkWorker(), messages.Forked, (theirs.fileno(),))
            with open(f"/proc/{forked.pid}/stat") as file:
                return int(file.read().rpartition(")")[2].split()[1])
        except (SampanError, OSError):
            return 0
        finally:
            theirs.close()
            channel.close()

    def reference(self, name: str) -> Reference:
        """Read an image's name; where it has no registry, the configured one is meant."""
        return Reference.parse(name, self.settings.read().registries.default)

    def worker(self) -> Channel:
        """Have the keeper fork a worker; close the channel when its job is done."""
        keeper = self.the_keeper()
        channel, theirs = self.links.pair("the worker")
        try:
            forked = keeper.post(messages.ForkWorker(), (theirs.fileno(),))
            if forked.wait_quietly(_FORK_S) and forked.broken:  # the keeper was killed: the next one does it
                forked = self.the_keeper(keeper).post(messages.ForkWorker(), (theirs.fileno(),))
            forked.wait(messages.Forked, _FORK_S)
        except BaseException:
            channel.close()
            raise
        finally:
            theirs.close()
        return channel


def read_instance(dirs: Dirs) -> str:
    """Return the instance's id, which the keeper has made; make it where no keeper was."""
    with doing("can't read the instance's id"):
        try:
            with open(dirs.instance) as file:
                return file.read().strip()
        except FileNotFoundError:
            id = os.urandom(4).hex()
            with open(dirs.instance, "x") as file:
                file.write(f"{id}\n")
            return id


def read_machine() -> Machine:
    """Return the processors and memory nodes that are online."""
    return Machine(
        _online("/sys/devices/system/cpu/online") or frozenset(range(os.cpu_count() or 1)),
        _online("/sys/devices/system/node/online") or frozenset({0}),
    )


def _online(path: str) -> frozenset[int] | None:
    try:
        with open(path) as file:
            return parse_set(file.read())
    except OSError:
        return None


def now_ns() -> int:
    """Return the wall clock."""
    return time.time_ns()


def label(container: Container) -> str:
    """Name a container in a message: its name, and its short id."""
    return f"{container.name} ({ids.short(container.id)})"
