"""Hosts whose other rules are of iptables' older kind, which nftables can't see: their own program is asked."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

from sampan.network.audit import Obstacle
from sampan.network.firewall_rules import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES = {"ipv4": "/proc/thread-self/net/ip_tables_names", "ipv6": "/proc/thread-self/net/ip6_tables_names"}
_PROGRAMS = {"ipv4": ("iptables-legacy", "iptables"), "ipv6": ("ip6tables-legacy", "ip6tables")}


class Gate(NamedTuple):
    """A FORWARD chain that drops by policy, or at its end."""

    version: str
    program: str
    place: str

    def __str__(self) -> str:
        return f"{self.program} FORWARD"


def in_use(version: str) -> bool:
    """Tell whether this host has such rules."""
    try:
        with open(_TABLES[version], encoding="ascii") as file:
            return "filter" in file.read().split()
    except OSError:
        return False


def any_in_use() -> bool:
    """Tell whether it has any, of whatever version of IP."""
    return any(map(in_use, _TABLES))


def gates() -> list[Gate]:
    """Return the chains that drop what is forwarded."""
    return [gate for version in _TABLES if in_use(version) and (gate := _gate(version)) is not None]


def _gate(version: str) -> Gate | None:
    program = _program(version)
    if not program:
        print(f"sampan: this host has {version} rules of iptables, and no iptables to ask for them", file=sys.stderr)
        return None
    rules = _run(program, "-S").splitlines()
    forward = [r for r in rules if r.startswith("-A FORWARD ")]
    dropping = forward and forward[-1].startswith(("-A FORWARD -j DROP", "-A FORWARD -j REJECT"))
    if "-P FORWARD DROP" not in rules and not dropping:
        return None
    return Gate(version, program, "DOCKER-USER" if "-A FORWARD -j DOCKER-USER" in rules else "FORWARD")


def _program(version: str) -> str:
    """Return the program for the older kind: `iptables` itself is that on some hosts."""
    legacy, plain = _PROGRAMS[version]
    if shutil.which(legacy):
        return legacy
    return plain if shutil.which(plain) and "nf_tables" not in _run(plain, "--version") else ""


def obstacles(found: list[Gate], comment: str) -> Iterator[Obstacle]:
    """Yield these chains with whether each has an accept of ours."""
    for gate in found:
        yield Obstacle(str(gate), (gate.version,), comment in _run(gate.program, "-S", gate.place))


def put(found: list[Gate], comment: str) -> None:
    """Put an accept where these chains need one, once."""
    for gate in found:
        rules = [line for line in _run(gate.program, "-S", gate.place).splitlines() if line.startswith("-A ")]
        if not any(comment in line for line in rules):
            last = rules.index("-A DOCKER-USER -j RETURN") if "-A DOCKER-USER -j RETURN" in rules else len(rules)
            _run(gate.program, "-I", gate.place, str(last + 1 if gate.place == "DOCKER-USER" else 1), *_rule(comment))


def take_away(comment: str) -> None:
    """Remove every accept of ours."""
    for version in _TABLES:
        program = _program(version) if in_use(version) else ""
        for chain in _chains_with(program, comment):
            _run(program, "-D", chain, *_rule(comment))


def _chains_with(program: str, comment: str) -> Iterator[str]:
    for line in _run(program, "-S").splitlines() if program else ():
        if f"--comment {comment} " in line:
            yield line.split()[1]


def _rule(comment: str) -> tuple[str, ...]:
    mark = f"{MARK:#x}/{MARK:#x}"
    return ("-m", "mark", "--mark", mark, "-m", "comment", "--comment", comment, "-j", "ACCEPT")


def _run(program: str, *words: str) -> str:
    import subprocess

    ended = subprocess.run((program, "-w", *words), check=False, capture_output=True, text=True)
    if ended.returncode:
        print(f"sampan: {program} {' '.join(words)}: {ended.stderr.strip()}", file=sys.stderr, flush=True)
    return ended.stdout
