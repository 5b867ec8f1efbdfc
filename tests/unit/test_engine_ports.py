"""What a body says of ports, how Docker tells it, and what an update makes of it."""

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from sampan.cli.body_ports import bindings_of as bindings_of_words
from sampan.cli.failure import Failure
from sampan.engine.port_bindings import Wanted, exposed, in_range, port_map, summaries, wanted
from sampan.engine.port_changes import change
from sampan.engine.port_sockets import Owners, sockets_of
from sampan.errors import InvalidInput, NotFound
from sampan.spec import docker
from sampan.spec.network import PublishedPort


def body(bindings=None, exposes=(), **host):
    given = {
        key: tuple(docker.PortBinding(host_ip=ip, host_port=port) for ip, port in pairs)
        for key, pairs in (bindings or {}).items()
    }
    host_config = docker.HostConfig(port_bindings=given or None, **host)
    listens = {port: {} for port in (*given, *exposes)}
    return docker.ContainerCreate(image="x", exposed_ports=listens or None, host_config=host_config)


def bindings_of(body):
    given = body.host_config.port_bindings or {}
    return {key: [(one.host_ip, one.host_port) for one in pairs] for key, pairs in given.items()}


def everywhere(number, container_port, protocol="tcp"):
    return tuple(
        PublishedPort(protocol=protocol, host_address=address, host_port=number, container_port=container_port)
        for address in ("0.0.0.0", "::")
    )


@pytest.mark.parametrize(
    ("key", "pairs", "expected"),
    [
        ("80/tcp", [("", "8080")], [Wanted("tcp", 80, "", 8080, 8080)]),
        ("80", [("", "8080")], [Wanted("tcp", 80, "", 8080, 8080)]),
        ("53/UDP", [("", "")], [Wanted("udp", 53, "", 0, 0)]),
        ("53/udp", [("", "0")], [Wanted("udp", 53, "", 0, 0)]),
        ("80/tcp", [("127.0.0.1", "8000-8010")], [Wanted("tcp", 80, "127.0.0.1", 8000, 8010)]),
        ("80/tcp", [("::1", "1")], [Wanted("tcp", 80, "::1", 1, 1)]),
        ("80/tcp", [("0:0:0::1", "1")], [Wanted("tcp", 80, "::1", 1, 1)]),
        ("80/tcp", [("::ffff:10.0.0.1", "1")], [Wanted("tcp", 80, "10.0.0.1", 1, 1)]),
        ("80/tcp", [("0.0.0.0", "1")], [Wanted("tcp", 80, "0.0.0.0", 1, 1)]),
        ("80/tcp", [("0.0.0.0", "1"), ("::", "1")], [Wanted("tcp", 80, "", 1, 1)]),
        ("80/tcp", [("::", "1"), ("0.0.0.0", "1")], [Wanted("tcp", 80, "", 1, 1)]),
        (
            "80/tcp",
            [("0.0.0.0", "1"), ("::", "2")],
            [Wanted("tcp", 80, "0.0.0.0", 1, 1), Wanted("tcp", 80, "::", 2, 2)],
        ),
        ("80/sctp", [], []),
    ],
)
def test_a_binding_says_what_is_to_be_published(key, pairs, expected):
    assert list(wanted(body({key: pairs}))) == expected


@pytest.mark.parametrize(
    ("key", "pair", "words"),
    [
        ("80/tcp", ("", "x"), 'invalid port specification: "x"'),
        ("80/tcp", ("", "70000"), 'invalid port specification: "70000"'),
        ("80/tcp", ("", "1-2-3"), 'invalid port specification: "1-2-3"'),
        ("80/tcp", ("", "2-1"), 'invalid port specification: "2-1"'),
        ("80/tcp", ("", "-1"), 'invalid port specification: "-1"'),
        ("80/tcp", ("", "٨"), "invalid port specification"),
        ("80-82/tcp", ("", "1"), 'invalid port specification: "80-82"'),
        ("0/tcp", ("", "1"), 'invalid port specification: "0"'),
        ("x", ("", "1"), 'invalid port specification: "x"'),
        ("80/icmp", ("", "1"), "invalid proto: icmp"),
        ("80/", ("", "1"), "invalid proto: "),
        ("80/tcp", ("localhost", "1"), "invalid IP address: localhost"),
        ("80/tcp", ("1.2.3.4/8", "1"), "invalid IP address"),
        ("80/tcp", ("fe80::1%eth0", "1"), "invalid IP address"),
    ],
)
def test_what_is_no_port_is_refused(key, pair, words):
    with pytest.raises(InvalidInput) as refused:
        wanted(body({key: [pair]}))

    assert refused.value.message.startswith(words)


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
@example("80/tcp", "", "9" * 5000)
@example("9" * 5000, "", "")
@example("80/tcp", "::%1", "1")
def test_whatever_a_client_says_is_a_port_or_refused(key, address, number):
    try:
        found = wanted(body({key: [(address, number)]}))
    except InvalidInput:
        return

    assert all(0 < one.container_port < 65536 and 0 <= one.first <= one.last < 65536 for one in found)


