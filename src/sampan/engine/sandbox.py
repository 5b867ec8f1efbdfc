"""A container's networks while it runs: what its start makes, a live change changes, and its end undoes.

    ports are bound → a namespace → links, addresses, routes → names, firewall → the program runs → the shim has it all

The namespace lives by its processes: the server lets go of it as soon as the program runs.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import bridges, endpoints, naming, ports, user_namespaces
from sampan.engine.bridges import logged
from sampan.engine.core import encode
from sampan.errors import Conflict, SampanError, doing, from_os_error
from sampan.network import firewall_plan, host, plan
from sampan.network.firewall_ops import RedirectNames
from sampan.network.namespace import Namespace
from sampan.network.ops import NewNamespace
from sampan.network.perform import perform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.links import Channel
    from sampan.engine.port_sockets import Reserved
    from sampan.engine.registry import Container
    from sampan.network.perform import Told
    from sampan.spec.docker import EndpointSettings
    from sampan.spec.network import Endpoint, Network, PublishedPort
    from sampan.spec.operation import Operation
    from sampan.spec.runtime import Spec

_TRIES = 3
_LINK_S = 0.1
_PATIENCE_S = 1.0


class Sandbox:
    """One run's networks. Made and changed with `container.lock` held; `release` may be called by any thread."""

    def __init__(self, core: Core, container: Container, seen: Told | None = None) -> None:
        """`seen` is called with each step of the start and the nanoseconds that it took."""
        self._seen = seen
        self.endpoints: tuple[Endpoint, ...] = ()
        self.ports: tuple[PublishedPort, ...] = ()
        self._core = core
        self._container = container
        self._namespace: Namespace | None = None
        self._users: Namespace | None = None  # the one of users that owns it, if it is not the host's
        self._reserved: Reserved | None = None
        self._listening: naming.Listening | None = None
        self.over = False  # the program has ended
        self._connected = False  # and who is on the networks knows it
        self._releasing = threading.Lock()

    # -- a start

    def draw_up(self) -> None:
        """Decide what there will be: addresses are taken and ports bound, nothing is made."""
        core, container = self._core, self._container
        self._reserved = ports.reserve(core, container)
        self.ports = self._reserved.ports
        for name, settings in endpoints.places(container).items():
            network = endpoints.find(core.networks, name, settings)
            self.endpoints += (self._join(network, settings),)

    def build(self) -> None:
        """Make everything, with no program in it yet."""
        free_left(self._core)
        self.draw_up()
        self._remember()
        start = time.perf_counter_ns()
        namespace = self._make_namespace()
        self._say(NewNamespace(), start)
        for network, steps in self.links():
            self._attach(network, steps, namespace)
        start = time.perf_counter_ns()
        self._listening = naming.listen(self._core, self._container, namespace)
        if self._listening.sockets:
            self._say(RedirectNames(*self._listening.numbers), start)
        self._publish()
        self._connected = True
        self._tell("connect")

    def _make_namespace(self) -> Namespace:
        core, container = self._core, self._container
        if user_namespaces.is_asked(container.body.host_config):
            self._namespace, self._users = user_namespaces.make(core, core.spec(container))
        else:
            self._namespace = Namespace.new()
        return self._namespace

    def _remember(self) -> None:
        """Write down what it will have before a shim may run it: should this server be killed, the next one knows."""
        state = msgspec.structs.replace(self._container.state, endpoints=self.endpoints, ports=self.ports)
        self._core.store.set_state(self._container.id, encode(state))

    def links(self) -> Iterator[tuple[Network, plan.Steps]]:
        """Return the steps that make each of its links."""
        for endpoint in self.endpoints:
            if network := self._core.networks.get(endpoint.network):
                yield network, self._link(network, endpoint, self.endpoints)

    def _link(self, network: Network, endpoint: Endpoint, among: tuple[Endpoint, ...]) -> plan.Steps:
        gateways = endpoints.default_routes(self._core.networks, among).get(endpoint.id, ())
        return plan.attach(network, _with_gateways(endpoint, gateways), default_gateway=bool(gateways))

    def _say(self, step: Operation, start_ns: int) -> None:
        if self._seen:
            self._seen(step, time.perf_counter_ns() - start_ns)

    def in_namespace(self, spec: Spec) -> Spec:
        """Return the configuration with the namespace in it, by a path that is there until `hand_over`.

        The namespace's kernel parameters are set here: the runtime sets none where a namespace is not its own.
        """
        namespace = self._namespace
        assert namespace
        perform(plan.parameters(own_parameters(spec)), namespace=namespace, told=self._seen)
        spec = moved(spec, f"/proc/{os.getpid()}/fd/{namespace.fd}")
        return spec if self._users is None else moved(spec, f"/proc/{os.getpid()}/fd/{self._users.fd}", "user")

    def give(self, channel: Channel) -> None:
        """Have the shim answer names and hold ports, before it makes the container."""
        if self._listening:
            naming.hand_over(self._core, self._container, self._listening, channel)
        if self._reserved:
            ports.give(self._container, self._reserved, channel, running=False)

    def hand_over(self, channel: Channel) -> None:
        """Give the shim the rest of what it holds from now on, once the program runs."""
        with self._releasing:  # it may have ended already
            if self._container.sandbox is self:
                if self._reserved:
                    ports.give(self._container, self._reserved, channel, running=True)
                self._close()

    def _tell(self, action: str) -> None:
        """Tell who else is on the networks, and who listens, that the container came or went."""
        for endpoint in self.endpoints:
            if network := self._core.networks.get(endpoint.network):
                naming.write_names(self._core, network)
                self._core.tell_network(network, action, {"container": self._container.id})

    def _close(self) -> None:
        for held in (self._namespace, self._users, self._reserved, self._listening):
            if held:
                held.close()
        self._namespace = self._users = self._reserved = self._listening = None

    def _publish(self) -> None:
        if self.ports and (addresses := self._addresses()):
            start = time.perf_counter_ns()
            self._core.firewall.publish(addresses, self.ports)
            for step in self.port_steps():
                self._say(step, start)

    def port_steps(self, *, undo: bool = False) -> tuple[Operation, ...]:
        """Return the steps that lead the published ports to the container, or take them back."""
        elements = firewall_plan.port_elements(self._addresses(), self.ports)
        if undo:
            return firewall_plan.change(self._core.instance, elements, ())
        steps: tuple[Operation, ...] = firewall_plan.change(self._core.instance, (), elements)
        for network, _ in self.links():
            own = [each for each in elements if firewall_plan.is_on(network, each.data[0])]
            steps += firewall_plan.loopback(network, own)
        return steps + firewall_plan.forgetting(elements)

    @property
    def published(self) -> tuple[tuple[str, ...], tuple[PublishedPort, ...]]:
        """The addresses to which published ports lead, and those ports."""
        return self._addresses(), self.ports

    def _addresses(self) -> tuple[str, ...]:
        """Return the addresses that published ports lead to: of each version that of the default route's network."""
        routes = endpoints.default_routes(self._core.networks, self.endpoints)
        found = []
        for endpoint in self.endpoints:
            sixes = {":" in gateway for gateway in routes.get(endpoint.id, ())}
            found += [address for address in endpoint.addresses if (":" in address) in sixes]
        return tuple(found)

    # -- a live change

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep it from being given back meanwhile. Raises Conflict where the program has ended."""
        with self._releasing:
            if self.over or self._container.sandbox is not self:
                raise Conflict(f"container {self._container.name} is not running")
            yield

    def connect(self, network: Network, settings: EndpointSettings) -> None:
        """Put the running container on one more network."""
        endpoint = self._join(network, settings)
        with ExitStack() as undo:
            undo.callback(self._core.networks.free, endpoint)
            undo.callback(self._core.networks.leave, endpoint)
            with self._staying():
                with self._entered() as namespace:
                    self._attach(network, self._link(network, endpoint, (*self.endpoints, endpoint)), namespace)
                undo.pop_all()
                self._change((*self.endpoints, endpoint))

    def disconnect(self, endpoint: Endpoint) -> None:
        """Take the running container off a network."""
        left = tuple(each for each in self.endpoints if each.id != endpoint.id)
        routes = endpoints.default_routes(self._core.networks, left)
        with self._staying():
            with self._entered() as namespace:
                perform(plan.detach(endpoint), namespace=namespace)
                for each in left:
                    network = self._core.networks.get(each.network)
                    if network and each.id in routes:
                        steps = plan.default_routes(network, _with_gateways(each, routes[each.id]))
                        with logged():  # a container may have removed its interfaces by itself
                            perform(steps, namespace=namespace)
            self._core.networks.leave(endpoint)
            self._core.networks.free(endpoint)
            self._change(left)

    @contextmanager
    def _staying(self) -> Iterator[None]:
        """Keep the end of the container from giving back what is being changed: it waits, or was first."""
        with self._releasing:
            if self._container.sandbox is not self:
                raise Conflict(f"container {self._container.id} is not running", "it has just ended")
            yield

    def rename(self) -> None:
        """Answer to the container's new name."""
        with self._releasing:  # one that ends just now must not come back to its networks
            if self._container.sandbox is self:
                self._rename()

    def unlink(self, alias: str) -> None:
        """Give up a name that it has for another container on the default bridge."""
        default = self._core.networks.default.id
        with self._releasing:
            if self._container.sandbox is not self:
                return
            for endpoint in self.endpoints:
                if endpoint.network == default and alias in endpoint.links:
                    links = {name: id for name, id in endpoint.links.items() if name != alias}
                    new = msgspec.structs.replace(endpoint, links=links)
                    self._core.networks.rejoin(new)
                    self._change(tuple(new if each is endpoint else each for each in self.endpoints))

    def _rename(self) -> None:
        networks, container = self._core.networks, self._container
        settings = {s.network_id: s for s in endpoints.places(container).values()}
        new = []
        for endpoint in self.endpoints:
            network = networks.get(endpoint.network)
            if network and endpoint.network in settings:
                known = endpoints.names(container, settings[endpoint.network], default=network.default)
                new.append(msgspec.structs.replace(endpoint, names=known))
                networks.rejoin(new[-1])
        self._change(tuple(new))

    def _entered(self) -> Namespace:
        """Hold the namespace that the container's first process is in."""
        container = self._container
        with doing(f"can't enter the network of {container.name}"):
            try:
                return Namespace.of(container.state.pid, container.state.start_time)
            except ProcessLookupError:
                raise Conflict(f"container {container.id} is not running", "it has just ended") from None

    def _change(self, new: tuple[Endpoint, ...]) -> None:
        """Note which endpoints there are; published ports follow the default route."""
        before = self._addresses()
        old, self.endpoints = self.endpoints, new
        if self.ports and self._addresses() != before:
            self._core.firewall.unpublish(before, self.ports)
            self._publish()
            ports.remind(self._container)
        self._container.update(endpoints=new)
        self._core.save(self._container)
        for id in {endpoint.network for endpoint in (*old, *new)}:
            if network := self._core.networks.get(id):
                naming.write_names(self._core, network)
        naming.follow(self._core, self._container, old)

    # -- both

    def _join(self, network: Network, settings: EndpointSettings) -> Endpoint:
        """Take an address on a network, once it is one that nobody has who has ended."""
        core, container = self._core, self._container
        link = host.new_link_name(core.instance, "v") if network.driver == "bridge" else ""
        interface = endpoints.interface(network, settings, {each.interface for each in self.endpoints})
        endpoint = endpoints.endpoint(container, network, settings, interface, link)
        endpoint = msgspec.structs.replace(endpoint, links=_links(core, container, network, settings))
        wanted = endpoints.asked_addresses(settings)
        with doing(f"can't connect {container.name} to network {network.name}"):
            try:
                return core.networks.join(endpoint, wanted)
            except SampanError:
                if not release_ended(core):
                    raise
                return core.networks.join(endpoint, wanted)

    def _attach(self, network: Network, steps: plan.Steps, namespace: Namespace) -> None:
        """Make an endpoint's links; a bridge that somebody has removed meanwhile is made again."""
        core = self._core
        for left in reversed(range(_TRIES)):
            try:
                core.networks.ensure_up(network, lambda network: bridges.bring_up(core, network, self._seen))
                perform(steps, namespace=namespace, told=self._seen)
                return
            except SampanError as e:
                if not left or not network.link or host.exists(network.link):
                    raise bridges.refusal(e, f"can't connect {self._container.name} to network {network.name}") from e
                core.networks.is_down(network)

    # -- the end

    def release(self) -> None:
        """Undo everything, as far as it was made; once more waits until it is done."""
        with self._releasing:
            if self._container.sandbox is self:
                self._undo()
                self._container.sandbox = None

    def _undo(self) -> None:
        """One failure doesn't keep the rest from being undone; what stays is cleared at the next server's start."""
        core = self._core
        self._close()
        with logged():
            if self.ports:
                core.firewall.unpublish(self._addresses(), self.ports)
        for endpoint in self.endpoints:
            core.networks.leave(endpoint)
            if endpoint.link:
                with logged():
                    perform(plan.silence(endpoint))
                    core.networks.give_back(endpoint)
        with logged():
            if self._connected:
                self._tell("disconnect")
        free_left_soon(core)


