"""`sampan port`: the published ports of a container."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container
from sampan.cli.failure import Failure
from sampan.cli.output import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX = 65535
_DIGITS = ord("0")


def port(call: Call) -> int:
    """Print all of them, or where one is published."""
    name = call.arguments[0]
    wanted = call.arguments[1] if len(call.arguments) > 1 else ""
    private = _port(wanted) if wanted else ""
    inspected = call.session.ask("GET", container(name, "/json")).json()
    ports: dict[str, Any] = (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    if private:
        lines = _addresses(ports.get(private))
        if not lines:
            raise Failure(f"Error: No public port '{wanted}' published for {name}")
    else:
        lines = [f"{each} -> {line}" for each in ports for line in _addresses(ports[each])]
    for line in sorted(lines, key=_natural):
        say(line)
    return 0


def _port(text: str) -> str:
    number, _, protocol = text.partition("/")
    if not (number.isascii() and number.isdigit()):
        raise Failure(f'Error: invalid port ({number}): strconv.ParseUint: parsing "{number}": invalid syntax')
    if int(number) > _MAX:
        raise Failure(f'Error: invalid port ({number}): strconv.ParseUint: parsing "{number}": value out of range')
    return f"{number}/{protocol or 'tcp'}"


def _addresses(bindings: list[dict[str, str]] | None) -> list[str]:
    found = []
    for binding in bindings or ():
        address = binding["HostIp"]
        found.append(f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}")
    return found


def _natural(text: str) -> list[tuple[int, int]]:
    """Sort numbers in a text by their value: github.com/fvbommel/sortorder, NaturalLess."""
    key: list[tuple[int, int]] = []
    for char in text:
        digit = char.isdigit()
        if digit and key and key[-1][0] == _DIGITS:
            key[-1] = (_DIGITS, key[-1][1] * 10 + int(char))
        else:
            key.append((_DIGITS, int(char)) if digit else (ord(char), 0))
    return key


COMMAND = Command(
    "port CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    port,
    flags=(LATEST,),
    arguments=(1, 2),
    choosers=("latest",),
)
