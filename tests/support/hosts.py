"""Hosts made of network namespaces: this one, others on a wire to it, and containers on its bridges."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from sampan.kernel.link import loopback_up
from sampan.network import host as links, plan
from sampan.network.firewall import Firewall
from sampan.network.namespace import Namespace
from sampan.network.perform import perform
from sampan.spec.network import Endpoint, Network, PublishedPort, Subnet

INSTANCE = "0f1e2d3c"
TABLE = f"sampan-{INSTANCE}"
TIMEOUT_S = 3
NOTHING_COMES_S = 0.2

P = ParamSpec("P")
T = TypeVar("T")


def on_a_host_of_its_own(test: Callable[P, T]) -> Callable[P, T]:
    """Run a test on a new host: what it does to the firewall and the links of "this host" ends with it."""

    @wraps(test)
    def elsewhere(*args: P.args, **kwargs: P.kwargs) -> T:
        def run_test() -> T:
            loopback_up()
            return test(*args, **kwargs)

        with Namespace.new() as host:
            return host.call(run_test)

    return elsewhere


def until(condition: Callable[[], T]) -> T:
    """Return what a condition comes to, as soon as it is true."""
    deadline = time.monotonic() + 30
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def run(*words: str, namespace: Namespace | None = None, stdin: str | None = None) -> str:
    """Run a program, in a host's namespace, and return what it prints."""

    def it() -> str:
        ended = subprocess.run(words, check=False, text=True, capture_output=True, input=stdin)
        assert ended.returncode == 0, (words, ended.stderr)
        return ended.stdout

    return namespace.call(it) if namespace else it()


def ruleset() -> list[dict]:
    """Return what nft(8), the oracle, says of this host."""
    return json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]


class Neighbour:
    """Another host: 10.9.N.2 and fd09:N::2 on a wire to this one, which is .1 and ::1 there."""

    def __init__(self, number: int) -> None:
        self.namespace = Namespace.new()
        self.wire = f"wire{number}"
        self.ours = (f"10.9.{number}.1", f"fd09:{number}::1")
        self.addresses = (f"10.9.{number}.2", f"fd09:{number}::2")
        pid_path = f"/proc/self/fd/{self.namespace.fd}"
        run("ip", "link", "add", self.wire, "type", "veth", "peer", "name", "eth0")
        subprocess.run(["ip", "link", "set", "eth0", "netns", pid_path], check=True, pass_fds=[self.namespace.fd])
        run("ip", "address", "add", f"{self.ours[0]}/24", "dev", self.wire)
        run("ip", "-6", "address", "add", f"{self.ours[1]}/64", "dev", self.wire, "nodad")
        run("ip", "link", "set", self.wire, "up")
        for words in (
            ("address", "add", f"{self.addresses[0]}/24", "dev", "eth0"),
            ("-6", "address", "add", f"{self.addresses[1]}/64", "dev", "eth0", "nodad"),
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
        ):
            run("ip", *words, namespace=self.namespace)

    def route(self, *subnets: str) -> None:
        """Send packets for these by way of the test's host."""
        for subnet in subnets:
            via = self.ours[":" in subnet]
            run("ip", "route", "replace", subnet, "via", via, namespace=self.namespace)

    def end(self) -> None:
        run("ip", "link", "delete", self.wire)
        self.namespace.close()


@contextmanager
def neighbours(count: int = 2) -> Iterator[list[Neighbour]]:
    made: list[Neighbour] = []
    try:
        for number in range(1, count + 1):
            made.append(Neighbour(number))  # noqa: PERF401  # each is to be ended, also when the next fails
        yield made
    finally:
        for each in made:
            each.end()


def bridge(number: int, **fields) -> Network:
    """Describe a bridge network with 172.30.N.0/24 and fd30:N::/64."""
    given = {
        "name": f"net{number}",
        "created_ns": 0,
        "link": links.new_link_name(INSTANCE, "b"),
        "ipv6": True,
        "subnets": (
            Subnet(subnet=f"172.30.{number}.0/24", gateway=f"172.30.{number}.1"),
            Subnet(subnet=f"fd30:{number}::/64", gateway=f"fd30:{number}::1"),
        ),
    }
    return Network(id=f"{number:064x}", **(given | fields))


@contextmanager
def bridges(*networks: Network) -> Iterator[None]:
    made: list[Network] = []
    try:
        for network in networks:
            perform(plan.bridge_up(network, instance=INSTANCE))
            made.append(network)
        yield
    finally:
        for network in made:
            perform(plan.bridge_down(network))


class Container:
    """A namespace that is the `number`th on a network; it runs nothing but what a test does in it."""

    def __init__(self, network: Network, number: int = 2) -> None:
        four, six = (s.subnet.partition("/")[0] for s in network.subnets)
        self.addresses = (f"{four[:-1]}{number}/24", f"{six}{number}/64")
        self.ipv4, self.ipv6 = (a.partition("/")[0] for a in self.addresses)
        self.endpoint = Endpoint(
            id=f"{number:064x}",
            network=network.id,
            container=f"{number:064x}",
            interface="eth0",
            link=links.new_link_name(INSTANCE, "v"),
            mac=f"02:42:ac:1e:00:{number:02x}",
            addresses=self.addresses,
            gateways=tuple(s.gateway for s in network.subnets),
        )
        self.namespace = Namespace.new()
        perform(plan.attach(network, self.endpoint, default_gateway=True), namespace=self.namespace)

    def end(self) -> None:
        perform(plan.detach(self.endpoint))
        self.namespace.close()


