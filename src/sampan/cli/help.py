"""`--help`, made from the tables of verbs and flags."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.output import say
from sampan.cli.verbs import ALIASES, COMMON, GROUPS, SUMMARIES, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.cli.command import Command
    from sampan.cli.flags import Flag

_WIDTH = 80
_SHOWN = {
    "bool": "", "optional": "", "swap": "bytes", "cpus": "decimal", "env": "list", "label": "list", "attach": "list",
    "sysctl": "map", "device-rule": "list", "csv": "list", "link": "list",
}  # fmt: skip


def print_top() -> int:
    """Print the page of `sampan --help`."""
    from sampan.cli.main import GLOBAL, USAGE, load

    say(f"{USAGE}\n\nContainers out of namespaces, control groups and an overlay filesystem")
    for title, verbs in (("Common Commands", COMMON), ("Commands", [v for v in VERBS if v not in COMMON])):
        say(f"\n{title}:")
        _rows((verb, load(VERBS[verb], verb).summary) for verb in verbs)
    say("\nManagement Commands:")
    _rows(SUMMARIES.items())
    say("\nGlobal Options:")
    _flags(flag for flag in GLOBAL if flag.unsupported is None)
    say("\nRun 'sampan COMMAND --help' for more information on a command.")
    return 0


def print_group(group: str) -> int:
    """Print the verbs of `container`, `image` or `system`."""
    from sampan.cli.main import load

    say(f"Usage:  sampan {group} COMMAND\n\n{SUMMARIES[group]}\n\nCommands:")
    verbs = {verb: module for verb, module in GROUPS[group].items() if verb not in ALIASES}
    _rows((verb, load(module, f"{group} {verb}").summary) for verb, module in sorted(verbs.items()))
    say(f"\nRun 'sampan {group} COMMAND --help' for more information on a command.")
    return 0


def print_command(command: Command) -> int:
    """Print a verb's usage and its flags, by group where there are groups. What is unsupported is not shown."""
    say(f"Usage:  sampan {command.usage}\n\n{command.summary}")
    flags = [flag for flag in command.flags if flag.unsupported is None]
    for group in dict.fromkeys(flag.group for flag in flags):
        say(f"\n{group or 'Options'}:")
        _flags(sorted((flag for flag in flags if flag.group == group), key=lambda flag: flag.name))
    return 0


def help_on(words: list[str]) -> int:
    """`sampan help [VERB]`."""
    from sampan.cli.main import load

    match words:
        case []:
            return print_top()
        case [verb] if verb in VERBS:
            return print_command(load(VERBS[verb], verb))
        case [group] if group in GROUPS:
            return print_group(group)
        case [group, verb] if group in GROUPS and verb in GROUPS[group]:
            return print_command(load(GROUPS[group][verb], f"{group} {verb}"))
    raise Failure(f"unknown help topic: {' '.join(words)}")


def _rows(rows: Iterable[tuple[str, str]]) -> None:
    shown = list(rows)
    width = max(len(name) for name, _ in shown)
    for name, summary in shown:
        say(f"  {name:<{width}}   {summary}")


def _flags(flags: Iterable[Flag]) -> None:
    rows = [
        (f"{f'-{flag.short},' if flag.short else '   '} --{flag.name}{_value(flag)}", _about(flag)) for flag in flags
    ]
    if not rows:
        return
    width = max(len(left) for left, _ in rows)
    for left, text in rows:
        first, *others = _wrapped(text, _WIDTH - width - 5)
        say(f"  {left:<{width}}   {first}")
        for line in others:
            say(f"  {'':<{width}}   {line}")


def _value(flag: Flag) -> str:
    shown = _SHOWN.get(flag.kind, flag.kind)
    return f" {shown}" if shown else ""


def _about(flag: Flag) -> str:
    return f"{flag.help} (default {flag.default!r})" if flag.default not in (None, 0, -1, False) else flag.help


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
