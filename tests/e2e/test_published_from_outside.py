"""Ports of containers as other hosts see them: two more hosts, this one's own addresses, and what the audit says."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.network.namespace import Namespace
from support.hosts import Neighbour, neighbours, on_a_host_of_its_own, run, until
from support.sampan import Sampan

WHO = "cd /www/cgi-bin && printf '#!/bin/sh\\necho\\necho $REMOTE_ADDR' >who && chmod +x who"


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Neighbour]]:
    with neighbours(2) as made:
        yield made


@pytest.fixture
def web(sampan: Sampan) -> Iterator[Sampan]:
    """Give a container whose server tells who asks, on a network of both versions of IP, with two published ports."""
    sampan("network", "create", "--ipv6", "--subnet", "172.31.7.0/24", "--subnet", "fd31:7::/64", "red")
    sampan("run", "-d", "--name", "web", "--network", "red", "-p", "8080:80", "-p", "127.0.0.1:8081:80",
           "busybox", "sh", "-c", f"mkdir -p /www/cgi-bin && {WHO} && exec httpd -f -p 80 -h /www")  # fmt: skip
    assert until(lambda: asked("127.0.0.1", 8080))
    yield sampan
    sampan("rm", "-f", "web")
    sampan("network", "rm", "red")


def asked(address: str, port: int, client: Namespace | None = None) -> str:
    """Ask the container's server who we are; "" where nobody answers."""

    def ask() -> str:
        connection = http.client.HTTPConnection(address, port, timeout=2)
        try:
            connection.request("GET", "/cgi-bin/who")
            return connection.getresponse().read().decode().strip().strip("[]").removeprefix("::ffff:")
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    return client.call(ask) if client else ask()


@pytest.mark.usefixtures("web")
def test_two_other_hosts_reach_a_published_port_and_are_known_by_their_addresses(hosts: list[Neighbour]) -> None:
    for host in hosts:
        for version in (0, 1):
            assert asked(host.ours[version], 8080, host.namespace) == host.addresses[version]
            assert asked(host.ours[version], 8081, host.namespace) == ""


@pytest.mark.usefixtures("web")
def test_the_host_itself_reaches_it_by_every_address_also_of_its_loopback(hosts: list[Neighbour]) -> None:
    own = hosts[0].ours

    assert [asked(a, 8080) for a in (*own, "127.0.0.1")] == [*own, "172.31.7.1"]
    assert asked("::1", 8080)
    assert asked("127.0.0.1", 8081) == "172.31.7.1"


def test_a_container_reaches_its_own_port_by_the_hosts_address(web: Sampan, hosts: list[Neighbour]) -> None:
    ask = f"printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {hosts[0].ours[0]} 8080"

    assert web("exec", "web", "sh", "-c", ask).lines[-1] == "[::ffff:172.31.7.1]"


@pytest.mark.usefixtures("hosts")
def test_the_audit_says_who_reaches_which_port_and_by_which_rule(web: Sampan) -> None:
    found = {p["Port"]: p for p in map(json.loads, web("network", "audit", "--format", "json").lines)}

    assert {port: p["Reach"] for port, p in found.items()} == {
        "0.0.0.0:8080/tcp": "neighbours",
        "[::]:8080/tcp": "neighbours",
        "127.0.0.1:8081/tcp": "host",
    }
    assert "10.9.1.1" in found["0.0.0.0:8080/tcp"]["Addresses"]
    assert "map every4 { tcp . 8080 : 172.31.7.2 . 80 }" in found["0.0.0.0:8080/tcp"]["Rule"]
    assert web("network", "audit").lines[0].startswith("CONTAINER   PORT ")


@on_a_host_of_its_own
def test_what_is_changed_on_the_host_is_told_and_put_back_when_the_engine_rests(
    instance: Sampan, busybox_tar: Path
) -> None:
    before = traces()
    instance("import", busybox_tar, "busybox")
    instance("run", "-d", "--name", "web", "-p", "8090:80", "busybox", "sleep", "1000")

    told = instance("events", "--since", "1m", "--until", "0s", "--filter", "event=sysctl").out
    assert "daemon sysctl" in told
    assert "(name=net.ipv4.ip_forward, value=1)" in told
    assert "  net.ipv4.ip_forward is 1, was 0" in instance("network", "audit").lines

    instance("rm", "-f", "web")
    instance("system", "stop")
    assert until(lambda: traces() == before)


def traces() -> list[str]:
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return [forward, run("nft", "list", "tables"), *sorted(name for _, name in socket.if_nameindex())]
