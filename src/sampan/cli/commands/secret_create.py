"""`sampan secret create`."""

from __future__ import annotations

import os
import sys

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.client.wire import query

_MOST = 512_000


def create(call: Call) -> int:
    """Read it, keep it, and print its id."""
    from binascii import b2a_base64

    options = call.options
    name, source = call.arguments[0], call.arguments[1] if len(call.arguments) > 1 else ""
    if not source:
        raise Failure("secret file is required", "name one, - for standard input, or with --env a variable")
    data = _of_variable(source) if options["env"] else _of_file(source)
    body = {
        "Name": name,
        "Labels": dict(options["label"]),
        "Data": b2a_base64(data, newline=False).decode(),
        "Driver": {"Name": options["driver"], "Options": dict(options["driver-opts"])},
    }
    target = f"/secrets/create{query(replace=options['replace'])}"
    say(call.session.ask("POST", target, body).json()["ID"])
    return 0


def _of_variable(name: str) -> bytes:
    value = os.environb.get(os.fsencode(name))
    if value is None:
        raise Failure(f"can't create a secret: environment variable {name} is not set", "export it first")
    return value


def _of_file(path: str) -> bytes:
    """Read a file, or standard input for "-"; of what is too large, enough to be refused."""
    if path != "-":
        try:
            with open(path, "rb") as file:
                return file.read(_MOST)
        except OSError as e:
            raise Failure(f"can't create a secret: open {path}: {(e.strerror or '').lower()}") from None
    if os.isatty(0):
        raise Failure(
            "can't create a secret: its data must be passed into standard input", "name a file, or pipe it in"
        )
    return sys.stdin.buffer.read(_MOST)


COMMAND = Command(
    "create [OPTIONS] SECRET [FILE|-]",
    "Create a secret from a file, standard input or a variable",
    create,
    flags=(
        Flag("driver", "string", "Who keeps it: file", short="d", default="file"),
        Flag("driver-opts", "map", "An option of the driver; file has none"),
        Flag("env", "bool", "It is the value of a variable, whose name is given in the file's place", short="e"),
        Flag("label", "map", "Set a label: NAME[=VALUE]", short="l"),
        Flag("replace", "bool", "Take the place of the secret that has its name"),
        Flag("template-driver", "string", "Of a swarm's secret", unsupported="sampan is an engine for one machine"),
    ),
    arguments=(1, 2),
)
