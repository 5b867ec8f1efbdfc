"""A RUN's container: started and ended as `run` does it, with no record of it.

Its directory and its shim bear an id that the store doesn't know. So if this server is killed, the next one ends what
runs and removes what there is, as it does with all that no record names: `engine.reconcile`.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import msgspec

from sampan import ids
from sampan.engine import endpoints, remains, sandbox, user_namespaces
from sampan.engine.core import encode, now_ns
from sampan.engine.creating import surroundings
from sampan.engine.merge import complete
from sampan.engine.own_files import write_files
from sampan.engine.registry import Container
from sampan.engine.translate import rootfs_of, translate
from sampan.engine.unbuilt import refuse_unbuilt
from sampan.errors import Failed
from sampan.runtime import plan as planning
from sampan.spec.build import StepLimits
from sampan.spec.defaults.paths import DEFAULT_PATH
from sampan.spec.docker import ContainerCreate, HostConfig
from sampan.spec.image import ExecutionConfig
from sampan.spec.state import State
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.engine.core import Core
    from sampan.engine.links import Channel, Pending
    from sampan.spec.build import Run
    from sampan.spec.image import Rootfs
    from sampan.spec.runtime import Mount, Spec

    Output = Callable[[str, bytes], None]  # which stream, and what was written

HOSTNAME = "buildkitsandbox"
"""As BuildKit calls it: what a step writes of its host's name is the same each time."""

_LAUNCH_S = 120
_EXIT_S = 30
_HEADER = struct.Struct(">BxxxI")
_STREAMS = {1: "stdout", 2: "stderr"}


class Surrounding(msgspec.Struct, frozen=True, kw_only=True):
    """What a build gives all its RUNs, beside what the instruction says."""

    network: str = ""
    add_hosts: tuple[str, ...] = ()
    limits: StepLimits


class Ended(msgspec.Struct, frozen=True):
    """How a RUN ended."""

    exit_code: int
    oom_killed: bool = False


