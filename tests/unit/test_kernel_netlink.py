"""Netlink messages: what is encoded, as pyroute2 reads it, and what pyroute2 writes, as it is decoded."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from sampan.kernel import netlink, rtnetlink

MAC = "02:42:ac:11:00:02"
WRITE, SHUT = 0x400 | 0x100, 0x400 | 0x200  # CREATE with REPLACE, with EXCL


def read(message: type, request: netlink.Request):
    decoded = message(netlink.encode(request, 7))
    decoded.decode()
    assert decoded["header"]["length"] == len(decoded.data)
    return decoded


def plain(value):
    """Return nested attributes as nested dicts."""
    if isinstance(value, dict) and "attrs" in value:
        fields = {k: v for k, v in value.items() if v and k not in ("attrs", "header", "__align", "__pad")}
        return {k: v for k, v in fields.items() if (k, type(v)) != ("state", str)} | {
            a[0]: plain(a[1]) for a in value["attrs"]
        }
    return value


VETH = rtnetlink.veth_peer("eth0", rtnetlink.settings(mac=MAC, mtu=1400, namespace_fd=7))


@pytest.mark.parametrize(
    ("request_", "flags", "expected"),
    [
        (
            rtnetlink.new_link("br0", "bridge", settings=rtnetlink.settings(mac=MAC, mtu=1400)),
            SHUT,
            {
                "IFLA_IFNAME": "br0",
                "IFLA_ADDRESS": MAC,
                "IFLA_MTU": 1400,
                "IFLA_LINKINFO": {"IFLA_INFO_KIND": "bridge"},
            },
        ),
        (
            rtnetlink.new_link("v", "veth", VETH),
            SHUT,
            {
                "IFLA_IFNAME": "v",
                "IFLA_LINKINFO": {
                    "IFLA_INFO_KIND": "veth",
                    "IFLA_INFO_DATA": {
                        "VETH_INFO_PEER": {
                            "IFLA_IFNAME": "eth0",
                            "IFLA_ADDRESS": MAC,
                            "IFLA_MTU": 1400,
                            "IFLA_NET_NS_FD": 7,
                        }
                    },
                },
            },
        ),
        (
            rtnetlink.new_link("m", "macvlan", rtnetlink.macvlan("bridge"), settings=rtnetlink.settings(parent=3)),
            SHUT,
            {
                "IFLA_IFNAME": "m",
                "IFLA_LINK": 3,
                "IFLA_LINKINFO": {"IFLA_INFO_KIND": "macvlan", "IFLA_INFO_DATA": {"IFLA_MACVLAN_MODE": "bridge"}},
            },
        ),
        (
            rtnetlink.new_link("w", "vlan", rtnetlink.vlan(50), settings=rtnetlink.settings(parent=3)),
            SHUT,
            {
                "IFLA_IFNAME": "w",
                "IFLA_LINK": 3,
                "IFLA_LINKINFO": {"IFLA_INFO_KIND": "vlan", "IFLA_INFO_DATA": {"IFLA_VLAN_ID": 50}},
            },
        ),
        (
            rtnetlink.change_link(4, "v", rtnetlink.settings(master=2, alias="whose"), up=True),
            0,
            {"index": 4, "flags": 1, "change": 1, "IFLA_MASTER": 2, "IFLA_IFALIAS": "whose"},
        ),
        (rtnetlink.change_link(4, "v", up=False), 0, {"index": 4, "change": 1}),
        (
            rtnetlink.change_link(4, "v", rtnetlink.without_link_local()),
            0,
            {"index": 4, "IFLA_AF_SPEC": {"AF_INET6": {"IFLA_INET6_ADDR_GEN_MODE": 1}}},
        ),
        (
            rtnetlink.set_port(4, "v", isolated=True),
            0,
            {"index": 4, "family": 7, "IFLA_PROTINFO": {"IFLA_BRPORT_MODE": 1, "IFLA_BRPORT_ISOLATED": 1}},
        ),
        (rtnetlink.remove_link(4, "v"), 0, {"index": 4}),
    ],
    ids=["bridge", "veth", "macvlan", "vlan", "change", "down", "without fe80", "isolated", "remove"],
)
def test_links_are_encoded_as_pyroute2_reads_them(request_, flags: int, expected: dict) -> None:
    message = read(ifinfmsg, request_)

    assert plain(message) == expected
    assert message["header"]["flags"] == flags | 1


def test_an_ipvlans_mode_and_flag_are_sixteen_bits_each() -> None:
    found = netlink.attributes(rtnetlink.ipvlan("l3s", "vepa"))  # pyroute2 knows no flags of it

    assert {type: struct.unpack("=H", value)[0] for type, value in found.items()} == {1: 2, 2: 2}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("172.17.0.2/16", {"family": 2, "prefixlen": 16, "IFA_BROADCAST": "172.17.255.255"}),
        ("10.0.0.1/32", {"family": 2, "prefixlen": 32}),
        ("10.0.0.0/31", {"family": 2, "prefixlen": 31}),
        ("fd00::2/64", {"family": 10, "prefixlen": 64, "flags": 2}),
    ],
)
def test_addresses_are_encoded_with_broadcast_and_without_duplicate_detection(address: str, expected: dict) -> None:
    message = read(ifaddrmsg, rtnetlink.add_address(4, address))

    bare = address.partition("/")[0]
    assert plain(message) == {"index": 4, "IFA_LOCAL": bare, "IFA_ADDRESS": bare} | expected
    assert message["header"]["flags"] == WRITE | 1


@pytest.mark.parametrize(
    ("destination", "gateway", "expected"),
    [
        ("0.0.0.0/0", "172.17.0.1", {"family": 2, "RTA_GATEWAY": "172.17.0.1"}),
        ("::/0", "fd00::1", {"family": 10, "RTA_GATEWAY": "fd00::1"}),
        ("10.0.0.0/8", "", {"family": 2, "dst_len": 8, "scope": 253, "RTA_DST": "10.0.0.0"}),
    ],
)
def test_routes_are_encoded_as_pyroute2_reads_them(destination: str, gateway: str, expected: dict) -> None:
    message = read(rtmsg, rtnetlink.replace_route(destination, gateway, 4))

    assert plain(message) == {"table": 254, "proto": 3, "type": 1, "RTA_OIF": 4} | expected
    assert message["header"]["flags"] == WRITE | 1


def test_neighbours_are_encoded_as_pyroute2_reads_them() -> None:
    message = read(ndmsg, rtnetlink.replace_neighbour(4, "fd00::2", MAC))

    assert plain(message) == {"family": 10, "ifindex": 4, "state": 4, "NDA_DST": "fd00::2", "NDA_LLADDR": MAC}


def written(message, attrs: list, **fields) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data)[16:]


def test_a_link_is_decoded_as_pyroute2_writes_it() -> None:
    info = {"attrs": [["IFLA_INFO_KIND", "veth"]]}
    attrs = [
        ["IFLA_IFNAME", "eth0"], ["IFLA_MTU", 1500], ["IFLA_ADDRESS", MAC], ["IFLA_LINK", 9], ["IFLA_MASTER", 3],
        ["IFLA_IFALIAS", "whose"], ["IFLA_LINK_NETNSID", 0], ["IFLA_LINKINFO", info],
    ]  # fmt: skip
    body = written(ifinfmsg(), attrs, index=4, flags=1)

    expected = rtnetlink.Link(4, "eth0", "veth", MAC, 1500, 3, 9, "whose", up=True, elsewhere=True)
    assert rtnetlink.link(body) == expected


def test_routes_and_addresses_are_decoded_as_pyroute2_writes_them() -> None:
    attrs = [["RTA_DST", "10.8.0.0"], ["RTA_GATEWAY", "10.0.0.1"], ["RTA_OIF", 4], ["RTA_TABLE", 1000]]
    body = written(rtmsg(), attrs, family=2, dst_len=24, type=1)

    assert rtnetlink.route(body) == rtnetlink.Route("10.8.0.0/24", "10.0.0.1", 4, 1000, 1)
    body = written(ifaddrmsg(), [["IFA_ADDRESS", "fd00::2"]], family=10, prefixlen=64, index=4)
    assert rtnetlink.address(body) == (4, "fd00::2/64")


def test_the_kernels_own_words_about_a_refusal_come_after_errnos() -> None:
    request = rtnetlink.add_address(4, "10.0.0.1/8")
    words = netlink.text(netlink.NLMSGERR_ATTR_MSG, "ipv4: Device not found")
    body = struct.pack("=i", -19) + netlink.encode(request, 7)[:16] + words
    message = netlink.Message(netlink.NLMSG_ERROR, netlink.NLM_F_CAPPED | netlink.NLM_F_ACK_TLVS, 7, body)

    assert netlink.refusal(message) == (19, "ipv4: Device not found")
    error = netlink.NetlinkError(19, request, "Device not found.")
    assert str(error) == "RTM_NEWADDR 10.0.0.1/8: no such device: device not found"


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_readers(data: bytes) -> None:
    for _, value in netlink.each_attribute(data):
        assert len(value) <= len(data)
    for message in netlink.each_message(data):
        assert len(message.body) <= len(data)
