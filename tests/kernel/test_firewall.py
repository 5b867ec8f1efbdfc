"""The firewall on a real kernel: containers, this host and two others send one another packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.hosts import (
    Container,
    Neighbour,
    bridge,
    bridges,
    containers,
    firewall,
    listening,
    neighbours,
    publish,
    seen_from,
)

VERSIONS = (0, 1)  # of IP: the place of their addresses


class Scene:
    """Two networks with two containers each, an internal one with another two, and two neighbours of the host."""

    def __init__(self, stack: ExitStack, record: str) -> None:
        self.red, self.blue = bridge(1), bridge(2)
        self.inner = bridge(3, internal=True)
        networks = (self.red, self.blue, self.inner)
        stack.enter_context(bridges(*networks))
        places = [(n, k) for n in networks for k in (2, 3)]
        made = stack.enter_context(containers(*places))
        self.web, self.worker, self.other, self.another, self.hidden, self.mate = made
        self.near, self.far = stack.enter_context(neighbours(2))
        self.firewall = stack.enter_context(firewall(record, *networks))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, str(tmp_path_factory.mktemp("firewall") / "record"))


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
            assert seen_from(server, scene.near.namespace, gateway(scene, version), 8080) is None  # no route to it

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

    def test_is_reached_from_its_own_network_and_another_by_the_hosts_address(
        self, scene: Scene, version: int, protocol: str
    ) -> None:
        address = on_host(scene.near, version)

        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            for client in (scene.worker, scene.other):
                assert seen_from(server, client.namespace, address, 8080) == gateway(scene, version)

    def test_is_not_reached_from_an_internal_network(self, scene: Scene, version: int, protocol: str) -> None:
        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert seen_from(server, scene.hidden.namespace, on_host(scene.near, version), 8080) is None
            assert seen_from(server, scene.hidden.namespace, scene.inner.subnets[version].gateway, 8080) is None

    def test_is_not_reached_past_the_hosts_address(self, scene: Scene, version: int, protocol: str) -> None:
        scene.near.route("172.30.1.0/24", "fd30:1::/64")

        with listening(scene.web.namespace, 80, protocol=protocol) as server:
            assert seen_from(server, scene.near.namespace, own(scene.web, version), 80) is None
