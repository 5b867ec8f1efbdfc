"""A container's own /etc/hosts and /etc/resolv.conf, against what Docker writes."""

import pytest
from hypothesis import given, strategies as st

from sampan.engine import files
from sampan.engine.files import ALONE, Networked
from sampan.errors import InvalidInput
from sampan.spec.docker import HostConfig

HOST = """\
nameserver 127.0.0.53
nameserver 10.255.255.53
nameserver fd00::53
search a.example b.example
options edns0 trust-ad
sortlist 1.2.3.4
"""
LOCAL = "nameserver 127.0.0.53\noptions edns0\n"
BRIDGE = Networked(addresses=("172.17.0.2",), gateways=("172.17.0.1",))
RESOLVED = Networked(addresses=("172.18.0.2",), resolver=True)


def config(mode="bridge", **fields):
    return HostConfig(network_mode=mode, **fields)


@pytest.mark.parametrize(
    ("host_config", "networked", "text"),
    [
        (config(), BRIDGE, "nameserver 10.255.255.53\nsearch a.example b.example\noptions edns0 trust-ad\n"),
        (
            config(),
            BRIDGE._replace(ipv6=True),
            "nameserver 10.255.255.53\nnameserver fd00::53\nsearch a.example b.example\noptions edns0 trust-ad\n",
        ),
        (
            config("net"),
            RESOLVED,
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\n",
        ),
        (
            config("net", dns=("9.9.9.9",), dns_search=("x.example",), dns_options=("ndots:2",)),
            RESOLVED,
            "nameserver 127.0.0.11\nsearch x.example\noptions ndots:2\n",
        ),
        (
            config("net", dns_options=("ndots:many", "timeout:1")),
            RESOLVED,
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions timeout:1 ndots:0\n",
        ),
        (
            config(dns=("127.0.0.1",), dns_search=(".",), dns_options=("timeout:1",)),
            BRIDGE,
            "nameserver 127.0.0.1\noptions timeout:1\n",
        ),
        (
            config("none"),
            ALONE,
            HOST.removesuffix("sortlist 1.2.3.4\n"),
        ),
    ],
)
def test_resolv_conf_is_what_docker_writes(host_config, networked, text):
    assert files.resolv_conf(host_config, HOST, networked) == text + "sortlist 1.2.3.4\n"


@pytest.mark.parametrize(
    ("host_config", "host_file", "ipv6", "needs"),
    [
        (config(), HOST, False, False),
        (config(), LOCAL, False, True),
        (config(), "", False, True),
        (config(), "nameserver fd00::53\n", False, True),
        (config(), "nameserver fd00::53\n", True, False),
        (config(dns=("9.9.9.9",)), LOCAL, False, False),
    ],
)
def test_on_the_default_bridge_a_resolver_is_needed_where_the_hosts_can_not_be_asked(
    host_config, host_file, ipv6, needs
):
    assert files.needs_resolver(host_config, host_file, ipv6=ipv6) is needs


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", False), ("options ndots:0", False), ("options ndots:2 x", True), ("options ndots:2\noptions ndots:0", False),
     ("options ndots:x", False), ("options xndots:3", False)],
)  # fmt: skip
def test_whether_resolvers_add_a_domain_is_read_as_they_do(text, expected):
    assert files.qualified(text) is expected


@pytest.mark.parametrize(
    "given",
    [{"dns": ("example.org",)}, {"dns": ("1.2.3.4\nx",)}, {"dns_search": ("a b",)}, {"dns_options": ("x\ny",)}],
)
def test_what_would_be_another_line_is_refused(given):
    with pytest.raises(InvalidInput):
        files.resolv_conf(config(**given), HOST, BRIDGE)


LOOPBACK = """\
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
ff00::0	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
"""


@pytest.mark.parametrize(
    ("host_config", "names", "networked", "text"),
    [
        (config("none"), "h1", ALONE, "127.0.1.1\th1\n"),
        (config(), "h1", BRIDGE, "172.17.0.2\th1\n"),
        (
            config(extra_hosts=("a:1.2.3.4", "gw:host-gateway", "six:[fd00::1]", "s:::1")),
            "h1.dom.example h1",
            BRIDGE,
            "1.2.3.4\ta\n172.17.0.1\tgw\nfd00::1\tsix\n::1\ts\n172.17.0.2\th1.dom.example h1\n",
        ),
        (config("net"), "h1", Networked(addresses=("172.19.0.2", "fd00:9::2")), "172.19.0.2\th1\nfd00:9::2\th1\n"),
        (
            config(),
            "h1",
            BRIDGE._replace(linked=(("172.17.0.9", ("db", "67ce2cb6d7e4", "other")),)),
            "172.17.0.9\tdb 67ce2cb6d7e4 other\n172.17.0.2\th1\n",
        ),
    ],
)
def test_hosts_is_what_docker_writes(host_config, names, networked, text):
    assert files.hosts(host_config, names, networked) == LOOPBACK + text


@pytest.mark.parametrize(
    ("name", "domain", "names"),
    [
        ("web", "", "web"),
        ("web", "example.org", "web.example.org web"),
        ("web.example.org", "", "web.example.org web"),
        ("web.sea", "example.org", "web.sea.example.org web"),
    ],
)
def test_a_host_name_with_a_domain_is_in_hosts_without_it_too(name, domain, names):
    assert files.full_names(name, domain) == names


def test_with_the_hosts_network_its_hosts_file_is_taken_and_its_gateway_is_loopback():
    text = files.hosts(config("host", extra_hosts=("gw:host-gateway",)), "h1", ALONE, "127.0.0.1\tlocalhost me\n")

    assert text == "127.0.0.1\tlocalhost me\n127.0.0.1\tgw\n"


@pytest.mark.parametrize(
    "entry", ["a", ":1.2.3.4", "a:", "a:b", "a:1.2.3", "a b:1.2.3.4", "a\nb:1.2.3.4", "a:1.2.3.4\n"]
)
def test_a_wrong_add_host_is_refused(entry):
    with pytest.raises(InvalidInput, match="add-host"):
        files.extra_hosts([entry])


def test_a_running_containers_hosts_keeps_what_it_wrote_itself():
    text = LOOPBACK + "172.17.0.2\th1\n10.0.0.1\tmine\n172.17.0.9\tdb 67ce other\n172.18.0.2 h1 # of my own\nlast"
    before, after = ["172.17.0.2\th1\n"], ["172.17.0.7\tdb 67ce other\n", "172.18.0.5\th1\n", "fd00::5\th1\n"]

    changed = files.with_lines(text, before, {"db 67ce other"}, after)

    assert changed == LOOPBACK + "10.0.0.1\tmine\n172.18.0.2 h1 # of my own\nlast\n" + "".join(after)
    assert files.with_lines(changed, after, (), after[:2]) == changed.replace("fd00::5\th1\n", "")


LINES = st.lists(st.ip_addresses(v=4).map(lambda address: f"{address}\th1\n"), unique=True)


@given(st.text(), LINES, LINES)
def test_after_a_change_the_present_lines_are_there_once(text, old, new):
    after = files.with_lines(text, old, (), new)

    assert files.with_lines(after, new, (), new) == after
    assert all(after.splitlines(keepends=True).count(line) == 1 for line in new)
