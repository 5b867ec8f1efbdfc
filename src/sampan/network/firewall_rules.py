"""The rules of sampan's table, as data in the words of nft(8).

They never change while the table lives: which bridges, subnets and ports there are is in the sets and maps.
A packet's way:

    early        no packet of another host, and of no container, is from or for 127.0.0.0/8: `route_localnet`, which our
                 bridges have, would open what the host keeps on its loopback
    prerouting   what is for an address of the host, and for a published port, is led to the container …
    output       … and so is what the host itself sends there
    leaving      what comes from a container: to others of its network, to the world, to published ports; not to other
                 networks, and nowhere from an internal one
    arriving     what comes to a container: answers, and what a published port led there; nothing else
    postrouting  what leaves has the host's address; so has what would otherwise be answered past the host: a
                 connection from the host's loopback, or between containers by way of a published port

Packets that are let pass are marked if somebody else's chain drops what is forwarded: see `gates`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

MARK = 0x10000000
"""The bit of a packet's mark that says it was let pass. Set only where another's chain must be told."""

Field = Literal[
    "iifname",
    "oifname",
    "meta nfproto",
    "meta l4proto",
    "ip saddr",
    "ip daddr",
    "ip6 saddr",
    "ip6 daddr",
    "th dport",
    "udp dport",
    "udp sport",
    "tcp dport",
    "tcp sport",
    "fib daddr type",
    "fib daddr . iif type",
]


class Statement(msgspec.Struct, frozen=True, tag=True):
    """A part of a rule."""

    def nft(self) -> str:
        """Write it in the language of nft."""
        raise NotImplementedError


class Is(Statement, frozen=True):
    """A field has a value, or has it not."""

    field: Field
    value: str
    inverted: bool = False

    def nft(self) -> str:
        value = f'"{self.value}"' if self.field in ("iifname", "oifname") else self.value
        return f"{self.field} {'!= ' if self.inverted else ''}{value}"


class InSet(Statement, frozen=True):
    """Fields are in a set, or are not."""

    fields: tuple[Field, ...]
    name: str
    inverted: bool = False

    def nft(self) -> str:
        return f"{' . '.join(self.fields)} {'!= ' if self.inverted else ''}@{self.name}"


class Tracked(Statement, frozen=True):
    """Connection tracking knows the packet as one of these."""

    what: Literal["state", "status"]
    values: tuple[Literal["established", "related", "invalid", "dnat"], ...]

    def nft(self) -> str:
        return f"ct {self.what} {','.join(self.values)}"


class LeadBy(Statement, frozen=True):
    """Send the packet where a map leads its fields."""

    version: Literal["ip", "ip6"]
    fields: tuple[Field, ...]
    name: str

    def nft(self) -> str:
        return f"dnat {self.version} to {' . '.join(self.fields)} map @{self.name}"


class SetMark(Statement, frozen=True):
    """Set a bit of the packet's mark."""

    bit: int

    def nft(self) -> str:
        return f"meta mark set meta mark or {self.bit:#x}"


class HasMark(Statement, frozen=True):
    """A bit of the packet's mark is set."""

    bit: int

    def nft(self) -> str:
        return f"meta mark and {self.bit:#x} == {self.bit:#x}"


class SetPort(Statement, frozen=True):
    """Write another port into the packet, without any memory of it."""

    field: Literal["udp dport", "udp sport", "tcp dport", "tcp sport"]
    port: int

    def nft(self) -> str:
        return f"{self.field} set {self.port}"


class Masquerade(Statement, frozen=True):
    """Give the packet the address of the link by which it leaves."""

    def nft(self) -> str:
        return "masquerade"


class Verdict(Statement, frozen=True):
    """Decide, or go on in another chain."""

    word: Literal["accept", "drop", "return", "jump", "goto"]
    chain: str = ""

    def nft(self) -> str:
        return f"{self.word} {self.chain}".rstrip()


Rule = tuple[Statement, ...]

