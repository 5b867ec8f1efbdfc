"""sampan's own table: what nft(8) says of it, that changes are small, and that it is put right."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sampan.errors import SampanError
from sampan.kernel.nfnetlink import Events
from sampan.network import firewall_plan as plan, firewall_rules as rules
from sampan.network.firewall import Firewall
from sampan.network.firewall_ops import FlushFlows, MakeTable, RedirectNames
from sampan.network.namespace import Namespace
from support.hosts import (
    INSTANCE,
    TABLE,
    bridge,
    firewall,
    listening,
    on_a_host_of_its_own,
    publish,
    run,
    small_scene,
    until,
)

ADDRESSES = ("172.30.1.2/24", "fd30:1::2/64")


@pytest.fixture
def record(tmp_path: Path) -> str:
    return str(tmp_path / "record")


def listed(table: str = TABLE) -> str:
    """Return what nft says of a table, without its name, comment and order of parts."""
    shown = run("nft", "-s", "list", "table", "inet", table).splitlines()
    return "\n".join(line for line in shown if "comment" not in line and table not in line)


def elements(name: str) -> str:
    shown = run("nft", "list", "set" if "every" not in name and "one" not in name else "map", "inet", TABLE, name)
    return " ".join(shown.partition("elements = {")[2].split("}")[0].split())


@on_a_host_of_its_own
def test_the_rules_are_what_their_text_makes_of_them(record: str) -> None:
    network = bridge(1)
    with closing(Firewall(INSTANCE, record)) as ours:
        ours.sync([network])
    made = listed()
    elements = plan.network_elements(network) + plan.surroundings((), ("ipv4", "ipv6"))

    for operation in (MakeTable(TABLE, anew=True), *plan.change(INSTANCE, (), elements)):
        run("sh", "-c", operation.shell())

    assert listed() == made


@on_a_host_of_its_own
def test_ports_of_every_protocol_and_kind_are_elements(record: str) -> None:
    with firewall(record, bridge(1)) as ours:
        for protocol in ("tcp", "udp", "sctp"):
            ours.publish(ADDRESSES, publish(8080, 80, protocol))
            ours.publish(ADDRESSES, publish(8080, 81, protocol, "127.0.0.1") + publish(9, 9, protocol, "fd09::1"))

        assert sorted(elements("every4").split(", ")) == [
            f"{protocol} . 8080 : 172.30.1.2 . 80" for protocol in ("sctp", "tcp", "udp")
        ]
        assert "sctp . 8080 : fd30:1::2 . 80" in elements("every6")
        assert "127.0.0.1 . sctp . 8080 : 172.30.1.2 . 81" in elements("one4")
        assert "fd09::1 . udp . 9 : fd30:1::2 . 9" in elements("one6")


@on_a_host_of_its_own
def test_a_hundred_ports_are_two_hundred_elements_in_one_transaction(record: str) -> None:
    ports = tuple(port for number in range(100) for port in publish(9000 + number, 80))
    with firewall(record, bridge(1)) as ours, closing(Events()) as events:
        rules_before = run("nft", "list", "chain", "inet", TABLE, "published")
        ours.publish(ADDRESSES, ports)
        generations = [m for m in received(events) if m.type & 0xFF == 15]

        assert len(generations) == 1
        assert [len(elements(name).split(", ")) for name in ("every4", "every6")] == [100, 100]
        assert run("nft", "list", "chain", "inet", TABLE, "published") == rules_before
        ours.unpublish(ADDRESSES, ports)
        assert [elements(name) for name in ("every4", "every6")] == ["", ""]


def received(events: Events) -> list:
    messages = events.read()
    while messages[-1].type & 0xFF != 15:
        messages += events.read()
    return messages


@on_a_host_of_its_own
def test_what_is_so_already_is_not_done_again(record: str) -> None:
    ports = publish(8080, 80)
    with firewall(record, bridge(1)) as ours, closing(Events()) as events:
        network = next(iter(ours._networks.values()))
        ours.publish(ADDRESSES, ports)
        run("nft", "add", "table", "ip", "mark1")
        for _ in range(2):
            ours.publish(ADDRESSES, ports)
            ours.add_network(network)
            ours.sync([network], [(ADDRESSES, ports)])
        ours.unpublish(ADDRESSES, publish(81, 80))
        run("nft", "add", "table", "ip", "mark2")

        first = received(events) and received(events)
        second = received(events)
        assert [m.type & 0xFF for m in first + second] == [0, 15, 0, 15]


DAMAGES = {
    "the table is gone": "delete table inet {}",
    "rules are gone": "flush chain inet {} arriving",
    "elements are gone": "flush map inet {} every4",
    "there are more elements": "add element inet {} every4 {{ tcp . 1 : 1.2.3.4 . 1 }}",
    "a port leads elsewhere": "delete element inet {0} every4 {{ tcp . 8080 }}; "
    "add element inet {0} every4 {{ tcp . 8080 : 1.2.3.4 . 1 }}",
    "a network is missing": "flush set inet {} bridges",
}


@pytest.mark.parametrize("damage", DAMAGES)
@on_a_host_of_its_own
def test_a_damaged_table_is_put_right_by_the_next_server(damage: str, record: str) -> None:
    network, published = bridge(1), [(ADDRESSES, publish(8080, 80))]
    with closing(Firewall(INSTANCE, record)) as killed:
        killed.sync([network], published)
        whole = listed()
    run("nft", DAMAGES[damage].format(TABLE))

    with closing(Firewall(INSTANCE, record)) as next:
        next.sync([network], published)
        assert listed() == whole
        next.forget_all()


@on_a_host_of_its_own
def test_a_change_finds_out_that_the_table_is_gone_and_makes_it_again(record: str) -> None:
    with firewall(record, bridge(1)) as ours:
        ours.publish(ADDRESSES, publish(8080, 80))
        run("nft", "flush", "ruleset")

        ours.publish(ADDRESSES, publish(8081, 80))

        assert elements("every4") in (
            "tcp . 8080 : 172.30.1.2 . 80, tcp . 8081 : 172.30.1.2 . 80",
            "tcp . 8081 : 172.30.1.2 . 80, tcp . 8080 : 172.30.1.2 . 80",
        )


@on_a_host_of_its_own
def test_tables_of_others_and_of_other_instances_are_left_alone(record: str) -> None:
    run("nft", "add table inet sampan-ffffffff; add table inet filter; add chain inet filter x")
    before = run("nft", "list", "ruleset")

    with firewall(record, bridge(1)):
        assert TABLE in run("nft", "list", "tables")

    assert run("nft", "list", "ruleset") == before


@on_a_host_of_its_own
def test_many_networks_whose_subnets_touch_are_told_apart(record: str) -> None:
    networks = [bridge(number) for number in range(1, 60)]
    with firewall(record, *networks) as ours:
        for network in networks[::2]:
            ours.remove_network(network)

        kept = {n.subnets[0].subnet for n in networks[1::2]}
        assert set(elements("subnets4").split(", ")) == kept


@on_a_host_of_its_own
def test_a_refusal_says_what_was_to_be_done_and_changes_nothing(record: str) -> None:
    long = bridge(1, link="x" * 40)
    with firewall(record, bridge(2)) as ours:
        before = listed()

        with pytest.raises(SampanError, match="can't let network net1 through the firewall: nft add element inet"):
            ours.add_network(long)

        assert listed() == before


@pytest.fixture
def container() -> Iterator[Namespace]:
    with Namespace.new() as namespace:
        run("ip", "link", "set", "lo", "up", namespace=namespace)
        yield namespace


def test_names_are_asked_on_port_53_and_answered_on_another_also_after_it_moves(
    container: Namespace, record: str
) -> None:
    with closing(Firewall(INSTANCE, record)) as ours:
        for udp_port, tcp_port in ((40053, 40054), (40055, 40056)):
            ours.redirect_names(container, udp_port, tcp_port)
            with listening(container, udp_port, rules.NAMES_ADDRESS, "udp") as udp:
                with container.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(3)
                    client.connect((rules.NAMES_ADDRESS, 53))
                    client.send(b"question")
                    _, peer = udp.recvfrom(100)
                    udp.sendto(b"answer", peer)
                    assert client.recv(100) == b"answer"
            with listening(container, tcp_port, rules.NAMES_ADDRESS) as tcp:
                with container.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                    client.settimeout(3)
                    client.connect((rules.NAMES_ADDRESS, 53))
                    client.sendall(b"q" * 50_000)
                    accepted, _ = tcp.accept()
                    with accepted:
                        assert len(accepted.recv(50_000, socket.MSG_WAITALL)) == 50_000


def test_a_container_may_listen_on_port_53_itself(container: Namespace, record: str) -> None:
    with closing(Firewall(INSTANCE, record)) as ours:
        ours.redirect_names(container, 40053, 40054)

    with listening(container, 53, "0.0.0.0", "udp") as own, container.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"question", ("127.0.0.1", 53))
        own.settimeout(3)
        assert own.recv(100) == b"question"


def test_the_redirection_as_text_makes_the_same(container: Namespace, record: str) -> None:
    with closing(Firewall(INSTANCE, record)) as ours:
        ours.redirect_names(container, 40053, 40054)
    made = run("nft", "list", "ruleset", namespace=container)

    _, _, text = RedirectNames(40053, 40054, anew=True).shell().partition('nsenter --net="/run/netns/$netns" ')
    run("sh", "-c", text, namespace=container)

    assert run("nft", "list", "ruleset", namespace=container) == made


@on_a_host_of_its_own
def test_udp_flows_follow_the_port_to_another_container(record: str) -> None:
    with small_scene(record) as scene, firewall(record, scene.net) as ours:
        ports = publish(5300, 53, "udp", "0.0.0.0")
        with scene.near.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((scene.near.ours[0], 5300))
            client.send(b"before")  # a flow to the host itself
            with listening(scene.web.namespace, 53, protocol="udp") as server:
                server.settimeout(0.1)
                ours.publish(scene.web.addresses, ports)

                assert until(lambda: comes(client, server))

            assert "172.30.1.2" in flows()
            ours.unpublish(scene.web.addresses, ports)
            assert until(lambda: "172.30.1.2" not in flows())


def comes(client: socket.socket, server: socket.socket) -> bool:
    try:
        client.send(b"again")
        return bool(server.recv(100))
    except OSError:
        return False


def flows() -> str:
    return run("conntrack", "-L", "-p", "udp")


@on_a_host_of_its_own
def test_flushing_as_text_is_a_line_that_works() -> None:
    tracking = "type filter hook output priority 0; ct state new accept;"
    run("nft", f"table inet x {{ chain y {{ {tracking} }}; }}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("127.0.0.1", 5300))
    assert "dport=5300" in flows()

    run("sh", "-c", FlushFlows(5300).shell())

    assert "dport=5300" not in flows()
