"""The published ports that a shim holds: taken from the server or bound by itself, relayed, and let go."""

import contextlib
import os
import select
import signal
import socket
import threading
import time

import pytest

from sampan.errors import CommandNotFound, Conflict
from sampan.supervise import binding, messages as m
from sampan.supervise.relay import CLIENTS, CONNECTIONS
from support.supervised import World, until


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("root"))
    yield world
    world.end()


@pytest.fixture
def container(world):
    """Yield one that shares the tests' network, so that the tests themselves can be what answers in it."""
    container = world.run("sleep", "1000", shared=("network",))
    yield container
    if os.path.exists(world.dirs.shim(container.id)) and container.reconnect().phase == "running":
        container.link.ask(m.Signal(number=signal.SIGKILL))


def listening(kind=socket.SOCK_STREAM, address="127.0.0.1"):
    """Return a socket of the container's, and its port."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.bind((address, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen(64)
    sock.settimeout(20)
    return sock, sock.getsockname()[1]


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET6, kind) as sock:
        sock.bind(("::", 0))
        return sock.getsockname()[1]


def free_ports(count, kind=socket.SOCK_STREAM):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket(socket.AF_INET6, kind)) for _ in range(count)]
        for sock in sockets:
            sock.bind(("::", 0))
        return [sock.getsockname()[1] for sock in sockets]


def hold(container, *ports, targets=("127.0.0.1",), given=(), first=0):
    message = m.HoldPorts(targets=targets, ports=ports, first=first)
    container.link.ask(message, [sock.fileno() for sock in given])


def published(container, container_port, protocol="tcp", address="", **how):
    """Have the shim hold one port for `container_port`; return its number."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    port = m.PublishedPort(protocol, address, free_port(kind), container_port)
    hold(container, port, **how)
    return port.number


def connect(number, address="::1"):
    return socket.create_connection((address, number), 20)


def read_all(sock):
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def is_held(number, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET6, kind) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("::", number))
        except OSError:
            return True
        return False


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
def test_what_is_sent_to_a_held_port_reaches_the_container_and_its_answer_the_client(container, address):
    server, inside = listening()
    number = published(container, inside)

    with server, connect(number, address) as client, server.accept()[0] as served:
        client.sendall(b"question")
        assert served.recv(100) == b"question"
        served.sendall(b"answer")
        assert client.recv(100) == b"answer"


def test_an_end_is_passed_on_and_the_other_direction_goes_on(container):
    server, inside = listening()
    number = published(container, inside)

    with server, connect(number) as client, server.accept()[0] as served:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert read_all(served) == b"all of it"
        served.sendall(b"x" * 300_000)
        served.shutdown(socket.SHUT_WR)
        assert len(read_all(client)) == 300_000


def test_a_client_of_a_port_that_nobody_listens_at_is_reset(container):
    server, inside = listening()
    server.close()
    number = published(container, inside)

    with pytest.raises(ConnectionResetError), connect(number) as client:
        client.recv(1)


def test_a_reset_is_passed_on(container):
    server, inside = listening()
    number = published(container, inside)

    with server, connect(number) as client, server.accept()[0] as served:
        client.sendall(b"x")
        assert served.recv(1) == b"x"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        with pytest.raises(ConnectionResetError):
            served.recv(1)


def test_an_address_of_the_container_s_that_refuses_is_followed_by_the_next(container):
    server, inside = listening(address="::1")
    number = published(container, inside, targets=("127.0.0.1", "::1"))

    with server, connect(number) as client, server.accept()[0] as served:
        client.sendall(b"x")
        assert served.recv(1) == b"x"


def test_a_client_that_reads_nothing_holds_up_neither_the_shim_nor_others_and_costs_no_memory(container):
    server, inside = listening()
    number = published(container, inside)
    before = resident_kib(container.shim_pid)

    with server, connect(number), server.accept()[0] as served:
        served.setblocking(False)
        sent = 0
        while select.select([], [served], [], 0.3)[1] or sent <= 1 << 18:
            with contextlib.suppress(BlockingIOError):
                sent += served.send(bytes(1 << 16))
        with connect(number) as other, server.accept()[0] as other_served:
            other.sendall(b"x")
            assert other_served.recv(1) == b"x"
        assert container.link.ask(m.Hello()).phase == "running"
        assert resident_kib(container.shim_pid) - before < 1024
        assert processor_ticks(container.shim_pid, 0.3) < 10  # it does not turn in circles meanwhile


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


