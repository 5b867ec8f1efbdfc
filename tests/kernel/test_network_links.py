"""Bridges and links, made on a real kernel in a namespace of the tests' own; ip(8) says what is there."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sampan.errors import Conflict, SampanError
from sampan.kernel import process, rtnetlink
from sampan.kernel.netlink import Netlink
from sampan.network import host, ops, plan
from sampan.network.namespace import Namespace
from sampan.network.perform import perform
from sampan.spec.network import Endpoint, Network, Subnet
from support.links import INSTANCE, attached, endpoint, ip, network, send, up


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> bool:
    deadline = time.monotonic() + timeout_s
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return met


@contextmanager
def listening(namespace: Namespace, port: int) -> Iterator[None]:
    with namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("", port))
        server.listen()
        yield


def reach(port: int) -> None:
    """Connect, and leave nothing for which the host would go on sending to an address that is soon another's."""
    with socket.create_connection(("172.30.0.2", port), timeout=5) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def addresses(link: dict) -> set[str]:
    return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}


def test_a_bridge_has_the_gateways_addresses_its_mtu_and_says_whose_it_is() -> None:
    with up(network()) as net:
        (link,) = ip("address", "show", net.link)

        assert addresses(link) == {"172.30.0.1/16", "fd01::1/64"}
        assert (link["mtu"], link["ifalias"], link["address"]) == (
            1450,
            f"sampan {INSTANCE} {net.id}",
            "02:ab:ab:ab:ab:ab",
        )


def test_a_bridge_keeps_its_mtu_when_containers_come_and_go() -> None:
    with up(network()) as net:
        end = endpoint()
        with attached(net, end):
            perform(plan.detach(end))

        assert ip("link", "show", net.link)[0]["mtu"] == 1450


def test_a_bridge_that_was_changed_is_put_right() -> None:
    with up(network()) as net:
        for change in ("set {} down mtu 900", "set {} address 02:00:00:00:00:01"):
            subprocess.run(["ip", "link", *change.format(net.link).split()], check=True)
        subprocess.run(["ip", "address", "flush", "dev", net.link], check=True)

        perform(plan.bridge_up(net))

        (link,) = ip("address", "show", net.link)
        assert addresses(link) == {"172.30.0.1/16", "fd01::1/64"}
        assert (link["mtu"], link["address"], "UP" in link["flags"]) == (1450, "02:ab:ab:ab:ab:ab", True)


def test_two_containers_and_the_host_reach_each_other_over_both_versions_of_ip() -> None:
    with up(network()) as net, attached(net, endpoint(2)) as a, attached(net, endpoint(3)) as b:
        with socket.create_server(("::", 7777), family=socket.AF_INET6, dualstack_ipv6=True) as server:
            server.settimeout(5)
            for address in ("172.30.0.1", "fd01::1"):
                with a.socket(rtnetlink.version(address), socket.SOCK_STREAM) as s:
                    s.settimeout(5)
                    s.connect((address, 7777))
                    server.accept()[0].close()
        with b.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
            server.bind(("::", 7777))
            server.listen()
            for address in ("172.30.0.3", "fd01::3"):
                with a.socket(rtnetlink.version(address), socket.SOCK_STREAM) as s:
                    s.settimeout(5)
                    s.connect((address, 7777))


def test_a_container_has_its_address_mac_mtu_and_default_routes() -> None:
    with up(network()) as net, attached(net, endpoint()) as namespace:
        links = {link["ifname"]: link for link in ip("address", "show", namespace=namespace)}
        ways = [ip(v, "route", "show", "default", namespace=namespace)[0] for v in ("-4", "-6")]

        assert links["lo"]["operstate"] in ("UNKNOWN", "UP")
        assert addresses(links["eth0"]) == {"172.30.0.2/16", "fd01::2/64"}
        assert (links["eth0"]["address"], links["eth0"]["mtu"]) == ("02:42:ac:1e:00:02", 1450)
        assert [(way["gateway"], way["dev"]) for way in ways] == [("172.30.0.1", "eth0"), ("fd01::1", "eth0")]


def test_a_network_without_ipv6_gives_no_ipv6_address_at_all() -> None:
    net = network(ipv6=False, subnets=(Subnet(subnet="172.30.0.0/16", gateway="172.30.0.1"),))
    end = endpoint(addresses=("172.30.0.2/16",), gateways=("172.30.0.1",))
    with up(net), attached(net, end) as namespace:
        links = [*ip("address", "show", "eth0", namespace=namespace), *ip("address", "show", net.link)]
        links += ip("address", "show", end.link)

        assert [a["local"] for link in links for a in link["addr_info"]] == ["172.30.0.2", "172.30.0.1"]


