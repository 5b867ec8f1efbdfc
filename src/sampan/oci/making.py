"""From a bundle to a container that waits for its start, or to nothing at all.

What fails is undone before it is raised: the process, its control groups, the directory with its state.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from sampan.errors import Conflict, InvalidInput, NotFound, SampanError, doing
from sampan.kernel import cgroupfs, process
from sampan.oci import filters
from sampan.oci.log import timestamp, warn
from sampan.oci.store import GATE, write
from sampan.runtime import container, gate, ops
from sampan.runtime.container import Arrangement, Running, Stdio
from sampan.runtime.plan import Plan, Step, plan
from sampan.runtime.probe import probe
from sampan.spec.runtime import Mount, Process, Spec, read

if TYPE_CHECKING:
    from sampan.oci.main import Invocation
    from sampan.oci.options import Given
    from sampan.oci.store import Record

STANDARD: Stdio = (0, 1, 2)


class Bundle(NamedTuple):
    """A directory with a configuration: its text, and what it says with every path made absolute."""

    directory: str
    text: bytes
    spec: Spec


class Made(NamedTuple):
    """A container whose first process waits. `lock` is the caller's to close."""

    record: Record
    running: Running
    lock: int


def read_bundle(given: Given) -> Bundle:
    """Read the configuration that `--bundle` and `--config` name; raise InvalidInput with the field that is wrong."""
    directory = os.path.abspath(given.value("bundle") or ".")
    path = os.path.join(directory, given.value("config") or "config.json")
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.readall()
    except FileNotFoundError:
        raise NotFound(
            f"JSON specification file {path} not found", "sampan-runtime spec writes one to begin with"
        ) from None
    spec = read(text)
    return Bundle(directory, text, absolute(spec, directory))


def process_of(bundle: Bundle) -> Process:
    """Return the program's part of a configuration; raise InvalidInput where it has none."""
    if bundle.spec.process is None:
        raise InvalidInput("$.process: the configuration has no process")
    for i, variable in enumerate(bundle.spec.process.env):
        if "=" not in variable:
            raise InvalidInput(f"$.process.env[{i}]: {variable!r} is no NAME=VALUE")
    return bundle.spec.process


def absolute(spec: Spec, bundle: str) -> Spec:
    """Take relative paths as the bundle's, as the specification says of root.path and of what is bound."""
    if spec.root is None:
        raise InvalidInput("$.root: the configuration has no root")
    root = os.path.realpath(os.path.join(bundle, spec.root.path))
    if not os.path.isdir(root):
        raise InvalidInput(f"$.root.path: {root} is no directory")
    mounts = tuple(_from(m, bundle) for m in spec.mounts)
    return replace(spec, root=replace(spec.root, path=root), mounts=mounts)


def _from(mount: Mount, bundle: str) -> Mount:
    bound = mount.type in ("bind", "none", "") or {"bind", "rbind"} & set(mount.options)
    if not bound or not mount.source or mount.source[0] == "/":
        return mount
    return replace(mount, source=os.path.join(bundle, mount.source))


def make(invocation: Invocation, bundle: Bundle, *, gated: bool) -> Made:
    """Make the container. Its first process waits for `container.start`, or with `gated` at a gate in its directory."""
    given, id, program = invocation.given, invocation.id(), process_of(bundle)
    kept = inherited(given)
    spec = _with_listening(bundle.spec, kept)
    made = filters.kept(without_keyring(plan(spec, probe(), id=id, bundle=bundle.directory), given))
    record, lock = invocation.store.reserve(id, bundle.text, facts(bundle, made))
    listening = running = None
    try:
        refuse_others_groups(made)
        arrangement = Arrangement(kept=kept, pivots=not given.flag("no-pivot"))
        if gated:
            listening = gate.listen(f"/proc/self/fd/{lock}/{GATE}")
            arrangement = arrangement._replace(gate_fd=listening.fileno())
        stdio = None if program.terminal else STANDARD
        running = container.create(made, stdio, console_size=size_of(program), gated=not gated, arrangement=arrangement)
        for word in running.warnings:
            warn(word, invocation.options)
        record.change(pid=running.pid, startTime=running.start_time)
    except BaseException:
        if running:
            _end(running)
        record.store.forget(id)
        os.close(lock)
        raise
    finally:
        if listening:
            listening.close()
    return Made(record, running, lock)


