"""`sampan logout`: forget a registry's credentials."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.credential_store import erase
from sampan.cli.failure import Failure
from sampan.cli.output import say
from sampan.cli.references import default_registry
from sampan.spec.credentials import hostname_of, server_of


def logout(call: Call) -> int:
    """Erase them at the helper or in config.json."""
    registry = hostname_of(call.arguments[0]) if call.arguments else default_registry(call.session)
    server = server_of(registry)
    say(f"Removing login credentials for {server}")
    try:
        erase(call.session, server)
    except Failure as e:
        raise Failure(f"WARNING: could not erase credentials:\n{server}: {e.message}", e.hint) from None
    return 0


COMMAND = Command(
    "logout [SERVER]",
    "Log out from a registry",
    logout,
    arguments=(0, 1),
)