class StepContainer:
    """One RUN's, over the layers of `diff_ids`. In a `with`: afterwards nothing of it is left, or is soon gone."""

    def __init__(self, core: Core, run: Run, around: Surrounding) -> None:
        self._core = core
        self._run = run
        self.id = ids.new_id()
        self._undo = ExitStack()
        self._stopping = threading.Lock()
        self._stopped = False
        self._running: Channel | None = None  # to the shim, once there is something to kill
        self._exited: messages.Exited | None = None
        self._gone = threading.Event()  # the shim has told the end, or was killed
        asked = _body(run, around)
        refuse_unbuilt(asked)
        if not (asked.host_config.privileged or asked.host_config.network_mode == "host"):
            asked = user_namespaces.asked(core, asked, shared=True)
        body = endpoints.complete(core.networks, complete(asked, ExecutionConfig()))
        self._container = Container(self.id, f"build-{self.id[:12]}", now_ns(), ("", ""), body, State())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def directory(self) -> str:
        """Where there is room for what is mounted in it."""
        return self._core.dirs.container(self.id)

    @property
    def own_mounts(self) -> tuple[str, ...]:
        """Where something was mounted while it ran."""
        return tuple(mount.destination for mount in self._core.spec(self._container).mounts[1:])

    def prepare(self, diff_ids: tuple[str, ...], *, host: bool = False) -> Rootfs:
        """Make its directories."""
        rootfs = self._core.snapshots.prepare_step(self.id, diff_ids, host=host)
        self._undo.callback(self._remove_files)
        return rootfs

    def run(self, rootfs: Rootfs, mounts: tuple[Mount, ...], env: tuple[str, ...], output: Output) -> Ended:
        """Run the program to its end, telling what it writes."""
        core, container = self._core, self._container
        shim = self._fork()
        container.spec = self._spec(rootfs, mounts, env)
        if sandbox.make(core, container):
            self._undo.callback(self._release)
        write_files(core, container)
        core.snapshots.make_ready(rootfs_of(container.spec))
        launched, reading = self._launch(shim)
        with reading:
            launched.wait(messages.Launched, _LAUNCH_S)
            if container.sandbox:
                container.sandbox.hand_over(shim)
            _relay(reading, output)
        return self._ended()

    def stop(self) -> None:
        """Kill it, from any thread, if it runs or is about to."""
        with self._stopping:
            self._stopped = True
            if self._running is not None:
                self._running.post(messages.Signal(number=signal.SIGKILL))

    # ------------------------------------------------------------------------------------------------ the beginning

    def _fork(self) -> Channel:
        core = self._core
        channel, theirs = core.links.pair("a build step's shim", self._event)
        channel.on_gone = lambda _: self._gone.set()

        def answered(answer: messages.Message) -> None:
            if isinstance(answer, messages.Refused):
                channel.close()
                self._gone.set()

        core.the_keeper().post(messages.ForkShim(id=self.id), (theirs.fileno(),), then=answered)
        theirs.close()
        self._undo.callback(self._see_off, channel)
        return channel

    def _event(self, message: messages.Message) -> None:
        if isinstance(message, messages.Exited):
            self._exited = message
            self._gone.set()

    def _spec(self, rootfs: Rootfs, mounts: tuple[Mount, ...], env: tuple[str, ...]) -> Spec:
        core, container = self._core, self._container
        users = user_namespaces.choose(core, container, {})
        given = msgspec.structs.replace(surroundings(core, container, rootfs, {}), users=users)
        spec = translate(container.body, given, [])
        assert spec.process
        if users:  # what is mounted has its owners, as the image's files have theirs
            mounts = tuple(_mapped(mount) for mount in mounts)
        process = msgspec.structs.replace(spec.process, env=_environment((*env, *self._run.proxy)))
        # As in BuildKit: what a step writes to /etc/hostname is the image's.
        usual = tuple(mount for mount in spec.mounts if mount.destination != "/etc/hostname")
        return msgspec.structs.replace(spec, process=process, mounts=(*usual, *mounts))

    def _launch(self, shim: Channel) -> tuple[Pending, socket.socket]:
        core, container = self._core, self._container
        spec = core.spec(container)
        if container.sandbox:
            spec = container.sandbox.in_namespace(spec)
        plan = planning.plan(spec, core.host, id=self.id)
        core.note_cgroup(container, spec)
        shim.post(messages.Hello())
        if container.sandbox:
            container.sandbox.give(shim)
        reading, writing = socket.socketpair()
        with writing:
            shim.post(messages.Attach(streams=frozenset({"stdout", "stderr"})), (writing.fileno(),))
        launch = messages.Launch(
            id=self.id, spec=encode(spec), plan=planning.encode(plan), log=messages.LogConfig(path=None)
        )

        def launched(answer: messages.Message) -> None:
            if isinstance(answer, messages.Launched):
                with self._stopping:
                    self._running = shim
                if self._stopped:
                    self.stop()

        return shim.post(launch, then=launched), reading

    # ------------------------------------------------------------------------------------------------ the end

    def _ended(self) -> Ended:
        self._gone.wait(_EXIT_S)
        if self._exited is None or self._exited.exit_code is None:
            raise Failed("its shim was killed", "build again: the steps before it are in the cache")
        return Ended(self._exited.exit_code, self._exited.oom_killed)

    def _see_off(self, channel: Channel) -> None:
        """Let the shim go, which removes the control groups, behind what is done now; kill what still runs."""
        core, id = self._core, self.id
        channel.on_event = channel.on_gone = None
        if self._exited is None:
            remains.dismiss(channel)
            remains.clear(core, id)
            return
        forgotten = remains.forget(channel)

        def see_off() -> None:
            remains.see_off(core, id, forgotten)
            channel.close()

        threading.Thread(target=see_off, name="see off", daemon=True).start()

    def _release(self) -> None:
        networks = self._container.sandbox
        if networks:
            networks.over = True
            self._core.janitor.later("give back the networks of a build step", networks.release)

    def _remove_files(self) -> None:
        core, id = self._core, self.id
        trash = f"{core.dirs.tmp}/step-{id}"
        try:
            os.rename(core.dirs.container(id), trash)
        except FileNotFoundError:
            return
        threading.Thread(target=core.snapshots.discard, args=(id, trash), name="remove", daemon=True).start()


def _mapped(mount: Mount) -> Mount:
    return msgspec.structs.replace(mount, options=(*mount.options, "idmap")) if mount.type == "bind" else mount


def _body(run: Run, around: Surrounding) -> ContainerCreate:
    limits = around.limits
    network = around.network if run.network == "default" else run.network
    return ContainerCreate(
        hostname="" if network == "host" else HOSTNAME,
        cmd=run.argv,
        user=run.user,
        working_dir=run.workdir,
        host_config=HostConfig(
            network_mode="default" if network in ("", "default", "bridge") else network,
            extra_hosts=around.add_hosts or None,
            privileged=run.security == "insecure",
            memory=limits.memory,
            memory_swap=limits.memory_swap,
            cpu_shares=limits.cpu_shares,
            cpu_period=limits.cpu_period,
            cpu_quota=limits.cpu_quota,
            cpuset_cpus=limits.cpuset_cpus,
            cpuset_mems=limits.cpuset_mems,
            cgroup_parent=limits.cgroup_parent,
            shm_size=limits.shm_size,
            ulimits=limits.ulimits or None,
        ),
    )


def _environment(env: tuple[str, ...]) -> tuple[str, ...]:
    """The later of two values counts; a PATH is there in any case. HOME the runtime adds."""
    values = {"PATH": DEFAULT_PATH}
    for text in env:
        name, _, value = text.partition("=")
        values[name] = value
    return tuple(f"{name}={value}" for name, value in values.items())


def _relay(reading: socket.socket, output: Output) -> None:
    """Tell what comes, in frames with Docker's eight-byte header, to its end."""
    with reading.makefile("rb", buffering=1 << 16) as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            number, length = _HEADER.unpack(header)
            output(_STREAMS[number], file.read(length))
