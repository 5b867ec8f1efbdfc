"""The steps of networks: which, in what order, and how they say themselves."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidInput
from sampan.network import ops, plan
from sampan.spec.network import Endpoint, Network, Subnet

LINK = "sp0a1b2c3db1234"
PORT = "sp0a1b2c3dv5678"
V4 = Subnet(subnet="172.30.0.0/16", gateway="172.30.0.1")
V6 = Subnet(subnet="fd01::/64", gateway="fd01::1")


def network(**fields) -> Network:
    return Network(**({"id": "ab" * 32, "name": "n", "created_ns": 0, "link": LINK, "subnets": (V4,)} | fields))


def endpoint(**fields) -> Endpoint:
    given = {
        "id": "e",
        "network": "ab" * 32,
        "container": "c0",
        "interface": "eth0",
        "link": PORT,
        "mac": "02:42:ac:1e:00:02",
        "addresses": ("172.30.0.2/16",),
        "gateways": ("172.30.0.1",),
    }
    return Endpoint(**(given | fields))


def of_kind(steps: plan.Steps, kind: type) -> list:
    return [step for step in steps if isinstance(step, kind)]


def test_a_containers_link_is_made_joined_and_up_before_anything_happens_inside() -> None:
    steps = plan.attach(network(mtu=1400), endpoint(), default_gateway=True)

    assert steps == (
        ops.MakeVeth(link=PORT, interface="eth0", mac="02:42:ac:1e:00:02", mtu=1400),
        ops.Describe(PORT, "sampan 0a1b2c3d c0"),
        ops.SetAddressing(PORT),
        ops.JoinBridge(PORT, LINK),
        ops.BringUp(PORT),
        ops.SetNeighbour(link=LINK, address="172.30.0.2", mac="02:42:ac:1e:00:02"),
        ops.BringUp("lo", inside=True),
        ops.SetParameter("net/ipv6/conf/eth0/disable_ipv6", "1", inside=True),
        ops.AddAddress("eth0", "172.30.0.2/16", inside=True),
        ops.BringUp("eth0", inside=True),
        ops.AddRoute(destination="0.0.0.0/0", interface="eth0", gateway="172.30.0.1", inside=True),
    )


def test_a_bridge_believes_no_router_and_has_ipv6_only_where_the_network_has() -> None:
    def parameters(given: Network) -> dict[str, str]:
        return {s.name.rpartition("/")[2]: s.value for s in of_kind(plan.bridge_up(given), ops.SetParameter)}

    with_v6 = parameters(network(ipv6=True, subnets=(V4, V6)))

    assert with_v6 == {"disable_ipv6": "0", "accept_ra": "0", "accept_dad": "0"}
    assert parameters(network()) == {"disable_ipv6": "1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["172.30.0.1/16", "fd01::1/64"]),
        ({"com.docker.network.bridge.inhibit_ipv4": "true"}, ["fd01::1/64"]),
        ({"com.docker.network.bridge.gateway_mode_ipv6": "isolated"}, ["172.30.0.1/16"]),
    ],
)
def test_a_bridge_has_the_gateways_addresses_unless_its_options_say_no(given: dict, expected: list[str]) -> None:
    steps = plan.bridge_up(network(ipv6=True, subnets=(V4, V6), options=given))

    assert [step.address for step in of_kind(steps, ops.AddAddress)] == expected


@pytest.mark.parametrize("given", [{"internal": True}, {}])
def test_only_the_gateways_network_that_leads_elsewhere_has_default_routes(given: dict) -> None:
    default_gateway = bool(given)

    steps = plan.attach(network(**given), endpoint(), default_gateway=default_gateway)

    assert of_kind(steps, ops.AddRoute) == []


def test_a_bridge_that_the_user_named_says_whose_it_is_all_the_same() -> None:
    (made, *_) = plan.bridge_up(network(link="br-home"), instance="0a1b2c3d")

    assert made.alias == f"sampan 0a1b2c3d {'ab' * 32}"
    assert plan.bridge_down(network(link="br-home")) == (ops.RemoveLink("br-home", "ab" * 32),)


def test_a_macvlan_and_an_ipvlan_are_made_on_their_parent() -> None:
    end = endpoint(link="")
    (macvlan, *_) = plan.attach(network(driver="macvlan", parent="ens3", mode="vepa"), end, default_gateway=True)
    l3 = plan.attach(
        network(driver="ipvlan", parent="ens3", mode="l3", options={"ipvlan_flag": "private"}),
        end,
        default_gateway=True,
    )

    assert macvlan == ops.MakeMacvlan(interface="eth0", parent="ens3", mode="vepa", mac="02:42:ac:1e:00:02")
    assert l3[0] == ops.MakeIpvlan(interface="eth0", parent="ens3", mode="l3", flag="private")
    assert l3[-1] == ops.AddRoute(destination="0.0.0.0/0", interface="eth0", inside=True)


def test_a_parent_is_made_where_it_is_a_vlan_or_none_is_named_and_goes_with_the_network() -> None:
    vlan = network(driver="macvlan", link="", parent="ens3.50")
    own = network(driver="ipvlan", link="sp0a1b2c3dm1234")

    mark = f"sampan 0a1b2c3d {'ab' * 32}"
    assert plan.bridge_up(vlan, instance="0a1b2c3d") == (
        ops.MakeVlan(link="ens3.50", parent="ens3", number=50, alias=mark),
        ops.BringUp("ens3.50"),
    )
    assert plan.bridge_up(own)[0] == ops.MakeDummy(link="sp0a1b2c3dm1234", alias=mark)
    assert plan.bridge_down(vlan) == (ops.RemoveLink("ens3.50", "ab" * 32),)
    assert plan.bridge_up(network(driver="macvlan", link="", parent="ens3")) == ()


@pytest.mark.parametrize(
    "setting",
    [
        "net.ipv4.conf.eth0.log_martians=1",
        "net.ipv4.conf.IFNAME.../../x=1",
        "kernel.domainname=x",
        "net.ipv4.conf.IFNAME.x/y=1",
        "net.ipv4.conf.IFNAME.log_martians",
        "net.ipv4.conf.IFNAME.a=1,,net.ipv4.conf.IFNAME.b=1",
    ],
)
def test_settings_that_are_not_of_the_interface_are_refused(setting: str) -> None:
    with pytest.raises(InvalidInput, match="not a setting of an interface"):
        plan.attach(network(), endpoint(driver_opts={plan.SYSCTLS: setting}), default_gateway=False)


@pytest.mark.parametrize(
    "key", ["net.//.vm.swappiness", "net..x", "net./.x", "vm.swappiness", "net.", "net/../vm/x", "net"]
)
def test_parameters_that_lead_out_of_the_network_are_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="no name of a network's parameter"):
        plan.parameters({key: "1"})


def test_every_step_says_itself_in_words_in_shell_and_by_its_manual_page() -> None:
    steps = plan.bridge_up(network(ipv6=True, subnets=(V4, V6))) + plan.bridge_down(network())
    steps += plan.attach(network(inter_container=False), endpoint(), default_gateway=True)
    steps += plan.silence(endpoint()) + plan.detach(endpoint())
    for driver in ("macvlan", "ipvlan"):
        steps += plan.bridge_up(network(driver=driver, link="", parent="ens3.50"))
        steps += plan.bridge_up(network(driver=driver))
        steps += plan.attach(network(driver=driver, parent="ens3"), endpoint(link=""), default_gateway=True)

    assert {type(step) for step in steps} == set(ops.Step.__args__)
    for step in steps:
        assert step.say()
        assert step.man.endswith(")")
        assert ("$netns" in step.shell()) == (
            step.inside or isinstance(step, ops.MakeVeth | ops.MakeMacvlan | ops.MakeIpvlan)
        )
