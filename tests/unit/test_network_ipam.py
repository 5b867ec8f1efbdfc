"""Subnets of new networks, and addresses in them."""

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from sampan.errors import Conflict, Failed, InvalidInput, NotPermitted
from sampan.network.ipam import Pool, check, mac_of, overlap, subnets
from sampan.spec.network import Subnet


def chosen(taken: list[str], versions: tuple[int, ...] = (4,)) -> list[str]:
    return [subnet.subnet for subnet in subnets((), versions, taken, "0123abcd")]


def test_a_new_network_gets_dockers_pools_in_dockers_order_and_then_smaller_pieces() -> None:
    taken: list[str] = []
    for _ in range(40):
        taken += chosen(taken)

    assert taken[:2] == ["172.17.0.0/16", "172.18.0.0/16"]
    assert taken[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert taken[31] == "172.16.0.0/24"


def test_thousands_of_networks_fit_and_none_overlaps_another() -> None:
    taken: list[str] = []
    for _ in range(300):
        taken += chosen(taken)

    nets = sorted((ipaddress.ip_network(text) for text in taken), key=lambda net: net.network_address)
    assert all(not one.overlaps(other) for one, other in pairwise(nets))


def test_what_the_host_routes_is_left_out() -> None:
    assert chosen(["172.17.5.0/24", "172.18.0.0/15", "10.0.0.0/8"]) == ["172.20.0.0/16"]


def test_a_host_that_routes_everything_leaves_no_subnet() -> None:
    with pytest.raises(Conflict, match="fully subnetted"):
        chosen(["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"])


def test_the_ipv6_subnet_is_a_unique_local_one_of_the_instance() -> None:
    first = chosen([], (4, 6))
    second = chosen(first, (4, 6))

    assert first[1].startswith("fd")
    assert ipaddress.ip_network(first[1]).prefixlen == 64
    assert ipaddress.ip_network(first[1]).supernet(new_prefix=48) == ipaddress.ip_network(second[1]).supernet(
        new_prefix=48
    )
    assert first[1] != second[1]


def test_the_gateway_is_the_first_address_unless_it_is_given() -> None:
    (one,) = subnets((Subnet(subnet="10.9.0.0/24"),), (4,), (), "")
    (other,) = subnets((Subnet(subnet="10.9.0.0/24", gateway="10.9.0.254"),), (4,), (), "")

    assert (one.gateway, one.gateway_interface) == ("10.9.0.1", "10.9.0.1/24")
    assert other.gateway == "10.9.0.254"


@pytest.mark.parametrize(
    ("subnet", "words"),
    [
        (Subnet(subnet="nonsense"), "invalid subnet nonsense: invalid CIDR block notation"),
        (Subnet(subnet="10.0.0.0"), "invalid subnet 10.0.0.0: invalid CIDR block notation"),
        (Subnet(subnet="10.0.0.5/24"), "invalid subnet 10.0.0.5/24: it should be 10.0.0.0/24"),
        (Subnet(subnet="127.0.0.0/8"), "containers can't have addresses of it"),
        (Subnet(subnet="224.0.0.0/8"), "containers can't have addresses of it"),
        (Subnet(subnet="0.0.0.0/0"), "containers can't have addresses of it"),
        (Subnet(subnet="10.0.0.0/24", gateway="10.0.1.1"), "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn"),
        (Subnet(subnet="10.0.0.0/24", gateway="fd00::1"), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
        (Subnet(subnet="10.0.0.0/24", gateway="x"), "invalid gateway x: invalid address"),
        (Subnet(subnet="fd00::/64", gateway="fd00::1%eth0"), "invalid gateway fd00::1%eth0: invalid address"),
        (Subnet(subnet="fd00::%eth0/64"), "invalid subnet fd00::%eth0/64: invalid CIDR block notation"),
        (Subnet(subnet="10.0.0.0/24", ip_range="10.0.0.0/16"), "CIDR block is bigger than its parent subnet"),
        (Subnet(subnet="10.0.0.0/24", ip_range="10.0.1.0/28"), "doesn't contain ip-range"),
        (
            Subnet(subnet="10.0.0.0/24", ip_range="10.0.0.3/28"),
            "invalid ip-range 10.0.0.3/28: it should be 10.0.0.0/28",
        ),
        (Subnet(subnet="10.0.0.0/24", ip_range="fd00::/80"), "invalid ip-range fd00::/80: parent subnet is an IPv4"),
        (Subnet(subnet="10.0.0.0/24", auxiliary={"r": "10.0.1.7"}), "invalid auxiliary address r: parent subnet"),
        (Subnet(subnet="fd00::1/64"), "invalid subnet fd00::1/64: it should be fd00::/64"),
    ],
)
def test_a_malformed_subnet_is_refused_in_dockers_words(subnet: Subnet, words: str) -> None:
    with pytest.raises(InvalidInput, match="invalid network config:") as refused:
        check((subnet,), ipv6=True)

    assert words in refused.value.message


def test_overlapping_subnets_are_found() -> None:
    assert overlap("10.1.0.0/16", ["10.2.0.0/16", "fd00::/64", "10.1.2.0/24"]) == "10.1.2.0/24"
    assert overlap("10.1.0.0/16", ["10.2.0.0/16", "fd00::/64"]) == ""


def test_addresses_are_given_from_the_lowest_and_one_that_comes_back_is_given_again() -> None:
    pool = Pool(Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1", auxiliary={"printer": "10.0.0.3"}))
    taken = [pool.take() for _ in range(3)]
    pool.give_back("10.0.0.2/24")

    assert taken == ["10.0.0.2/24", "10.0.0.4/24", "10.0.0.5/24"]
    assert pool.take() == "10.0.0.2/24"
    assert pool.take() == "10.0.0.6/24"


def test_addresses_come_from_the_ip_range_and_one_asked_for_from_the_whole_subnet() -> None:
    pool = Pool(Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1", ip_range="10.0.0.64/30"))

    assert [pool.take() for _ in range(4)] == [f"10.0.0.{last}/24" for last in range(64, 68)]
    assert pool.take("10.0.0.200") == "10.0.0.200/24"
    with pytest.raises(Failed, match="no available IPv4 addresses on this network's address pools"):
        pool.take()


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.0", "10.0.0.255", "10.0.0.9", "10.0.0.3"])
def test_an_address_in_use_is_not_given_twice(address: str) -> None:
    pool = Pool(Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1", auxiliary={"printer": "10.0.0.3"}))
    pool.take("10.0.0.9")

    with pytest.raises(NotPermitted, match="Address already in use"):
        pool.take(address)


def test_a_subnet_of_two_has_two_addresses() -> None:
    (subnet,) = subnets((Subnet(subnet="10.0.0.0/31"),), (4,), (), "")

    assert (subnet.gateway, Pool(subnet).take()) == ("10.0.0.0", "10.0.0.1/31")
    with pytest.raises(InvalidInput, match="no address is left in it for the gateway"):
        subnets((Subnet(subnet="10.0.0.0/32", auxiliary={"x": "10.0.0.0"}),), (4,), (), "")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_no_address_is_ever_given_to_two(steps: list[tuple[bool, int]]) -> None:
    pool = Pool(Subnet(subnet="10.0.0.0/27", gateway="10.0.0.1"))
    held: list[str] = []
    for give_back, which in steps:
        if give_back and held:
            pool.give_back(held.pop(which % len(held)))
        elif len(held) < 29:
            address = pool.take()
            assert address not in held
            held.append(address)


def test_an_address_has_always_the_same_mac() -> None:
    assert mac_of("172.17.0.2/16") == "02:42:ac:11:00:02"
    assert mac_of("fd00::2/64") == mac_of("fd00::2")
    assert mac_of("fd00::2/64") != mac_of("fd00::3/64")
