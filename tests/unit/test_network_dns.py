"""DNS messages, and the file of a network's names."""

import socket
import struct

import pytest
from hypothesis import example, given, strategies as st

from sampan.errors import InvalidInput
from sampan.network import dns, names, resolvconf
from sampan.spec.network import Endpoint, Network, Subnet

LABELS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63), min_size=1, max_size=4
).filter(
    lambda labels: len(".".join(labels)) < 254  # the longest name
)
TYPES = st.sampled_from([dns.A, dns.AAAA, dns.PTR, 15, 65, dns.ANY])


def message(name, type=dns.A, *, id=7, flags=0x0100, questions=1, klass=1, opt=None, beside=b""):
    """Put a query together; `opt` is (size, version)."""
    tail = b"" if opt is None else b"\0" + struct.pack(">HHBBHH", dns.OPT, opt[0], 0, opt[1], 0x8000, 0)
    header = struct.pack(">6H", id, flags, questions, 0, 0, len(tail) > 0)
    return header + dns.name(name) + struct.pack(">HH", type, klass) + tail + beside


def records(data):
    """Return (type, value) of an answer's records, and what its header says: (flags, counts)."""
    _, flags, questions, answers, _, additional = struct.unpack_from(">6H", data)
    at = 12
    while questions and data[at]:
        at += 1 + data[at]
    at += 5 if questions else 0
    found = []
    for _ in range(answers + additional):
        at += 2 if data[at] >= 0xC0 else 1
        type, _, _, length = struct.unpack_from(">HHIH", data, at)
        found.append((type, data[at + 10 : at + 10 + length]))
        at += 10 + length
    assert at == len(data)
    return found, flags


@given(LABELS, TYPES, st.integers(0, 65535), st.none() | st.tuples(st.integers(0, 65535), st.just(0)))
def test_a_query_is_read_as_it_was_asked(labels, type, id, opt):
    name = ".".join(labels)
    query = dns.read_query(message(name.upper(), type, id=id, opt=opt))

    assert query
    assert (query.id, query.name, query.type, query.klass) == (id, name.encode(), type, dns.IN)
    assert query.edns == (None if opt is None else 0)
    assert query.limit == min(4096, max(512, opt[0] if opt else 0))