ACCEPT, DROP, RETURN = Verdict("accept"), Verdict("drop"), Verdict("return")


class Chain(msgspec.Struct, frozen=True):
    """A chain and its rules; `hook` is empty where no packet comes to it by itself."""

    name: str
    rules: tuple[Rule, ...]
    type: Literal["filter", "nat"] = "filter"
    hook: Literal["", "prerouting", "input", "forward", "output", "postrouting"] = ""
    priority: int = 0

    def nft(self) -> str:
        """Write it in the language of nft, indented once."""
        lines = [f"\tchain {self.name} {{"]
        if self.hook:
            lines.append(f"\t\ttype {self.type} hook {self.hook} priority {self.priority}; policy accept;")
        lines += ("\t\t" + " ".join(s.nft() for s in rule) for rule in self.rules)
        return "\n".join([*lines, "\t}"])


KeyType = Literal["ifname", "ipv4_addr", "ipv6_addr", "nf_proto", "inet_proto", "inet_service"]


class Set(msgspec.Struct, frozen=True):
    """A set, or a map where it has `data`. An element's key and data are text, as nft(8) writes it."""

    name: str
    key: tuple[KeyType, ...]
    data: tuple[KeyType, ...] = ()
    interval: bool = False

    def nft(self) -> str:
        """Write its declaration in the language of nft, indented once."""
        type = " . ".join(self.key) + (f" : {' . '.join(self.data)}" if self.data else "")
        flags = " flags interval;" if self.interval else ""
        return f"\t{'map' if self.data else 'set'} {self.name} {{ type {type};{flags} }}"


_ADDRESS: dict[str, KeyType] = {"4": "ipv4_addr", "6": "ipv6_addr"}
_PORT: tuple[KeyType, ...] = ("inet_proto", "inet_service")

SETS = (
    Set("bridges", ("ifname",)),
    Set("internal", ("ifname",)),  # those whose containers reach nothing beyond
    Set("within", ("ifname", "ifname")),  # a bridge and itself: those whose containers reach one another
    *(Set(f"subnets{v}", (_ADDRESS[v],), interval=True) for v in "46"),
    *(Set(f"masqueraded{v}", (_ADDRESS[v],), interval=True) for v in "46"),
    Set("marked", ("nf_proto",)),  # the versions of IP of which somebody else drops what is forwarded
    Set("closed", ("nf_proto",)),  # those that the host forwards because of us alone
    *(Set(f"every{v}", _PORT, (_ADDRESS[v], "inet_service")) for v in "46"),  # ports of every address
    *(Set(f"one{v}", (_ADDRESS[v], *_PORT), (_ADDRESS[v], "inet_service")) for v in "46"),  # of one
)
"""The sets and maps."""

_FROM_BRIDGE = InSet(("iifname",), "bridges")
_TO_BRIDGE = InSet(("oifname",), "bridges")
_BEYOND = InSet(("oifname",), "bridges", inverted=True)
_FROM_INTERNAL = InSet(("iifname",), "internal")
_TO_INTERNAL = InSet(("oifname",), "internal")
_KNOWN = Tracked("state", ("established", "related"))
_LED = Tracked("status", ("dnat",))
_PASS = Verdict("goto", "passing")
_OURS = Is("fib daddr type", "local")

