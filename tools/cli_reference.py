"""Write docs/reference/cli.md from the tables of verbs and flags: python tools/cli_reference.py [--print]."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from sampan.cli.command import Command  # noqa: E402
from sampan.cli.flags import Flag  # noqa: E402
from sampan.cli.main import GLOBAL, load  # noqa: E402
from sampan.cli.verbs import ALIASES, GROUPS, LATER, VERBS  # noqa: E402

INTRODUCTION = """\
# The command line

Made by `tools/cli_reference.py` from the tables that the program itself uses; `sampan VERB --help` says the same.

Verbs, flags, output, `--format` templates and exit statuses are Docker's: 125 for an error of the engine or of the
command line, 126 and 127 for a program that can't be executed or is not there, 128 and the signal's number for one that
was killed, else the program's own. A flag of Docker's that sampan can't do yet answers `unsupported` with 125; none is
accepted and ignored. Errors go to standard error; below the message `hint:` says what to do.

`sampan` may be called through a link named `docker` or `podman`.

| variable | |
|---|---|
| `SAMPAN_ROOT` | directory of the instance, as `--root` |
| `DOCKER_HOST` | socket of the engine where neither `--root` nor `SAMPAN_ROOT` is given; only `unix://` |
| `DOCKER_CONFIG` | directory of `config.json`: credentials, `detachKeys`, `psFormat`, `imagesFormat` … |
"""


def main() -> int:
    """Write the page, or print it."""
    text = page()
    if "--print" in sys.argv:
        sys.stdout.write(text)
    else:
        (ROOT / "docs/reference/cli.md").write_text(text)
    return 0


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, "## Global options\n", table(GLOBAL)]
    parts += [section(load(module, verb)) for verb, module in sorted(VERBS.items())]
    for group, verbs in GROUPS.items():
        same = [v for v in sorted(verbs) if v not in ALIASES and verbs[v] in VERBS.values()]
        if same:
            parts.append(f"## `sampan {group}`\n\nThe same as above: {', '.join(f'`{group} {v}`' for v in same)}.\n")
        own = [v for v in sorted(verbs) if verbs[v] not in VERBS.values()]
        parts += [section(load(verbs[v], f"{group} {v}")) for v in own]
    parts.append("## Not there yet\n\n" + "".join(f"* `{name}`: {why}\n" for name, why in sorted(LATER.items())))
    return "\n".join(parts)


def section(command: Command) -> str:
    """Return a verb's usage, summary and flags."""
    text = f"## `sampan {command.path}`\n\n{command.summary}.\n\n    sampan {command.usage}\n"
    return f"{text}\n{table(command.flags)}" if command.flags else text


def table(flags: tuple[Flag, ...]) -> str:
    """Return the rows of flags by name; those that are unsupported are one line below."""
    lines = ["| flag | |", "|---|---|"]
    for flag in sorted((f for f in flags if f.unsupported is None), key=lambda f: f.name):
        name = f"`--{flag.name}`" + (f", `-{flag.short}`" if flag.short else "")
        lines.append(f"| {name} | {flag.help.replace('|', chr(92) + '|')} |")
    missing = sorted(f"`--{f.name}`" for f in flags if f.unsupported is not None)
    return "\n".join(lines) + "\n" + (f"\nUnsupported: {', '.join(missing)}.\n" if missing else "")


if __name__ == "__main__":
    sys.exit(main())
