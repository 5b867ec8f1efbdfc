"""Published ports with real traffic: from this host, from others, from containers, over both versions of IP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.hosts import Neighbour, neighbours
from support.sampan import Sampan, wait_until

# Answers, over TCP and UDP, with who has asked.
ECHO = """
import socket, sys, threading
port, family = int(sys.argv[1]), int(sys.argv[2])
tcp, udp = socket.socket(family, socket.SOCK_STREAM), socket.socket(family, socket.SOCK_DGRAM)
for sock in (tcp, udp):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", port))
tcp.listen(64)
def streams():
    while True:
        sock, who = tcp.accept()
        sock.sendall(who[0].encode())
        sock.close()
threading.Thread(target=streams, daemon=True).start()
print("ready", flush=True)
while True:
    _, who = udp.recvfrom(100)
    udp.sendto(who[0].encode(), who)
"""


@contextmanager
def echo(sampan: Sampan, name: str, port: int = 80, family: int = socket.AF_INET) -> Iterator[None]:
    """Have somebody answer in a container's network."""
    pid = sampan("inspect", "-f", "{{.State.Pid}}", name).line
    argv = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", ECHO, str(port), str(int(family))]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.communicate()


def ask(address: str, port: int, protocol: str = "tcp") -> str:
    """Return as whom the container sees us."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        if protocol == "udp":
            sock.send(b"?")
        return sock.recv(100).decode()


def run(sampan: Sampan, name: str, *options: str) -> str:
    return sampan("run", "-d", "--name", name, *options, "busybox", "sleep", "1000").line


def ports(sampan: Sampan, name: str) -> dict:
    return json.loads(sampan("inspect", "-f", "{{json .NetworkSettings.Ports}}", name).out)


def address(sampan: Sampan, name: str) -> str:
    return sampan("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name).line


def shim(sampan: Sampan, name: str) -> int:
    id = sampan("inspect", "-f", "{{.Id}}", name).line
    return json.loads((sampan.root / f"run/shims/{id}/state.json").read_text())["shim_pid"]


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    with neighbours(1) as (other,):
        yield other


@pytest.fixture(scope="module", autouse=True)
def net(shared: Sampan) -> Iterator[None]:
    """Have a network with IPv6, and one without."""
    shared("network", "create", "four")
    shared("network", "create", "--ipv6", "--subnet", "172.28.0.0/16", "--subnet", "fd00:28::/64", "both")
    yield
    shared.remove_everything()
    shared("network", "rm", "four", "both")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("network", ["four", "both"])
def test_a_port_is_reached_from_this_host_by_each_of_its_addresses(sampan, neighbour, network, protocol):
    run(sampan, "web", "--network", network, "-p", f"8080:80/{protocol}")

    with echo(sampan, "web"), echo(sampan, "web", family=socket.AF_INET6):
        for address in ("127.0.0.1", "::1", *neighbour.ours):
            assert ask(address, 8080, protocol)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_another_host_is_seen_by_its_own_address(sampan, neighbour, protocol):
    run(sampan, "web", "--network", "both", "-p", f"8080:80/{protocol}")
    four, six = neighbour.ours

    with echo(sampan, "web"):
        assert neighbour.namespace.call(lambda: ask(four, 8080, protocol)) == neighbour.addresses[0]
    with echo(sampan, "web", family=socket.AF_INET6):
        assert neighbour.namespace.call(lambda: ask(six, 8080, protocol)) == neighbour.addresses[1]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_another_host_reaches_a_container_without_ipv6_over_ipv6(sampan, neighbour, protocol):
    run(sampan, "web", "--network", "four", "-p", f"8080:80/{protocol}")

    with echo(sampan, "web"):
        assert neighbour.namespace.call(lambda: ask(neighbour.ours[1], 8080, protocol))


def test_another_container_reaches_it_by_the_host_s_address_and_so_does_the_container_itself(sampan, neighbour):
    run(sampan, "web", "--network", "four", "-p", "8080:80")
    for name, network in (("near", "four"), ("far", "both")):
        run(sampan, name, "--network", network)

    with echo(sampan, "web"):
        for name in ("near", "far", "web"):
            assert sampan("exec", name, "nc", "-w", "5", neighbour.ours[0], "8080").out, name


def test_a_host_address_limits_who_reaches_it(sampan, neighbour):
    run(sampan, "web", "--network", "four", "-p", "127.0.0.1:8080:80", "-p", f"{neighbour.ours[0]}:8081:80")

    with echo(sampan, "web"):
        assert ask("127.0.0.1", 8080)
        assert ask(neighbour.ours[0], 8081)
        for address, port in (("::1", 8080), (neighbour.ours[0], 8080), ("127.0.0.1", 8081)):
            with pytest.raises(ConnectionRefusedError):
                ask(address, port)


def test_ipv6_s_loopback_alone_may_be_published(sampan):
    run(sampan, "web", "--network", "four", "-p", "[::1]:8080:80")

    with echo(sampan, "web"):
        assert ask("::1", 8080)
        with pytest.raises(ConnectionRefusedError):
            ask("127.0.0.1", 8080)
    assert ports(sampan, "web") == {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}


def test_privileged_ports_and_ranges_and_all_exposed_ones_are_published(sampan):
    run(sampan, "web", "--network", "four", "-P", "--expose", "90", "-p", "80:80", "-p", "8000-8002:81-83/udp")

    shown = ports(sampan, "web")

    assert {key: [(b["HostIp"], b["HostPort"]) for b in found] for key, found in shown.items() if key != "90/tcp"} == {
        "80/tcp": [("0.0.0.0", "80"), ("::", "80")],
        "81/udp": [("0.0.0.0", "8000"), ("::", "8000")],
        "82/udp": [("0.0.0.0", "8001"), ("::", "8001")],
        "83/udp": [("0.0.0.0", "8002"), ("::", "8002")],
    }
    random = {int(binding["HostPort"]) for binding in shown["90/tcp"]}
    assert len(random) == 1
    assert 32768 <= min(random) < 61000
    assert sampan("port", "web", "80").lines == ["0.0.0.0:80", "[::]:80"]
    assert sampan("ps", "--format", "{{.Ports}}").line == (
        "0.0.0.0:80->80/tcp, [::]:80->80/tcp, "
        f"0.0.0.0:8000->81/udp, [::]:8000->81/udp, 0.0.0.0:8001->82/udp, [::]:8001->82/udp, "
        f"0.0.0.0:8002->83/udp, [::]:8002->83/udp, 0.0.0.0:{min(random)}->90/tcp, [::]:{min(random)}->90/tcp"
    )


def test_ps_filters_by_what_is_published_and_exposed(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80")
    run(sampan, "other", "--network", "four", "--expose", "90-91")

    def names(value: str) -> list[str]:
        return sorted(sampan("ps", "-a", "--filter", value, "--format", "{{.Names}}").lines)

    assert names("publish=8080") == names("publish=8000-9000/tcp") == names("expose=80/tcp") == ["web"]
    assert names("publish=80") == names("publish=8080/udp") == []
    assert names("expose=80-90") == ["other", "web"]
    assert "invalid filter" in sampan.fails(1, "ps", "--filter", "publish=x").err


def test_a_conflict_names_the_container_and_undoes_everything(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80")

    failed = sampan.fails(125, "run", "-d", "--name", "second", "--network", "four", "-p", "8081:80", "-p", "8080:80",
                          "busybox", "sleep", "1000")  # fmt: skip

    assert "Bind for 0.0.0.0:8080 failed: port is already allocated: container web publishes it" in failed.err
    with socket.socket() as free:
        free.bind(("0.0.0.0", 8081))
    sampan("rm", "-f", "web")
    sampan("start", "second")


def test_a_conflict_names_the_process(sampan):
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]

        failed = sampan.fails(125, "run", "-d", "--network", "four", "-p", f"{port}:80", "busybox", "sleep", "1000")

    name = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert f"address already in use by {name} (pid {os.getpid()})" in failed.err


def test_an_address_that_is_not_this_host_s_is_refused(sampan):
    failed = sampan.fails(125, "run", "-d", "--network", "four", "-p", "203.0.113.7:80:80", "busybox", "sleep", "1000")

    assert "cannot assign requested address" in failed.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-p", "8080:80", "-p", "8080:80"), "port is already allocated: this container publishes it"),
        (("-p", "8080:80", "-p", "8080:81"), "port is already allocated: this container publishes it"),
        (("-p", "8080:80/icmp"), "invalid proto: icmp"),
    ],
)
def test_what_can_t_be_published_is_refused(sampan, options, words):
    assert words in sampan.fails(125, "run", "-d", "--network", "four", *options, "busybox", "sleep", "1000").err


def test_without_a_network_of_its_own_nothing_is_published(sampan):
    run(sampan, "none", "--network", "none", "-p", "8080:80")
    host = sampan("run", "-d", "--name", "host", "--network", "host", "-p", "8080:80", "busybox", "sleep", "1000")
    refused = sampan.fails(1, "create", "--network", "container:none", "-p", "8080:80", "busybox", "true")

    assert "Published ports are discarded when using host network mode" in host.err
    assert "conflicting options: port publishing and the container type network mode" in refused.err
    assert ports(sampan, "none") == ports(sampan, "host") == {}
    with pytest.raises(ConnectionRefusedError):
        ask("127.0.0.1", 8080)


def test_a_restart_keeps_fixed_ports_and_chooses_the_others_anew(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80", "-p", "81")
    before = ports(sampan, "web")

    sampan("restart", "-t", "0", "web")

    after = ports(sampan, "web")
    assert before["80/tcp"] == after["80/tcp"]
    assert before["81/tcp"] != after["81/tcp"]
    with echo(sampan, "web"):
        assert ask("127.0.0.1", 8080)


def test_a_port_is_free_once_its_container_has_stopped(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80", "-p", "8080:80/udp")
    run_again = ("run", "-d", "--name", "second", "--network", "four", "-p", "8080:80", "-p", "8080:80/udp", "busybox")

    sampan("stop", "-t", "0", "web")
    sampan(*run_again, "sleep", "1000")

    with echo(sampan, "second"):
        assert ask("127.0.0.1", 8080)
        assert ask("127.0.0.1", 8080, "udp")
    assert ports(sampan, "web") == {}


def test_ports_follow_the_container_to_another_network(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80", "-p", "8080:80/udp")

    with echo(sampan, "web"):
        sampan("network", "connect", "both", "web")
        sampan("network", "disconnect", "four", "web")
        for protocol in ("tcp", "udp"):
            assert ask("127.0.0.1", 8080, protocol)
            assert ask("::1", 8080, protocol)


def test_short_runs_one_after_another_have_the_same_port(sampan):
    for _ in range(5):
        assert sampan("run", "--rm", "-p", "8080:80", "busybox", "echo", "hi").out == "hi\n"


# --------------------------------------------------------------------------------------------- while it runs


def test_ports_change_while_the_container_runs_and_stay_so(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80")

    with echo(sampan, "web"):
        assert sampan("update", "--publish-add", "8081:80", "--publish-rm", "8080", "web").line == "web"
        for address in ("127.0.0.1", "::1"):
            assert ask(address, 8081)
            with pytest.raises(ConnectionRefusedError):
                ask(address, 8080)
    sampan("restart", "-t", "0", "web")
    with echo(sampan, "web"):
        assert ask("127.0.0.1", 8081)
    assert list(ports(sampan, "web").items()) == [
        ("80/tcp", [{"HostIp": "0.0.0.0", "HostPort": "8081"}, {"HostIp": "::", "HostPort": "8081"}])
    ]


def test_a_port_moves_to_another_of_the_container_s_without_being_let_go(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80")

    with echo(sampan, "web", 81):
        sampan("container", "update", "--publish-add", "8080:81", "--publish-rm", "8080", "web")
        assert ask("127.0.0.1", 8080)
        assert ask("::1", 8080)


def test_udp_of_a_client_that_asked_before_follows_the_port(sampan, neighbour):
    run(sampan, "web", "--network", "four", "-p", "8080:80/udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect((neighbour.ours[0], 8080))
        with echo(sampan, "web", 80):
            assert wait_until(lambda: answered(client))

        sampan("update", "--publish-add", "8080:81/udp", "--publish-rm", "8080/udp", "web")

        with echo(sampan, "web", 81):
            assert wait_until(lambda: answered(client), what="an answer of the other: the flow is forgotten in a while")


def answered(client: socket.socket) -> bytes:
    """Ask once more, as who speaks UDP has to."""
    try:
        client.send(b"?")
        return client.recv(100)
    except OSError:
        return b""


def test_an_update_that_fails_changes_nothing(sampan):
    run(sampan, "web", "--network", "four", "-p", "8080:80")
    run(sampan, "other", "--network", "four", "-p", "8090:80")

    failed = sampan.fails(
        1, "update", "--publish-rm", "8080", "--publish-add", "8081:80", "--publish-add", "8090:80", "web"
    )

    assert "port is already allocated: container other publishes it" in failed.err
    with echo(sampan, "web"):
        assert ask("127.0.0.1", 8080)
    assert "80/tcp -> 0.0.0.0:8080" in sampan("port", "web").out
    assert "can't change the ports of web: 9999/tcp is not published" in sampan.fails(
        1, "update", "--publish-rm", "9999", "web"
    ).err  # fmt: skip


def test_the_ports_of_a_stopped_container_change_too(sampan):
    sampan("create", "--name", "web", "--network", "four", "-p", "8080:80", "busybox", "sleep", "1000")

    sampan("update", "--publish-rm", "8080", "--publish-add", "8081:80", "web")
    sampan("start", "web")

    assert sampan("port", "web").lines == ["80/tcp -> 0.0.0.0:8081", "80/tcp -> [::]:8081"]


def test_what_is_on_no_network_can_t_publish(sampan):
    run(sampan, "web", "--network", "none")

    assert "it is on no network that the host leads to" in sampan.fails(1, "update", "--publish-add", "1:1", "web").err


def test_an_update_is_an_event(sampan):
    run(sampan, "web", "--network", "four")

    sampan("update", "--publish-add", "8080:80", "web")

    events = sampan("events", "--since", "1m", "--until", "0s", "--filter", "event=update", "--format", "{{.Action}}")
    assert events.lines[-1] == "update"


# ------------------------------------------------------------------------------------------------------ kills


def test_ports_outlive_whatever_is_killed(sampan):
    run(sampan, "web", "-p", "8080:80", "-p", "81")
    before = ports(sampan, "web")
    with echo(sampan, "web"):
        for victims in ("shim", "server", "shim server", "keeper", "keeper shim", "keeper server shim"):
            pids = {
                "shim": shim(sampan, "web"),
                "server": sampan.info("ServerPid"),
                "keeper": sampan.info("KeeperPid"),
            }
            for victim in victims.split():
                os.kill(pids[victim], signal.SIGKILL)
            assert ports(sampan, "web") == before
            if "shim" in victims:
                wait_until(lambda old=pids["shim"]: shim(sampan, "web") != old, what="another shim")
            wait_until(lambda: reached("::1", 8080), what=f"an answer on ::1 without {victims}")
            assert ask("127.0.0.1", 8080)
        refused = sampan.fails(125, "run", "-p", "8080:80", "busybox", "true")
        assert "port is already allocated: container web publishes it" in refused.err
    sampan("rm", "-f", "web")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET6, kind) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)  # for TIME_WAIT
            free.bind(("::", 8080))


def test_what_was_killed_right_behind_the_container_leaves_no_port_and_no_rule(sampan):
    run(sampan, "web", "-p", "8080:80")
    pids = [shim(sampan, "web"), sampan.info("ServerPid"), sampan.info("KeeperPid")]
    os.kill(int(sampan("inspect", "-f", "{{.State.Pid}}", "web").line), signal.SIGKILL)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    sampan("wait", "web")
    sampan("run", "-d", "--name", "second", "-p", "8080:80", "busybox", "sleep", "1000")

    with echo(sampan, "second"):
        assert ask("127.0.0.1", 8080)
        assert ask("::1", 8080)
    assert ports(sampan, "web") == {}


def reached(address: str, port: int) -> bool:
    try:
        return bool(ask(address, port))
    except OSError:
        return False


def test_a_hundred_ports_are_published_and_changed_at_once(sampan):
    run(sampan, "web", "--network", "four", "-p", "9000-9099:9000-9099", "-p", "9000-9099:9000-9099/udp")

    sampan("update", "--publish-rm", "9000-9098/udp", "--publish-add", "9200-9299:9200-9299", "web")

    assert len(ports(sampan, "web")) == 300  # what was published stays exposed
    with echo(sampan, "web", 9299), echo(sampan, "web", 9050):
        for port in (9299, 9050):
            assert ask("127.0.0.1", port)
            assert ask("::1", port)


def test_starts_at_the_same_time_never_get_the_same_random_port(sampan):
    names = [f"c{n}" for n in range(6)]
    threads = [threading.Thread(target=run, args=(sampan, name, "--network", "four", "-p", "80")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({ports(sampan, name)["80/tcp"][0]["HostPort"] for name in names}) == 6
