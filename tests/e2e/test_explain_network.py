"""--explain of a container on a network: its steps, and a script that makes the same network without sampan."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from support.sampan import Sampan, wait_until

LOOK = "ip address; ip route; ip -6 route; cd /proc/sys/net; cat ipv4/ip_default_ttl ipv6/conf/eth0/disable_ipv6"
CONTAINER = ["--network", "bridge", "--sysctl", "net.ipv4.ip_default_ttl=33", "busybox", "sh", "-c", LOOK]


def run(script: Path) -> str:
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(["sh", script], text=True, env=path, **pipes) as by_hand:
        said, error = by_hand.communicate(timeout=60)
    assert by_hand.returncode == 0, error
    assert f"sampan-by-hand-{by_hand.pid}" not in said_by("ip", "netns", "list")
    return said


def without_indexes(text: str) -> str:
    return re.sub(r"^\d+: (\w+)(@if\d+)?", r"\1", text, flags=re.MULTILINE)


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def everything() -> tuple[list[str], str]:
    """Return the names of the host's links, and its firewall."""
    links = [line.split()[0] for line in said_by("ip", "-br", "link").splitlines()]
    return links, said_by("nft", "list", "ruleset")


def gateway(sampan: Sampan) -> str:
    """Return the default network's, which is another one where another instance has been first."""
    return sampan("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge").line


def test_each_step_of_the_network_is_said_with_its_command_time_and_manual_page(sampan: Sampan) -> None:
    said = sampan("run", "--explain", "--rm", *CONTAINER).err
    first = gateway(sampan)
    address = first.removesuffix("1") + "2/16"

    for words in (
        "make a network namespace",
        'ip netns add "$netns"',
        "type veth peer name eth0",
        f"address replace {address}",
        f"route replace 0.0.0.0/0 via {first} dev eth0",
        "set net/ipv4/ip_default_ttl to 33",
        "ip-link(8)",
    ):
        assert words in said, words
    given = rf"^ *\d+\. give eth0 the address {re.escape(address)} +\[\d+\.\d\d ms\]$"
    assert re.search(given, said, re.MULTILINE)


def test_the_plan_of_a_container_that_does_not_run_takes_no_address(sampan: Sampan) -> None:
    steps = [sampan("create", "--explain=json", *CONTAINER).json()["steps"] for _ in range(2)]

    address = gateway(sampan).removesuffix("1") + "2/16"
    for each in steps:
        assert any(f"address replace {address}" in step["shell"] for step in each)
        assert any("nft" in step["shell"] for step in each)


def test_the_script_makes_the_same_network_and_leaves_nothing(sampan: Sampan, tmp_path: Path) -> None:
    ours = sampan("run", "--rm", *CONTAINER).out
    script = tmp_path / "by-hand.sh"
    script.write_text(sampan("run", "--explain=sh", *CONTAINER).out)
    assert sampan.leftovers() == []
    before = everything()

    made = run(script)

    assert without_indexes(made) == without_indexes(ours)
    assert everything() == before


def test_the_script_brings_bridge_and_firewall_along_where_they_are_not_there(sampan: Sampan, tmp_path: Path) -> None:
    ours = sampan("run", "--rm", *CONTAINER).out
    script = tmp_path / "by-hand.sh"
    script.write_text(sampan("run", "--explain=sh", *CONTAINER).out)
    (bridge,) = set(re.findall(r"master (sp\w+)", script.read_text()))
    (table,) = set(re.findall(r"nft list table inet ([\w-]+)", script.read_text()))

    there = f"nft list table inet {table}; ip -br link show {bridge}"
    elsewhere = f"ip link set lo up; sh {script} && ! {{ {there}; }} 2>/dev/null && ip -br link"
    done = subprocess.run(["unshare", "--net", "sh", "-c", elsewhere], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    made, left = done.stdout.rsplit("lo ", 1)
    assert without_indexes(made) == without_indexes(ours)
    assert left.count("\n") == 1


def test_the_script_publishes_ports_and_takes_them_back(sampan: Sampan, tmp_path: Path) -> None:
    sampan("network", "create", "--subnet", "10.55.0.0/24", "lan")
    try:
        container = ["--network", "lan", "-p", "127.0.0.1:8099:80", "busybox", "sh", "-c", "nc -l -p 80 -e echo hello"]
        text = sampan("run", "--explain", "--rm", *container[:-3], "true").err
        assert "lead 127.0.0.11:53 to where names are answered" in text
        assert "let through the firewall: 127.0.0.1:8099 -> 10.55.0.2:80/tcp" in text
        script = tmp_path / "by-hand.sh"
        script.write_text(sampan("run", "--explain=sh", *container).out)
        assert sampan.leftovers() == []
        before = everything()

        with subprocess.Popen(["sh", script], stdin=subprocess.DEVNULL) as by_hand:
            said = ""
            wait_until(lambda: by_hand.poll() is not None or "8099" in said_by("nft", "list", "ruleset"))
            while not said and by_hand.poll() is None:  # until it listens
                said = subprocess.run(
                    ["busybox", "nc", "127.0.0.1", "8099"], capture_output=True, text=True, check=False, input=""
                ).stdout

        assert (said, by_hand.returncode, everything()) == ("hello\n", 0, before)
    finally:
        sampan("network", "rm", "lan")
