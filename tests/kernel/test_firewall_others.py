"""Hosts whose other rules drop what is forwarded: by policy or by a last rule, in nftables and iptables."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from sampan.errors import NotPermitted, Unsupported
from sampan.kernel.namespaces import CLONE, unshare
from sampan.kernel.seccomp import set_filter
from sampan.network.firewall import Firewall
from sampan.network.legacy import any_in_use
from sampan.network.watch import Watch
from support.hosts import (
    INSTANCE,
    NOTHING_COMES_S,
    TABLE,
    Neighbour,
    bridge,
    firewall,
    listening,
    nothing_from,
    on_a_host_of_its_own,
    publish,
    ruleset,
    run,
    small_scene,
    until,
)
from support.peers import Docker

FIREWALLD = """
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname "lo" accept
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES { iifname "trusted0" accept; }
}
"""
POLICY = "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }"


def nft(text: str) -> None:
    run("nft", "-f", "-", stdin=text)


def iptables(*rules: str, suffix: str = "") -> None:
    for program in ("iptables", "ip6tables"):
        for rule in rules:
            run(f"{program}{suffix}", *rule.split())


def docker_like(suffix: str = "") -> None:
    iptables("-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", suffix=suffix)


DROPPING = {
    "a policy of nftables": lambda: nft(POLICY),
    "firewalld's last rule": lambda: nft(FIREWALLD),
    "a policy of iptables, as ufw's": lambda: iptables("-P FORWARD DROP"),
    "a last rule of iptables": lambda: iptables("-A FORWARD -j REJECT"),
    "a policy of iptables with a place for others, as dockerd's": docker_like,
    "a policy of iptables of the older kind": lambda: iptables("-P FORWARD DROP", suffix="-legacy"),
    "a policy of iptables of the older kind with a place for others": lambda: docker_like("-legacy"),
}


def accepts_of_ours() -> int:
    """Count them in everything that any program would show."""
    shown = run("nft", "list", "ruleset")
    if Path("/proc/thread-self/net/ip_tables_names").read_text():
        shown += run("iptables-legacy", "-S") + run("ip6tables-legacy", "-S")
    return sum(TABLE in line for line in shown.splitlines() if "accept" in line.lower())


@pytest.mark.parametrize("dropping", DROPPING)
@on_a_host_of_its_own
def test_ports_and_the_world_are_reached_where_others_drop_what_is_forwarded(dropping: str, tmp_path: Path) -> None:
    with small_scene(str(tmp_path / "record")) as scene:
        DROPPING[dropping]()
        assert not scene.reaches(patience_s=NOTHING_COMES_S)

        with firewall(scene.record, scene.net) as ours:
            ours.publish(scene.web.addresses, publish(8080, 80))

            assert [scene.reached(v) and scene.reaches(v) for v in (0, 1)] == [True, True]
            assert accepts_of_ours() == (1 if "nftables" in dropping or "firewalld" in dropping else 2)
            obstacles = ours.facts().obstacles
            assert {v for o in obstacles for v in o.versions if o.accepted} == {"ipv4", "ipv6"}
        assert accepts_of_ours() == 0


@on_a_host_of_its_own
def test_what_others_drop_is_dropped_where_it_is_not_ours(tmp_path: Path) -> None:
    with small_scene(str(tmp_path / "record")) as scene, firewall(scene.record, scene.net):
        nft(POLICY)
        scene.near.route("172.30.1.0/24", "fd30:1::/64")

        assert until(scene.reaches)
        with listening(scene.web.namespace, 80) as server:
            assert nothing_from(server, scene.near.namespace, scene.web.ipv4, 80)


@pytest.mark.parametrize("suffix", ["", "-legacy"])
@on_a_host_of_its_own
def test_what_is_said_at_the_place_for_others_is_obeyed(suffix: str, tmp_path: Path) -> None:
    with small_scene(str(tmp_path / "record")) as scene:
        docker_like(suffix)
        run(f"iptables{suffix}", "-A", "DOCKER-USER", "-s", scene.near.addresses[0], "-j", "DROP")
        iptables("-A DOCKER-USER -j RETURN", suffix=suffix)

        with firewall(scene.record, scene.net) as ours:
            ours.publish(scene.web.addresses, publish(8080, 80))

            assert [scene.reached(0, patience_s=NOTHING_COMES_S), scene.reached(1)] == [False, True]


@on_a_host_of_its_own
def test_a_place_for_others_to_which_nothing_leads_is_none(tmp_path: Path) -> None:
    with small_scene(str(tmp_path / "record")) as scene:
        iptables("-P FORWARD DROP", "-N DOCKER-USER")

        with firewall(scene.record, scene.net):
            assert scene.reaches()
            assert TABLE in run("iptables", "-S", "FORWARD")


RELOADS = {
    "firewalld's": (FIREWALLD, lambda: nft("delete table inet firewalld\n" + FIREWALLD)),
    "ufw's": ("", lambda: iptables("-P FORWARD DROP", "-F FORWARD")),
    "of all of nftables": (POLICY, lambda: nft("flush ruleset\n" + POLICY)),
    "that adds a place for others": ("", docker_like),
}


@pytest.mark.parametrize("reload", RELOADS)
@on_a_host_of_its_own
def test_after_a_reload_of_theirs_what_is_ours_is_put_back(reload: str, tmp_path: Path) -> None:
    with small_scene(str(tmp_path / "record")) as scene, firewall(scene.record, scene.net) as ours:
        before, again = RELOADS[reload]
        nft(before)
        ours.publish(scene.web.addresses, publish(8080, 80))
        assert until(scene.reached)

        again()

        assert until(lambda: scene.reached() and scene.reaches(1))
        assert until(lambda: accepts_of_ours() == (2 if before == "" else 1))


@on_a_host_of_its_own
def test_rules_of_the_older_kind_of_iptables_which_nobody_tells_of_are_looked_at_now_and_then() -> None:
    looked: list[bool] = []

    watch = Watch(lambda: looked.append(True), blind=any_in_use, every_s=0.01)
    try:
        iptables("-P FORWARD DROP", suffix="-legacy")
        nft("add table ip told")  # it looks at once, and from then on
        assert until(lambda: len(looked) > 1)
    finally:
        watch.close()


@on_a_host_of_its_own
def test_a_host_that_forwards_because_of_us_alone_forwards_nothing_else(tmp_path: Path) -> None:
    with small_scene(str(tmp_path / "record"), neighbours=2) as scene, firewall(scene.record, scene.net):
        client, server_side = scene.near, scene.far
        client.route("10.9.2.0/24")
        server_side.route("10.9.1.0/24")
        with listening(server_side.namespace, 80) as server:
            iptables("-L", "-t nat -L")  # which makes chains that do nothing
            assert nothing_from(server, client.namespace, server_side.addresses[0], 80)

            # Somebody else forwards now.
            nft("table ip vpn { chain post { type nat hook postrouting priority 100; oifname wg0 masquerade; }; }")

            assert until(lambda: not nothing_from(server, client.namespace, server_side.addresses[0], 80))


@on_a_host_of_its_own
def test_an_instance_lets_pass_what_another_forwards_also_when_its_server_is_gone(tmp_path: Path) -> None:
    with closing(Firewall("0badcafe", str(tmp_path / "other"))) as other:
        other.sync([bridge(9)])

    with small_scene(str(tmp_path / "record")) as scene, firewall(scene.record, scene.net):
        assert scene.reaches()


SWITCHES = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


def switches() -> list[str]:
    return [Path("/proc/sys", name).read_text().strip() for name in SWITCHES]


@on_a_host_of_its_own
def test_the_hosts_switches_are_set_when_a_network_needs_them_said_and_put_back(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    record = tmp_path / "record"
    with firewall(str(record), bridge(3, internal=True)) as ours:
        assert (switches(), record.exists()) == (["0", "0"], False)
        ours.add_network(bridge(1))
        assert (switches(), record.exists()) == (["1", "1"], True)
        assert "sampan: set net.ipv4.ip_forward to 1" in capfd.readouterr().err

    assert (switches(), record.exists()) == (["0", "0"], False)


@on_a_host_of_its_own
def test_the_hosts_switches_are_put_back_by_the_next_server_after_a_kill(tmp_path: Path) -> None:
    record = str(tmp_path / "record")
    with closing(Firewall(INSTANCE, record)) as killed:
        killed.sync([bridge(1)])

    with closing(Firewall(INSTANCE, record)) as next:
        next.sync([])

    assert switches() == ["0", "0"]
    assert [x for x in ruleset() if "table" in x] == []


@on_a_host_of_its_own
def test_switches_that_may_not_be_set_are_named_with_what_to_do(tmp_path: Path) -> None:
    unshare(CLONE.NEWNS)  # of this thread alone
    run("mount", "--make-rprivate", "/")
    run("mount", "--bind", "/proc/sys", "/proc/sys")
    run("mount", "-o", "remount,ro,bind", "/proc/sys")

    with closing(Firewall(INSTANCE, str(tmp_path / "record"))) as ours, pytest.raises(NotPermitted) as raised:
        ours.sync([bridge(1)])

    assert raised.value.message == (
        "can't set up the firewall: can't set net.ipv4.ip_forward to 1: read-only file system"
    )
    assert "sysctl -w net.ipv4.ip_forward=1" in raised.value.hint


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="kernel: the filter below has x86_64's numbers")
@on_a_host_of_its_own
def test_a_host_without_nftables_is_told_so_and_what_there_is_without(tmp_path: Path) -> None:
    iptables("-P FORWARD ACCEPT", suffix="-legacy")
    refuse_sockets_of_netfilter()

    with closing(Firewall(INSTANCE, str(tmp_path / "record"))) as ours, pytest.raises(Unsupported) as raised:
        ours.sync([bridge(1)])

    assert raised.value.message == (
        "can't set up the firewall: this host's kernel has no nftables (it has iptables' older kind only)"
    )
    assert "--network host" in raised.value.hint


def refuse_sockets_of_netfilter() -> None:
    """Have this thread get EPROTONOSUPPORT for socket(AF_NETLINK, …, NETLINK_NETFILTER), as without nfnetlink."""
    load, equal, answer = 0x20, 0x15, 0x06
    program = (
        (load, 0, 0, 0), (equal, 0, 5, 41), (load, 0, 0, 16), (equal, 0, 3, 16), (load, 0, 0, 32), (equal, 0, 1, 12),
        (answer, 0, 0, 0x50000 | errno.EPROTONOSUPPORT), (answer, 0, 0, 0x7FFF0000),
    )  # fmt: skip
    set_filter(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))


@on_a_host_of_its_own
def test_what_was_changed_before_a_reboot_is_not_put_back_after_it(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with closing(Firewall(INSTANCE, str(record))) as before:
        before.sync([bridge(1)])
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record.write_text(record.read_text().replace(boot, "another"))

    with closing(Firewall(INSTANCE, str(record))) as after:
        after.sync([])

    assert switches() == ["1", "1"]


@on_a_host_of_its_own
def test_switches_that_others_rely_on_by_now_stay(tmp_path: Path) -> None:
    with firewall(str(tmp_path / "record"), bridge(1)):
        nft(POLICY)

    assert switches() == ["1", "1"]


@on_a_host_of_its_own
def test_a_host_that_learns_routes_from_a_router_goes_on_so(tmp_path: Path) -> None:
    accept_ra = Path("/proc/sys/net/ipv6/conf/wire1/accept_ra")
    with small_scene(str(tmp_path / "record")) as scene:
        assert until(lambda: advertised(scene.near))

        with firewall(scene.record, scene.net):
            assert accept_ra.read_text() == "2\n"
        assert accept_ra.read_text() == "1\n"


def advertised(router: Neighbour) -> bool:
    """Have a neighbour say that it is a router; tell whether this host has believed it."""
    with router.namespace.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        with suppress(OSError):  # its link has no address of its own yet
            eth0 = router.namespace.call(lambda: socket.if_nametoindex("eth0"))
            s.sendto(struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, eth0))
    return "default" in run("ip", "-6", "route", "show", "dev", router.wire)


@pytest.mark.skipif(not shutil.which("dockerd"), reason="dockerd is not installed")
@on_a_host_of_its_own
def test_beside_a_real_dockerd_both_work(tmp_path: Path, busybox_tar: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sampan-") as short, ExitStack() as stack:  # containerd's socket is in it
        scene = stack.enter_context(small_scene(str(tmp_path / "record")))
        dockerd = stack.enter_context(running(Docker(Path(short, "docker"), "sampan-firewall", **SHARED)))
        assert switches()[0] == "1"
        with firewall(scene.record, scene.net) as ours:
            ours.publish(scene.web.addresses, publish(8080, 80))
            dockerd("import", busybox_tar, "busybox", check=True)

            dockerd("run", "-d", "-p", "8090:80", "busybox", "httpd", "-f", "-p", "80", check=True)

            assert until(lambda: answers_http(scene.near, 8090))
            assert [scene.reached(), scene.reaches()] == [True, True]
            assert TABLE in run("iptables", "-S", "DOCKER-USER")
        assert answers_http(scene.near, 8090)
        assert accepts_of_ours() == 0


SHARED = {"own_network": False, "bridged": True}


@contextmanager
def running(dockerd: Docker) -> Iterator[Docker]:
    try:
        yield dockerd
        dockerd.remove_everything()
    finally:
        dockerd.end()


def answers_http(client: Neighbour, port: int) -> bool:
    with client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(1)
        with suppress(OSError):
            s.connect((client.ours[0], port))
            s.send(b"GET / HTTP/1.0\r\n\r\n")
            return s.recv(100).startswith(b"HTTP/")
    return False
