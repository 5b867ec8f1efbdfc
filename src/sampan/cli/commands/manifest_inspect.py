"""`sampan manifest inspect`: an index that is being made, or what a registry has."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.credentials import headers_for
from sampan.cli.flags import Flag
from sampan.cli.lists import INSECURE, list_path
from sampan.cli.output import say
from sampan.cli.references import named
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def inspect(call: Call) -> int:
    """Print it as Docker's client does."""
    name, image = call.arguments[0], call.arguments[1] if len(call.arguments) > 1 else ""
    verbose = call.options["verbose"]
    reference = named(call.session, name)
    target = list_path(name, query(image=image, verbose=verbose))
    headers = headers_for(call.session, reference.registry, reference.repository)
    found = call.session.ask("GET", target, None, headers).json()
    if verbose:
        each = found["Manifests"]
        say(_indented(each if found["IsList"] else each[0], "\t"))
    else:
        say(_indented(found["Document"], "   " if found["IsList"] else "\t"))
    return 0


def _indented(value: Any, indent: str) -> str:
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False)


COMMAND = Command(
    "inspect [OPTIONS] [LIST] NAME",
    "Show an index that is being made, one of its images, or what a registry has under a name",
    inspect,
    flags=(INSECURE, Flag("verbose", "bool", "Show each image with its platform and its manifest", short="v")),
    arguments=(1, 2),
)