@contextmanager
def containers(*places: tuple[Network, int]) -> Iterator[list[Container]]:
    made: list[Container] = []
    try:
        for network, number in places:
            made.append(Container(network, number))
        yield made
    finally:
        for each in made:
            each.end()


@contextmanager
def firewall(record: str, *networks: Network) -> Iterator[Firewall]:
    """Give the test's host a firewall for networks, and take it away."""
    made = Firewall(INSTANCE, record)
    try:
        made.sync(networks)
        yield made
    finally:
        made.forget_all()
        made.close()


class Scene:
    """A host with two networks of two containers each, an internal one with another two, and two neighbours."""

    def __init__(self, stack: ExitStack, record: str) -> None:
        self.red, self.blue = bridge(1), bridge(2)
        self.inner = bridge(3, internal=True)
        networks = (self.red, self.blue, self.inner)
        stack.enter_context(bridges(*networks))
        made = stack.enter_context(containers(*((n, k) for n in networks for k in (2, 3))))
        self.web, self.worker, self.other, self.another, self.hidden, self.mate = made
        self.near, self.far = stack.enter_context(neighbours(2))
        self.firewall = stack.enter_context(firewall(record, *networks))


class SmallScene:
    """A host with one network of one container, and neighbours; its firewall is `firewall(scene.record, scene.net)`."""

    def __init__(self, stack: ExitStack, record: str, count: int) -> None:
        self.record = record
        self.net = bridge(1)
        stack.enter_context(bridges(self.net))
        (self.web,) = stack.enter_context(containers((self.net, 2)))
        self.near, *others = stack.enter_context(neighbours(count))
        self.far = others[0] if others else self.near

    def reached(self, version: int = 0, *, patience_s: float = TIMEOUT_S) -> bool:
        """Tell whether the neighbour reaches the container by port 8080 of the host."""
        with listening(self.web.namespace, 80) as server:
            address = self.near.ours[version]
            return seen_from(server, self.near.namespace, address, 8080, patience_s=patience_s) is not None

    def reaches(self, version: int = 0, *, patience_s: float = TIMEOUT_S) -> bool:
        """Tell whether the container reaches the neighbour."""
        with listening(self.near.namespace, 80) as server:
            address = self.near.addresses[version]
            return seen_from(server, self.web.namespace, address, 80, patience_s=patience_s) is not None


@contextmanager
def small_scene(record: str, neighbours: int = 1) -> Iterator[SmallScene]:
    with ExitStack() as stack:
        yield SmallScene(stack, record, neighbours)


def publish(number: int, to: int, protocol: str = "tcp", address: str = "") -> tuple[PublishedPort, ...]:
    """Describe a published port, of every address where none is given."""
    addresses: Sequence[str] = (address,) if address else ("0.0.0.0", "::")
    return tuple(
        PublishedPort(protocol=protocol, host_address=a, host_port=number, container_port=to) for a in addresses
    )


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _socket(namespace: Namespace | None, address: str, protocol: str) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    family = _family(address)
    made = namespace.socket(family, kind) if namespace else socket.socket(family, kind)
    made.settimeout(TIMEOUT_S)
    return made


@contextmanager
def listening(
    namespace: Namespace | None, port: int, address: str = "::", protocol: str = "tcp"
) -> Iterator[socket.socket]:
    """Open a socket in a namespace, the host's where it is None; "::" is of both versions of IP."""
    with _socket(namespace, address, protocol) as server:
        if address == "::":
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        if protocol == "tcp":
            server.listen()
        yield server


def seen_from(
    server: socket.socket,
    client: Namespace | None,
    address: str,
    port: int,
    *,
    source: str = "",
    patience_s: float = TIMEOUT_S,
) -> str | None:
    """Say something from a namespace to an address; return who the server says it was, None where nothing came."""
    tcp = server.type == socket.SOCK_STREAM
    with _socket(client, address, "tcp" if tcp else "udp") as s:
        if source:
            s.bind((source, 0))
        server.settimeout(patience_s)
        s.settimeout(patience_s)
        try:
            s.connect((address, port))
            return _accepted(server, s) if tcp else _answered(server, s)
        except OSError:
            return None


def nothing_from(server: socket.socket, client: Namespace | None, address: str, port: int, *, source: str = "") -> bool:
    """Tell whether nothing comes of it."""
    return seen_from(server, client, address, port, source=source, patience_s=NOTHING_COMES_S) is None


def _answered(server: socket.socket, client: socket.socket) -> str:
    client.send(b"question")
    _, peer = server.recvfrom(100)
    server.sendto(b"answer", peer)
    assert client.recv(100) == b"answer"
    return peer[0].removeprefix("::ffff:")


def _accepted(server: socket.socket, client: socket.socket) -> str:
    accepted, peer = server.accept()
    with accepted:
        accepted.settimeout(TIMEOUT_S)
        client.send(b"question")
        assert accepted.recv(100) == b"question"
        accepted.send(b"answer")
        client.settimeout(TIMEOUT_S)
        assert client.recv(100) == b"answer"
    return peer[0].removeprefix("::ffff:")
