"""Networks of containers: addresses, several networks, changes while they run, and what is left at their ends."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.sampan import Sampan, wait_until

SLEEP = ("busybox", "sleep", "1000")


@pytest.fixture(autouse=True)
def no_network_is_left(sampan: Sampan) -> Iterator[None]:
    yield
    for id in sampan("ps", "-aq", "--no-trunc").lines:
        sampan("rm", "-f", id)
    sampan("network", "prune", "-f")


def run(sampan: Sampan, name: str, network: str, *flags: str) -> dict[str, Any]:
    sampan("run", "-d", "--name", name, "--network", network, *flags, *SLEEP)
    return settings(sampan, name)


def settings(sampan: Sampan, name: str) -> dict[str, Any]:
    return sampan.inspect(name)["NetworkSettings"]


def status(sampan: Sampan, name: str) -> str:
    return sampan.inspect(name)["State"]["Status"]


def network(sampan: Sampan, name: str) -> dict[str, Any]:
    (found,) = sampan.json("network", "inspect", name)
    return found


def inside(sampan: Sampan, name: str, *args: str) -> str:
    return sampan("exec", name, "busybox", *args).out


def pings(sampan: Sampan, name: str, address: str) -> bool:
    return sampan("exec", name, "busybox", "ping", "-c", "1", "-W", "2", address, check=False).code == 0


def links(sampan: Sampan, kind: str = "") -> set[str]:
    """The instance's links on the host, of a kind: b for bridges, v for veths."""
    return {name for name in sampan.links() if name[10:].startswith(kind)}


def test_containers_on_the_default_bridge_reach_each_other_and_the_host(sampan: Sampan) -> None:
    one = run(sampan, "one", "bridge")
    run(sampan, "two", "bridge")

    assert pings(sampan, "two", one["IPAddress"])
    assert pings(sampan, "two", one["Gateway"])
    assert ipaddress.ip_address(one["IPAddress"]) in ipaddress.ip_network(
        network(sampan, "bridge")["IPAM"]["Config"][0]["Subnet"]
    )


def test_inspect_tells_what_the_container_has(sampan: Sampan) -> None:
    found = run(sampan, "one", "bridge")

    assert found["Networks"]["bridge"]["IPAddress"] == found["IPAddress"]
    assert f"inet {found['IPAddress']}/{found['IPPrefixLen']}" in inside(sampan, "one", "ip", "addr")
    assert found["MacAddress"] in inside(sampan, "one", "ip", "addr")
    assert f"default via {found['Gateway']} dev eth0" in inside(sampan, "one", "ip", "route")
    assert found["SandboxKey"] == f"/proc/{sampan.inspect('one')['State']['Pid']}/ns/net"


def test_a_network_shows_its_running_containers_and_they_have_gone_with_their_end(sampan: Sampan) -> None:
    sampan("network", "create", "here")
    mine = run(sampan, "one", "here")["Networks"]["here"]
    during = network(sampan, "here")["Containers"]
    sampan("stop", "-t", "0", "one")

    (shown,) = during.values()
    assert (shown["Name"], shown["IPv4Address"]) == ("one", f"{mine['IPAddress']}/16")
    assert shown["EndpointID"] == mine["EndpointID"]
    assert network(sampan, "here")["Containers"] == {}
    assert settings(sampan, "one")["Networks"]["here"]["IPAddress"] == ""


def test_an_address_is_free_when_its_container_has_stopped_and_given_at_the_start(sampan: Sampan) -> None:
    sampan("network", "create", "--subnet", "10.201.0.0/29", "small")
    first = [run(sampan, f"c{i}", "small")["Networks"]["small"]["IPAddress"] for i in range(5)]
    full = sampan("run", "-d", "--network", "small", *SLEEP, check=False)
    sampan("stop", "-t", "0", "c1")
    again = run(sampan, "late", "small")["Networks"]["small"]["IPAddress"]

    assert first == [f"10.201.0.{last}" for last in range(2, 7)]
    assert full.code == 125
    assert "no available IPv4 addresses on this network's address pools" in full.err
    assert again == first[1]
    sampan.fails(1, "start", "c1")


