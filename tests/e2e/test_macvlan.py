"""Containers on macvlan and ipvlan networks, which reach what is beyond a link of the host's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from support.links import another_machine, ip, skip_without
from support.sampan import Sampan

PARENT = "up0"
NET = ("--subnet", "172.30.0.0/16", "--gateway", "172.30.0.1")


@pytest.fixture(autouse=True)
def parent() -> Iterator[None]:
    skip_without("macvlan", "ipvlan", "dummy")
    with another_machine(PARENT):
        yield


@pytest.fixture
def network(sampan: Sampan, request) -> Iterator[str]:
    """Make a network with these arguments, and remove it."""
    sampan("network", "create", *request.param, "lan")
    yield "lan"
    sampan("network", "rm", "lan")
    assert not [link for link in ip("link", "show") if link.get("ifalias", "").startswith("sampan")]


@pytest.mark.parametrize(
    "network", [("-d", d, *NET, "-o", f"parent={PARENT}") for d in ("macvlan", "ipvlan")], indirect=True
)
def test_one_container_after_another_with_one_address_reaches_the_router(sampan: Sampan, network: str) -> None:
    for _ in range(3):
        said = sampan(
            "run",
            "--rm",
            "--network",
            network,
            "--ip",
            "172.30.9.9",
            "busybox",
            "busybox",
            "ping",
            "-c1",
            "-W5",
            "172.30.0.1",
        )

        assert "1 packets received" in said.out


@pytest.mark.parametrize("network", [("-d", "macvlan", *NET, "-o", f"parent={PARENT}.50")], indirect=True)
def test_a_vlan_made_for_a_network_survives_the_server(sampan: Sampan, network: str) -> None:
    for name in ("one", "two"):
        sampan("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000")
    server = sampan.info("ServerPid")

    os.kill(server, signal.SIGKILL)

    for _ in range(2):
        assert "1 packets received" in sampan("exec", "one", "busybox", "ping", "-c1", "-W5", "two").out
        assert ip("link", "show", f"{PARENT}.50")
    sampan("network", "disconnect", network, "two")
    assert "eth0" not in sampan("exec", "two", "busybox", "ip", "link").out
    sampan("rm", "-f", "one", "two")


@pytest.mark.parametrize("network", [("-d", "macvlan", *NET)], indirect=True)
def test_a_network_without_a_parent_is_for_its_containers_alone(sampan: Sampan, network: str) -> None:
    sampan("run", "-d", "--name", "one", "--network", network, "busybox", "sleep", "1000")

    said = sampan("run", "--rm", "--network", network, "busybox", "busybox", "ping", "-c1", "-W5", "one")

    assert "1 packets received" in said.out
    assert sampan("network", "inspect", "-f", "{{.Internal}}", network).line == "true"
    sampan("rm", "-f", "one")


def test_a_parent_in_use_or_missing_is_refused(sampan: Sampan) -> None:
    sampan("network", "create", "-d", "macvlan", *NET, "-o", f"parent={PARENT}", "lan")
    try:
        said = sampan.fails(1, "network", "create", "-d", "ipvlan", "-o", f"parent={PARENT}", "other").err
        assert f"network lan is already using parent interface {PARENT}" in said
    finally:
        sampan("network", "rm", "lan")
    assert (
        "this host has no link nowhere"
        in sampan.fails(1, "network", "create", "-d", "macvlan", *NET, "-o", "parent=nowhere", "lan").err
    )
