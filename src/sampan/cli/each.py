"""Verbs that do the same to each of their arguments: print what succeeded, say what did not, go on."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say, warn
from sampan.cli.session import ServerError
from sampan.client.wire import quote

_NOT_FOUND = 404

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.command import Call


LATEST = Flag("latest", "bool", "The container that was made last, in place of a name", short="l")
ALL = Flag("all", "bool", "All containers that it can be done to, in place of names", short="a")
FILTER = Flag("filter", "filter", "Those that match, in place of names: NAME=VALUE, as for ps", short="f")
CIDFILE = Flag("cidfile", "list", "The container whose id is in this file")
IGNORE = Flag("ignore", "bool", "One that is not there is no error", short="i")


def each(call: Call, perform: Callable[[str], object], *, missing_is_fine: bool = False) -> int:
    """Call `perform` for every argument and print it; 1 if one of them failed, other than by not being there."""
    status = 0
    for name in call.arguments:
        try:
            perform(name)
        except Failure as e:
            warn(e.message + (f"\n  hint: {e.hint}" if e.hint else ""))
            if not (missing_is_fine and isinstance(e, ServerError) and e.http_status == _NOT_FOUND):
                status = 1
        else:
            say(name)
    return status


def container(name: str, action: str = "") -> str:
    """Return the API's path of a container, with what to do to it."""
    if not name.strip():
        raise Failure("invalid container name or ID: value is empty")
    return f"/containers/{quote(name)}{action}"


def volume(name: str, action: str = "") -> str:
    """Return the API's path of a volume, with what to do to it."""
    if not name.strip():
        raise Failure("invalid volume name: value is empty")
    return f"/volumes/{quote(name)}{action}"


def secret(name: str, action: str = "") -> str:
    """Return the API's path of a secret, with what to do to it."""
    if not name.strip():
        raise Failure("invalid secret name or ID: value is empty")
    return f"/secrets/{quote(name)}{action}"


def network(name: str, action: str = "") -> str:
    """Return the API's path of a network, with what to do to it."""
    if not name.strip():
        raise Failure("invalid network name or ID: value is empty")
    return f"/networks/{quote(name)}{action}"
