"""A container's name server, in its shim: names, other servers, floods, kills."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from sampan.errors import InvalidInput
from sampan.network import dns, names
from sampan.spec.network import Endpoint, Network, Subnet
from sampan.supervise import messages as m
from support.resolving import (
    FakeServer,
    Netns,
    ask,
    ask_tcp,
    name_server_sockets,
    query,
    read,
    read_message,
    says,
    serving,
    with_room,
)
from support.supervised import World, until

NETWORK = Network(id="n1", name="net", created_ns=0, subnets=(Subnet(subnet="172.18.0.0/16"),))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    resolv_conf = root / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    world = World(root, resolv_conf)
    (root / "run/networks").mkdir()
    yield world
    world.end()


@pytest.fixture
def host_resolv_conf(world):
    """Yield a function that changes the host's resolv.conf, as the instance sees it."""
    yield world.resolv_conf.write_text
    world.resolv_conf.write_text("nameserver 127.0.0.1\n")


@pytest.fixture
def netns():
    netns = Netns()
    yield netns
    netns.close()


def endpoint(*names, addresses):
    return Endpoint(id="e", network="n1", container="c", interface="eth0", names=names, addresses=addresses)


WEB = endpoint("web", "www", "0123456789ab", addresses=("172.18.0.2/16", "fd00::2/64"))
DB = endpoint("db", "www", addresses=("172.18.0.3/16",))


def put(world, *endpoints, network=NETWORK, absent=()):
    """Write a network's names file; return its path."""
    path = world.root / "run/networks" / f"{network.id}.names"
    path.with_suffix(".new").write_bytes(names.text(network, endpoints, absent))
    path.with_suffix(".new").rename(path)
    return str(path)


class Answering:
    """A running container with a name server, and how to ask it."""

    def __init__(self, world, netns, *args, after=False, **scope):
        self.world = world
        self.netns = netns
        self.container = world.container()
        sockets = netns.inside(name_server_sockets)
        self.ports = [sock.getsockname()[1] for sock in sockets]
        message = m.AnswerNames(**scope)
        fds = [sock.fileno() for sock in sockets]
        if not after:
            self.container.link.ask(message, fds)
        self.container.launch(*(args or ("sleep", "1000")), netns=netns.path)
        if after:
            self.container.link.ask(message, fds)
        for sock in sockets:
            sock.close()

    def ask(self, *args, **options):
        return self.netns.inside(lambda: ask(*args, port=self.ports[0], **options))

    def ask_tcp(self, *args, **options):
        return self.netns.inside(lambda: ask_tcp(*args, port=self.ports[1], **options))


