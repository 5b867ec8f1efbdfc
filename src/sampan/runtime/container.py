"""A container's life as its parent sees it: create, start, exec, delete.

The caller (a shim, or `sampan-runtime`) is the parent of the process that is made, and waits for it. What fails is
undone before it is raised: no process, no control group, no mount is left.

    running = create(plan, (stdin, stdout, stderr))
    os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)
    delete(running.cgroups)
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import Failed, NotPermitted, SampanError
from sampan.kernel import namespaces, process
from sampan.runtime import becoming, control, init, ops, perform
from sampan.runtime.gate import GO
from sampan.runtime.scene import DONE_OUTSIDE, IN_CGROUPS, MAPPED, Channel, Ready, Scene
from sampan.spec.runtime import KERNEL_NAMES

if TYPE_CHECKING:
    from sampan.kernel.namespaces import CLONE
    from sampan.runtime.plan import Plan

Stdio = tuple[int, int, int]


class Arrangement(NamedTuple):
    """What a process gets whose maker does not stay with it.

    `gate_fd` is a listening socket (SOCK_SEQPACKET) at which it waits for `gate.open`; `kept` are descriptors that its
    program inherits, from 3 on in their order; without `pivots` the root is moved over the old one.
    """

    gate_fd: int = -1
    kept: tuple[int, ...] = ()
    pivots: bool = True


ALONE = Arrangement()


class Running:
    """A process made by a plan. `pidfd` and `console` are the holder's to close."""

    def __init__(
        self, pid: int, pidfd: int, start_time: int, cgroups: control.Cgroups, console: int | None = None
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.start_time = start_time  # in clock ticks since boot: with the pid, a name that is not used again
        self.cgroups = cgroups
        self.console = console  # the terminal's master
        self.steps: list[tuple[int, int]] = []  # (index in the plan's steps, ns)
        self.warnings: tuple[str, ...] = ()
        self.own_cgroups = False  # it is the container's first: they go when it fails to start
        self._channel: Channel | None = None  # while it waits for `start`

    @classmethod
    def adopt(cls, pid: int, pidfd: int, start_time: int, cgroups: control.Cgroups, gate_fd: int = -1) -> Running:
        """Return a handle for a container's first process that was made by another; `gate_fd` becomes the handle's."""
        running = cls(pid, pidfd, start_time, cgroups)
        running.own_cgroups = True
        if gate_fd >= 0:
            running.wait_at(Channel(socket.socket(fileno=gate_fd)))
        return running

    @property
    def waiting(self) -> bool:
        """It is gated, and its program has not been executed."""
        return self._channel is not None

    @property
    def gate_fd(self) -> int:
        """The socket at whose other end it waits for `start`, for another process to start it; -1: it does not wait."""
        return self._channel.fd if self._channel else -1

    def wait_at(self, channel: Channel) -> None:
        self._channel = channel

    def released(self) -> Channel | None:
        channel, self._channel = self._channel, None
        return channel


def create(
    plan: Plan,
    stdio: Stdio | None,
    *,
    console_size: tuple[int, int] | None = None,
    gated: bool = False,
    sibling: bool = False,
    arrangement: Arrangement = ALONE,
) -> Running:
    """Make the container and execute its program; with `gated` all but the last step is done, until `start`.

    With `sibling` the process is a child of the caller's parent, who then has to wait for it (CLONE_PARENT). One that
    waits at a gate of its `arrangement` waits for no `start`.

    `stdio` is None exactly where the plan makes a terminal: then `Running.console` is its master. Raises what went
    wrong, in the container as well: CommandNotFound, NotExecutable, …
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    scene = _scene(plan, ours, stdio, console_size, arrangement)
    scene.gated = gated or arrangement.gate_fd >= 0
    scene.sibling = sibling
    return _make(plan, scene, theirs)


def exec_process(
    plan: Plan,
    container_pidfd: int,
    stdio: Stdio | None,
    *,
    console_size: tuple[int, int] | None = None,
    gated: bool = False,
    arrangement: Arrangement = ALONE,
) -> Running:
    """Execute another process in the container whose first process `container_pidfd` is; else as `create`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    scene = _scene(plan, ours, stdio, console_size, arrangement)
    scene.gated = gated
    scene.container_pidfd = container_pidfd
    return _make(plan, scene, theirs)


def start(running: Running) -> None:
    """Let a gated process execute its program. What fails is undone as in `create`."""
    channel = running.released()
    if channel is None:
        return
    try:
        channel.send(GO)
        said = channel.receive()
    except BrokenPipeError:
        said = None
    finally:
        channel.close()
    if isinstance(said, SampanError):
        _undo(running.pidfd, running.cgroups if running.own_cgroups else ())
        raise said


def delete(cgroups: control.Cgroups) -> None:
    """Kill whoever is left in the container's control groups, and remove them."""
    control.remove(cgroups)


def _scene(
    plan: Plan, ours: socket.socket, stdio: Stdio | None, size: tuple[int, int] | None, arrangement: Arrangement
) -> Scene:
    scene = Scene(plan.root, Channel(ours))
    scene.stdio, scene.console_size = stdio, size
    scene.gate_fd, scene.kept, scene.pivots = arrangement
    return scene


def _make(plan: Plan, scene: Scene, theirs: socket.socket) -> Running:
    channel = scene.channel
    first = scene.container_pidfd < 0
    own = plan.cgroups if first else ()
    try:
        perform.load(plan)
        scene.filters = _read_filters(plan)
        _perform_outside(plan, scene, theirs)
        running = _born(plan, scene)
    except BaseException as e:
        theirs.close()
        # What the new process says of itself is the cause; a failure out here mostly follows from it.
        said = channel.receive(wait=False) if scene.pidfd >= 0 else None
        channel.close()
        for fd in (scene.console, said):
            if isinstance(fd, int):
                os.close(fd)
        if isinstance(e, BrokenPipeError) and said is None:
            said = _too_early(scene.pidfd)
        _undo(scene.pidfd, own)
        if isinstance(said, SampanError):
            raise said from e
        raise
    running.own_cgroups = first
    if not running.waiting:
        channel.close()
    return running


def _perform_outside(plan: Plan, scene: Scene, theirs: socket.socket) -> None:
    """Perform the shim's steps; the new process goes its own way at `Clone`."""
    left: list[tuple[int, CLONE]] = []  # namespaces that this process, or its children to come, are no longer in
    maps = sum(isinstance(step.op, ops.MapIds) for step in plan.steps)
    waits = _waits(plan)
    try:
        for index, step in enumerate(plan.steps):
            if step.who != "outside":
                continue
            before = perf_counter_ns()
            op = step.op
            if op == ops.Await("mounts") and waits[-1:] == [IN_CGROUPS]:
                scene.channel.send(waits.pop())
            left += _leaves(op)
            try:
                perform.outside(op, scene)  # type: ignore[arg-type]  # `who` says which of the two unions it is of
            except (OSError, Failed, NotPermitted) as e:
                if isinstance(op, ops.Await):
                    raise  # what the new process says of its own steps
                raise init.blame(op, e) from e
            scene.steps.append((index, perf_counter_ns() - before))
            if isinstance(op, ops.Clone):
                if scene.pid == 0:
                    scene.channel.close()
                    scene.channel = Channel(theirs)
                    init.become(plan, scene)
                theirs.close()
            maps -= isinstance(op, ops.MapIds)
            if isinstance(op, ops.MapIds) and maps == 0:
                scene.channel.send(MAPPED)
        while waits:
            scene.channel.send(waits.pop())
    finally:
        for fd in (scene.overlay_fd, scene.agent_fd, *scene.trees.values()):
            if fd >= 0:
                os.close(fd)
        for fd, flag in left:
            namespaces.setns(fd, flag)
            os.close(fd)


def _waits(plan: Plan) -> list[bytes]:
    """Return what the new process waits for to be told, the first last; that its ids are mapped is told at once."""
    words = {ops.Await("cgroups"): IN_CGROUPS, ops.Await("runtime"): DONE_OUTSIDE}
    return [word for op, word in reversed(words.items()) if any(step.op == op for step in plan.steps)]


def _leaves(op: ops.Operation) -> list[tuple[int, CLONE]]:
    """Open the namespace that the step leaves, to come back."""
    match op:
        case ops.Join():
            name = KERNEL_NAMES.get(op.namespace, op.namespace)
        case ops.JoinContainer():
            name = "pid"
        case ops.OffsetClocks():
            name = "time"
        case _:
            return []
    fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    return [(fd, namespaces.FLAG_BY_NAME[name])]


def _born(plan: Plan, scene: Scene) -> Running:
    """Hear the new process out: its terminal, that it is ready, and unless it is gated whether the program runs."""
    said = scene.hear()
    if not isinstance(said, Ready):
        raise _too_early(scene.pidfd)
    if not scene.gated:
        last = scene.channel.receive()
        if isinstance(last, SampanError):
            raise last
    running = Running(scene.pid, scene.pidfd, process.start_time(scene.pid), plan.cgroups, scene.console)
    running.steps = sorted((*scene.steps, *said.steps))
    running.warnings = (*plan.warnings, *said.warnings)
    if scene.gated and scene.gate_fd < 0:
        running.wait_at(scene.channel)
    return running


def _too_early(pidfd: int) -> Failed:
    how = "ended"
    with suppress(ChildProcessError):
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        if ended is not None and ended.si_code != os.CLD_EXITED:
            how = f"was killed by signal {ended.si_status}"
    return Failed(
        f"can't start the container: its process {how} before it executed the program",
        "a memory limit that is very low does this",
    )


def _read_filters(plan: Plan) -> dict[str, bytes]:
    """Read the compiled filter, if the plan sets one, while the host's files are in reach."""
    for step in plan.steps:
        if isinstance(op := step.op, ops.SetFilter):
            return {op.profile + op.variant: becoming.read_filter(op)}
    return {}


def _undo(pidfd: int, cgroups: control.Cgroups) -> None:
    """Take back what a failed birth has left."""
    if pidfd >= 0:
        with suppress(OSError):
            process.pidfd_send_signal(pidfd, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
    with suppress(SampanError, OSError):
        control.remove(cgroups)
