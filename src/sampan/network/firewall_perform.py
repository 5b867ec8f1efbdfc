"""Performs the firewall's operations: those of the table as one transaction of nftables."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from sampan.kernel import nftables
from sampan.kernel.nftables import Base, Family, Message
from sampan.network import firewall_codec as codec, firewall_rules as rules
from sampan.network.firewall_ops import (
    NAMES_TABLE,
    AddElements,
    MakeTable,
    RedirectNames,
    RemoveElements,
    RemoveTable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.kernel.netlink import Request
    from sampan.kernel.nfnetlink import Nfnetlink
    from sampan.network.firewall_ops import Element, FirewallOperation
    from sampan.network.firewall_plan import Contents

INET = Family.INET

STAMP = f"sampan's rules {zlib.crc32(rules.table_text('').encode()):08x}"
"""The comment of a table that has these rules. One with another is of another version."""

_SETS = {each.name: each for each in rules.SETS}
_RULES = sum(len(chain.rules) for chain in rules.CHAINS)


def requests(operation: FirewallOperation) -> list[Request]:
    """Return what a transaction must have for an operation on a table; nothing for others."""
    match operation:
        case MakeTable(table, anew):
            return _make(table, anew=anew)
        case RemoveTable(table):
            return [nftables.new_table(INET, table), nftables.delete_table(INET, table)]
        case AddElements(table, elements):
            return _elements(nftables.new_elements, table, elements)
        case RemoveElements(table, elements):
            return _elements(nftables.delete_elements, table, elements)
        case RedirectNames():
            return _names(operation)
        case _:
            return []


def commit(netlink: Nfnetlink, operations: Iterable[FirewallOperation]) -> None:
    """Perform operations on tables as one transaction. Raises NetlinkError; then nothing has changed."""
    wanted = [request for operation in operations for request in requests(operation)]
    if wanted:
        netlink.commit(wanted)


def _make(table: str, *, anew: bool) -> list[Request]:
    made = _table(INET, table, STAMP, anew=anew)
    made += (
        nftables.new_set(INET, table, each.name, codec.set_type(each), number)
        for number, each in enumerate(rules.SETS, 1)
    )
    for chain in rules.CHAINS:
        made += _chain(INET, table, chain)
    return made


def _table(family: Family, name: str, comment: str = "", *, anew: bool) -> list[Request]:
    gone = [nftables.new_table(family, name), nftables.delete_table(family, name)] if anew else []
    return [*gone, nftables.new_table(family, name, comment, exclusive=True)]


def _chain(family: Family, table: str, chain: rules.Chain) -> list[Request]:
    base = Base(chain.type, codec.HOOKS[chain.hook], chain.priority) if chain.hook else None
    written = (nftables.new_rule(family, table, chain.name, codec.encode_rule(r, family)) for r in chain.rules)
    return [nftables.new_chain(family, table, chain.name, base), *written]


def _elements(make: nftables.ElementsRequest, table: str, elements: Iterable[Element]) -> list[Request]:
    by_set: dict[str, list[nftables.Element]] = {}
    for each in elements:
        encoded = codec.encode_element(_SETS[each.set], each.key, each.data)
        by_set.setdefault(each.set, []).extend(encoded)
    return [request for name, encoded in by_set.items() for request in make(INET, table, name, encoded)]


def _names(operation: RedirectNames) -> list[Request]:
    chain = rules.names_rules(operation.udp_port, operation.tcp_port)
    return [*_table(Family.IP, NAMES_TABLE, anew=operation.anew), *_chain(Family.IP, NAMES_TABLE, chain)]


def exists(netlink: Nfnetlink, table: str) -> bool:
    """Tell whether there is a table of that name, whatever is in it."""
    return bool(_tables(netlink, table))


def _tables(netlink: Nfnetlink, name: str) -> list[nftables.Table]:
    tables = map(nftables.table, netlink.dump(nftables.dump(Message.GETTABLE, INET)))
    return [t for t in tables if t.name == name]


def open_others(netlink: Nfnetlink, own: str) -> None:
    """Let tables of other instances drop nothing of ours: they don't forward alone any more, and may have no server."""
    for table in map(nftables.table, netlink.dump(nftables.dump(Message.GETTABLE, INET))):
        if table.name != own and table.comment == STAMP:
            bodies = netlink.dump(nftables.dump(Message.GETSETELEM, INET, table.name, "closed"))
            closed = [element for body in bodies for element in nftables.elements(body)]
            if closed:
                netlink.commit(nftables.delete_elements(INET, table.name, "closed", closed))


def find(netlink: Nfnetlink, table: str) -> Contents | None:
    """Return what is in a table; None where it is missing, of another version, or has lost rules, sets or chains."""
    if not any(t.comment == STAMP for t in _tables(netlink, table)):
        return None
    if len(netlink.dump(nftables.dump(Message.GETRULE, INET, table))) != _RULES:
        return None
    found: Contents = {}
    for each in rules.SETS:
        bodies = netlink.dump(nftables.dump(Message.GETSETELEM, INET, table, each.name))
        elements = [element for body in bodies for element in nftables.elements(body)]
        found |= {(each.name, key): data for key, data in codec.decode_elements(each, elements)}
    return found
