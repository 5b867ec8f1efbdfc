"""Macvlan and ipvlan: links on one of the host's, beyond which there is another machine. Debian's kernel has them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from sampan.errors import SampanError
from sampan.kernel import rtnetlink
from sampan.network import plan
from sampan.network.namespace import Namespace
from sampan.network.perform import perform
from sampan.spec.network import Network
from support.links import INSTANCE, another_machine, attached, endpoint, ip, network, skip_without, up

PARENT = "up0"


@pytest.fixture(autouse=True)
def needs_the_kernels_help() -> None:
    skip_without("macvlan", "ipvlan")


@pytest.fixture
def router() -> Iterator[Namespace]:
    with another_machine(PARENT) as router:
        yield router


def reaches(source: Namespace, target: Namespace, address: str) -> bool:
    family = rtnetlink.version(address)
    with target.socket(family, socket.SOCK_STREAM) as server, source.socket(family, socket.SOCK_STREAM) as client:
        server.bind((address, 7777))
        server.listen()
        client.settimeout(5)
        client.connect((address, 7777))
        return True


def on_parent(driver: str, mode: str = "", parent: str = PARENT, **fields) -> Network:
    return network(driver=driver, link="", parent=parent, mode=mode, mtu=0, **fields)


@pytest.mark.parametrize(("driver", "mode"), [("macvlan", "bridge"), ("macvlan", ""), ("ipvlan", "l2"), ("ipvlan", "")])
def test_containers_reach_each_other_and_the_router_beyond_the_hosts_link(router, driver: str, mode: str) -> None:
    net = on_parent(driver, mode)
    with attached(net, endpoint(2, link="")) as a, attached(net, endpoint(3, link="")) as b:
        for address in ("172.30.0.3", "fd01::3"):
            assert reaches(a, b, address)
        for address in ("172.30.0.1", "fd01::1", "192.0.2.1"):
            assert reaches(a, router, address)

        mac = ip("link", "show", "eth0", namespace=a)[0]["address"]
        assert (mac == "02:42:ac:1e:00:02") == (driver == "macvlan")


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_private_ones_reach_the_router_and_not_each_other(router, driver: str) -> None:
    net = on_parent("macvlan", "private")
    if driver == "ipvlan":
        net = on_parent("ipvlan", "l2", options={"ipvlan_flag": "private"})
    with attached(net, endpoint(2, link="")) as a, attached(net, endpoint(3, link="")) as b:
        assert reaches(a, router, "172.30.0.1")
        with b.socket(socket.AF_INET, socket.SOCK_STREAM) as server, a.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            server.bind(("172.30.0.3", 7777))
            server.listen()
            s.settimeout(0.5)
            with pytest.raises(OSError, match=r"timed out|No route to host"):
                s.connect(("172.30.0.3", 7777))


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_an_ipvlan_of_layer_3_sends_everything_to_its_parent_without_a_gateway(router, mode: str) -> None:
    net = on_parent("ipvlan", mode)
    with attached(net, endpoint(2, link="")) as a, attached(net, endpoint(3, link="")) as b:
        assert reaches(a, b, "172.30.0.3")
        (way,) = ip("route", "show", "default", namespace=a)
        assert ("gateway" in way, way["dev"]) == (False, "eth0")


def test_a_vlan_is_made_for_the_network_and_removed_with_it(router) -> None:
    with up(on_parent("macvlan", parent=f"{PARENT}.50")) as net:
        perform(plan.bridge_up(net, instance=INSTANCE))  # once more changes nothing
        (vlan,) = ip("link", "show", f"{PARENT}.50")
        assert (vlan["linkinfo"]["info_data"]["id"], vlan["ifalias"]) == (50, f"sampan {INSTANCE} {net.id}")
        with attached(net, endpoint(2, link="")) as a, attached(net, endpoint(3, link="")) as b:
            assert reaches(a, b, "172.30.0.3")

    assert [link["ifname"] for link in ip("link", "show", "type", "vlan") if link] == []


def test_a_vlan_of_the_hosts_own_stays(router) -> None:
    subprocess.run("ip link add link up0 name up0.7 type vlan id 7".split(), check=True)

    with up(on_parent("macvlan", parent="up0.7")):
        pass

    assert ip("link", "show", "up0.7")


def test_a_network_without_a_parent_has_one_that_leads_nowhere() -> None:
    with up(network(driver="macvlan", link=f"sp{INSTANCE}m0000", mtu=0)) as net:
        with attached(net, endpoint(2, link="")) as a, attached(net, endpoint(3, link="")) as b:
            assert reaches(a, b, "172.30.0.3")

    assert [link["ifname"] for link in ip("link", "show", "type", "dummy") if link] == []


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_container_that_renamed_its_link_loses_it_all_the_same(router, driver: str) -> None:
    net, end = on_parent(driver), endpoint(2, link="")
    with attached(net, end) as namespace:
        for words in ("link set eth0 down", "link set eth0 name mine", "link add eth0 type dummy"):
            namespace.call(lambda words=words: subprocess.run(["ip", *words.split()], check=True))

        perform(plan.detach(end), namespace=namespace)

        assert {link["ifname"] for link in ip("link", "show", namespace=namespace)} == {"lo", "eth0"}


def test_a_parent_that_is_missing_or_taken_is_named(router) -> None:
    with pytest.raises(SampanError, match=r"can't make the container's eth0 a macvlan of nowhere: .*no such device"):
        attached(on_parent("macvlan", parent="nowhere"), endpoint(link=""))
    with attached(on_parent("macvlan"), endpoint(2, link="")):
        with pytest.raises(SampanError, match=r"can't make the container's eth0 an ipvlan of up0: .*busy"):
            attached(on_parent("ipvlan"), endpoint(3, link=""))