def processor_ticks(pid, seconds):
    def ticks():
        with open(f"/proc/{pid}/stat") as file:
            words = file.read().rpartition(")")[2].split()
        return int(words[11]) + int(words[12])

    before = ticks()
    time.sleep(seconds)
    return ticks() - before


def test_a_megabyte_both_ways_at_once_arrives_whole(container):
    server, inside = listening()
    number = published(container, inside)
    data = os.urandom(1 << 20)

    def echo():
        with server.accept()[0] as served:
            while piece := served.recv(65536):
                served.sendall(piece)

    thread = threading.Thread(target=echo)
    thread.start()
    with server, connect(number) as client:
        writer = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        writer.start()
        assert read_all(client) == data
        writer.join()
        thread.join()


def test_clients_beyond_the_limit_wait_for_others_to_go(container):
    server, inside = listening()
    number = published(container, inside)
    with server, contextlib.ExitStack() as clients:
        pairs = []
        for _ in range(CONNECTIONS):
            client = connect(number)
            pairs.append((clients.enter_context(client), clients.enter_context(server.accept()[0])))

        waiting = clients.enter_context(connect(number))
        waiting.sendall(b"x")
        assert not select.select([server], [], [], 0.2)[0]
        assert processor_ticks(container.shim_pid, 0.2) < 10
        for end in pairs[0]:
            end.close()
        with server.accept()[0] as served:
            assert served.recv(1) == b"x"


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")])
def test_datagrams_go_both_ways_and_each_client_gets_its_own_answers(container, family, address):
    server, inside = listening(socket.SOCK_DGRAM)
    number = published(container, inside, "udp")

    clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(3)]
    with server, contextlib.ExitStack() as closing:
        for index, client in enumerate(clients):
            closing.enter_context(client).settimeout(20)
            client.connect((address, number))  # takes answers from there only
            client.send(b"%d" % index)
            data, source = server.recvfrom(100)
            server.sendto(b"answer to " + data, source)
        assert [client.recv(100) for client in clients] == [b"answer to 0", b"answer to 1", b"answer to 2"]


def test_a_datagram_that_nobody_listens_for_harms_no_later_one(container):
    server, inside = listening(socket.SOCK_DGRAM)
    server.close()
    number = published(container, inside, "udp")

    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.connect(("::1", number))
        client.send(b"lost")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", inside))
            server.settimeout(0.2)
            until(lambda: (client.send(b"x"), received(server))[1], "the datagram")


def received(sock):
    try:
        return sock.recv(100)
    except TimeoutError:
        return b""


def test_what_comes_for_a_container_without_an_address_is_dropped(container):
    number = published(container, 80, "udp", targets=())

    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        for _ in range(3):
            client.sendto(b"x", ("::1", number))
        assert processor_ticks(container.shim_pid, 0.2) < 10

    with pytest.raises(ConnectionResetError), connect(published(container, 80, targets=())) as client:
        client.recv(1)


def test_no_more_than_so_many_clients_of_udp_are_remembered(container):
    server, inside = listening(socket.SOCK_DGRAM)
    number = published(container, inside, "udp")

    with server:
        for _ in range(CLIENTS + 50):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.sendto(b"x", ("::1", number))
            server.recv(1)
    assert len(os.listdir(f"/proc/{container.shim_pid}/fd")) < CLIENTS + 40


def test_what_the_server_has_bound_is_taken_from_it(container):
    server, inside = listening()
    ports = [m.PublishedPort("tcp", "", number, inside) for number in free_ports(2)]
    sockets = [binding.bind(port) for port in ports]
    with server:
        with connect(ports[1].number) as early:  # before the shim has it: the kernel keeps it waiting
            hold(container, *ports, given=sockets)
            for sock in sockets:
                sock.close()
            early.sendall(b"x")
            with server.accept()[0] as served:
                assert served.recv(1) == b"x"
        assert all(is_held(port.number) for port in ports)


def test_what_is_given_before_the_launch_is_held_from_the_program_s_first_moment_on(world):
    container = world.container()
    server, inside = listening()
    ports = [m.PublishedPort("tcp", "", number, inside) for number in free_ports(100)]
    sockets = [binding.bind(port) for port in ports]
    container.link.ask(m.HoldPorts(more=True), [sock.fileno() for sock in sockets[:64]])
    hold(container, *ports, given=sockets[64:])
    for sock in sockets:
        sock.close()

    container.launch("sleep", "1000", shared=("network",))

    assert all(is_held(port.number) for port in ports)
    with server:
        for number in (ports[0].number, ports[99].number):
            with connect(number) as client, server.accept()[0] as served:
                client.sendall(b"x")
                assert served.recv(1) == b"x"
        os.kill(container.shim_pid, signal.SIGKILL)
        container.reconnect()
        until(lambda: all(is_held(port.number) for port in ports), "the ports")
    container.link.ask(m.Signal(number=signal.SIGKILL))


