"""Others' chains that drop what is forwarded: found, and told what our table let pass.

A packet passes every base chain of its hook, and one that drops it has the last word: an accept of ours is none in
theirs. dockerd, ufw and firewalld each have such a chain. It gets one rule, which accepts packets with our mark: at the
place that is provided for others' rules (dockerd's DOCKER-USER), after those that are there, or else at the chain's
beginning. The rule's comment is the table's name; by it the rule is found again, and removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from sampan.kernel import nftables
from sampan.kernel.nftables import DROP, RETURN, Family, Hook, Message
from sampan.network import firewall_codec as codec
from sampan.network.audit import Obstacle
from sampan.network.firewall_ops import MARKED, AcceptMarked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sampan.kernel.netlink import Netlink, Request
    from sampan.kernel.nfnetlink import Nfnetlink

_PLACES = ("DOCKER-USER",)
"""Chains that their owners leave to others and go through first."""

_FAMILIES: dict[int, Literal["ip", "ip6", "inet"]] = {Family.INET: "inet", Family.IP: "ip", Family.IP6: "ip6"}
_VERSIONS = {Family.INET: ("ipv4", "ipv6"), Family.IP: ("ipv4",), Family.IP6: ("ipv6",)}
_SILENT = frozenset({"counter", "log"})
"""Expressions that every packet passes."""


class Gate(NamedTuple):
    """A chain that drops what is forwarded, and the chain in which an accept belongs."""

    family: Family
    table: str
    chain: str
    place: str

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of IP whose packets it sees."""
        return _VERSIONS[self.family]

    def __str__(self) -> str:
        return f"{_FAMILIES[self.family]} {self.table} {self.chain}"


class Others(NamedTuple):
    """What there is beside our table: chains that drop, and whether anybody else deals with forwarded packets."""

    gates: tuple[Gate, ...]
    forwarding: bool


def look(netlink: Netlink, own: str) -> Others:
    """Look at all chains but those of the table `own`."""
    chains = [c for c in map(nftables.chain, netlink.dump(nftables.dump(Message.GETCHAIN))) if c.family in _FAMILIES]
    others = [c for c in chains if c.base is not None and c.table != own]
    found = []
    for chain in others:
        if chain.base is not None and chain.base.type == "filter" and chain.base.hook == Hook.FORWARD:
            rules = _rules(netlink, chain.family, chain.table, chain.name)
            if chain.base.policy == DROP or _ends_dropping(rules):
                led_to = (rule.verdict() for rule in rules)
                place = next((v[1] for v in led_to if v and v[1] in _PLACES), chain.name)
                found.append(Gate(Family(chain.family), chain.table, chain.name, place))
    return Others(tuple(found), bool(found) or any(_forwards(c) for c in others))


def _forwards(chain: nftables.Chain) -> bool:
    """Tell whether a chain does anything with forwarded packets: iptables(8) makes empty ones by being asked."""
    base = chain.base
    if base is None or not chain.use:
        return False
    return base.hook == Hook.FORWARD or (base.hook == Hook.POSTROUTING and base.type == "nat")


def _ends_dropping(rules: list[nftables.Rule]) -> bool:
    """Tell whether a chain's last rule drops whatever comes to it, as firewalld's does."""
    if not rules or not rules[-1].expressions:
        return False
    *before, last = rules[-1].expressions
    if any(name not in _SILENT for name, _ in before):
        return False
    return rules[-1].verdict() == (DROP, "") or (last[0] == "target" and nftables.target(last[1]) in ("DROP", "REJECT"))


def _rules(netlink: Netlink, family: int, table: str, chain: str) -> list[nftables.Rule]:
    return list(map(nftables.rule, netlink.dump(nftables.dump(Message.GETRULE, family, table, chain))))


def accepts(gates: Iterable[Gate], comment: str) -> tuple[AcceptMarked, ...]:
    """Return the accepts that these chains need, one for each table."""
    wanted = dict.fromkeys((_FAMILIES[g.family], g.table, g.place) for g in gates)
    return tuple(AcceptMarked(family, table, chain, comment) for family, table, chain in wanted)


def obstacles(netlink: Netlink, gates: Iterable[Gate], comment: str) -> Iterator[Obstacle]:
    """Yield these chains with whether each has an accept of ours."""
    for gate in gates:
        rules = _rules(netlink, gate.family, gate.table, gate.place)
        yield Obstacle(str(gate), gate.versions, any(r.comment == comment for r in rules))


def put(netlink: Nfnetlink, gates: Iterable[Gate], comment: str) -> None:
    """Put an accept where these chains need one, and take it away wherever else it is; their owners may have moved."""
    wanted = {(Family[a.family.upper()], a.table, a.chain): a for a in accepts(gates, comment)}
    requests: list[Request] = []
    for place, rules in _ours(netlink, comment):
        keep = 1 if wanted.pop(place, None) else 0
        requests += (nftables.delete_rule(r.family, r.table, r.chain, r.handle) for r in rules[keep:])
    for family, table, chain in wanted:
        expressions, before = codec.encode_rule(MARKED, family), _before(netlink, family, table, chain)
        requests.append(nftables.new_rule(family, table, chain, expressions, comment=comment, before=before))
    if requests:
        netlink.commit(requests)


def _before(netlink: Netlink, family: int, table: str, chain: str) -> int:
    """Return the handle of the rule before which an accept belongs; 0: at the end.

    That is the first one, but at a place for others' rules these are obeyed: there it is the last, which returns.
    """
    rules = _rules(netlink, family, table, chain)
    if chain not in _PLACES:
        return rules[0].handle if rules else 0
    returns = rules and rules[-1].verdict() == (RETURN, "") and all(n in _SILENT for n, _ in rules[-1].expressions[:-1])
    return rules[-1].handle if returns else 0


def _ours(netlink: Netlink, comment: str) -> Iterator[tuple[tuple[Family, str, str], list[nftables.Rule]]]:
    """Yield each chain that has accepts of ours, and those."""
    for body in netlink.dump(nftables.dump(Message.GETCHAIN)):
        chain = nftables.chain(body)
        hooked = chain.base is not None and chain.base.hook == Hook.FORWARD
        if chain.family in _FAMILIES and chain.table != comment and (hooked or chain.name in _PLACES):
            rules = [r for r in _rules(netlink, chain.family, chain.table, chain.name) if r.comment == comment]
            if rules:
                yield (Family(chain.family), chain.table, chain.name), rules