# Without zeros: Docker's client lets port 0 of a container pass.
@given(st.from_regex(r"[][1-9a-f:./\-,=tcpud]{0,24}", fullmatch=True))
def test_the_server_reads_what_the_command_line_makes_of_a_port(text):
    try:
        bindings = bindings_of_words([text])
    except Failure:
        return

    given = msgspec.convert({"PortBindings": bindings}, docker.HostConfig)
    assert wanted(docker.ContainerCreate(image="x", host_config=given))


def test_publish_all_publishes_what_is_exposed_and_has_no_binding():
    asked = body({"80/tcp": [("", "8080")]}, ["90/tcp", "53/udp", "nonsense"], publish_all_ports=True)

    assert wanted(asked) == (
        Wanted("tcp", 80, "", 8080, 8080),
        Wanted("udp", 53, "", 0, 0),
        Wanted("tcp", 90, "", 0, 0),
    )
    assert exposed(asked) == [(53, "udp"), (80, "tcp"), (90, "tcp")]


def test_inspect_shows_what_is_published_and_what_is_only_exposed():
    ports = port_map(body(exposes=["80/tcp", "90/tcp"]), everywhere(8080, 80))

    assert msgspec.json.decode(msgspec.json.encode(ports)) == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "90/tcp": None,
    }


def test_a_list_shows_the_same():
    ports = summaries(port_map(body(exposes=["80/tcp", "90/tcp"]), everywhere(8080, 80)))

    assert msgspec.json.decode(msgspec.json.encode(ports)) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 90, "Type": "tcp"},
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("80", True), ("80/tcp", True), ("80/udp", False), ("70-90", True), ("81-90/tcp", False), ("53/udp", True)],
)
def test_a_filter_names_a_port_or_a_range_of_them(value, expected):
    assert in_range(value, [(80, "tcp"), (53, "udp")], "expose") is expected


@pytest.mark.parametrize("value", ["", "x", "80-x", "/tcp"])
def test_a_filter_that_names_no_port_is_refused(value):
    with pytest.raises(InvalidInput, match="invalid filter 'publish="):
        in_range(value, [(80, "tcp")], "publish")


@pytest.mark.parametrize(
    ("address", "number", "expected"),
    [
        ("0.0.0.0", 80, "a"),
        ("127.0.0.1", 80, "a"),
        ("::1", 80, ""),
        ("0.0.0.0", 81, "b"),
        ("10.0.0.1", 81, "b"),
        ("10.0.0.2", 81, ""),
        ("::", 82, "c"),
        ("0.0.0.0", 83, ""),
    ],
)
def test_a_number_is_taken_on_one_address_by_who_has_it_on_all(address, number, expected):
    owners = Owners()
    for name, at, taken in (("a", "0.0.0.0", 80), ("b", "10.0.0.1", 81), ("c", "::1", 82)):
        owners.add(PublishedPort(host_address=at, host_port=taken, container_port=1), name)

    assert owners.of("tcp", (address,), number) == expected
    assert owners.of("udp", (address,), number) == ""


def test_one_socket_is_for_both_versions_of_ip():
    alone = PublishedPort(host_address="::", host_port=81, container_port=80)

    assert [port.place for port in sockets_of((*everywhere(80, 80), alone))] == [("tcp", "::", 81), ("tcp", "", 80)]


# ------------------------------------------------------------------------------------------------------------ updates


