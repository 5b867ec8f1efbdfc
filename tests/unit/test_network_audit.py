"""Who reaches a published port, from what the kernel has."""

from __future__ import annotations

import pytest

from sampan.network import firewall_plan as plan
from sampan.network.audit import Facts, Finding, Obstacle, audit
from sampan.spec.network import PublishedPort

CONTAINER = ("172.17.0.2/16", "fd00::2/64")
PUBLIC, PRIVATE = ("127.0.0.1", "10.0.0.5", "8.8.4.4", "::1", "fe80::1"), ("127.0.0.1", "10.0.0.5", "::1", "fd09::5")


def port(host_address: str = "0.0.0.0") -> PublishedPort:
    return PublishedPort(host_address=host_address, host_port=8080, container_port=80)


def facts(**fields) -> Facts:
    given = {
        "table": "sampan-x",
        "contents": plan.contents(
            plan.port_elements(CONTAINER, [port(a) for a in ("0.0.0.0", "::", "127.0.0.1", "10.0.0.5")])
        ),
        "obstacles": (),
        "forwarded": ("ipv4", "ipv6"),
        "addresses": PUBLIC,
        "changes": (),
    }
    return Facts(**(given | fields))


@pytest.mark.parametrize(
    ("host_address", "addresses", "reach", "by"),
    [
        ("0.0.0.0", PUBLIC, "world", ("127.0.0.1", "10.0.0.5", "8.8.4.4")),
        ("0.0.0.0", PRIVATE, "neighbours", ("127.0.0.1", "10.0.0.5")),
        ("127.0.0.1", PUBLIC, "host", ("127.0.0.1",)),
        ("10.0.0.5", PUBLIC, "neighbours", ("10.0.0.5",)),
        ("10.0.0.5", ("127.0.0.1",), "nobody", ()),
        ("::", PUBLIC, "host", ("::1",)),
        ("::", PRIVATE, "neighbours", ("::1", "fd09::5")),
    ],
)
def test_a_port_is_reached_by_the_hosts_addresses(host_address: str, addresses: tuple, reach: str, by: tuple) -> None:
    found = audit(CONTAINER, port(host_address), facts(addresses=addresses))

    assert (found.reach, found.addresses) == (reach, by)


def test_the_rule_is_the_element_of_the_table() -> None:
    assert audit(CONTAINER, port(), facts()).rule == "inet sampan-x map every4 { tcp . 8080 : 172.17.0.2 . 80 }"


@pytest.mark.parametrize(
    ("fields", "reach", "rule"),
    [
        ({"contents": None}, "nobody", "it is not in map every4 of table inet sampan-x"),
        ({"contents": {("every4", ("tcp", "8080")): ("172.17.0.9", "80")}}, "nobody", "it is not in map every4"),
        ({"forwarded": ("ipv6",)}, "host", "the host forwards no ipv4"),
        ({"obstacles": (Obstacle("ip filter FORWARD", ("ipv4",), accepted=False),)}, "host", "ip filter FORWARD drops"),
        (
            {"obstacles": (Obstacle("ip filter FORWARD", ("ipv4",), accepted=True),)},
            "world",
            "FORWARD accepts our mark",
        ),
        ({"obstacles": (Obstacle("ip6 filter FORWARD", ("ipv6",), accepted=False),)}, "world", "inet sampan-x map"),
    ],
)
def test_what_is_in_the_way_is_said(fields: dict, reach: str, rule: str) -> None:
    found = audit(CONTAINER, port(), facts(**fields))

    assert found.reach == reach
    assert rule in found.rule


def test_a_port_of_a_version_that_the_container_lacks_is_relayed() -> None:
    found = audit(CONTAINER[:1], port("::"), facts(addresses=PRIVATE))

    assert found == Finding("172.17.0.2:80", "neighbours", ("::1", "fd09::5"), "the container's shim relays it")
