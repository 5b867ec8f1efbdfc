"""Networks and endpoints for tests of links, in the test session's own network namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sampan.kernel import rtnetlink
from sampan.kernel.netlink import Netlink, NetlinkError
from sampan.network import host, plan
from sampan.network.namespace import Namespace
from sampan.network.perform import perform
from sampan.spec.network import Endpoint, Network, Subnet

INSTANCE = "0a1b2c3d"
CONTAINER = "cd" * 32


def network(id: str = "ab" * 32, **fields) -> Network:
    given = {
        "name": "test",
        "created_ns": 0,
        "link": host.new_link_name(INSTANCE, "b"),
        "mtu": 1450,
        "ipv6": True,
        "subnets": (
            Subnet(subnet="172.30.0.0/16", gateway="172.30.0.1"),
            Subnet(subnet="fd01::/64", gateway="fd01::1"),
        ),
    }
    return Network(id=id, **(given | fields))


def endpoint(number: int = 2, network: Network | None = None, **fields) -> Endpoint:
    given = {
        "network": network.id if network else "",
        "container": CONTAINER,
        "interface": "eth0",
        "link": host.new_link_name(INSTANCE, "v"),
        "mac": f"02:42:ac:1e:00:{number:02x}",
        "addresses": (f"172.30.0.{number}/16", f"fd01::{number:x}/64"),
        "gateways": ("172.30.0.1", "fd01::1"),
    }
    return Endpoint(id=f"{number:064x}", **(given | fields))


@contextmanager
def up(network: Network) -> Iterator[Network]:
    """Make the network's bridge, and remove it."""
    perform(plan.bridge_up(network, instance=INSTANCE))
    try:
        yield network
    finally:
        perform(plan.bridge_down(network))


def attached(network: Network, endpoint: Endpoint) -> Namespace:
    """Return a new namespace with the endpoint in it, as a container's."""
    namespace = Namespace.new()
    try:
        perform(plan.attach(network, endpoint, default_gateway=True), namespace=namespace)
    except BaseException:
        namespace.close()
        raise
    return namespace


def ip(*words: str, namespace: Namespace | None = None) -> list[dict]:
    """Ask ip(8), the oracle, and return what it says."""

    def ask() -> bytes:
        return subprocess.run(["ip", "-j", "-d", *words], check=True, capture_output=True).stdout

    return json.loads((namespace.call(ask) if namespace else ask()) or b"[]")


@contextmanager
def another_machine(parent: str) -> Iterator[Namespace]:
    """Make the host's link `parent` and what is at its other end: the router of `network()`, in a namespace."""
    with Namespace.new() as router:
        peer = rtnetlink.veth_peer("down0", rtnetlink.settings(namespace_fd=router.fd))
        send(rtnetlink.new_link(parent, "veth", peer, up=True))
        lines = ("link set down0 up", "addr add 172.30.0.1/16 dev down0", "addr add fd01::1/64 dev down0 nodad")
        for line in (*lines, "link set lo up", "addr add 192.0.2.1/32 dev lo"):
            router.call(lambda line=line: subprocess.run(["ip", *line.split()], check=True))
        yield router
        subprocess.run(["ip", "link", "delete", parent], check=True)


def skip_without(*kinds: str) -> None:
    """Skip the test where the kernel can't make links of these kinds."""
    for kind in kinds:
        try:
            send(rtnetlink.new_link("probe", kind, settings=rtnetlink.settings(parent=1)))
        except NetlinkError as e:
            if e.words == "Unknown device type":
                pytest.skip(f"missing kernel feature: {kind}")


def send(*requests) -> None:
    """Send requests in this thread's namespace."""
    with Netlink() as netlink:
        netlink.batch(requests)