@given(st.binary(max_size=80))
@example(struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c" * 4)  # a name that is a pointer to itself
@example(struct.pack(">6H", 1, 0x100, 1, 0xFFFF, 0xFFFF, 0xFFFF) + b"\0\0\1\0\1")
def test_what_is_no_query_is_refused_with_a_word(data):
    try:
        query = dns.read_query(data)
    except InvalidInput:
        refusal = dns.malformed(data)
        assert refusal is None or (refusal[:2] == data[:2] and dns.code(refusal) == dns.FORM_ERROR)
    else:
        assert query is None or dns.answer(query)[:2] == data[:2]


def test_an_answer_is_never_answered():
    data = message("web", flags=0x8100)

    assert dns.read_query(data) is None
    assert dns.malformed(data) is None


@given(LABELS, st.lists(st.binary(min_size=4, max_size=4), max_size=60), st.sampled_from([512, 1232, 65535]))
def test_as_many_addresses_as_fit_are_answered_and_the_rest_is_flagged(labels, addresses, limit):
    query = dns.read_query(message(".".join(labels), opt=(limit, 0)))
    assert query

    data = dns.answer(query, [dns.record(dns.A, a, 1) for a in addresses], limit=limit)

    found, flags = records(data)
    taken = [value for type, value in found if type == dns.A]
    assert len(data) <= limit
    assert taken == addresses[: len(taken)]
    assert bool(flags & 0x0200) == (len(taken) < len(addresses))
    assert [type for type, _ in found][-1] == dns.OPT


def test_the_answer_to_an_edns_version_that_is_not_there_says_so():
    query = dns.read_query(message("web", opt=(1232, 1)))
    assert query
    assert query.edns == 1

    data = dns.answer(query, code=dns.BAD_VERSION)

    assert dns.code(data) == 0
    assert data[-11:] == b"\0" + struct.pack(">HHBBHH", dns.OPT, 4096, 1, 0, 0, 0)


@pytest.mark.parametrize("label", [b"web 10.0.0.1", b"web\n", b"a.b", b"\t2", b"w\xc3\xa9b", b"\0"])
def test_a_label_that_no_name_of_ours_has_makes_it_none(label):
    data = message("x").replace(b"\1x\0", bytes([len(label)]) + label + b"\0")
    query = dns.read_query(data)

    assert query
    assert query.name == b""


def test_a_forwarded_query_has_another_id_and_asks_for_no_more_than_we_take():
    data = message("example.org", opt=(65535, 0))
    query = dns.read_query(data)
    assert query

    sent = dns.forwarded(query, data, 0x1234)

    again = dns.read_query(sent)
    assert again
    assert (again.id, again.question, again.limit) == (0x1234, query.question, 4096)
    assert len(sent) == len(data)
    assert b"\x10\x00" in sent[-11:]


def test_only_the_answer_to_the_question_is_taken():
    query = dns.read_query(message("Example.org"))
    assert query
    right = dns.answer(query._replace(id=9), [dns.record(dns.A, bytes(4), 1)])
    other = dns.read_query(message("example.net", id=9))
    assert other

    assert dns.is_answer(right, 9, query)
    assert dns.is_answer(right.replace(b"Example", b"eXAMPLE"), 9, query)
    assert dns.returned(right, query)[:2] == b"\0\7"
    assert not dns.is_answer(right, 8, query)
    assert not dns.is_answer(dns.answer(other), 9, query)
    assert not dns.is_answer(dns.answer(query._replace(id=9, question=query.question[:-3] + b"\x1c\0\1")), 9, query)
    assert not dns.is_answer(message("Example.org", id=9), 9, query)
    assert not dns.is_answer(right[:11], 9, query)
    assert not dns.is_answer(struct.pack(">6H", 9, 0x8100, 0, 0, 0, 0), 9, query)
    assert dns.is_answer(struct.pack(">6H", 9, 0x8101, 0, 0, 0, 0), 9, query)


@given(st.binary(max_size=600), LABELS)
def test_whatever_a_server_says_is_told_apart_without_harm(data, labels):
    query = dns.read_query(message(".".join(labels)))
    assert query

    assert dns.is_answer(data, 7, query) in (True, False)


@pytest.mark.parametrize("text", ["", "a..b", "a" * 64, ".".join(["a" * 63] * 4)])
def test_a_name_that_can_not_be_written_is_refused(text):
    with pytest.raises(InvalidInput, match="as a DNS name"):
        dns.name(text)


# ----------------------------------------------------------------------------------------------- the names file

NETWORK = Network(
    id="n1",
    name="MyNet",
    created_ns=0,
    subnets=(Subnet(subnet="172.18.0.0/20"), Subnet(subnet="fd00:1::/64")),
)


def endpoint(*names, addresses):
    return Endpoint(id="e", network="n1", container="c", interface="eth0", names=names, addresses=addresses)


WEB = endpoint("Web", "www", "0123456789ab", addresses=("172.18.0.2/20", "fd00:1::2/64"))
DB = endpoint("db", "www", addresses=("172.18.0.3/20",))
FILE = names.text(NETWORK, [WEB, DB], absent=["old", "www"])
HEAD = names.read_head(FILE)


def found(name):
    addresses = names.find(FILE, HEAD, name)
    if addresses is None:
        return None
    return [socket.inet_ntop(socket.AF_INET if len(a) == 4 else socket.AF_INET6, a) for a in addresses]


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        (b"web", ["172.18.0.2", "fd00:1::2"]),
        (b"web.mynet", ["172.18.0.2", "fd00:1::2"]),
        (b"www", ["172.18.0.2", "fd00:1::2", "172.18.0.3"]),
        (b"0123456789ab", ["172.18.0.2", "fd00:1::2"]),
        (b"old", []),
        (b"eb", None),
        (b"we", None),
        (b"web.other", None),
        (b"mynet", None),
        (b"sampan", None),
        (b"172.18.0.3", None),
    ],
)
def test_a_name_is_found_whole_with_and_without_its_network(name, addresses):
    assert found(name) == addresses


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (b"172.18.0.2", "Web.MyNet"),
        (b"fd00:1::2", "Web.MyNet"),
        (b"172.18.0.3", "db.MyNet"),
        (b"172.18.15.255", ""),
        (b"172.18.16.0", None),
        (b"fd00:1::3", ""),
        (b"fd00:2::2", None),
    ],
)
def test_an_address_has_the_name_of_its_container_or_none_or_is_elsewhere(address, name):
    assert names.find_reverse(FILE, HEAD, names.reversed_name(address)) == name


@pytest.mark.parametrize("name", [b"2.0.18.in-addr.arpa", b"in-addr.arpa", b"x.2.ip6.arpa", b"a.b.c.d.in-addr.arpa"])
def test_what_is_half_an_address_is_nobody_s(name):
    assert names.find_reverse(FILE, HEAD, name) is None


@pytest.mark.parametrize("data", [b"", b"\n", b"sampan names 2 x\nweb 1.2.3.4\n", b"garbage"])
def test_another_file_has_no_network(data):
    assert names.read_head(data) == names.Head(b"", ())


def test_a_name_that_nobody_can_ask_for_is_left_out():
    text = names.text(
        NETWORK, [endpoint("ok", "a b", "a\nevil 10.0.0.1", "", "é", "x" * 300, addresses=("1.2.3.4/8",))]
    )

    assert text.splitlines()[1:] == [b"ok 1.2.3.4", b"\t4.3.2.1.in-addr.arpa ok.MyNet"]


# ------------------------------------------------------------------------------------------------- resolv.conf


def test_a_resolv_conf_is_read_as_resolvers_do():
    text = """\
# made by somebody
; and me
nameserver 192.0.2.1   # the router
nameserver fe80::1%eth0
nameserver not.an.address
nameserver 127.0.0.53
nameserver 192.0.2.9
search a.example b.example
domain c.example
options edns0
options ndots:2 trust-ad
sortlist 130.155.160.0/255.255.240.0
nameserver
"""
    read = resolvconf.read(text)

    assert read.servers == ("192.0.2.1", "fe80::1%eth0", "127.0.0.53", "192.0.2.9")
    assert read.search == ("c.example",)
    assert read.options == ("edns0", "ndots:2", "trust-ad")
    assert read.others == ("sortlist 130.155.160.0/255.255.240.0", "nameserver")
    assert resolvconf.asked(text) == read.servers[:3]


def test_without_a_name_server_this_machine_is_asked():
    assert resolvconf.asked("search example.org\n") == ("127.0.0.1",)


@given(st.text(max_size=300))
def test_any_resolv_conf_is_read(text):
    assert all(map(resolvconf.is_address, resolvconf.asked(text)))
