"""Binding published ports: numbers, conflicts and who they are with."""

import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from sampan.engine.port_bindings import Wanted
from sampan.engine.port_sockets import Owners, bind_all
from sampan.errors import Conflict, InvalidInput
from sampan.spec.network import PublishedPort

FOREIGN = """
import socket, sys
sock = socket.socket(int(sys.argv[1]), int(sys.argv[2]))
sock.bind((sys.argv[3], 0))
if sock.type == socket.SOCK_STREAM:
    sock.listen()
print(sock.getsockname()[1], flush=True)
sys.stdin.read()
"""


class Foreign:
    """A process of somebody else's that has a port."""

    def __init__(self, address="0.0.0.0", kind=socket.SOCK_STREAM):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        argv = [sys.executable, "-c", FOREIGN, str(int(family)), str(int(kind)), address]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def close(self):
        self.process.communicate()


def one(number, protocol="tcp", address="", last=0):
    return Wanted(protocol, 80, address, number, last or number)


def free_port():
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::", 0))
        return sock.getsockname()[1]


def test_a_port_without_an_address_is_taken_for_both_versions_of_ip_by_one_socket():
    number = free_port()

    with closing(bind_all([one(number)], Owners())) as reserved:
        assert [(port.host_address, port.host_port) for port in reserved.ports] == [("0.0.0.0", number), ("::", number)]
        assert len(reserved.sockets) == 1
        for family in (socket.AF_INET, socket.AF_INET6):
            with socket.socket(family) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    other.bind(("", number))


def test_random_ports_are_of_the_kernel_s_range_and_chosen_in_its_order():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        low, high = map(int, file.read().split())

    with closing(bind_all([one(0)] * 3, Owners())) as reserved:
        numbers = sorted({port.host_port for port in reserved.ports})
    with closing(bind_all([one(0)], Owners())) as later:
        assert len(numbers) == 3
        assert all(low <= number <= high for number in numbers)
        assert later.ports[0].host_port not in numbers


def test_a_range_gives_its_first_free_port():
    first = free_port()
    with closing(bind_all([one(first, last=first + 20)], Owners())) as reserved:
        with closing(bind_all([one(first, last=first + 20)], Owners())) as second:
            assert reserved.ports[0].host_port == first
            assert second.ports[0].host_port > first


@pytest.mark.parametrize(
    ("address", "kind", "protocol"),
    [
        ("0.0.0.0", socket.SOCK_STREAM, "tcp"),
        ("127.0.0.1", socket.SOCK_STREAM, "tcp"),
        ("::1", socket.SOCK_STREAM, "tcp"),
        ("0.0.0.0", socket.SOCK_DGRAM, "udp"),
        ("::1", socket.SOCK_DGRAM, "udp"),
    ],
)
def test_a_port_in_use_is_refused_with_the_process_that_has_it(address, kind, protocol):
    with closing(Foreign(address, kind)) as foreign, pytest.raises(Conflict) as refused:
        bind_all([one(foreign.port, protocol)], Owners())

    name = os.path.basename(sys.executable)[:15]
    assert refused.value.message == (
        f"failed to bind host port 0.0.0.0:{foreign.port}/{protocol}: address already in use by {name} "
        f"(pid {foreign.process.pid})"
    )


def test_all_are_bound_or_none():
    number = free_port()
    with closing(Foreign()) as foreign, pytest.raises(Conflict):
        bind_all([one(number), one(foreign.port), one(0)], Owners())

    bind_all([one(number)], Owners()).close()


def test_a_port_that_another_container_publishes_is_refused_with_its_name():
    owners = Owners()
    owners.add(PublishedPort(host_address="0.0.0.0", host_port=8080, container_port=80), "container web")

    with pytest.raises(Conflict) as refused:
        bind_all([one(8080)], owners)

    expected = "Bind for 0.0.0.0:8080 failed: port is already allocated: container web publishes it"
    assert refused.value.message == expected


def test_a_port_published_twice_is_refused():
    number = free_port()

    with pytest.raises(Conflict, match="port is already allocated: this container publishes it"):
        bind_all([one(number), one(number)], Owners())


def test_a_range_of_which_nothing_is_free_is_refused():
    owners = Owners()
    with closing(Foreign()) as foreign:
        other = PublishedPort(host_address="0.0.0.0", host_port=foreign.port + 1, container_port=80)
        owners.add(other, "container web")

        with pytest.raises(Conflict, match="all ports are allocated"):
            bind_all([one(foreign.port, last=foreign.port + 1)], owners)


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::9"])
def test_an_address_that_this_host_has_not_is_refused(address):
    with pytest.raises(InvalidInput, match="cannot assign requested address"):
        bind_all([one(free_port(), address=address)], Owners())


def test_where_the_host_has_no_ipv6_only_ipv4_is_published(tmp_path):
    script = (
        "from sampan.engine.port_bindings import Wanted; from sampan.engine.port_sockets import *; "
        "print([p.host_address for p in bind_all([Wanted('tcp', 80, '', 8080, 8080)], Owners()).ports])"
    )
    command = f'ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1; exec {sys.executable} -c "{script}"'

    done = subprocess.run(["unshare", "-n", "sh", "-c", command], capture_output=True, text=True, check=True)

    assert done.stdout == "['0.0.0.0']\n"