def test_addresses_are_those_that_the_user_asks_for(sampan: Sampan) -> None:
    sampan("network", "create", "--subnet", "10.202.0.0/24", "--ipv6", "--subnet", "fd00:5a:1::/64", "mine")
    run(sampan, "one", "mine", "--ip", "10.202.0.77", "--ip6", "fd00:5a:1::77", "--mac-address", "02:aa:bb:cc:dd:ee")
    taken = sampan.fails(125, "run", "--network", "mine", "--ip", "10.202.0.77", "busybox", "true")
    addresses = inside(sampan, "one", "ip", "addr")

    assert "inet 10.202.0.77/24" in addresses
    assert "inet6 fd00:5a:1::77/64" in addresses
    assert "02:aa:bb:cc:dd:ee" in addresses
    assert "Address already in use" in taken.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--network", "nowhere"), "network nowhere not found"),
        (
            ("--network", "auto", "--ip", "172.30.0.9"),
            "supported only when connecting to networks with user configured",
        ),
        (("--network", "static", "--ip", "10.9.9.9"), "no configured subnet contains the IP address 10.9.9.9"),
        (
            ("--network", "bridge", "--ip", "172.17.0.9"),
            "user specified IP address is supported on user defined networks",
        ),
        (("--network", "static", "--mac-address", "01:00:5e:00:00:01"), "invalid MAC address 01:00:5e:00:00:01"),
    ],
)
def test_what_no_network_can_give_is_refused_in_dockers_words(
    sampan: Sampan, flags: tuple[str, ...], words: str
) -> None:
    sampan("network", "create", "auto")
    sampan("network", "create", "--subnet", "10.203.0.0/24", "static")
    refused = sampan.fails(125, "run", *flags, "busybox", "true")

    assert words in refused.err
    assert sampan("ps", "-aq").lines == []


def test_a_container_on_two_networks_has_an_interface_in_each_and_one_default_route(sampan: Sampan) -> None:
    sampan("network", "create", "alpha")
    sampan("network", "create", "beta")
    sampan("network", "create", "--internal", "aaa")
    found = run(sampan, "both", "beta", "--network", "alpha", "--network", "aaa")["Networks"]
    routes = inside(sampan, "both", "ip", "route")

    assert inside(sampan, "both", "ip", "addr", "show", "eth0").count(found["beta"]["IPAddress"]) == 1
    assert inside(sampan, "both", "ip", "addr", "show", "eth1").count(found["alpha"]["IPAddress"]) == 1
    assert routes.count("default") == 1
    assert f"default via {found['alpha']['Gateway']} dev eth1" in routes


def test_the_highest_gateway_priority_has_the_default_route(sampan: Sampan) -> None:
    sampan("network", "create", "alpha")
    sampan("network", "create", "beta")
    found = run(sampan, "both", "alpha", "--network", "name=beta,gw-priority=5")["Networks"]

    assert f"default via {found['beta']['Gateway']}" in inside(sampan, "both", "ip", "route")