def test_a_launch_that_fails_holds_nothing(world):
    container = world.container()
    port = m.PublishedPort("tcp", "", free_port(), 80)
    with binding.bind(port) as sock:
        hold(container, port, given=[sock])

    with pytest.raises(CommandNotFound):
        container.launch("no-such-program", shared=("network",))

    container.link.ask(m.Forget())
    until(lambda: not os.path.exists(f"/proc/{container.shim_pid}"), "the shim's end")
    assert not is_held(port.number)
    assert not os.path.exists(world.dirs.shim(container.id))


def test_more_ports_than_fit_beside_one_message_come_in_several(container):
    server, inside = listening()
    server.close()
    numbers = free_ports(m.MAX_DESCRIPTORS + 36, socket.SOCK_DGRAM)
    ports = [m.PublishedPort("udp", "", number, inside) for number in numbers]
    sockets = [binding.bind(port) for port in ports]
    container.link.ask(m.HoldPorts(more=True), [s.fileno() for s in sockets[: m.MAX_DESCRIPTORS]])
    hold(container, *ports, given=sockets[m.MAX_DESCRIPTORS :])

    for sock in sockets:
        sock.close()
    assert all(is_held(port.number, socket.SOCK_DGRAM) for port in ports)
    hold(container)
    assert not any(is_held(port.number, socket.SOCK_DGRAM) for port in ports)


def test_a_port_is_taken_away_and_another_added_while_a_connection_of_a_third_goes_on(container):
    server, inside = listening()
    gone, stays, comes = (m.PublishedPort("tcp", "", number, inside) for number in free_ports(3))
    hold(container, gone, stays)

    with server, connect(stays.number) as client, server.accept()[0] as served:
        hold(container, stays, comes)
        assert [is_held(port.number) for port in (gone, stays, comes)] == [False, True, True]
        client.sendall(b"x")
        assert served.recv(1) == b"x"


def test_a_port_may_lead_to_another_of_the_container_s(container):
    first, second = listening(), listening()
    number = published(container, first[1])
    hold(container, m.PublishedPort("tcp", "", number, second[1]))

    with first[0], second[0] as server, connect(number), server.accept()[0]:
        assert is_held(number)


def test_the_shim_in_the_place_of_a_killed_one_holds_the_same_ports(container):
    server, inside = listening()
    number = published(container, inside)

    os.kill(container.shim_pid, signal.SIGKILL)
    container.reconnect()

    until(lambda: is_held(number), "the port")
    with server, connect(number) as client, server.accept()[0] as served:
        client.sendall(b"x")
        assert served.recv(1) == b"x"


def test_a_port_that_another_process_has_taken_meanwhile_is_bound_when_it_is_free_again(container):
    server, inside = listening()
    number = free_port()
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::", number))
        other.listen()
        hold(container, m.PublishedPort("tcp", "", number, inside))

    until(lambda: is_held(number), "the port")
    server.close()


def test_the_ports_are_free_once_the_container_s_end_is_told_and_what_it_said_last_arrives(container):
    server, inside = listening()
    number = published(container, inside)

    with server, connect(number) as client, server.accept()[0] as served:
        container.link.ask(m.Signal(number=signal.SIGSTOP))
        served.sendall(b"last words")
        container.link.ask(m.Signal(number=signal.SIGKILL))
        container.link.event(m.Exited)
        assert not is_held(number)
        assert read_all(client) == b"last words"
    container.link.ask(m.Forget())
    assert not os.path.exists(container.world.dirs.shim(container.id))


def test_a_container_that_has_ended_holds_no_ports_any_more(container):
    container.link.ask(m.Signal(number=signal.SIGKILL))
    container.link.event(m.Exited)

    port = m.PublishedPort("tcp", "", free_port(), 80)

    with pytest.raises(Conflict, match="not running"):
        hold(container, port)
    assert not is_held(port.number)


def test_an_ipv4_address_alone_leaves_the_others_free(container):
    server, inside = listening()
    number = published(container, inside, address="127.0.0.1")

    with server, connect(number, "127.0.0.1") as client, server.accept()[0] as served:
        client.sendall(b"x")
        assert served.recv(1) == b"x"
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", number))