def private_kib(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def in_state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def pid_gone(pid):
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("after", [False, True])
def test_names_of_a_network_are_answered_over_udp_and_tcp(world, netns, after):
    names = Answering(world, netns, files=(put(world, WEB, DB, absent=["old"]),), after=after)

    assert names.ask("web").values == ["172.18.0.2"]
    assert names.ask("WEB.Net").values == ["172.18.0.2"]
    assert names.ask("web", dns.AAAA).values == ["fd00::2"]
    assert names.ask("db", dns.AAAA)[:2] == (0, [])
    assert names.ask("db", 15)[:2] == (0, [])
    assert names.ask("0123456789ab").values == ["172.18.0.2"]
    assert names.ask_tcp("www").values == ["172.18.0.2", "172.18.0.3"]
    assert names.ask("2.0.18.172.in-addr.arpa", dns.PTR).values == ["web.net"]
    assert names.ask("9.0.18.172.in-addr.arpa", dns.PTR).code == dns.NAME_ERROR
    assert names.ask("old").code == dns.NAME_ERROR


def test_a_shared_name_leads_to_each_of_its_containers_in_turn(world, netns):
    names = Answering(world, netns, files=(put(world, WEB, DB),))

    firsts = {names.ask("www").raw[-20:] for _ in range(50)}

    assert len(firsts) == 2


def test_a_change_of_the_file_is_seen_at_once(world, netns):
    path = put(world, WEB)
    names = Answering(world, netns, files=(path,))
    assert names.ask("web").values == ["172.18.0.2"]

    put(world, endpoint("web", addresses=("172.18.0.9/16",)))
    assert names.ask("web").values == ["172.18.0.9"]
    os.unlink(path)
    with serving(says(code=dns.NAME_ERROR)):
        assert names.ask("web").code == dns.NAME_ERROR
    put(world, WEB)
    assert names.ask("web").values == ["172.18.0.2"]


def test_a_container_knows_the_names_of_its_own_networks_and_its_own_links(world, netns):
    other = Network(id="n2", name="other", created_ns=0, subnets=(Subnet(subnet="10.9.0.0/24"),))
    files = (put(world, WEB), put(world, endpoint("secret", addresses=("10.9.0.2/24",)), network=other))
    names = Answering(world, netns, files=files[:1], links=(("Site", "0123456789ab"),))

    with serving(says("192.0.2.7")) as server:
        assert names.ask("site").values == ["172.18.0.2"]
        assert not server.asked
        assert names.ask("secret").values == ["192.0.2.7"]
        names.container.link.ask(m.AnswerNames(files=files))
        assert names.ask("secret").values == ["10.9.0.2"]
        assert names.ask("site").values == ["192.0.2.7"]


# --------------------------------------------------------------------------------------------------- other servers


def test_other_names_are_asked_of_the_hosts_servers_from_random_ports_under_random_ids(world, netns):
    names = Answering(world, netns, files=())

    with serving(says("192.0.2.7")) as server:
        for _ in range(10):
            assert names.ask("example.org", size=65000).values == ["192.0.2.7"]
        assert names.ask_tcp("example.org").values == ["192.0.2.7"]

    over_udp = [(data, port) for data, transport, port in server.asked if transport == "udp"]
    assert len({data[:2] for data, _ in over_udp}) > 5
    assert len({port for _, port in over_udp}) > 5
    assert all(dns.read_query(data).limit == 4096 for data, _ in over_udp)
    assert server.asked[-1][1] == "tcp"


def test_the_hosts_resolv_conf_is_followed(world, netns, host_resolv_conf):
    names = Answering(world, netns, files=())

    with serving(says("192.0.2.1")), serving(says("192.0.2.2"), "127.0.0.2"), serving(says("192.0.2.3"), "::1"):
        assert names.ask("example.org").values == ["192.0.2.1"]
        host_resolv_conf("search x\nnameserver 127.0.0.2\n")
        assert names.ask("example.org").values == ["192.0.2.2"]
        host_resolv_conf("nameserver fe80::1%nothing\nnameserver ::1%lo\n")
        assert names.ask("example.org").values == ["192.0.2.3"]
        assert names.ask_tcp("example.org").values == ["192.0.2.3"]


@pytest.mark.parametrize("first", ["nobody", "silent", "failing"])
def test_the_next_server_is_asked_when_one_fails_and_the_silent_one_last_from_then_on(
    world, netns, host_resolv_conf, first
):
    host_resolv_conf("nameserver 127.0.0.3\nnameserver 127.0.0.2\n")
    names = Answering(world, netns, files=())
    answers = {"silent": lambda _data, _transport: [], "failing": says(code=dns.SERVER_FAILURE)}

    with serving(says("192.0.2.2"), "127.0.0.2"):
        if first == "nobody":
            assert names.ask("example.org").values == ["192.0.2.2"]
            return
        with serving(answers[first], "127.0.0.3") as failing:
            assert names.ask("first.example").values == ["192.0.2.2"]
            assert names.ask("second.example").values == ["192.0.2.2"]
            assert any(b"first" in data for data, _, _ in failing.asked)
            assert any(b"second" in data for data, _, _ in failing.asked) == (first == "failing")


def test_failure_is_the_answer_when_nobody_has_another(world, netns):
    names = Answering(world, netns, files=())

    assert names.ask("example.org").code == dns.SERVER_FAILURE
    with serving(says(code=dns.REFUSED)):
        assert names.ask("example.org").code == dns.REFUSED


def test_answers_of_others_are_not_taken(world, netns):
    names = Answering(world, netns, files=())

    def answers(data, _transport):
        right, wrong = says("192.0.2.7")(data, "udp")[0], says("6.6.6.6")(data, "udp")[0]
        wrong_id = bytes([wrong[0] ^ 1]) + wrong[1:]
        wrong_name = wrong.replace(b"example", b"exbmple")
        return [b"", b"x", wrong_id, wrong_name, data, b"\xc0\x0c" * 400, right]

    with serving(answers):
        assert names.ask("example.org").values == ["192.0.2.7"]


def test_a_truncated_answer_is_passed_on_and_the_whole_one_goes_over_tcp(world, netns):
    names = Answering(world, netns, files=())
    many = [f"10.{a}.{b}.1" for a in range(40) for b in range(100)]

    def answers(data, transport):
        asked = dns.read_query(data)
        whole = says(*many)(data, transport)
        return whole if transport == "tcp" else [dns.truncated(asked)]

    with serving(answers):
        assert names.ask("example.org").truncated
        assert names.ask_tcp("example.org").values == sorted(many)


def test_an_answer_larger_than_a_datagram_may_be_is_one_to_be_asked_for_over_tcp(world, netns):
    names = Answering(world, netns, files=())

    with serving(says(*[f"10.0.{n // 200}.{n % 200}" for n in range(400)])):
        answer = names.ask("example.org")

    assert (answer.truncated, answer.values) == (True, [])


def test_on_an_internal_network_nobody_else_is_asked(world, netns):
    names = Answering(world, netns, files=(put(world, WEB),), forward=False)

    with serving(says("192.0.2.7")) as server:
        assert names.ask("example.org").code == dns.SERVER_FAILURE
        assert names.ask("web").values == ["172.18.0.2"]

    assert not server.asked


def test_with_ndots_a_short_name_gets_its_domain_first(world, netns):
    names = Answering(world, netns, files=(), qualified=True)

    with serving(says("192.0.2.7")):
        assert names.ask("short").code == dns.NAME_ERROR
        assert names.ask("short.example").values == ["192.0.2.7"]


def test_a_server_that_the_user_gave_is_asked_from_where_the_container_is(world, netns):
    names = Answering(world, netns, files=(), servers=("127.0.0.11", "127.0.0.5"))

    with serving(says("192.0.2.1")) as of_the_host:
        server = netns.inside(lambda: FakeServer(says("192.0.2.5"), "127.0.0.5"))
        try:
            assert names.ask("example.org").values == ["192.0.2.5"]
            assert names.ask_tcp("example.org").values == ["192.0.2.5"]
        finally:
            netns.inside(server.close)

    assert not of_the_host.asked
    assert os.stat(f"/proc/{names.container.shim_pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino


# ------------------------------------------------------------------------------------------------- hostile containers


def test_odd_messages_are_refused_and_answers_are_not_answered(world, netns):
    names = Answering(world, netns, files=(put(world, WEB),))
    odd = {
        query("web")[:2] + b"\x01\0\0\2" + query("web")[6:]: dns.FORM_ERROR,  # two questions
        query("web").replace(b"\3web\0", b"\xc0\x0c\xc0\x0c\0"): dns.FORM_ERROR,
        query("web")[:2] + b"\x28" + query("web")[3:]: dns.NOT_IMPLEMENTED,  # an update
        query("web", dns.AXFR): dns.REFUSED,
        query("web") + b"\0" * 3: 0,
    }

    def ask_odd():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.connect(("127.0.0.11", names.ports[0]))
            sock.send(b"")
            sock.send(b"short")
            sock.send(query("web")[:2] + b"\x81" + query("web")[3:])
            codes = []
            for data in odd:
                sock.send(data)
                codes.append(read(sock.recv(65535)).code)
            return codes

    assert netns.inside(ask_odd) == list(odd.values())


def test_a_flood_of_questions_leaves_log_attach_and_other_answers_their_turns(world, netns):
    names = Answering(world, netns, files=(put(world, WEB),))
    link = names.container.link
    stop = threading.Event()

    def flood():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            number = 0
            while not stop.is_set():
                number += 1
                name = "web" if number % 2 else f"x{number}.example"
                sock.sendto(query(name), ("127.0.0.11", names.ports[0]))

    floods = threading.Thread(target=lambda: netns.inside(flood))
    with serving(lambda _data, _transport: []):  # a server that never answers
        floods.start()
        try:
            until(lambda: netns.inside(lambda: _answers(names.ports[0])), "an answer", timeout_s=30)
            assert link.ask(m.Hello()).phase == "running"
            names.container.execute("echo", "still there")
            assert link.event(m.ExecExited).exit_code == 0
            assert private_kib(names.container.shim_pid) < 6 * 1024
            assert len(os.listdir(f"/proc/{names.container.shim_pid}/fd")) < 400
        finally:
            stop.set()
            floods.join()


def test_more_questions_than_may_be_asked_at_once_are_asked_one_after_the_other(world, netns):
    names = Answering(world, netns, files=())
    all_asked = threading.Event()

    def answers(data, transport):
        all_asked.wait(20)
        return says("192.0.2.7")(data, transport)

    def all_taken():
        with open("/proc/thread-self/net/udp") as file:
            (line,) = (line for line in file if f":{names.ports[0]:04X} 00000000:0000 " in line)
        return line.split()[4].endswith(":00000000")  # the receive queue

    def ask_many():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            with_room(sock)
            sock.settimeout(20)
            sock.connect(("127.0.0.11", names.ports[0]))
            for start in range(0, 400, 40):
                for number in range(start, start + 40):
                    sock.send(query("example.org", id=number))
                until(all_taken)
            all_asked.set()
            return {sock.recv(4096)[:4].hex() for _ in range(400)}

    with serving(answers):
        assert netns.inside(ask_many) == {f"{number:04x}8180" for number in range(400)}


def test_many_conversations_are_answered_a_few_kept_and_nonsense_ends(world, netns):
    names = Answering(world, netns, files=(put(world, WEB),))

    def converse():
        idle = [socket.create_connection(("127.0.0.11", names.ports[1]), timeout=20) for _ in range(40)]
        with socket.create_connection(("127.0.0.11", names.ports[1]), timeout=20) as sock:
            data = query("web")
            sock.sendall((len(data).to_bytes(2, "big") + data) * 100)
            answers = [read(read_message(sock)).values for _ in range(100)]
            sock.sendall(b"\xff\xff" + b"x" * 100)
            assert sock.recv(1) == b""
        for each in idle:
            each.close()
        return answers

    assert netns.inside(converse) == [["172.18.0.2"]] * 100
    assert len(os.listdir(f"/proc/{names.container.shim_pid}/fd")) < 40


# --------------------------------------------------------------------------------------------------------- kills


def test_a_killed_shims_successor_answers_on_the_same_ports(world, netns):
    names = Answering(world, netns, files=(put(world, WEB),))
    old = names.container.shim_pid

    os.kill(old, signal.SIGKILL)
    until(lambda: pid_gone(old), "the shim's end")
    status = names.container.reconnect()

    assert status.names == m.AnswerNames(files=(put(world, DB),))
    assert names.ask("db").values == ["172.18.0.3"]
    assert names.ask_tcp("db").values == ["172.18.0.3"]
    assert os.stat(f"/proc/{names.container.shim_pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino


def test_a_port_that_the_container_has_taken_meanwhile_is_taken_back_when_it_is_free(world, netns):
    names = Answering(world, netns, files=(put(world, WEB),))
    old = names.container.shim_pid

    def grab():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        os.kill(names.world.keeper_pid, signal.SIGSTOP)
        try:
            os.kill(old, signal.SIGKILL)
            until(lambda: in_state(old) == "Z", "the shim's end")
            sock.bind(("127.0.0.11", names.ports[0]))
        finally:
            os.kill(names.world.keeper_pid, signal.SIGCONT)
        return sock

    sock = netns.inside(grab)
    names.container.reconnect()
    sock.close()

    until(lambda: netns.inside(lambda: _answers(names.ports[0])), "an answer")


def _answers(port):
    try:
        return ask("web", port=port, timeout_s=0.2).values == ["172.18.0.2"]
    except OSError:
        return False


def test_nothing_keeps_the_network_namespace_when_the_container_has_ended(world, netns):
    names = Answering(world, netns, files=(put(world, WEB),))
    netns.let_go()

    names.container.link.ask(m.Signal(number=signal.SIGKILL))
    names.container.link.event(m.Exited)

    def bound():
        return f":{names.ports[0]:04X} " in Path("/proc/thread-self/net/udp").read_text()

    until(lambda: not netns.inside(bound), "the end of the socket")


def test_two_sockets_are_wanted_and_no_others(world):
    container = world.container()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for fds in ([], [ours.fileno()], [ours.fileno(), theirs.fileno()]):
            with pytest.raises(InvalidInput, match="answering names needs"):
                container.link.ask(m.AnswerNames(files=()), fds)
    container.link.ask(m.Forget())


def test_a_shim_that_has_not_been_asked_is_as_small_as_one_without_a_name_server(world, netns):
    without = [world.run("sleep", "1000") for _ in range(3)]
    idle = [Answering(world, netns, files=(put(world, WEB),)) for _ in range(3)]
    asked = [Answering(world, netns, files=(put(world, WEB),)) for _ in range(3)]
    for each in asked:
        for _ in range(100):
            each.ask("web")

    smallest = min(private_kib(c.shim_pid) for c in without)
    assert max(private_kib(n.container.shim_pid) for n in idle) < smallest + 150
    assert max(private_kib(n.container.shim_pid) for n in asked) < smallest + 750