def test_a_running_container_comes_to_another_network_and_leaves_the_first(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    other = run(sampan, "other", "there")["Networks"]["there"]
    run(sampan, "mover", "bridge")
    sampan("network", "connect", "there", "mover")
    during = settings(sampan, "mover")["Networks"]
    sampan("network", "disconnect", "bridge", "mover")

    assert set(during) == {"bridge", "there"}
    assert pings(sampan, "mover", other["IPAddress"])
    assert set(settings(sampan, "mover")["Networks"]) == {"there"}
    assert "eth0" not in inside(sampan, "mover", "ip", "addr")
    assert f"default via {other['Gateway']} dev eth1" in inside(sampan, "mover", "ip", "route")
    sampan("restart", "-t", "0", "mover")
    assert set(settings(sampan, "mover")["Networks"]) == {"there"}


def test_a_running_container_that_has_left_its_only_network_can_come_back(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    run(sampan, "one", "there")
    sampan("network", "disconnect", "there", "one")
    sampan("restart", "-t", "0", "one")
    alone = inside(sampan, "one", "ip", "-o", "addr")
    sampan("network", "connect", "there", "one")

    assert "eth" not in alone
    assert pings(sampan, "one", settings(sampan, "one")["Networks"]["there"]["Gateway"])


def test_a_stopped_container_is_on_the_network_at_its_next_start(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    sampan("create", "--name", "later", "--network", "bridge", *SLEEP)
    sampan("network", "connect", "there", "later")
    sampan("network", "disconnect", "bridge", "later")
    sampan("start", "later")

    assert set(settings(sampan, "later")["Networks"]) == {"there"}
    assert settings(sampan, "later")["Networks"]["there"]["IPAddress"]


def test_what_can_not_be_connected_or_disconnected_says_why(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    run(sampan, "one", "there")
    sampan("run", "-d", "--name", "bare", "--network", "none", *SLEEP)
    sampan("run", "-d", "--name", "hostly", "--network", "host", *SLEEP)

    assert "already exists in network there" in sampan.fails(1, "network", "connect", "there", "one").err
    assert "is not connected to network bridge" in sampan.fails(1, "network", "disconnect", "bridge", "one").err
    assert "private (none) mode" in sampan.fails(1, "network", "connect", "there", "bare").err
    assert "sharing network namespace with" in sampan.fails(1, "network", "connect", "there", "hostly").err
    assert "cannot connect container to host network" in sampan.fails(1, "network", "connect", "host", "one").err
    assert "No such container: nobody" in sampan.fails(1, "network", "connect", "there", "nobody").err
    assert "network nowhere not found" in sampan.fails(1, "network", "connect", "nowhere", "one").err


def test_a_network_in_use_stays_and_one_that_is_free_goes_with_its_bridge(sampan: Sampan) -> None:
    sampan("network", "create", "used")
    run(sampan, "one", "used")
    before = links(sampan, "b")
    refused = sampan.fails(1, "network", "rm", "used")
    sampan("rm", "-f", "one")
    sampan("network", "rm", "used")

    assert 'network used has active endpoints (name:"one"' in refused.err
    assert len(before - links(sampan, "b")) == 1
    assert "network used not found" in sampan.fails(1, "network", "rm", "used").err


def test_a_network_of_a_stopped_container_is_not_pruned(sampan: Sampan) -> None:
    sampan("network", "create", "kept")
    sampan("network", "create", "unused")
    sampan("create", "--name", "one", "--network", "kept", *SLEEP)

    assert "unused" in sampan("network", "prune", "-f").out
    assert "kept" in sampan("network", "ls").out
    sampan("start", "one")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("bridge",), "operation is not permitted on predefined bridge network"),
        (("two words",), "invalid network name (two words)"),
        (("--driver", "nope", "x"), "could not find plugin nope"),
        (("--driver", "host", "x"), 'only one instance of "host" network is allowed'),
        (("--subnet", "10.204.0.0/33", "x"), "invalid CIDR block notation"),
        (("--subnet", "10.204.0.7/24", "x"), "it should be 10.204.0.0/24"),
        (("--subnet", "10.204.0.0/24", "--gateway", "10.205.0.1", "x"), "no matching subnet for gateway 10.205.0.1"),
        (("--subnet", "10.204.0.0/24", "--subnet", "10.205.0.0/24", "x"), "doesn't support multiple subnets"),
        (("-o", "com.docker.network.driver.mtu=3", "x"), "invalid MTU '3'"),
        (("-o", "com.docker.network.driver.mtu=lots", "x"), "invalid MTU 'lots'"),
        (("-o", "com.docker.network.bridge.name=much-too-long-a-name", "x"), "invalid bridge name"),
        (("-o", "com.docker.network.bridge.name=üüüüüüüü", "x"), "invalid bridge name"),
        (("-o", "com.docker.network.container_iface_prefix=fourteen-bytes", "x"), "13 bytes at most"),
        (("-o", "com.docker.network.bridge.enable_icc=perhaps", "x"), "is not a valid bool"),
        (("-o", "com.docker.network.bridge.name=lo", "x"), "lo is"),
        (("-o", "something=else", "x"), "unsupported: option something of bridge networks"),
        (("--ipv4=false", "x"), "IPv4 or IPv6 must be enabled"),
        (("taken",), "network with name taken already exists"),
        (("--subnet", "10.206.1.0/24", "x"), "Pool overlaps with other one on this address space"),
    ],
)
def test_a_network_that_can_not_be_made_is_refused_and_leaves_nothing(
    sampan: Sampan, args: tuple[str, ...], words: str
) -> None:
    sampan("network", "create", "--subnet", "10.206.0.0/16", "taken")
    before = links(sampan), sampan("network", "ls", "-q").lines
    refused = sampan.fails(1, "network", "create", *args)

    assert words in refused.err
    assert (links(sampan), sampan("network", "ls", "-q").lines) == before


def test_a_new_network_avoids_what_the_host_routes_already(sampan: Sampan) -> None:
    taken = [network(sampan, name)["IPAM"]["Config"] for name in sampan("network", "ls", "-q").lines]
    used = {config[0]["Subnet"] for config in taken if config}
    free = next(f"172.{n}" for n in range(17, 32) if f"172.{n}.0.0/16" not in used)
    subprocess.run(["ip", "route", "add", "unreachable", f"{free}.77.0/24"], check=True)
    try:
        sampan("network", "create", "new")
    finally:
        subprocess.run(["ip", "route", "del", "unreachable", f"{free}.77.0/24"], check=True)

    chosen = ipaddress.ip_network(network(sampan, "new")["IPAM"]["Config"][0]["Subnet"])
    assert not chosen.overlaps(ipaddress.ip_network(f"{free}.77.0/24"))


def test_a_link_on_the_default_bridge_gives_a_name_and_the_others_variables(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "db", "--network", "bridge", "--expose", "5432", "-e", "WHO=me", *SLEEP)
    address = settings(sampan, "db")["IPAddress"]
    link = ("--network", "bridge", "--link", "db:store", "busybox")
    variables = sampan("run", "--rm", "--name", "web", *link, "env").lines

    assert f"STORE_PORT=tcp://{address}:5432" in variables
    assert "STORE_NAME=/web/store" in variables
    assert "STORE_ENV_WHO=me" in variables
    sampan("stop", "-t", "0", "db")
    refused = sampan.fails(125, "run", *link, "true")
    assert "Cannot link to a non running container: /db AS" in refused.err


# ------------------------------------------------------------------------------------------------- ends and faults


@pytest.mark.parametrize("end", ["exit", "kill -9 of its first process", "rm -f"])
def test_links_and_addresses_go_with_the_container(sampan: Sampan, end: str) -> None:
    found = run(sampan, "one", "bridge")
    pid = sampan.inspect("one")["State"]["Pid"]
    assert len(links(sampan, "v")) == 1
    if end == "exit":
        sampan("stop", "-t", "0", "one")
    elif end == "rm -f":
        sampan("rm", "-f", "one")
    else:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: status(sampan, "one") == "exited")

    wait_until(lambda: not links(sampan, "v"), what="the link is gone")
    assert run(sampan, "two", "bridge")["IPAddress"] == found["IPAddress"]


