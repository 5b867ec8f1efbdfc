"""A run's end on the engine's side: letting the shim go, and what is left when it was killed before it could go."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from sampan.errors import Conflict, Failed, SampanError
from sampan.kernel import process
from sampan.kernel.trees import remove_tree
from sampan.runtime import control
from sampan.runtime.container import delete
from sampan.supervise import messages, state as shim_state

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.links import Channel, Pending

_ANSWER_S = 5
_FORGET_S = 20
_KILL_S = 10
_SUCCESSOR_S = 1.0
_STEP_S = 0.02


def forget(channel: Channel) -> Pending:
    """Tell a shim that its container's exit is recorded: it removes control groups and its directory, and ends."""
    channel.on_event = None
    channel.on_gone = None
    return channel.post(messages.Forget())


def dismiss(channel: Channel) -> bool:
    """Have a shim forget its container, killed first if it runs; False where it lives and does not answer."""
    channel.on_gone = None
    end = time.monotonic() + _FORGET_S
    try:
        while not channel.gone and time.monotonic() < end:
            if not channel.post(messages.Signal(number=signal.SIGKILL)).wait_quietly(_ANSWER_S):
                return False
            forgotten = channel.post(messages.Forget())
            try:
                forgotten.wait(messages.Done, _FORGET_S)
                return True
            except Conflict:  # it is still dying
                time.sleep(_STEP_S)
            except SampanError:
                return forgotten.broken
        return channel.gone
    finally:
        channel.close()


def see_off(core: Core, id: str, forgotten: Pending) -> None:
    """Wait for a shim to have gone that was told to forget; one that was killed before it could has left things."""
    try:
        forgotten.wait(messages.Done, _FORGET_S)
        core.cgroup_places.forget(id)
    except SampanError:
        if not forgotten.broken:
            kill_shims(core, id)
        clear(core, id, _SUCCESSOR_S)


def clear(core: Core, id: str, patience_s: float = 0) -> None:
    """Leave nothing of a container's run: kill what runs, dismiss the shim, remove its directory and control groups.

    The keeper may be about to replace a killed shim: for so long its successor is waited for.
    """
    end = time.monotonic() + patience_s
    directory = core.dirs.shim(id)
    while os.path.isdir(directory):
        try:
            channel = core.links.connect(f"{directory}/{shim_state.SOCKET}", f"the shim of {id[:12]}")
        except OSError:
            time.sleep(_STEP_S if patience_s else 0)
        else:
            if not dismiss(channel):
                kill_shims(core, id)
        if time.monotonic() >= end:
            remove_tree(directory)
    try:
        remove_cgroups(core, id)
    except SampanError as e:
        print(f"sampan: {e.message}", file=sys.stderr, flush=True)


def kill(core: Core, id: str) -> None:
    """Kill a container's processes and its shim without asking that: it does not answer. Raises when they don't end."""
    groups = cgroups(core, id)
    end = time.monotonic() + _KILL_S
    control.kill_everyone(groups)
    while left := control.processes(groups):
        if time.monotonic() > end:
            raise Failed(f"its processes {left[:5]} have not ended after SIGKILL", "they hang in the kernel: state D")
        time.sleep(_STEP_S)
    kill_shims(core, id)


def kill_shims(core: Core, id: str) -> None:
    """Kill those of our processes that have a shim's directory open: the shim, and a launcher that has not ended."""
    try:
        facts = os.stat(core.dirs.shim(id))
    except FileNotFoundError:
        return
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        try:
            with open(f"/proc/{pid}/comm", "rb") as file:
                if file.read() != b"sampan-shim\n":
                    continue
            pidfd = process.pidfd_open(pid)
        except OSError:
            continue
        try:
            if _has_open(pid, facts):
                process.pidfd_send_signal(pidfd, signal.SIGKILL)
        except OSError:  # it has ended meanwhile
            pass
        finally:
            os.close(pidfd)


def _has_open(pid: int, facts: os.stat_result) -> bool:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), facts):
                return True
        except OSError:
            continue
    return False


def written(core: Core, id: str) -> shim_state.State | None:
    """Return what a shim has written down of itself."""
    return shim_state.read(core.dirs.shim(id))


def cgroups(core: Core, id: str) -> tuple[tuple[str, str], ...]:
    """Return a container's control groups that are there: (controller, directory)."""
    place = core.cgroup_places.of(id) or f"{core.cgroup_parent}/{id}"
    groups = [(controller, f"{point}{place}") for controller, point in core.host.cgroup_mounts]
    return tuple((controller, path) for controller, path in groups if os.path.isdir(path))


def remove_cgroups(core: Core, id: str) -> None:
    """Remove a container's control groups, with the processes that are in them."""
    if there := cgroups(core, id):
        delete(there)
    core.cgroup_places.forget(id)
