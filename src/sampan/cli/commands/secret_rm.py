"""`sampan secret rm`."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import IGNORE, each, secret
from sampan.cli.failure import UsageError
from sampan.cli.flags import Flag


def rm(call: Call) -> int:
    """Remove each and print it."""
    if call.options["all"]:
        if call.arguments:
            raise UsageError("--all leaves no secret to be named")
        call.arguments[:] = [found["ID"] for found in call.session.ask("GET", "/secrets").json()]
    elif not call.arguments:
        raise UsageError("'sampan secret rm' requires at least 1 argument, or --all")
    missing_is_fine = call.options["ignore"]
    return each(call, lambda name: call.session.ask("DELETE", secret(name)), missing_is_fine=missing_is_fine)


COMMAND = Command(
    "rm [OPTIONS] SECRET [SECRET...]",
    "Remove one or more secrets; containers keep what they have of them",
    rm,
    flags=(Flag("all", "bool", "All of them", short="a"), IGNORE),
    arguments=(0, None),
)
