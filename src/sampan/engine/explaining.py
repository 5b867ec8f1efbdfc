"""`--explain`: the plan of a start or an exec, and the steps of a real one with their times."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

from sampan.engine import bridges, execs, hooking, lifecycle, sandbox, secret_uses
from sampan.engine.launch import Start, spec_of_run, start_required
from sampan.engine.lifecycle import Verb
from sampan.engine.own_files import own_files
from sampan.errors import Conflict, SampanError, Unsupported
from sampan.network import by_hand, firewall_plan, plan
from sampan.network.by_hand import Part
from sampan.network.firewall_ops import MakeTable, RemoveTable
from sampan.network.ops import NewNamespace, RemoveNamespace
from sampan.runtime import explain as telling, plan as planning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.engine.sandbox import Sandbox
    from sampan.runtime.plan import Plan
    from sampan.spec.runtime import Spec

_DETACH_KEYS = b"\x10\x11"
_SERVER = "server"


def explain(core: Core, container: Container) -> dict[str, Any]:
    """Return the steps of its start, and a script that does them by hand."""
    with container.lock, sandbox.drawn_up(core, container) as networks:
        spec = spec_of_run(core, container)
        parts = tuple(_parts(core, networks, spec)) if networks else ()
        if networks:
            spec = sandbox.moved(spec, telling.NETNS)
        plan = planning.plan(spec, core.host, id=container.id)
        if secret_uses.asked(container.body.host_config.annotations):  # the script would have to have them in it
            return {**_told(plan), "script": _refusal("can't write it as a script: it has secrets")}
        return _told(plan, own_files(core, container), parts)


def _parts(core: Core, networks: Sandbox, spec: Spec) -> Iterator[Part]:
    """Yield what a container's network is made of, with how it is taken back."""
    links = tuple(networks.links())
    used = {network.id: network for network, _ in links}
    table = firewall_plan.table_name(core.instance)
    if any(firewall_plan.network_elements(network) for network in used.values()):
        there = f"nft list table inet {table}"
        yield Part(steps=(MakeTable(table),), undo=(RemoveTable(table),), there=there)
    for network in used.values():
        steps = plan.bridge_up(network, instance=core.instance)
        if steps:
            elements = firewall_plan.network_elements(network)
            undo = (*plan.bridge_down(network), *firewall_plan.change(core.instance, elements, ()))
            through = bridges.firewall_steps(core.instance, network)
            there = f"ip link show {quote(network.link or network.parent)}"
            yield Part(steps=(*steps, *through), undo=undo, there=there)
    yield Part(steps=(NewNamespace(),), undo=(RemoveNamespace(),))
    own = tuple(step for _, steps in links for step in steps)
    ends = tuple(step for endpoint in networks.endpoints for step in plan.detach(endpoint))
    yield Part(steps=(*own, *plan.parameters(sandbox.own_parameters(spec))), undo=ends)
    yield Part(steps=networks.port_steps(), undo=networks.port_steps(undo=True))


def explain_exec(core: Core, exec_id: str) -> dict[str, Any]:
    """Return the steps of an exec."""
    return _told(execs.plan_of(core, execs.find(core, exec_id)))


def _told(made: Plan, own_files: dict[str, str] | None = None, network: tuple[Part, ...] = ()) -> dict[str, Any]:
    """`own_files` are gone when the container is: the script brings them along."""
    try:
        script = telling.to_shell(made, own_files, by_hand.script(network))
    except Unsupported as e:  # the steps can be read all the same
        script = _refusal(e.message)
    found = telling.to_json(made)
    before = [telling.row(_SERVER, step) for part in network for step in part.steps]
    return {**found, "steps": before + found["steps"], "script": script}


def _refusal(cause: str) -> str:
    return f"echo {quote(cause)} >&2\nexit 125\n"


def start_explained(core: Core, container: Container) -> Iterator[dict[str, Any]]:
    """Make the container, give the steps with their times, and execute the program when all are taken."""
    start_required(core, container)
    with container.lock:
        if lifecycle.check(Verb.START, container.state, container.id) is lifecycle.ALREADY:
            raise Conflict(f"container {container.name} is running already", "only a start can be explained: stop it")
        before: list[dict[str, Any]] = []
        seen = lambda step, ns: before.append(telling.row(_SERVER, step, ns))
        begun = Start(core, container, _DETACH_KEYS, gated=True, seen=seen)
        try:
            launched = begun.wait()
            yield from before
            yield from telling.to_json(begun.plan, ((step.index, step.ns) for step in launched.steps))["steps"]
            begun.go()
            hooking.started(core, container.id, launched.pid)
        except (SampanError, GeneratorExit) as e:
            begun.undo(e if isinstance(e, SampanError) else Conflict("the client went away before the program began"))
            raise