def test_the_last_holder_of_a_namespace_takes_the_links_along() -> None:
    with up(network()) as net:
        attached(net, endpoint()).close()

        assert wait_until(lambda: [link.name for link in host.links(INSTANCE)] == [net.link])


def test_a_link_that_is_down_answers_nobody_and_its_address_can_be_anothers() -> None:
    with up(network()) as net:
        first, second = endpoint(), endpoint()
        with attached(net, first) as ended, listening(ended, 7777):
            reach(7777)
            perform(plan.silence(first))
            with attached(net, second) as namespace, listening(namespace, 7778):
                reach(7778)
                with pytest.raises(ConnectionRefusedError):
                    reach(7777)

        assert wait_until(lambda: [link.name for link in host.links(INSTANCE)] == [net.link])
        perform(plan.silence(first))  # one that is gone is no error


def test_detaching_removes_both_ends_though_the_container_renamed_its_own() -> None:
    with up(network()) as net:
        end = endpoint()
        with attached(net, end) as namespace:
            for words in ("link set eth0 down", "link set eth0 name mine", "link add eth0 type bridge"):
                namespace.call(lambda words=words: subprocess.run(["ip", *words.split()], check=True))

            perform(plan.detach(end))

            names = {link["ifname"] for link in ip("link", "show", namespace=namespace)}
            assert names == {"lo", "eth0"}
            assert end.link not in [link.name for link in host.links(INSTANCE)]
            perform(plan.detach(end))  # once more is no error


def test_a_step_that_is_refused_takes_back_those_before_it() -> None:
    with up(network()) as net:
        end = endpoint(gateways=("10.99.0.1",))  # unreachable: the route is refused
        with pytest.raises(SampanError, match=r"^can't send all else by 10\.99\.0\.1: RTM_NEWROUTE.*: nexthop"):
            attached(net, end)

        assert end.link not in [link.name for link in host.links(INSTANCE)]


def test_a_name_that_is_taken_harms_no_one() -> None:
    with up(network()) as net:
        first = endpoint(2)
        with attached(net, first) as namespace:
            with pytest.raises(Conflict, match=f"{first.link}: file exists"):
                attached(net, endpoint(3, link=first.link))

            assert ip("link", "show", first.link)[0]["ifalias"].endswith(first.container)
            with pytest.raises(Conflict, match="has an interface eth0 already"):
                perform(plan.attach(net, endpoint(3), default_gateway=False), namespace=namespace)
            assert [link.name for link in host.links(INSTANCE) if link.master] == [first.link]


def test_a_bridge_of_the_user_is_used_and_neither_changed_nor_removed() -> None:
    send(rtnetlink.new_link("mine", "bridge", settings=rtnetlink.settings(mac="02:00:00:00:00:07")))
    try:
        net = network(link="mine", ipv6=False, subnets=(Subnet(subnet="172.30.0.0/16", gateway="172.30.0.1"),))
        with up(net), attached(net, endpoint()):
            (before,) = ip("address", "show", "mine")
            assert (before["address"], "ifalias" in before) == ("02:00:00:00:00:07", False)

        assert ip("link", "show", "mine")
    finally:
        subprocess.run(["ip", "link", "delete", "mine"], check=True)


def test_what_is_no_bridge_is_not_taken_for_one() -> None:
    send(rtnetlink.new_link("mine", "veth", rtnetlink.veth_peer("other", b"")))
    try:
        with pytest.raises(Conflict, match="can't make the bridge mine: mine is a veth already"):
            perform(plan.bridge_up(network(link="mine")))
    finally:
        subprocess.run(["ip", "link", "delete", "mine"], check=True)


def test_containers_that_may_not_talk_to_each_other_reach_the_host_only() -> None:
    with up(network(inter_container=False)) as net, attached(net, endpoint(2)) as a, attached(net, endpoint(3)) as b:
        with b.socket(socket.AF_INET, socket.SOCK_STREAM) as server, socket.create_server(("", 7777)):
            server.bind(("", 7777))
            server.listen()

            with a.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
                s.settimeout(5)
                s.connect(("172.30.0.1", 7777))
            with a.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
                s.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    s.connect(("172.30.0.3", 7777))


