"""What requests for networks, and for places on them, come to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sampan.engine import endpoints, network_options
from sampan.engine.endpoints import complete, default_routes, parse_link
from sampan.engine.network_options import Surroundings
from sampan.engine.network_registry import Networks
from sampan.engine.store import Store
from sampan.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unsupported
from sampan.spec.docker import EndpointSettings, NetworkCreate, decode
from sampan.spec.network import Endpoint, Network
from support.engine import ID, OTHER, completed

LINK = "sp0123abcdbxxxx"


def asked(**fields: Any) -> NetworkCreate:
    """Return a request from Docker's JSON names."""
    return decode(NetworkCreate, msgspec.json.encode({"Name": "net", **fields}))


def made(id: str = "1" * 64, taken: tuple[str, ...] = (), **fields: Any) -> Network:
    body = asked(**fields)
    driver = network_options.check(body)
    return network_options.network(body, driver, Surroundings(id, 1, f"{LINK[:-1]}{id[0]}", taken, "0123abcd"))


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Networks]:
    store = Store(str(tmp_path / "state.db"))
    found = Networks(store)
    found.add(lambda _: network_options.default_network(Surroundings("0" * 64, 1, LINK, (), "0123abcd")))
    yield found
    store.close()


def added(networks: Networks, name: str, **fields: Any) -> Network:
    id = format(len(list(networks)), "x") * 64
    return networks.add(lambda taken: made(id, tuple(taken), Name=name, **fields))


def place(network: Network, container: str = ID, **fields: Any) -> Endpoint:
    return Endpoint(
        id=f"{container[:8]}{network.name}", network=network.id, container=container, interface="eth0", **fields
    )


# ------------------------------------------------------------------------------------------------- a request


def test_a_request_that_says_nothing_makes_a_bridge_with_ipv4() -> None:
    network = made()

    assert (network.driver, network.ipv4, network.ipv6, network.internal) == ("bridge", True, False, False)
    assert [subnet.subnet for subnet in network.subnets] == ["172.17.0.0/16"]
    assert network.inter_container
    assert network.masquerade


def test_options_become_what_they_mean() -> None:
    options = {
        "com.docker.network.bridge.name": "br-mine",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "0",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        "com.docker.network.driver.mtu": "1400",
    }
    network = made(Options=options)

    assert (network.link, network.mtu, network.host_address) == ("br-mine", 1400, "127.0.0.1")
    assert not network.inter_container
    assert not network.masquerade
    assert network.options == options