def update(add=None, remove=()):
    return msgspec.convert(
        {
            "Add": {
                key: [{"HostIp": ip, "HostPort": port} for ip, port in pairs] for key, pairs in (add or {}).items()
            },
            "Remove": [{"HostIp": ip, "HostPort": port, "Type": kind} for ip, port, kind in remove],
        },
        docker.PortsUpdate,
    )


def test_an_added_port_is_in_the_body_from_then_on_and_exposed():
    changed = change(body({"80/tcp": [("", "8080")]}), everywhere(8080, 80), update({"81/tcp": [("", "8081")]}))

    assert bindings_of(changed.body) == {"80/tcp": [("", "8080")], "81/tcp": [("", "8081")]}
    assert set(changed.body.exposed_ports) == {"80/tcp", "81/tcp"}
    assert (changed.gone, changed.added) == ((), (Wanted("tcp", 81, "", 8081, 8081),))


@pytest.mark.parametrize("live", [True, False])
def test_a_removed_port_is_named_by_the_host_s_number(live):
    ports = (*everywhere(8080, 80), *everywhere(8081, 80)) if live else ()
    asked = body({"80/tcp": [("", "8080"), ("", "8081")]})

    changed = change(asked, ports, update(remove=[("", "8080", "tcp")]))

    assert bindings_of(changed.body) == {"80/tcp": [("", "8081")]}
    assert changed.gone == (everywhere(8080, 80) if live else ())


def test_a_port_moves_to_another_one_of_the_container_in_one_update():
    asked = body({"80/tcp": [("", "8080")]})

    changed = change(asked, everywhere(8080, 80), update({"81/tcp": [("", "8080")]}, [("", "8080", "tcp")]))

    assert bindings_of(changed.body) == {"81/tcp": [("", "8080")]}
    assert len(changed.gone) == 2


def test_a_random_port_is_removed_by_the_number_that_it_has_now():
    asked = body({"80/tcp": [("", "")], "81/tcp": [("", "")]})

    changed = change(asked, (*everywhere(32768, 80), *everywhere(32769, 81)), update(remove=[("", "32769", "tcp")]))

    assert bindings_of(changed.body) == {"80/tcp": [("", "")]}


def test_a_range_of_ports_is_removed_at_once():
    ports = tuple(port for n in range(5) for port in everywhere(8000 + n, 80 + n))
    asked = body({f"{80 + n}/tcp": [("", str(8000 + n))] for n in range(5)})

    changed = change(asked, ports, update(remove=[("", "8001-8003", "tcp")]))

    assert list(bindings_of(changed.body)) == ["80/tcp", "84/tcp"]
    assert len(changed.gone) == 6


def test_of_publish_all_the_other_ports_stay_published():
    asked = body(exposes=["80/tcp", "81/tcp"], publish_all_ports=True)

    changed = change(asked, (*everywhere(32768, 80), *everywhere(32769, 81)), update(remove=[("", "32769", "tcp")]))

    assert bindings_of(changed.body) == {"80/tcp": [("", "")]}
    assert not changed.body.host_config.publish_all_ports


def test_one_of_two_addresses_is_removed():
    ports = tuple(PublishedPort(host_address=a, host_port=80, container_port=80) for a in ("127.0.0.1", "::1"))
    asked = body({"80/tcp": [("127.0.0.1", "80"), ("::1", "80")]})

    changed = change(asked, ports, update(remove=[("::1", "80", "tcp")]))

    assert bindings_of(changed.body) == {"80/tcp": [("127.0.0.1", "80")]}
    assert changed.gone == ports[1:]


def test_a_port_of_every_address_is_not_removed_from_one():
    with pytest.raises(InvalidInput, match="published on every address: leave the address out"):
        change(body({"80/tcp": [("", "8080")]}), everywhere(8080, 80), update(remove=[("::", "8080", "tcp")]))


@pytest.mark.parametrize(
    "remove", [("", "8081", "tcp"), ("", "8080", "udp"), ("127.0.0.1", "8080", "tcp"), ("", "80", "tcp")]
)
@pytest.mark.parametrize("ports", [everywhere(8080, 80), ()])
def test_what_is_not_published_can_t_be_removed(remove, ports):
    with pytest.raises(NotFound, match="is not published"):
        change(body({"80/tcp": [("", "8080")]}), ports, update(remove=[remove]))