def test_the_host_knows_where_the_new_container_of_an_address_is() -> None:
    with up(network()) as net:
        perform((ops.SetNeighbour(link=net.link, address="172.30.0.2", mac="02:00:00:00:00:99"),))
        with attached(net, endpoint()):
            (known,) = ip("neighbour", "show", "172.30.0.2", "dev", net.link)

            assert known["lladdr"] == "02:42:ac:1e:00:02"


def test_a_process_that_has_ended_has_no_namespace() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(ProcessLookupError):
            Namespace.of(pid, process.start_time(pid))
    finally:
        os.waitpid(pid, 0)


def test_a_process_that_has_anothers_number_now_is_not_entered() -> None:
    began = process.start_time(os.getpid())
    Namespace.of(os.getpid(), began).close()

    with pytest.raises(ProcessLookupError):
        Namespace.of(os.getpid(), began - 1)


def test_a_host_that_allows_no_more_namespaces_is_told_so() -> None:
    program = "from sampan.network.namespace import Namespace\nNamespace.new()"
    script = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, sys.executable, program]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr

    assert "Failed: can't make a network namespace: there are as many as this host allows" in said


def test_links_go_into_the_namespace_of_a_container_that_has_just_died() -> None:
    with up(network()) as net:
        namespace = Namespace.new()
        held = os.dup(namespace.fd)
        namespace.close()

        with Namespace(held) as dead:
            perform(plan.attach(net, endpoint(), default_gateway=True), namespace=dead)


def test_no_thread_stays_in_a_containers_namespace() -> None:
    with up(network()) as net, attached(net, endpoint()) as namespace:
        inside = namespace.call(lambda: os.readlink("/proc/thread-self/ns/net"))

        def those_inside() -> list[str]:
            tasks = []
            for task in os.listdir("/proc/self/task"):
                try:
                    tasks.append(os.readlink(f"/proc/self/task/{task}/ns/net"))
                except OSError:
                    continue  # ended meanwhile
            return [ns for ns in tasks if ns == inside]

        assert wait_until(lambda: not those_inside())
        assert namespace.call(lambda: os.readlink("/proc/thread-self/ns/net")) == inside


def test_what_is_to_happen_in_a_container_never_happens_on_the_host() -> None:
    with pytest.raises(ValueError, match="on the host"):
        perform(plan.detach(endpoint(link="", interface="lo")))


def test_a_link_that_is_missing_is_named() -> None:
    with pytest.raises(SampanError, match=r"can't bring nowhere up: RTM_GETLINK nowhere: no such device"):
        perform((ops.BringUp("nowhere"),))


def test_the_hosts_routes_are_those_that_a_pool_must_avoid() -> None:
    with up(network()):
        for line in ("10.8.0.0/24 dev lo", "blackhole 10.9.0.0/16", "0.0.0.0/1 dev lo", "10.10.0.0/16 dev lo table 77"):
            subprocess.run(["ip", "route", "add", *line.split()], check=True)
        try:
            assert set(host.routes()) >= {"172.30.0.0/16", "fd01::/64", "10.8.0.0/24", "10.9.0.0/16", "10.10.0.0/16"}
            assert "0.0.0.0/1" not in host.routes()
        finally:
            for line in ("10.8.0.0/24", "blackhole 10.9.0.0/16", "0.0.0.0/1", "10.10.0.0/16 table 77"):
                subprocess.run(["ip", "route", "delete", *line.split()], check=True)


