"""The steps that change a firewall, as data, in the words of nft(8), sysctl(8) and conntrack(8).

`firewall_plan` computes them, `firewall_perform` performs them.
"""

from __future__ import annotations

from shlex import quote
from typing import ClassVar, Literal

import msgspec

from sampan.network import firewall_rules as rules
from sampan.spec.operation import Operation


class Element(msgspec.Struct, frozen=True, order=True):
    """An element of a set, or of a map where it leads to `data`; each part as nft(8) writes it."""

    set: str
    key: tuple[str, ...]
    data: tuple[str, ...] = ()

    def nft(self) -> str:
        """Write it in the language of nft."""
        key = " . ".join(self.key)
        return f"{key} : {' . '.join(self.data)}" if self.data else key


class MakeTable(Operation, frozen=True, tag="make-table"):
    """Make the instance's table with its rules; `anew`: in place of one of its name, which costs a wait for RCU."""

    man: ClassVar[str] = "nft(8)"
    inside: ClassVar[bool] = False
    table: str
    anew: bool = False

    def say(self) -> str:
        return f"make the firewall's table inet {self.table}, with its rules"

    def shell(self) -> str:
        gone = f"table inet {self.table}\ndelete table inet {self.table}\n" if self.anew else ""
        return f"nft -f - <<'EOF'\n{gone}{rules.table_text(self.table)}\nEOF"


class RemoveTable(Operation, frozen=True, tag="remove-table"):
    """Remove the instance's table with all that is in it."""

    man: ClassVar[str] = "nft(8)"
    inside: ClassVar[bool] = False
    table: str

    def say(self) -> str:
        return f"remove the firewall's table inet {self.table}"

    def shell(self) -> str:
        return f"nft delete table inet {quote(self.table)}"


class AddElements(Operation, frozen=True, tag="add-elements"):
    """Add to the table's sets and maps, all in one transaction."""

    man: ClassVar[str] = "nft(8)"
    inside: ClassVar[bool] = False
    table: str
    elements: tuple[Element, ...]

    def say(self) -> str:
        return f"let through the firewall: {_summary(self.elements)}"

    def shell(self) -> str:
        return _elements("add", self.table, self.elements)


class RemoveElements(Operation, frozen=True, tag="remove-elements"):
    """Take away from the table's sets and maps, all in one transaction."""

    man: ClassVar[str] = "nft(8)"
    inside: ClassVar[bool] = False
    table: str
    elements: tuple[Element, ...]

    def say(self) -> str:
        return f"let no longer through the firewall: {_summary(self.elements)}"

    def shell(self) -> str:
        return _elements("delete", self.table, self.elements)


class SetSysctl(Operation, frozen=True, tag="set-sysctl"):
    """Set a switch of the host's network, "net.ipv4.ip_forward"; a link's name in it keeps its dots as slashes."""

    man: ClassVar[str] = "sysctl(8)"
    inside: ClassVar[bool] = False
    name: str
    value: str

    def say(self) -> str:
        return f"set the host's {self.name} to {self.value}"

    def shell(self) -> str:
        return f"sysctl -q -w {quote(f'{self.name}={self.value}')}"


class FlushFlows(Operation, frozen=True, tag="flush-flows"):
    """Forget UDP flows to a port of the host, so that the next packet finds where the port leads now."""

    man: ClassVar[str] = "conntrack(8)"
    inside: ClassVar[bool] = False
    port: int

    def say(self) -> str:
        return f"forget UDP flows to port {self.port}"

    def shell(self) -> str:
        return f"conntrack -D -p udp --orig-port-dst {self.port} 2>/dev/null || true"


class RedirectNames(Operation, frozen=True, tag="redirect-names"):
    """In a container: lead 127.0.0.11:53 to where its names are answered; `anew`: elsewhere than before."""

    man: ClassVar[str] = "nft(8)"
    inside: ClassVar[bool] = True
    udp_port: int
    tcp_port: int
    anew: bool = False

    def say(self) -> str:
        return f"lead {rules.NAMES_ADDRESS}:53 to where names are answered"

    def shell(self) -> str:
        chain = rules.names_rules(self.udp_port, self.tcp_port).nft()
        gone = f"table ip {NAMES_TABLE}\ndelete table ip {NAMES_TABLE}\n" if self.anew else ""
        enter = 'nsenter --net="/run/netns/$netns"'
        return f"{enter} nft -f - <<'EOF'\n{gone}table ip {NAMES_TABLE} {{\n{chain}\n}}\nEOF"


class AcceptMarked(Operation, frozen=True, tag="accept-marked"):
    """Let another's chain, which drops what is forwarded, accept what our table let pass."""

    man: ClassVar[str] = "nft(8)"
    inside: ClassVar[bool] = False
    family: Literal["ip", "ip6", "inet"]
    table: str
    chain: str
    comment: str

    def say(self) -> str:
        return f"let the chain {self.chain} of table {self.family} {self.table} accept what our table let pass"

    def shell(self) -> str:
        rule = " ".join([*(s.nft() for s in MARKED), f'comment "{self.comment}"'])
        return f"nft {quote(f'insert rule {self.family} {self.table} {self.chain} {rule}')}"


MARKED: rules.Rule = (rules.HasMark(rules.MARK), rules.ACCEPT)
"""The rule that `AcceptMarked` puts into another's chain."""

NAMES_TABLE = "sampan-names"
"""The table in a container's namespace."""

FirewallOperation = (
    MakeTable | RemoveTable | AddElements | RemoveElements | SetSysctl | FlushFlows | RedirectNames | AcceptMarked
)


def _elements(verb: str, table: str, elements: tuple[Element, ...]) -> str:
    by_set: dict[str, list[str]] = {}
    for each in elements:
        text = each.nft() if verb == "add" else Element(each.set, each.key).nft()
        by_set.setdefault(each.set, []).append(text)
    lines = (f"{verb} element inet {table} {name} {{ {', '.join(texts)} }}" for name, texts in by_set.items())
    return f"nft {quote('; '.join(lines))}"


def _summary(elements: tuple[Element, ...]) -> str:
    """Say what elements mean: bridges by their names, ports by where they lead."""
    bridges = [e.key[0] for e in elements if e.set == "bridges"]
    ports = [_port(e) for e in elements if e.data]
    return ", ".join(bridges + ports) or ", ".join(e.nft() for e in elements)


def _port(element: Element) -> str:
    *address, protocol, port = element.key
    host = address[0] if address else "*"
    host = f"[{host}]" if ":" in host else host
    to = f"[{element.data[0]}]" if ":" in element.data[0] else element.data[0]
    return f"{host}:{port} -> {to}:{element.data[1]}/{protocol}"
