"""What networks and published ports put into the firewall's sets and maps."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, strategies as st

from sampan.network import firewall_codec as codec, firewall_plan as plan, firewall_rules as rules
from sampan.network.firewall_ops import AddElements, Element, RemoveElements
from sampan.spec.network import Network, PublishedPort, Subnet


def network(**fields) -> Network:
    subnets = (Subnet(subnet="172.17.0.0/16", gateway="172.17.0.1"), Subnet(subnet="fd00:0::/64"))
    return Network(**({"id": "a", "name": "a", "created_ns": 0, "link": "spb", "subnets": subnets} | fields))


def port(host_address: str, protocol: str = "tcp", host_port: int = 8080, container_port: int = 80) -> PublishedPort:
    return PublishedPort(
        protocol=protocol, host_address=host_address, host_port=host_port, container_port=container_port
    )


def sets(network: Network) -> set[str]:
    return {e.set for e in plan.network_elements(network)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"bridges", "within", "subnets4", "subnets6", "masqueraded4", "masqueraded6"}),
        ({"internal": True}, {"bridges", "internal", "within", "subnets4", "subnets6"}),
        ({"inter_container": False}, {"bridges", "subnets4", "subnets6", "masqueraded4", "masqueraded6"}),
        ({"masquerade": False}, {"bridges", "within", "subnets4", "subnets6"}),
        ({"driver": "macvlan", "link": ""}, set()),
    ],
)
def test_a_network_is_in_the_sets_of_what_it_may(fields: dict, expected: set[str]) -> None:
    assert sets(network(**fields)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (port("0.0.0.0"), [Element("every4", ("tcp", "8080"), ("172.17.0.2", "80"))]),
        (port("::", "udp"), [Element("every6", ("udp", "8080"), ("fd00::2", "80"))]),
        (port("127.0.0.1", "sctp"), [Element("one4", ("127.0.0.1", "sctp", "8080"), ("172.17.0.2", "80"))]),
        (port("fd09:0:0::1"), [Element("one6", ("fd09::1", "tcp", "8080"), ("fd00::2", "80"))]),
        (
            port(""),
            [
                Element("every4", ("tcp", "8080"), ("172.17.0.2", "80")),
                Element("every6", ("tcp", "8080"), ("fd00::2", "80")),
            ],
        ),
    ],
)
def test_a_port_is_an_element_of_a_map(given: PublishedPort, expected: list[Element]) -> None:
    assert list(plan.port_elements(("172.17.0.2/16", "fd00:0::2/64"), (given,))) == expected


def test_a_port_of_a_version_of_ip_that_the_container_lacks_leads_nowhere() -> None:
    assert plan.port_elements(("172.17.0.2/16",), (port("::"),)) == ()


def test_what_leads_elsewhere_is_removed_and_added() -> None:
    key = ("every4", ("tcp", "80"))

    gone, new = plan.difference({key: ("172.17.0.2", "80")}, {key: ("172.17.0.9", "80"), ("bridges", ("x",)): ()})

    assert gone == (Element("bridges", ("x",)), Element(*key, ("172.17.0.9", "80")))
    assert new == (Element(*key, ("172.17.0.2", "80")),)


@pytest.mark.parametrize("declared", rules.SETS, ids=lambda s: s.name)
def test_every_kind_of_element_is_encoded_and_read_again(declared: rules.Set) -> None:
    example = {
        "ifname": "sp0a1b2c3dbabcd",
        "ipv4_addr": "172.17.0.2",
        "ipv6_addr": "fd00::2",
        "nf_proto": "ipv6",
        "inet_proto": "sctp",
        "inet_service": "65535",
    }
    subnets = {"ipv4_addr": "255.255.0.0/16", "ipv6_addr": "fd00::/64"}
    key = tuple((subnets if declared.interval else example)[type] for type in declared.key)
    data = tuple(example[type] for type in declared.data)

    assert list(codec.decode_elements(declared, codec.encode_element(declared, key, data))) == [(key, data)]


@given(st.lists(st.ip_addresses(v=4), unique=True, max_size=20), st.integers(8, 32))
def test_subnets_are_read_again_in_whatever_order_the_kernel_tells_them(addresses: list, prefix: int) -> None:
    subnets = {str(ip_network((address, prefix), strict=False)) for address in addresses}
    encoded = [e for s in subnets for e in codec.encode_element(rules.named("subnets4"), (s,))]

    assert {key[0] for key, _ in codec.decode_elements(rules.named("subnets4"), reversed(encoded))} == subnets


@given(
    st.sampled_from([("every", ()), ("one", ("address",))]),
    st.ip_addresses(),
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.integers(0, 65535),
)
def test_ports_are_read_again(kind: tuple, address: IPv4Address | IPv6Address, protocol: str, number: int) -> None:
    name, with_address = kind
    declared = rules.named(f"{name}{address.version}")
    key = (*(str(address) for _ in with_address), protocol, str(number))
    data = (str(address), str(65535 - number))
    (element,) = codec.encode_element(declared, key, data)

    ((key_read, data_read),) = codec.decode_elements(declared, [element])

    assert [ip_address(key_read[0])] == [address] if with_address else True
    assert (key_read[-2:], ip_address(data_read[0]), data_read[1]) == (key[-2:], address, data[1])


def test_a_networks_elements_are_written_as_one_line_of_nft() -> None:
    elements = plan.port_elements(("172.17.0.2",), (port("0.0.0.0"), port("0.0.0.0", host_port=81)))

    assert AddElements("sampan-x", elements).shell() == (
        "nft 'add element inet sampan-x every4 { tcp . 8080 : 172.17.0.2 . 80, tcp . 81 : 172.17.0.2 . 80 }'"
    )
    assert (
        RemoveElements("sampan-x", elements[:1]).shell() == "nft 'delete element inet sampan-x every4 { tcp . 8080 }'"
    )
    assert AddElements("sampan-x", elements[:1]).say() == "let through the firewall: *:8080 -> 172.17.0.2:80/tcp"


def test_only_networks_that_reach_beyond_need_the_host_to_forward() -> None:
    inner = network(internal=True)

    assert [s.name for s in plan.forwarding([network()])] == ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]
    assert plan.forwarding([inner]) == ()