def refuse_others_groups(made: Plan) -> None:
    """Refuse a control group that has processes: they are not this container's, and would end with it."""
    for _, directory in made.cgroups:
        try:
            found = cgroupfs.processes(directory)
        except FileNotFoundError:
            continue
        if found:
            raise Conflict(
                f"can't use the control group {directory}: it has processes already, {found[0]} among them",
                "linux.cgroupsPath is to be the container's own",
            )


def facts(bundle: Bundle, made: Plan) -> dict[str, object]:
    """Return what is known of the container before it is there: with it a killed `create` can be cleaned up."""
    hooks = bundle.spec.hooks
    return {
        "bundle": bundle.directory,
        "rootfs": made.root,
        "created": timestamp(),
        "owner": os.getuid(),
        "annotations": bundle.spec.annotations,
        "cgroups": made.cgroups,
        "hooks": [name for name in ("poststart", "poststop") if hooks and getattr(hooks, name)],
    }


def inherited(given: Given) -> tuple[int, ...]:
    """Return the descriptors that the program gets beside the standard ones; refuse one that is not open."""
    sockets = os.environ.get("LISTEN_FDS") or "0"
    count = (given.number("preserve-fds") or 0) + (int(sockets) if sockets.isdecimal() else 0)
    kept = tuple(range(3, 3 + count))
    for fd in kept:
        try:
            os.fstat(fd)
        except OSError:
            raise InvalidInput(
                f"can't pass descriptor {fd} to the program: it is not open", "see --preserve-fds and LISTEN_FDS"
            ) from None
    return kept


def _with_listening(spec: Spec, kept: tuple[int, ...]) -> Spec:
    sockets = os.environ.get("LISTEN_FDS")
    if not sockets or not kept or spec.process is None:
        return spec
    env = (*spec.process.env, f"LISTEN_FDS={sockets}", "LISTEN_PID=1")
    return replace(spec, process=replace(spec.process, env=env))


def without_keyring(made: Plan, given: Given) -> Plan:
    """Leave the new session keyring out of a plan where `--no-new-keyring` says so."""
    if not given.flag("no-new-keyring"):
        return made
    return replace(made, steps=tuple(step for step in made.steps if not isinstance(step.op, ops.NewKeyring)))


def into_cgroups(made: Plan, others: dict[str, str]) -> Plan:
    """Have an exec's process enter other groups than the container's: by the directory that it would enter."""
    if not others:
        return made
    return replace(made, steps=tuple(_into(step, others) for step in made.steps))


def _into(step: Step, others: dict[str, str]) -> Step:
    match step.op:
        case ops.MoveIntoCgroup(directory=directory) if directory in others:
            return replace(step, op=ops.MoveIntoCgroup(others[directory]))
        case ops.Clone(cgroup=directory) if directory in others:
            return replace(step, op=replace(step.op, cgroup=others[directory]))
        case _:
            return step


def size_of(process: Process) -> tuple[int, int] | None:
    """Return the terminal's size that the configuration asks for: (rows, columns)."""
    return (process.console_size.height, process.console_size.width) if process.console_size else None


def check_terminal(process: Process, given: Given, *, detached: bool) -> None:
    """Refuse a terminal without anybody to have it, and a socket for one that is not there."""
    socket = given.value("console-socket")
    if process.terminal and detached and not socket:
        raise InvalidInput(
            "can't make a terminal: nobody is there to have it", "give --console-socket, or process.terminal false"
        )
    if socket and not (process.terminal and detached):
        raise InvalidInput("can't use --console-socket: there is no terminal to send to it")


def hand_over(running: Running, given: Given) -> None:
    """Send the terminal to the console socket, and write the pid where it is asked for."""
    if running.console is not None and given.value("console-socket"):
        from sampan.oci.terminal import send_master

        with doing(f"can't send the terminal to {given.value('console-socket')}"):
            send_master(given.value("console-socket"), running.console)
    if path := given.value("pid-file"):
        with doing(f"can't write the pid to {path}"):
            write(os.path.dirname(os.path.abspath(path)), os.path.basename(path), str(running.pid).encode(), 0o644)


def undo(made: Made) -> None:
    """Take a container back that was made whole."""
    _end(made.running)
    made.record.store.forget(made.record.id)


def kill(running: Running) -> None:
    """Kill a process of this one's, and wait until it has ended."""
    with suppress(OSError):
        process.pidfd_send_signal(running.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)


def _end(running: Running) -> None:
    kill(running)
    with suppress(SampanError, OSError):
        container.delete(running.cgroups)
