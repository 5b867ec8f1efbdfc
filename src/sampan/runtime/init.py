"""The new process's story: from the fork to the exec of the container's program.

It is a fork of the shim's interpreter. Up to `PivotRoot` it works from the host's side; after it the files around it
are the container's, so nothing of Python may look for any: nothing is imported, loaded, looked up in a name service or
formatted as a traceback, and `sys.path` is empty (CVE-2019-14271). From the start it can't be traced or dumped, and of
what was open on the host only the channel to the shim is left when the root changes.
"""

from __future__ import annotations

import gc
import os
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, NoReturn

from sampan.errors import Failed, NotPermitted, SampanError, from_os_error
from sampan.kernel import process
from sampan.runtime import becoming, ops, perform, reap
from sampan.runtime.scene import KILLED, Ready

if TYPE_CHECKING:
    from sampan.runtime.plan import Plan
    from sampan.runtime.scene import Scene


def become(plan: Plan, scene: Scene) -> NoReturn:
    """Perform the plan's inside steps, the last of which is the program; say what failed, and end.

    The exit status is read only where the launcher, which was told more, was killed: then it counts as killed, too.
    """
    try:
        _prepare(plan, scene)
        _perform(plan, scene)
    except SampanError as e:
        _say(scene, e)
    except OSError as e:
        _say(scene, from_os_error(e))
    except BaseException as e:  # no traceback: it would read the container's files
        _say(scene, Failed(f"{type(e).__name__}: {e}"))
    os._exit(KILLED)


def _prepare(plan: Plan, scene: Scene) -> None:
    """Leave behind what is the shim's own."""
    process.set_dumpable(False)
    gc.disable()  # a collection would touch, and so copy, the pages shared with the shim
    sys.path.clear()
    becoming.default_signals()
    os.setsid()
    os.umask(0)
    if any(isinstance(step.op, ops.Reap) for step in plan.steps):
        with open("/proc/self/stat", "rb", buffering=0) as file:
            scene.arguments = reap.arguments_of(file.read())


def _perform(plan: Plan, scene: Scene) -> None:
    times: list[tuple[int, int]] = []
    ready = False
    before = perf_counter_ns()
    for index, step in enumerate(plan.steps):
        if step.who != "inside":
            continue
        op = step.op
        if not ready and (_is_the_containers(op) or (scene.gate_fd >= 0 and isinstance(op, ops.SetFilter))):
            ready = True
            last = plan.steps[-1].op
            if scene.gate_fd >= 0 and isinstance(last, ops.Execute):
                becoming.find_program(last, scene)
            scene.channel.send_ready(Ready(times, scene.warnings))
            if scene.gated:
                becoming.wait_for_start(scene)
        try:
            perform.inside(op, scene)  # type: ignore[arg-type]  # `who` says which of the two unions it is of
        except (OSError, Failed, NotPermitted) as e:
            raise blame(op, e) from e
        now = perf_counter_ns()
        times.append((index, now - before))
        before = now


def _is_the_containers(op: ops.Operation) -> bool:
    """Whether it executes a program of the container's: all before is `create`, this and what follows is `start`.

    A process that waits at a gate does so before its filter is set, which may forbid what the gate takes.
    """
    return isinstance(op, ops.Execute) or (isinstance(op, ops.RunHooks) and op.stage == "startContainer")


def blame(op: ops.Operation, error: OSError | SampanError) -> SampanError:
    """Say which step failed: `can't <what the step does>: <cause>`."""
    if isinstance(error, OSError):
        if str(error.filename).startswith("/proc/self/fd/"):
            error.filename = None  # how a target inside the root was reached tells nobody anything
        error = from_os_error(error)
    return type(error)(f"can't {op.say()}: {error.message}", error.hint)


def _say(scene: Scene, error: SampanError) -> None:
    try:
        scene.channel.send_error(error)
    except OSError:
        pass  # nobody is there to hear it