def test_a_program_that_can_not_be_executed_leaves_no_link(sampan: Sampan) -> None:
    sampan.fails(127, "run", "--network", "bridge", "busybox", "nothing-of-that-name")

    wait_until(lambda: not links(sampan, "v"), what="the link is gone")
    assert network(sampan, "bridge")["Containers"] == {}


def test_the_server_killed_a_new_one_knows_who_has_which_address(sampan: Sampan) -> None:
    one = run(sampan, "one", "bridge")
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)
    two = run(sampan, "two", "bridge")

    assert settings(sampan, "one")["IPAddress"] == one["IPAddress"]
    assert two["IPAddress"] != one["IPAddress"]
    assert pings(sampan, "two", one["IPAddress"])
    sampan("network", "create", "there")
    sampan("network", "connect", "there", "one")
    assert set(settings(sampan, "one")["Networks"]) == {"bridge", "there"}
    sampan("rm", "-f", "one")
    wait_until(lambda: len(links(sampan, "v")) == 1, what="only the other's link is left")


def test_after_a_kill_of_everything_nothing_of_it_is_left_but_the_bridge(sampan: Sampan) -> None:
    before = run(sampan, "one", "bridge")
    shim = sampan.shim_pid("one")
    init = sampan.inspect("one")["State"]["Pid"]
    for pid in (sampan.info("KeeperPid"), sampan.info("ServerPid"), shim, init):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(lambda: status(sampan, "one") == "exited")

    wait_until(lambda: not links(sampan, "v"), what="the link is gone")
    assert network(sampan, "bridge")["Containers"] == {}
    sampan("start", "one")
    assert settings(sampan, "one")["IPAddress"] == before["IPAddress"]


def test_links_that_nobody_knows_are_removed_by_the_next_server(sampan: Sampan) -> None:
    run(sampan, "one", "bridge")
    known = links(sampan)
    stray = f"sp{sampan.instance}vzzzz"
    subprocess.run(["ip", "link", "add", stray, "type", "veth", "peer", "name", "stray-peer"], check=True)
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)

    wait_until(lambda: sampan("ps", check=False).code == 0 and stray not in links(sampan))
    assert links(sampan) == known


