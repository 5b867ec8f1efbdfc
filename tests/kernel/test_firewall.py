"""The firewall on a real kernel: containers, this host and two others send one another packets."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import AF_INET, IPPROTO_TCP, SOCK_DGRAM, SOCK_RAW

import pytest

from sampan.errors import Conflict
from support.hosts import (
    NOTHING_COMES_S,
    Container,
    Neighbour,
    Scene,
    bridge,
    bridges,
    containers,
    firewall,
    listening,
    neighbours,
    nothing_from,
    on_a_host_of_its_own,
    publish,
    run,
    seen_from,
)

VERSIONS = (0, 1)  # of IP: the place of their addresses


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        stack.enter_context(filtering_bridged("0"))
        yield Scene(stack, str(tmp_path_factory.mktemp("firewall") / "record"))


@contextmanager
def filtering_bridged(value: str) -> Iterator[None]:
    """Have packets that a bridge passes on filtered as if they were routed, or not: dockerd turns it on."""
    switches = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{v}tables") for v in ("ip", "ip6")]
    if not switches[0].exists():
        if value == "1":
            pytest.skip("missing kernel feature: br_netfilter")
        yield
        return
    before = [s.read_text() for s in switches]
    for switch in switches:
        switch.write_text(value)
    yield
    for switch, was in zip(switches, before, strict=True):
        switch.write_text(was)


@pytest.fixture(params=["tcp", "udp"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=VERSIONS, ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def published(scene: Scene, protocol: str) -> Iterator[None]:
    ports = publish(8080, 80, protocol)
    scene.firewall.publish(scene.web.addresses, ports)
    yield
    scene.firewall.unpublish(scene.web.addresses, ports)


def own(container: Container, version: int) -> str:
    return (container.ipv4, container.ipv6)[version]


def on_host(neighbour: Neighbour, version: int) -> str:
    return neighbour.ours[version]


def gateway(scene: Scene, version: int) -> str:
    return scene.red.subnets[version].gateway


@pytest.mark.usefixtures("published")
class TestAPublishedPort:
    def test_is_reached_from_another_host_which_the_container_sees_by_its_own_address(
        self, scene: Scene, version: int, protocol: str
    ) -> None:
        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            seen = seen_from(server, scene.near.namespace, on_host(scene.near, version), 8080)

        assert seen == scene.near.addresses[version]

    def test_is_reached_by_every_address_of_the_host(self, scene: Scene, version: int, protocol: str) -> None:
        scene.near.route("10.9.2.0/24", "fd09:2::/64")

        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert seen_from(server, scene.near.namespace, on_host(scene.far, version), 8080)
            assert nothing_from(server, scene.near.namespace, gateway(scene, version), 8080)  # no route to it

    def test_is_reached_from_the_host_itself_by_its_own_address(
        self, scene: Scene, version: int, protocol: str
    ) -> None:
        address = on_host(scene.near, version)

        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert seen_from(server, None, address, 8080) == address

    def test_is_reached_from_the_host_itself_by_127_0_0_1_and_seen_as_the_bridge(
        self, scene: Scene, protocol: str
    ) -> None:
        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert seen_from(server, None, "127.0.0.1", 8080) == "172.30.1.1"

    def test_is_reached_from_its_own_container_its_network_and_another_by_the_hosts_address(
        self, scene: Scene, version: int, protocol: str
    ) -> None:
        address = on_host(scene.near, version)

        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            for client in (scene.web, scene.worker, scene.other):
                assert seen_from(server, client.namespace, address, 8080) == gateway(scene, version)

    def test_is_left_to_whoever_listens_on_the_hosts_ipv6_loopback(self, scene: Scene, protocol: str) -> None:
        with listening(None, 8080, "::1", protocol) as relay:
            assert seen_from(relay, None, "::1", 8080) == "::1"

    def test_is_not_reached_from_an_internal_network(self, scene: Scene, version: int, protocol: str) -> None:
        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert nothing_from(server, scene.hidden.namespace, on_host(scene.near, version), 8080)
            assert nothing_from(server, scene.hidden.namespace, scene.inner.subnets[version].gateway, 8080)

    def test_is_not_reached_past_the_hosts_address(self, scene: Scene, version: int, protocol: str) -> None:
        scene.near.route("172.30.1.0/24", "fd30:1::/64")

        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert nothing_from(server, scene.near.namespace, own(scene.web, version), 80)

    def test_of_one_address_is_not_reached_by_another(self, scene: Scene, version: int, protocol: str) -> None:
        ports = publish(8081, 80, protocol, address=on_host(scene.near, version))
        scene.firewall.publish(scene.web.addresses, ports)
        scene.near.route("10.9.2.0/24", "fd09:2::/64")

        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert seen_from(server, scene.near.namespace, on_host(scene.near, version), 8081)
            assert nothing_from(server, scene.near.namespace, on_host(scene.far, version), 8081)
        scene.firewall.unpublish(scene.web.addresses, ports)

    def test_leads_to_one_container_only(self, scene: Scene, protocol: str) -> None:
        with pytest.raises(Conflict, match=f"can't publish 8080/{protocol}: port 8080/{protocol} leads to 172.30.1.2"):
            scene.firewall.publish(scene.worker.addresses, publish(8080, 80, protocol))


def test_a_port_that_is_published_no_more_is_not_reached_any_more(scene: Scene, version: int, protocol: str) -> None:
    ports = publish(8082, 80, protocol)
    scene.firewall.publish(scene.web.addresses, ports)
    with listening(scene.web.namespace, 80, protocol=protocol) as server:
        assert seen_from(server, scene.near.namespace, on_host(scene.near, version), 8082)

        scene.firewall.unpublish(scene.web.addresses, ports)

        assert nothing_from(server, scene.near.namespace, on_host(scene.near, version), 8082)


class TestAContainer:
    def test_reaches_other_hosts_which_see_the_hosts_address(self, scene: Scene, version: int, protocol: str) -> None:
        with listening(scene.near.namespace, 80, protocol=protocol) as server:
            seen = seen_from(server, scene.web.namespace, scene.near.addresses[version], 80)

        assert seen == on_host(scene.near, version)

    def test_reaches_its_network_and_is_seen_by_its_own_address(
        self, scene: Scene, version: int, protocol: str
    ) -> None:
        with listening(scene.worker.namespace, 80, protocol=protocol) as server:
            seen = seen_from(server, scene.web.namespace, own(scene.worker, version), 80)

        assert seen == own(scene.web, version)

    def test_does_not_reach_another_network(self, scene: Scene, version: int, protocol: str) -> None:
        with listening(scene.other.namespace, 80, protocol=protocol) as server:
            assert nothing_from(server, scene.web.namespace, own(scene.other, version), 80)

    def test_reaches_services_of_the_host_but_not_those_of_its_loopback(
        self, scene: Scene, version: int, protocol: str
    ) -> None:
        with listening(None, 7001, protocol=protocol) as server:
            assert seen_from(server, scene.web.namespace, gateway(scene, version), 7001) == own(scene.web, version)
        with listening(None, 7001, address="127.0.0.1", protocol=protocol) as server:
            lead_to_the_host(scene.web, "127.0.0.1")

            assert nothing_from(server, scene.web.namespace, "127.0.0.1", 7001, source=scene.web.ipv4)

    def test_sends_nothing_with_its_own_address_to_other_hosts(self, scene: Scene) -> None:
        reset = struct.pack(">HHIIBBHHH", 4000, 4001, 1, 0, 5 << 4, 0x04, 0, 0, 0)  # of no connection
        with scene.near.namespace.socket(AF_INET, SOCK_RAW, IPPROTO_TCP) as server:
            with scene.web.namespace.socket(AF_INET, SOCK_RAW, IPPROTO_TCP) as client:
                client.sendto(reset, (scene.near.addresses[0], 0))
            server.settimeout(NOTHING_COMES_S)
            with pytest.raises(TimeoutError):
                server.recv(100)

    def test_of_an_internal_network_reaches_that_and_its_bridge_alone(
        self, scene: Scene, version: int, protocol: str
    ) -> None:
        scene.near.route("172.30.3.0/24", "fd30:3::/64")  # so that it could answer
        with listening(scene.mate.namespace, 80, protocol=protocol) as server:
            assert seen_from(server, scene.hidden.namespace, own(scene.mate, version), 80)
        with listening(None, 7001, protocol=protocol) as server:
            bridge = scene.inner.subnets[version].gateway
            lead_to_the_host(scene.hidden, on_host(scene.near, version), by=bridge)
            assert seen_from(server, scene.hidden.namespace, bridge, 7001)
            assert nothing_from(server, scene.hidden.namespace, on_host(scene.near, version), 7001)
        for namespace, address in (
            (scene.near.namespace, scene.near.addresses[version]),
            (scene.web.namespace, own(scene.web, version)),
        ):
            with listening(namespace, 80, protocol=protocol) as server:
                lead_to_the_host(scene.hidden, address, by=bridge)
                assert nothing_from(server, scene.hidden.namespace, address, 80)

    def test_of_an_internal_network_is_not_reached_from_beyond(self, scene: Scene, version: int, protocol: str) -> None:
        scene.near.route("172.30.3.0/24", "fd30:3::/64")
        ports = publish(8085, 80, protocol)
        scene.firewall.publish(scene.hidden.addresses, ports)

        with listening(scene.hidden.namespace, 80, protocol=protocol) as server:
            for client in (scene.near.namespace, scene.web.namespace):
                assert nothing_from(server, client, own(scene.hidden, version), 80)
                assert nothing_from(server, client, on_host(scene.near, version), 8085)
        scene.firewall.unpublish(scene.hidden.addresses, ports)


def test_ports_of_the_hosts_loopback_are_not_reached_by_packets_of_another_host(scene: Scene, protocol: str) -> None:
    ports = publish(8083, 80, protocol, address="127.0.0.1")
    scene.firewall.publish(scene.web.addresses, ports)
    lead_to_the_host(scene.near, "127.0.0.1")
    lead_to_the_host(scene.worker, "127.0.0.1")

    with listening(scene.web.namespace, 80, protocol=protocol) as server:
        assert seen_from(server, None, "127.0.0.1", 8083)
        for client, source in ((scene.near, scene.near.addresses[0]), (scene.worker, scene.worker.ipv4)):
            assert nothing_from(server, client.namespace, "127.0.0.1", 8083, source=source)
    scene.firewall.unpublish(scene.web.addresses, ports)


def test_a_container_is_not_heard_as_the_hosts_loopback(scene: Scene) -> None:
    run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", namespace=scene.another.namespace)
    scene.firewall.publish(scene.another.addresses, publish(8084, 80))  # the bridge lets its addresses pass since then

    with listening(None, 7002, protocol="udp") as server, scene.another.namespace.socket(AF_INET, SOCK_DGRAM) as liar:
        liar.bind(("127.0.0.5", 0))  # the kernel itself drops what says it is 127.0.0.1
        liar.sendto(b"it's me", (scene.blue.subnets[0].gateway, 7002))
        server.settimeout(NOTHING_COMES_S)
        with pytest.raises(TimeoutError):
            server.recv(100)
    scene.firewall.unpublish(scene.another.addresses, publish(8084, 80))


def lead_to_the_host(client: Container | Neighbour, address: str, by: str = "") -> None:
    """Have a namespace send packets for an address to the test's host, also where it is 127.0.0.1, as only root can."""
    by = by or (client.ours[0] if isinstance(client, Neighbour) else client.endpoint.gateways[0])
    if address.startswith("127."):
        run("ip", "address", "flush", "dev", "lo", namespace=client.namespace)
        run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", namespace=client.namespace)
    run("ip", "route", "replace", address, "via", by, namespace=client.namespace)


