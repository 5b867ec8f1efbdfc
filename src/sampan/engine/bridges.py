"""The host's side of the networks: bridges, and what the firewall lets through for them."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.engine import naming
from sampan.errors import NotPermitted, SampanError, Unsupported
from sampan.network import firewall_plan, host, plan
from sampan.network.perform import perform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.network.perform import Told
    from sampan.spec.network import Network
    from sampan.spec.operation import Operation

_WITHOUT = "where sampan may not change the host's network, --network none and --network host work"


def refusal(error: SampanError, what: str) -> SampanError:
    """Return why a network can't be made; where this host allows none at all, with what works without."""
    found = error.within(what)
    if isinstance(error, NotPermitted | Unsupported):
        found.hint = f"{error.hint}; {_WITHOUT}" if isinstance(error, Unsupported) and error.hint else _WITHOUT
    return found


def bring_up(core: Core, network: Network, seen: Told | None = None) -> None:
    """Make a network's bridge, or put it right, and let its packets through."""
    perform(plan.bridge_up(network, instance=core.instance), told=seen)
    put_back(core, network)
    start = time.perf_counter_ns()
    core.firewall.add_network(network)
    took = time.perf_counter_ns() - start
    if seen:
        for step in firewall_steps(core.instance, network):
            seen(step, took)


def put_back(core: Core, network: Network) -> None:
    """Have who is on a network be on its bridge: somebody may have removed that under them, and it is another now."""
    for endpoint in core.networks.endpoints(network.id):
        if endpoint.link and host.exists(endpoint.link):
            with logged():  # one that is just ending takes its link along
                perform(plan.join_bridge(network, endpoint))


def firewall_steps(instance: str, network: Network) -> tuple[Operation, ...]:
    """Return the steps that let a network's packets through."""
    elements = firewall_plan.network_elements(network)
    return (*firewall_plan.change(instance, (), elements), *firewall_plan.forwarding((network,)))


def take_down(core: Core, network: Network) -> None:
    """Remove a network's bridge and its part of the firewall."""
    core.firewall.remove_network(network)
    perform(plan.bridge_down(network))
    naming.forget_names(core, network)


def clear(core: Core, network: Network) -> None:
    """Remove what there is of a network that could not be made whole."""
    with logged():
        take_down(core, network)


@contextmanager
def logged() -> Iterator[None]:
    """Write to the log what a step of the end raises."""
    try:
        yield
    except (SampanError, OSError) as e:
        print(f"sampan: can't give back a container's network: {e}", file=sys.stderr, flush=True)