def make(core: Core, container: Container, seen: Told | None = None) -> Sandbox | None:
    """Return a container's networks, made; None for one that has no links of its own."""
    if not endpoints.places(container):
        return None
    sandbox = container.sandbox = Sandbox(core, container, seen)
    try:
        sandbox.build()
    except BaseException as e:
        sandbox.release()
        if isinstance(e, OSError):  # such as too many open files
            raise from_os_error(e).within(f"can't make the network of {container.name}") from e
        raise
    return sandbox


@contextmanager
def drawn_up(core: Core, container: Container) -> Iterator[Sandbox | None]:
    """Yield what a start would make, decided and not made; or what there is, if the container runs."""
    if container.sandbox or not endpoints.places(container):
        yield container.sandbox
        return
    release_ended(core)  # what is told is what a start gets when all that was given back is free
    sandbox = container.sandbox = Sandbox(core, container)
    try:
        sandbox.draw_up()
        yield sandbox
    finally:
        sandbox.release()
        free_left(core)


def own_parameters(spec: Spec) -> dict[str, str]:
    """Return the network's kernel parameters: the runtime sets none where a namespace is not its own."""
    return {key: value for key, value in spec.linux.sysctl.items() if key.startswith("net.")}


def moved(spec: Spec, path: str, kind: str = "network") -> Spec:
    """Return the configuration with a namespace at `path`, and without the network's parameters."""
    namespaces = tuple(msgspec.structs.replace(n, path=path) if n.type == kind else n for n in spec.linux.namespaces)
    own = own_parameters(spec)
    others = {key: value for key, value in spec.linux.sysctl.items() if key not in own}
    return msgspec.structs.replace(
        spec, linux=msgspec.structs.replace(spec.linux, namespaces=namespaces, sysctl=others)
    )