def test_a_macvlan_without_a_parent_leads_nowhere() -> None:
    alone, on_a_link = made(Driver="macvlan"), made(Driver="macvlan", Options={"parent": "eth0"})

    assert (alone.parent, alone.internal, alone.link != "") == ("", True, True)
    assert (on_a_link.parent, on_a_link.internal, on_a_link.link, on_a_link.mode) == ("eth0", False, "", "bridge")


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"Name": ""}, InvalidInput, "name is empty"),
        ({"Name": "none"}, NotPermitted, "predefined none network"),
        ({"Driver": "overlay"}, NotPermitted, "not a swarm manager"),
        ({"ConfigOnly": True}, Unsupported, "only hold a configuration"),
        ({"ConfigFrom": {"Network": "x"}}, Unsupported, "only hold a configuration"),
        ({"Scope": "swarm"}, Unsupported, "networks of a swarm"),
        ({"Ingress": True}, Unsupported, "networks of a swarm"),
        ({"IPAM": {"Driver": "dhcp"}}, NotFound, "could not find plugin dhcp"),
        ({"IPAM": {"Options": {"a": "b"}}}, Unsupported, "IPAM option a"),
        ({"Driver": "ipvlan", "Options": {"ipvlan_mode": "l4"}}, InvalidInput, "l2, l3, l3s"),
        ({"Driver": "macvlan", "Options": {"parent": "a b"}}, InvalidInput, "invalid parent interface"),
        ({"Options": {"com.docker.network.bridge.host_binding_ipv4": "x"}}, InvalidInput, "invalid host address"),
        ({"EnableIPv6": True, "Options": {"com.docker.network.driver.mtu": "1000"}}, InvalidInput, "invalid MTU"),
        (
            {"EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "fd01::/64"}]}},
            NotPermitted,
            "doesn't support multiple subnets",
        ),
        (
            {"Driver": "macvlan", "IPAM": {"Config": [{"Subnet": "10.0.0.0/16"}, {"Subnet": "10.0.1.0/24"}]}},
            NotPermitted,
            "Pool overlaps",
        ),
    ],
)
def test_a_request_that_can_not_be_met_is_refused(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as refused:
        made(**fields)

    assert words in f"{refused.value.message} {refused.value.hint}"  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------- the registry


def test_a_network_is_found_by_its_id_its_name_or_a_beginning_of_its_id(networks: Networks) -> None:
    one = added(networks, "one")

    assert networks.find(one.id) is networks.find("one") is networks.find(one.id[:5]) is one
    with pytest.raises(NotFound, match="network two not found"):
        networks.find("two")


def test_networks_of_one_name_or_overlapping_subnets_or_one_bridge_are_refused(networks: Networks) -> None:
    mine = {"Options": {"com.docker.network.bridge.name": "br-mine"}}
    added(networks, "one", IPAM={"Config": [{"Subnet": "10.1.0.0/16"}]}, **mine)

    with pytest.raises(Conflict, match="network with name one already exists"):
        added(networks, "one")
    with pytest.raises(NotPermitted, match="Pool overlaps") as overlapping:
        added(networks, "two", IPAM={"Config": [{"Subnet": "10.1.2.0/24"}]})
    assert "10.1.0.0/16 of the network one" in overlapping.value.hint
    with pytest.raises(NotPermitted, match="networks have same bridge name"):
        added(networks, "two", **mine)
    assert [network.name for network in networks if not network.predefined] == ["one"]


def test_networks_and_their_addresses_are_known_after_a_restart(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state.db"))
    network = added(Networks(store), "one")
    again = Networks(store)
    again.rejoin(place(network, addresses=("172.17.0.2/16",)))

    assert again.find("one") == network
    assert again.join(place(network, OTHER)).ipv4 == "172.17.0.3"
    store.close()


def test_an_address_is_held_until_the_link_of_who_had_it_is_gone(networks: Networks) -> None:
    first = networks.join(place(networks.default))
    networks.leave(first)
    second = networks.join(place(networks.default, OTHER))
    networks.free(first)
    networks.free(first)
    third = networks.join(place(networks.default, "f" * 64))

    assert first.ipv4 == third.ipv4 != second.ipv4


def test_an_address_is_given_back_once_though_its_link_is_gone_later(networks: Networks) -> None:
    first = networks.join(place(networks.default))
    networks.leave(first)
    networks.give_back(first)
    second = networks.join(place(networks.default, OTHER))
    ((still, _),) = networks.leaving()
    networks.free(first)
    third = networks.join(place(networks.default, "f" * 64))

    assert second.ipv4 == first.ipv4 != third.ipv4
    assert still.id == first.id
    assert not networks.leaving()


def test_a_network_that_somebody_is_on_is_not_forgotten(networks: Networks) -> None:
    one = added(networks, "one")
    endpoint = networks.join(place(one, names=("web",)))

    with pytest.raises(NotPermitted, match='network one has active endpoints \\(name:"web"'):
        networks.remove(one)
    networks.leave(endpoint)
    networks.remove(one)
    assert networks.get(one.id) is None


# ------------------------------------------------------------------------------------------------- places


def places_of(
    networks: Networks, mode: str = "", given: dict[str, Any] | None = None, **fields: Any
) -> endpoints.Places:
    config = {"NetworkingConfig": {"EndpointsConfig": given}} if given else {}
    body = complete(networks, completed({"NetworkMode": mode}, **config, **fields))
    return dict((body.networking_config and body.networking_config.endpoints_config) or {})


def test_who_names_no_network_is_on_the_default_one(networks: Networks) -> None:
    assert list(places_of(networks)) == list(places_of(networks, "default")) == ["bridge"]
    assert places_of(networks)["bridge"].network_id == networks.default.id
    assert places_of(networks, "none") == places_of(networks, "host") == places_of(networks, "container:x") == {}
    assert places_of(networks, NetworkDisabled=True) == {}


def test_places_are_known_by_the_networks_names_and_that_of_the_mode_comes_first(networks: Networks) -> None:
    one, two = added(networks, "one"), added(networks, "two")
    found = places_of(networks, "two", {one.id: {}, "default": {"Aliases": ["a"]}})

    assert list(found) == ["two", "one"]
    assert found["two"].aliases == ("a",)
    assert found["one"].network_id == one.id
    assert found["two"].network_id == two.id


@pytest.mark.parametrize(
    ("mode", "given", "words"),
    [
        ("nope", None, "network nope not found"),
        ("host", {"one": {}}, "conflicting options"),
        ("one", {"none": {}}, "private \\(none\\) mode"),
        ("one", {"host": {}}, "sharing network namespace"),
        ("one", {"one": {"MacAddress": "zz"}}, "invalid MAC address zz"),
        ("one", {"one": {"MacAddress": "00:00:00:00:00:00"}}, "invalid MAC address"),
        ("one", {"one": {"Aliases": ["a b"]}}, "invalid alias"),
        ("bridge", {"bridge": {"Aliases": ["a"]}}, "only for containers in user defined networks"),
        ("one", {"one": {"IPAMConfig": {"IPv4Address": "fd00::1"}}}, "invalid IPv4 address"),
        ("one", {"one": {"IPAMConfig": {"IPv6Address": "fe80::1%eth0"}}}, "invalid IPv6 address"),
        ("one", {"one": {"IPAMConfig": {"LinkLocalIPs": ["x"]}}}, "invalid link-local IP address: x"),
        ("one", {"one": {"DriverOpts": {"speed": "high"}}}, "unknown driver option speed"),
        ("one", {"one": {"DriverOpts": {"com.docker.network.endpoint.ifname": "lo"}}}, "invalid interface name 'lo'"),
    ],
)
def test_a_place_that_can_not_be_had_is_refused(
    networks: Networks, mode: str, given: dict[str, Any] | None, words: str
) -> None:
    added(networks, "one")

    with pytest.raises(InvalidInput, match=words):
        places_of(networks, mode, given)


def test_default_routes_go_by_priority_then_by_name_and_never_by_an_internal_network(networks: Networks) -> None:
    beta, alpha = added(networks, "beta", EnableIPv6=True), added(networks, "alpha")
    closed = added(networks, "aaa", Internal=True)
    found = [networks.join(place(network)) for network in (beta, alpha, closed)]
    preferred = networks.join(place(added(networks, "zeta"), gateway_priority=1))

    assert default_routes(networks, found) == {
        found[1].id: (found[1].gateways[0],),
        found[0].id: (found[0].gateways[1],),
    }
    assert preferred.id in default_routes(networks, (*found, preferred))


def test_interfaces_are_numbered_and_may_be_named(networks: Networks) -> None:
    network = networks.default
    named = EndpointSettings(driver_opts={"com.docker.network.endpoint.ifname": "lan"})

    assert endpoints.interface(network, EndpointSettings(), {"eth0", "lan"}) == "eth1"
    assert endpoints.interface(network, EndpointSettings(), {"eth1"}) == "eth0"
    assert endpoints.interface(network, named, ()) == "lan"


@pytest.mark.parametrize(
    ("text", "found"),
    [("db", ("db", "db")), ("db:store", ("db", "store")), ("/db:/web/store", ("db", "store"))],
)
def test_links_are_read_in_all_their_forms(text: str, found: tuple[str, str]) -> None:
    assert parse_link(text) == found


@pytest.mark.parametrize("text", ["", ":", "db:", ":x", "a:b:c"])
def test_a_link_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="bad format for links"):
        parse_link(text)


def test_a_network_is_removed_when_it_has_been_made_and_not_made_after(networks: Networks) -> None:
    network, seen = added(networks, "brief"), []
    remover = threading.Thread(target=lambda: (networks.remove(network), seen.append("removed")))

    def make(_: Network) -> None:
        remover.start()
        remover.join(0.1)
        seen.append("made")

    networks.ensure_up(network, make)
    remover.join()

    assert seen == ["made", "removed"]
    with pytest.raises(NotFound):
        networks.ensure_up(network, make)
