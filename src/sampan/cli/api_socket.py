"""`--use-api-socket`: a container that may use the engine has its socket, and this user's credentials for registries.

As Docker's client does it, in the same places; but the socket is the one that this command itself uses.
"""

from __future__ import annotations

import os

from sampan.cli.credentials import every
from sampan.cli.session import ServerError
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.session import Session

SOCKET = "/var/run/docker.sock"
CONFIG = "/run/secrets/docker/config.json"


def give_socket(session: Session, body: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Have the socket bound; return the credentials that are to be put there, none where the user has set the place."""
    mount = {"Type": "bind", "Source": os.path.abspath(session.socket), "Target": SOCKET}
    body["HostConfig"].setdefault("Mounts", []).append(mount)
    variables: list[str] = body.get("Env") or []
    if any(variable.startswith("DOCKER_CONFIG=") for variable in variables):
        return {}
    credentials = every(session)
    if credentials:
        body["Env"] = [*variables, f"DOCKER_CONFIG={os.path.dirname(CONFIG)}"]
    return credentials


def put_credentials(session: Session, id: str, credentials: dict[str, dict[str, str]]) -> None:
    """Write them into a container that has not begun; where that fails, there is none."""
    try:
        session.ask("PUT", f"/containers/{id}/archive{query(path='/')}", _archive(credentials)).read()
    except BaseException as e:
        session.ask("DELETE", f"/containers/{id}?v=1&force=1").read()
        if isinstance(e, ServerError):
            e.message = f"injecting docker config.json into container failed: {e.message}"
        raise


def _archive(credentials: dict[str, dict[str, str]]) -> bytes:
    import io
    import tarfile

    from sampan.cli.credential_store import entry_of
    from sampan.client.jsontext import dumps

    content = dumps({"auths": {server: entry_of(found) for server, found in credentials.items()}}).encode()
    member = tarfile.TarInfo(CONFIG.lstrip("/"))
    member.size, member.mode = len(content), 0o600
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
