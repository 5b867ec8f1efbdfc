"""Names of images as they are typed, read as the engine will read them."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.spec.reference import Reference


def named(session: Session, text: str) -> Reference:
    """Read a name; one without a registry is in the one that the engine is configured to use. Raises Failure."""
    from sampan.spec.reference import Reference, has_registry

    try:
        reference = Reference.parse(text)
        return reference if has_registry(text) else Reference.parse(text, default_registry(session))
    except InvalidInput as e:
        raise Failure(e.message, e.hint) from None


def default_registry(session: Session) -> str:
    """Return where names without a registry are. Other engines than ours have no choice."""
    if session.socket != session.dirs.socket:
        return "docker.io"
    server = str(session.ask("GET", "/info").json().get("IndexServerAddress", ""))
    return "docker.io" if server.startswith("https://index.docker.io/") else server
