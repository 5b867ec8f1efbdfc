"""A run's end on the engine's side: letting the shim go, and what is left when it was killed before it could go."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from sampan.errors import Conflict, SampanError
from sampan.kernel.trees import remove_tree
from sampan.runtime.container import delete
from sampan.supervise import messages, state as shim_state

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.links import Channel, Pending

_FORGET_S = 20
_SUCCESSOR_S = 1.0
_STEP_S = 0.02


def forget(channel: Channel) -> Pending:
    """Tell a shim that its container's exit is recorded: it removes control groups and its directory, and ends."""
    channel.on_event = None
    channel.on_gone = None
    return channel.post(messages.Forget())


def dismiss(channel: Channel) -> None:
    """Have a shim forget its container, killed first if it runs; no answer is an answer too."""
    channel.on_gone = None
    end = time.monotonic() + _FORGET_S
    try:
        while not channel.gone and time.monotonic() < end:
            channel.post(messages.Signal(number=signal.SIGKILL)).wait_quietly(_FORGET_S)
            try:
                channel.ask(messages.Forget(), messages.Done, timeout_s=_FORGET_S)
                return
            except Conflict:  # it is still dying
                time.sleep(_STEP_S)
            except SampanError:
                return
    finally:
        channel.close()


def see_off(core: Core, id: str, forgotten: Pending) -> None:
    """Wait for a shim to have gone that was told to forget; one that was killed before it could has left things."""
    try:
        forgotten.wait(messages.Done, _FORGET_S)
    except SampanError:
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
            dismiss(channel)
        if time.monotonic() >= end:
            remove_tree(directory)
    try:
        remove_cgroups(core, id)
    except SampanError as e:
        print(f"sampan: {e.message}", file=sys.stderr, flush=True)


def written(core: Core, id: str) -> shim_state.State | None:
    """Return what a shim has written down of itself."""
    return shim_state.read(core.dirs.shim(id))


def remove_cgroups(core: Core, id: str) -> None:
    """Remove a container's control groups, with the processes that are in them."""
    groups = [(controller, f"{point}{core.cgroup_parent}/{id}") for controller, point in core.host.cgroup_mounts]
    there = tuple((controller, path) for controller, path in groups if os.path.isdir(path))
    if there:
        delete(there)
