"""Containers that may change their own network, and do: what the host has of them goes all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sampan.network import host
from support.sampan import Sampan, wait_until


@pytest.fixture
def lan(sampan: Sampan) -> Iterator[str]:
    sampan("network", "create", "--subnet", "10.55.0.0/24", "lan")
    yield "lan"
    sampan("rm", "-f", "web", check=False)
    sampan("network", "rm", "lan")


def started(sampan: Sampan, network: str, script: str) -> None:
    """Start `web`, which does this to its network and then waits."""
    script = f"{script}; echo done; exec sleep 1000"
    sampan("run", "-d", "--name", "web", "--cap-add", "NET_ADMIN", "--network", network, "busybox", "sh", "-c", script)
    wait_until(lambda: "done" in sampan("logs", "web").out)


def ports(sampan: Sampan) -> list[str]:
    """Return the host's ends of containers' links."""
    assert sampan.instance
    return [link.name for link in host.links(sampan.instance) if link.kind == "veth"]


RENAME = "ip link set eth0 down; ip link set eth0 name mine; ip link add eth0 type bridge"


def test_a_renamed_link_is_taken_away_and_the_one_in_its_place_is_the_containers(sampan: Sampan, lan: str) -> None:
    started(sampan, lan, RENAME)

    sampan("network", "disconnect", lan, "web")

    links = sampan("exec", "web", "ip", "link").out
    assert ("mine" in links, "eth0" in links, ports(sampan)) == (False, True, [])
    said = sampan.fails(1, "network", "connect", lan, "web").err
    assert "the container has an interface eth0 already" in said
    assert ports(sampan) == []


@pytest.mark.parametrize(
    "script",
    [
        "ip link delete eth0",
        "ip link set eth0 address 02:00:00:00:00:01; ip address flush dev eth0; ip address add 10.55.0.1/24 dev eth0",
        "for n in $(seq 100); do ip link add v$n type veth peer name w$n; done",
        RENAME,
    ],
    ids=["deletes it", "takes the gateway's address", "makes two hundred", "renames it"],
)
def test_a_container_that_changed_its_links_ends_without_a_trace_and_starts_again(
    sampan: Sampan, lan: str, script: str
) -> None:
    started(sampan, lan, script)

    sampan("restart", "-t", "0", "web")
    wait_until(lambda: len(ports(sampan)) == ("delete" not in script))
    sampan("rm", "-f", "web")

    wait_until(lambda: ports(sampan) == [])
    assert "10.55.0.2/24" in sampan("run", "--rm", "--network", lan, "busybox", "ip", "address").out


def test_a_container_that_deleted_its_link_is_disconnected_and_connected_again(sampan: Sampan, lan: str) -> None:
    started(sampan, lan, "ip link delete eth0")

    sampan("network", "disconnect", lan, "web")
    sampan("network", "connect", lan, "web")

    assert "10.55.0.2/24" in sampan("exec", "web", "ip", "address").out