CHAINS = (
    Chain(
        "early",
        (
            # CVE-2020-8558: neighbours and containers reached what listened on the loopback of a host.
            (Is("iifname", "lo", inverted=True), Is("ip daddr", "127.0.0.0/8"), DROP),
            (_FROM_BRIDGE, Is("ip saddr", "127.0.0.0/8"), DROP),
        ),
        hook="prerouting",
        priority=-300,
    ),
    Chain(
        "published",
        (
            (LeadBy("ip", ("ip daddr", "meta l4proto", "th dport"), "one4"),),
            (LeadBy("ip", ("meta l4proto", "th dport"), "every4"),),
            # From ::1 nothing can be led to another address; the shim relays what is sent there.
            (Is("ip6 daddr", "::1"), RETURN),
            (LeadBy("ip6", ("ip6 daddr", "meta l4proto", "th dport"), "one6"),),
            (LeadBy("ip6", ("meta l4proto", "th dport"), "every6"),),
        ),
    ),
    Chain(
        "prerouting",
        ((InSet(("iifname",), "internal", inverted=True), _OURS, Verdict("jump", "published")),),
        type="nat",
        hook="prerouting",
        priority=-100,
    ),
    Chain("output", ((_OURS, Verdict("jump", "published")),), type="nat", hook="output", priority=-100),
    Chain(
        "input",
        # Of the host an internal network reaches its bridge's own address.
        ((_FROM_INTERNAL, Is("fib daddr . iif type", "unicast"), DROP),),
        hook="input",
        priority=-10,
    ),
    Chain("passing", ((InSet(("meta nfproto",), "marked"), SetMark(MARK)), (ACCEPT,))),
    Chain(
        "leaving",
        (
            (_KNOWN, _PASS),
            (InSet(("iifname", "oifname"), "within"), _PASS),
            # What belongs to no connection would leave with the container's own address.
            (Tracked("state", ("invalid",)), DROP),
            (_FROM_INTERNAL, DROP),
            (_TO_INTERNAL, DROP),
            (_LED, _PASS),
            (_TO_BRIDGE, DROP),
            (_PASS,),
        ),
    ),
    Chain(
        "arriving",
        ((_KNOWN, _PASS), (_TO_INTERNAL, DROP), (_LED, _PASS), (DROP,)),
    ),
    Chain(
        "forward",
        (
            (_FROM_BRIDGE, Verdict("goto", "leaving")),
            (_TO_BRIDGE, Verdict("goto", "arriving")),
            (InSet(("meta nfproto",), "closed"), DROP),
        ),
        hook="forward",
        priority=-10,
    ),
    Chain(
        "postrouting",
        (
            (_TO_BRIDGE, Is("ip saddr", "127.0.0.0/8"), Masquerade()),
            (_TO_BRIDGE, _LED, InSet(("ip saddr",), "subnets4"), Masquerade()),
            (_TO_BRIDGE, _LED, InSet(("ip6 saddr",), "subnets6"), Masquerade()),
            (_BEYOND, InSet(("ip saddr",), "masqueraded4"), Masquerade()),
            (_BEYOND, InSet(("ip6 saddr",), "masqueraded6"), Masquerade()),
        ),
        type="nat",
        hook="postrouting",
        priority=100,
    ),
)
"""The chains, each after those that it leads to."""


def named(name: str) -> Set:
    """Return the set of that name."""
    return next(each for each in SETS if each.name == name)


def table_text(name: str) -> str:
    """Return the whole table without elements, as nft(8) reads it."""
    parts = [each.nft() for each in SETS] + [each.nft() for each in CHAINS]
    return "\n".join([f"table inet {name} {{", *parts, "}"])


def names_rules(udp_port: int, tcp_port: int) -> Chain:
    """Return the chain of a container's own table that leads 127.0.0.11:53 to the ports where names are answered.

    It rewrites ports there and back without connection tracking, which would cost every other packet of the container.
    """
    there: tuple[Rule, ...] = (
        (Is("ip daddr", NAMES_ADDRESS), Is("udp dport", "53"), SetPort("udp dport", udp_port)),
        (Is("ip daddr", NAMES_ADDRESS), Is("tcp dport", "53"), SetPort("tcp dport", tcp_port)),
    )
    back: tuple[Rule, ...] = (
        (Is("ip saddr", NAMES_ADDRESS), Is("udp sport", str(udp_port)), SetPort("udp sport", 53)),
        (Is("ip saddr", NAMES_ADDRESS), Is("tcp sport", str(tcp_port)), SetPort("tcp sport", 53)),
    )
    return Chain("output", there + back, hook="output", priority=-300)


NAMES_ADDRESS = "127.0.0.11"
"""Where a container finds its names; Docker's address."""
