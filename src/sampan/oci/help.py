"""What `--help` prints."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.oci.options import Option


def print_all(options: Sequence[Option]) -> int:
    """Print the commands and the options that go before them."""
    from sampan.oci.main import COMMANDS

    lines = ["Usage:  sampan-runtime [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]", "", "Commands:"]
    lines += [f"  {name:<12} {say}" for name, say in COMMANDS.items()]
    lines += ["", "Global options:", *_table(options)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def print_command(name: str, usage: str, options: Sequence[Option]) -> int:
    """Print one command's options."""
    lines = [f"Usage:  sampan-runtime {name} {usage}", ""]
    sys.stdout.write("\n".join([*lines, *(["Options:", *_table(options)] if options else [])]) + "\n")
    return 0


def _table(options: Sequence[Option]) -> list[str]:
    return [f"  {_names(option):<30} {option.say}" for option in options]


def _names(option: Option) -> str:
    names = ", ".join(f"--{n}" if len(n) > 1 else f"-{n}" for n in option.names)
    return names if option.kind == "flag" else f"{names} value"