def test_a_bridge_that_somebody_removed_is_made_again(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    run(sampan, "one", "there")
    sampan("rm", "-f", "one")
    for bridge in links(sampan, "b"):
        subprocess.run(["ip", "link", "delete", bridge], check=True)
    found = run(sampan, "two", "there")["Networks"]["there"]

    assert pings(sampan, "two", found["Gateway"])


def test_who_runs_on_a_bridge_that_somebody_removed_is_on_it_again_with_the_next_start(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    one = run(sampan, "one", "there")["Networks"]["there"]
    (bridge,) = links(sampan, "b")
    subprocess.run(["ip", "link", "delete", bridge], check=True)
    run(sampan, "two", "there")

    assert pings(sampan, "two", one["IPAddress"])
    assert pings(sampan, "one", one["Gateway"])


def test_a_new_server_makes_a_bridge_that_somebody_removed_for_those_that_run_on_it(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    one = run(sampan, "one", "there")["Networks"]["there"]
    (bridge,) = links(sampan, "b")
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)
    subprocess.run(["ip", "link", "delete", bridge], check=True)

    assert pings(sampan, "one", one["Gateway"])
    assert links(sampan, "b") == {bridge}


def test_who_was_on_no_network_at_its_start_can_come_to_one(sampan: Sampan) -> None:
    sampan("network", "create", "there")
    sampan("create", "--name", "one", "--network", "there", *SLEEP)
    sampan("network", "disconnect", "there", "one")
    sampan("start", "one")
    sampan("network", "connect", "there", "one")

    assert pings(sampan, "one", settings(sampan, "one")["Networks"]["there"]["Gateway"])


def test_a_container_that_removed_its_own_interface_can_leave_its_networks(sampan: Sampan) -> None:
    sampan("network", "create", "here")
    sampan("network", "create", "there")
    run(sampan, "one", "here", "--cap-add", "NET_ADMIN")
    sampan("network", "connect", "there", "one")
    inside(sampan, "one", "ip", "link", "delete", "eth1")
    sampan("network", "disconnect", "here", "one")
    sampan("network", "disconnect", "there", "one")

    assert settings(sampan, "one")["Networks"] == {}
    assert not links(sampan, "v")


def test_a_stopped_container_whose_network_was_removed_says_so(sampan: Sampan) -> None:
    sampan("network", "create", "gone")
    sampan("create", "--name", "one", "--network", "gone", *SLEEP)
    sampan("network", "rm", "gone")

    assert "network gone not found" in sampan.fails(1, "start", "one").err
    assert status(sampan, "one") == "created"


def test_many_containers_come_and_go_at_once_and_no_two_have_one_address(sampan: Sampan) -> None:
    sampan("network", "create", "crowd")
    threads = [threading.Thread(target=run, args=(sampan, f"c{i}", "crowd")) for i in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    containers = network(sampan, "crowd")["Containers"].values()

    assert len({c["IPv4Address"] for c in containers}) == 12
    assert len(links(sampan, "v")) == 12
    sampan("rm", "-f", *(f"c{i}" for i in range(12)))
    wait_until(lambda: not links(sampan, "v"), what="the links are gone")


def test_a_server_that_is_stopped_with_nobody_on_a_network_leaves_the_host_as_it_was(sampan: Sampan) -> None:
    sampan("network", "create", "--subnet", "10.207.0.0/24", "there")
    run(sampan, "one", "there")
    sampan("system", "stop", "--force")
    during = links(sampan)
    sampan("rm", "-f", "one")
    sampan("system", "stop")

    assert any(name[10] == "b" for name in during)
    wait_until(lambda: not links(sampan), what="no link is left")
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    assert f"sampan-{sampan.instance}" not in tables
    assert pings_from(sampan, "there", "10.207.0.1")


def pings_from(sampan: Sampan, network: str, address: str) -> bool:
    ping = ("busybox", "busybox", "ping", "-c", "1", "-W", "2", address)
    return sampan("run", "--rm", "--network", network, *ping, check=False).code == 0


def test_events_tell_of_networks(sampan: Sampan) -> None:
    sampan("network", "create", "told")
    id = sampan("run", "-d", "--network", "told", *SLEEP).line
    sampan("rm", "-f", id)
    sampan("network", "rm", "told")
    wait_until(lambda: "told" not in sampan("network", "ls").out)
    lines = sampan("events", "--since", "1m", "--until", "0s", "--filter", "network=told", "--format", "json").lines
    found = [json.loads(line) for line in lines]

    assert [event["Action"] for event in found] == ["create", "connect", "disconnect", "destroy"]
    assert found[1]["Actor"]["Attributes"] == {"container": id, "name": "told", "type": "bridge"}