@on_a_host_of_its_own
def test_where_bridged_packets_are_filtered_the_same_is_reached(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(filtering_bridged("1"))
        scene = Scene(stack, str(tmp_path / "record"))
        scene.firewall.publish(scene.web.addresses, publish(8080, 80))

        with listening(scene.web.namespace, 80) as server:
            for version in VERSIONS:
                for client in (scene.web, scene.worker, scene.other):
                    seen = seen_from(server, client.namespace, on_host(scene.near, version), 8080)
                    assert seen == gateway(scene, version)
                assert seen_from(server, scene.near.namespace, on_host(scene.near, version), 8080)
                assert seen_from(server, scene.worker.namespace, own(scene.web, version), 80)
                assert nothing_from(server, scene.other.namespace, own(scene.web, version), 80)
        with listening(scene.mate.namespace, 80) as server:
            assert seen_from(server, scene.hidden.namespace, scene.mate.ipv4, 80)


@pytest.mark.parametrize("filtering", ["0", "1"])
@on_a_host_of_its_own
def test_containers_that_must_not_reach_each_other_do_not_but_reach_the_world(filtering: str, tmp_path: Path) -> None:
    apart = bridge(1, inter_container=False)
    with ExitStack() as stack:
        stack.enter_context(filtering_bridged(filtering))
        stack.enter_context(bridges(apart))
        web, worker = stack.enter_context(containers((apart, 2), (apart, 3)))
        (near,) = stack.enter_context(neighbours(1))
        ours = stack.enter_context(firewall(str(tmp_path / "record"), apart))
        ours.publish(web.addresses, publish(8080, 80))

        with listening(web.namespace, 80) as server:
            for version in VERSIONS:
                assert nothing_from(server, worker.namespace, own(web, version), 80)
                lead_to_the_host(worker, own(web, version), by=apart.subnets[version].gateway)
                assert nothing_from(server, worker.namespace, own(web, version), 80)
                assert seen_from(server, near.namespace, near.ours[version], 8080)
                if filtering == "0":  # else the bridge itself passes it on, and not between isolated ports
                    assert seen_from(server, worker.namespace, near.ours[version], 8080)
        with listening(near.namespace, 80) as server:
            assert seen_from(server, worker.namespace, near.addresses[0], 80)


@on_a_host_of_its_own
def test_a_network_without_masquerade_is_seen_by_its_own_addresses(tmp_path: Path) -> None:
    plain = bridge(1, masquerade=False)
    with bridges(plain), containers((plain, 2)) as (web,), neighbours(1) as (near,):
        near.route("172.30.1.0/24", "fd30:1::/64")
        with firewall(str(tmp_path / "record"), plain), listening(near.namespace, 80) as server:
            for version in VERSIONS:
                assert seen_from(server, web.namespace, near.addresses[version], 80) == own(web, version)
