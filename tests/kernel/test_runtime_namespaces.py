"""Namespaces that are there already, user namespaces, clocks, and network devices that move into a container."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from sampan.errors import SampanError
from sampan.spec.runtime import IdMapping, Namespace, NetDevice, Spec, TimeOffset
from support.child import in_child
from support.containers import NAMESPACES, Box, facts, left_behind, remove_parents, with_linux

pytestmark = pytest.mark.timeout(60)
MAPPING = (IdMapping(container_id=0, host_id=100_000, size=65_536),)


@pytest.fixture
def box() -> Iterator[Box]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        made = Box(Path(directory) / "box")
        made.directory.chmod(0o755)
        before = facts(Path(directory))
        yield made
        assert not left_behind(before, Path(directory))
        remove_parents()


@contextmanager
def holder(*options: str) -> Iterator[int]:
    """Yield a process in new namespaces, its ids mapped where one of them is a user namespace."""
    command = ["unshare", *options, "busybox", "sh", "-c", "echo; exec busybox sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        if "--user" in options:
            for kind in ("uid", "gid"):
                Path(f"/proc/{process.pid}/{kind}_map").write_text("0 100000 65536\n")
        yield process.pid
        process.kill()


def joining(spec: Spec, pid: int, *types: str, **linux: object) -> Spec:
    """Have namespaces of these types be those of the process, the others new."""
    names = {"network": "net", "mount": "mnt"}
    kept = tuple(Namespace(type=t) for t in NAMESPACES if t not in types)
    joined = tuple(Namespace(type=t, path=f"/proc/{pid}/ns/{names.get(t, t)}") for t in types)
    return with_linux(spec, namespaces=(*joined, *kept), **linux)


def links(pid: int) -> dict[str, str]:
    return {n: os.readlink(f"/proc/{pid}/ns/{n}") for n in ("ipc", "net", "uts", "user", "cgroup", "time", "pid")}


PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
SHOW = "for n in ipc net uts user cgroup time pid; do readlink /proc/self/ns/$n; done"


def test_what_has_a_path_is_entered(box: Box) -> None:
    with holder("--net", "--ipc", "--uts") as pid:
        spec = joining(box.spec("sh", "-c", SHOW), pid, "network", "ipc", "uts")

        said = box.run(spec).out.split()
        theirs = links(pid)

    assert {theirs["net"], theirs["ipc"], theirs["uts"]} <= set(said)
    assert theirs["cgroup"] not in said


def test_a_host_name_and_parameters_are_set_in_what_is_entered(box: Box) -> None:
    with holder("--net", "--uts") as pid:
        sysctl = {"net.ipv4.ip_unprivileged_port_start": "7"}
        spec = joining(box.spec("true"), pid, "network", "uts", sysctl=sysctl)

        assert box.run(spec).code == 0
        shown = subprocess.run(
            ["nsenter", "-t", str(pid), "-n", "-u", "busybox", "sh", "-c", f"hostname; cat {PORTS}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip

    assert shown.stdout.split() == ["box", "7"]


@pytest.mark.parametrize("type", ["network", "uts"])
def test_nothing_is_set_in_a_namespace_that_is_the_hosts_by_another_name(box: Box, type: str) -> None:
    sysctl = {"net.ipv4.ip_unprivileged_port_start": "7"} if type == "network" else {}
    spec = joining(box.spec("true"), os.getpid(), type, sysctl=sysctl)

    with pytest.raises(SampanError, match="it is the host's"):
        box.run(spec)


def test_a_path_that_is_another_kind_of_namespace_is_refused(box: Box) -> None:
    types = (Namespace(type="mount"), Namespace(type="uts"), Namespace(type="ipc", path="/proc/self/ns/net"))
    spec = with_linux(box.spec("true"), namespaces=types)

    with pytest.raises(SampanError, match="enter the ipc namespace"):
        box.run(spec)


def test_a_new_user_namespace_beside_a_network_of_the_hosts(box: Box) -> None:
    with holder("--net") as pid:
        types = tuple(Namespace(type=t) for t in (*NAMESPACES, "user") if t != "network")
        network = Namespace(type="network", path=f"/proc/{pid}/ns/net")
        spec = box.spec("sh", "-c", f"{SHOW}; id -u")
        # A sysfs shows a network, and is mounted by its owner only.
        mounts = tuple(m for m in spec.mounts if not m.destination.startswith("/sys"))
        spec = with_linux(spec, namespaces=(*types, network), uid_mappings=MAPPING, gid_mappings=MAPPING)
        said = box.run(msgspec.structs.replace(spec, mounts=mounts))
        theirs = links(pid)

    assert said.out.split()[-1] == "0", said
    assert theirs["net"] in said.out
    assert os.readlink("/proc/self/ns/net") != theirs["net"]


@pytest.mark.parametrize("mapped", [True, False])
def test_a_user_namespace_that_is_there_is_entered_and_owns_the_new_ones(box: Box, mapped: bool) -> None:
    mappings = {"uid_mappings": MAPPING, "gid_mappings": MAPPING} if mapped else {}
    with holder("--user", "--net") as pid:
        script = f"{SHOW}; id -u; echo $$; mount | grep -c '^proc'; hostname"
        spec = joining(box.spec("sh", "-c", script), pid, "user", "network", **mappings)

        said = box.run(spec)
        theirs = links(pid)

    assert said.code == 0, said
    assert {theirs["user"], theirs["net"]} <= set(said.out.split())
    assert said.out.split()[7:9] == ["0", "1"]
    assert said.out.split()[-1] == "box"


def test_a_container_in_a_user_namespace_that_was_entered_ends_and_leaves_nothing(box: Box) -> None:
    with holder("--user", "--net") as pid:
        spec = joining(box.spec("sleep", "100"), pid, "user", "network")
        with box.running(spec) as (running, _):
            assert Path(f"/proc/{running.pid}/comm").read_text() == "sleep\n"
            said = box.exec(spec, running, "sh", "-c", "id -u; ps | grep -c sleep")

    assert said.out.split()[0] == "0", said


def test_clocks_are_offset(box: Box) -> None:
    types = tuple(Namespace(type=t) for t in (*NAMESPACES, "time"))
    offsets = {"monotonic": TimeOffset(secs=5), "boottime": TimeOffset(secs=100_000_000, nanosecs=1)}
    spec = with_linux(box.spec("cat", "/proc/uptime"), namespaces=types, time_offsets=offsets)

    said = in_child(lambda: box.run(spec), 0)  # a process of more than one thread can't come back to its own clocks

    assert float(said.out.split()[0]) > 100_000_000


# ------------------------------------------------------------------------------------------------ network devices


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("name", "there"), [("", "sbxdev0"), ("eth7", "eth7"), ("lan%d", "lan0")])
def test_a_network_device_moves_in_with_its_addresses_and_comes_up(box: Box, name: str, there: str) -> None:
    ip("link", "add", "sbxdev0", "type", "veth", "peer", "name", "sbxdev1")
    try:
        ip("link", "set", "sbxdev0", "address", "02:00:00:00:00:07", "mtu", "1400", "up")
        ip("address", "add", "10.77.0.1/24", "dev", "sbxdev0")
        ip("address", "add", "fd77::1/64", "dev", "sbxdev0")
        ip("link", "set", "sbxdev1", "up")
        spec = with_linux(box.spec("ip", "address", "show", there), net_devices={"sbxdev0": NetDevice(name=name)})

        said = box.run(spec).out
    finally:
        subprocess.run(["ip", "link", "delete", "sbxdev1"], check=False, capture_output=True)

    assert "mtu 1400" in said
    assert "UP" in said.split("mtu")[0]
    assert {"02:00:00:00:00:07", "10.77.0.1/24", "fd77::1/64"} <= set(said.split())


def test_a_network_device_that_is_not_there_is_refused_by_name(box: Box) -> None:
    with pytest.raises(SampanError, match="move the network device none0"):
        box.run(with_linux(box.spec("true"), net_devices={"none0": NetDevice()}))


def test_devices_do_not_move_where_the_network_is_the_hosts(box: Box) -> None:
    spec = joining(box.spec("true"), os.getpid(), "network", net_devices={"lo": NetDevice()})

    with pytest.raises(SampanError, match="it is the host's"):
        box.run(spec)