def test_settings_of_an_interface_that_the_user_gives_are_written() -> None:
    sysctls = {plan.SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.gc_stale_time=61"}
    with up(network()) as net, attached(net, endpoint(driver_opts=sysctls)) as namespace:

        def read(path: str) -> str:
            with open(f"/proc/sys/net/ipv4/{path}") as file:
                return file.read().strip()

        assert namespace.call(lambda: read("conf/eth0/log_martians")) == "1"
        assert namespace.call(lambda: read("neigh/eth0/gc_stale_time")) == "61"


def test_a_full_bridge_is_said_to_be_full_and_nothing_stays() -> None:
    def fill() -> tuple[str, int]:
        net = network()
        perform(plan.bridge_up(net))
        with Netlink() as netlink:
            master = rtnetlink.settings(master=rtnetlink.link(netlink.get(rtnetlink.get_link(net.link))).index)
            peers = ((f"a{n}", rtnetlink.veth_peer(f"b{n}", b"")) for n in range(1023))
            netlink.batch([rtnetlink.new_link(name, "veth", peer, settings=master) for name, peer in peers])
        with pytest.raises(Conflict) as caught:
            attached(net, endpoint())
        return caught.value.message, len(host.links(INSTANCE))

    with Namespace.new() as another_host:  # which takes its links along faster than they are removed one by one
        message, left = another_host.call(fill)

    assert message.endswith("has 1,023 ports, and a bridge takes no more")
    assert left == 1


def test_links_that_come_and_go_leave_neither_descriptor_nor_thread_nor_link() -> None:
    def open_ones() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    with up(network()) as net:
        attached(net, endpoint()).close()
        before = open_ones()

        for number in range(150):
            end = endpoint(2 + number % 100)
            with attached(net, end):
                if number % 20 == 0:
                    perform(plan.detach(end))

        # A thread of an earlier test may have been counted that was just ending.
        assert wait_until(lambda: all(now <= then for now, then in zip(open_ones(), before, strict=True)))
        assert wait_until(lambda: [link.name for link in host.links(INSTANCE)] == [net.link])


def test_a_container_full_of_links_of_its_own_is_connected_and_disconnected_all_the_same() -> None:
    with up(network()) as net, attached(net, endpoint()) as namespace:
        requests = [rtnetlink.new_link(f"x{n}", "veth", rtnetlink.veth_peer(f"y{n}", b"")) for n in range(300)]
        namespace.call(lambda: send(*requests))
        end = endpoint(3, interface="eth1")

        perform(plan.attach(net, end, default_gateway=False), namespace=namespace)

        assert addresses(ip("address", "show", "eth1", namespace=namespace)[0]) == {"172.30.0.3/16", "fd01::3/64"}
        perform(plan.detach(end))
        assert end.link not in [link.name for link in host.links(INSTANCE)]


@pytest.fixture
def netns() -> Iterator[str]:
    """Yield the name of a namespace of ip-netns(8)."""
    name = f"sampan-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.parametrize("ipv6", [True, False], ids=["with IPv6", "without"])
def test_the_shell_lines_make_the_same_network(netns: str, ipv6: bool) -> None:
    given = {} if ipv6 else {"subnets": (Subnet(subnet="172.30.0.0/16", gateway="172.30.0.1"),)}
    net = network(ipv6=ipv6, inter_container=False, **given)
    end = endpoint() if ipv6 else endpoint(addresses=("172.30.0.2/16",), gateways=("172.30.0.1",))
    with up(net), attached(net, end) as namespace:
        made = everything(net, end, namespace)
    wait_until(lambda: not host.links(INSTANCE))

    steps = (*plan.bridge_up(net), *plan.attach(net, end, default_gateway=True))
    script = "set -e\n" + "".join(f"{step.shell()}\n" for step in steps)
    subprocess.run(["sh"], input=script.encode(), env={**os.environ, "netns": netns}, check=True)

    with open(f"/run/netns/{netns}", "rb") as file, Namespace(os.dup(file.fileno())) as namespace:
        assert everything(net, end, namespace) == made
    perform((*plan.detach(end), *plan.bridge_down(net)))


CHANGING = {
    "ifindex", "link_index", "link_netnsid", "valid_life_time", "preferred_life_time", "linkinfo", "stats64",
    "state",  # of a neighbour, which any packet to it changes
}  # fmt: skip


def everything(net: Network, end: Endpoint, namespace: Namespace) -> list:
    """Return what ip(8) says of both sides, without numbers that are never the same."""

    def lasting(value):
        if isinstance(value, dict):
            return {k: lasting(v) for k, v in value.items() if k not in CHANGING}
        return [lasting(v) for v in value] if isinstance(value, list) else value

    wait_until(lambda: ip("link", "show", "eth0", namespace=namespace)[0]["operstate"] == "UP")
    wait_until(lambda: ip("link", "show", net.link)[0]["operstate"] == "UP")
    hosts = [ip("address", "show", name)[0] for name in (net.link, end.link)]
    hosts[1]["address"] = ""  # which the kernel draws
    port = ip("link", "show", end.link)[0]["linkinfo"]["info_slave_data"]
    inside = [ip(*words.split(), namespace=namespace) for words in ("address show", "-4 route show", "-6 route show")]
    return lasting([hosts, port["isolated"], port["hairpin"], inside, ip("neighbour", "show", "172.30.0.2")])