def adopt(core: Core, container: Container) -> None:
    """Take over the networks of a container that a server before this one has started."""
    if container.state.endpoints:
        running(core, container)


def running(core: Core, container: Container) -> Sandbox:
    """Return the networks of a container that runs; one that is on none may come to be on one."""
    sandbox = container.sandbox
    if sandbox is None:
        sandbox = container.sandbox = Sandbox(core, container)
        sandbox.endpoints, sandbox.ports = container.state.endpoints, container.state.ports
        sandbox._connected = True
        for endpoint in sandbox.endpoints:
            core.networks.rejoin(endpoint)
    return sandbox


def give_back(container: Container) -> None:
    """Let what a container that has ended had of its networks be free: before that is answered, as Docker does it."""
    sandbox = container.sandbox
    if sandbox is not None and sandbox.over:
        sandbox.release()


def release_ended(core: Core) -> bool:
    """Finish what the ends of containers have still to give back; False where there was nothing."""
    ended = [c.sandbox for c in core.registry if c.sandbox is not None and c.sandbox.over]
    for sandbox in ended:
        sandbox.release()
    left = core.networks.leaving()
    free_left(core, patience_s=0)
    return bool(ended or left)


def free_left(core: Core, patience_s: float = _PATIENCE_S) -> None:
    """Forget the endpoints that have left, once their links are gone.

    The kernel removes links with their namespace, many at once, behind everything else, where one at a time takes it
    20 ms each with all other changes of the network waiting; one that somebody keeps alive is removed from here.
    """
    for endpoint, since in core.networks.leaving():
        if endpoint.link and host.exists(endpoint.link):
            if time.monotonic() < since + patience_s:
                continue
            with logged():
                perform(plan.detach(endpoint))
        core.networks.free(endpoint)


def free_left_soon(core: Core) -> None:
    """Have that done, behind what is done now, until none is left."""

    def again() -> None:
        core.networks.freeing = False
        free_left(core)
        if core.networks.leaving():
            free_left_soon(core)

    if not core.networks.freeing:
        core.networks.freeing = True
        core.janitor.later("remove the links of containers that have ended", again, _LINK_S)


def _with_gateways(endpoint: Endpoint, gateways: tuple[str, ...]) -> Endpoint:
    return msgspec.structs.replace(endpoint, gateways=gateways)


def _links(core: Core, container: Container, network: Network, settings: EndpointSettings) -> dict[str, str]:
    """Return the container's own names for others: on the default bridge those of `--link`."""
    texts = (container.body.host_config.links if network.default else settings.links) or ()
    return endpoints.links(core.registry, texts, must_run=network.default)
