"""`--explain`: the plan of a start or an exec, and the steps of a real one with their times."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

from sampan.engine import execs, lifecycle
from sampan.engine.launch import Start, joined_pid
from sampan.engine.lifecycle import Verb
from sampan.engine.own_files import own_files
from sampan.engine.translate import join
from sampan.errors import Conflict, SampanError, Unsupported
from sampan.runtime import explain as telling, plan as planning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.runtime.plan import Plan

_DETACH_KEYS = b"\x10\x11"


def explain(core: Core, container: Container) -> dict[str, Any]:
    """Return the steps of its start, and a script that does them by hand."""
    with container.lock:
        spec = join(core.spec(container), lambda other: joined_pid(core, other))
        return _told(planning.plan(spec, core.host, id=container.id), own_files(core, container))


def explain_exec(core: Core, exec_id: str) -> dict[str, Any]:
    """Return the steps of an exec."""
    return _told(execs.plan_of(core, execs.find(core, exec_id)))


def _told(plan: Plan, own_files: dict[str, str] | None = None) -> dict[str, Any]:
    """`own_files` are gone when the container is: the script brings them along."""
    try:
        script = telling.to_shell(plan, own_files)
    except Unsupported as e:  # the steps can be read all the same
        script = f"echo {quote(e.message)} >&2\nexit 125\n"
    return {**telling.to_json(plan), "script": script}


def start_explained(core: Core, container: Container) -> Iterator[dict[str, Any]]:
    """Make the container, give the steps with their times, and execute the program when all are taken."""
    with container.lock:
        if lifecycle.check(Verb.START, container.state, container.id) is lifecycle.ALREADY:
            raise Conflict(f"container {container.name} is running already", "only a start can be explained: stop it")
        begun = Start(core, container, _DETACH_KEYS, gated=True)
        try:
            launched = begun.wait()
            yield from telling.to_json(begun.plan, ((step.index, step.ns) for step in launched.steps))["steps"]
            begun.go()
        except (SampanError, GeneratorExit) as e:
            begun.undo(e if isinstance(e, SampanError) else Conflict("the client went away before the program began"))
            raise
