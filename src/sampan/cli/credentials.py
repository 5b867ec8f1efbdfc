"""Credentials for registries, from config.json as Docker's client keeps them: credHelpers, credsStore, auths.

They are sent with each request in X-Registry-Auth; the engine keeps none.
"""

from __future__ import annotations

import binascii
import os

from sampan.client.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.session import Session

_HUB = "https://index.docker.io/v1/"


def headers_for(session: Session, registry: str) -> dict[str, str]:
    """Return the header with the credentials for a registry; none where there are none."""
    config = session.config()
    key = _HUB if registry == "docker.io" else registry
    helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
    found = _from_helper(helper, key) if helper else None
    if found is None:
        found = _from_auths(config.get("auths") or {}, key)
    return _header({**found, "serveraddress": key}) if found else {}


def headers_of(credentials: str, registry: str) -> dict[str, str]:
    """Return the header with credentials that were given as `user:password`."""
    user, _, password = credentials.partition(":")
    return _header({"username": user, "password": password, "serveraddress": registry})


def _header(document: dict[str, str]) -> dict[str, str]:
    encoded = binascii.b2a_base64(dumps(document).encode(), newline=False).decode()
    return {"X-Registry-Auth": encoded.replace("+", "-").replace("/", "_")}


def _from_auths(auths: dict[str, Any], key: str) -> dict[str, str] | None:
    entry = auths.get(key) or next((value for name, value in auths.items() if _host(name) == _host(key)), None)
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"])}
    if entry.get("auth"):
        try:
            user, colon, password = binascii.a2b_base64(str(entry["auth"])).decode().partition(":")
        except ValueError:
            return None
        return {"username": user, "password": password.rstrip("\0")} if colon else None
    if entry.get("username"):
        return {"username": str(entry["username"]), "password": str(entry.get("password", ""))}
    return None


def _host(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _from_helper(helper: str, key: str) -> dict[str, str] | None:
    """Ask `docker-credential-HELPER get`; a helper that is not there or knows nothing gives nothing."""
    program = f"docker-credential-{helper}"
    question, answer = os.pipe(), os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, question[0], 0),
        (os.POSIX_SPAWN_DUP2, answer[1], 1),
        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
    ]
    try:
        process = os.posix_spawnp(program, [program, "get"], os.environ, file_actions=actions)
    except OSError:
        for descriptor in (*question, *answer):
            os.close(descriptor)
        return None
    os.close(question[0])
    os.close(answer[1])
    with os.fdopen(question[1], "wb") as f:
        f.write(key.encode())
    with os.fdopen(answer[0], "rb") as f:
        text = f.read()
    if os.waitpid(process, 0)[1] != 0:
        return None
    try:
        told = loads(text)
    except ValueError:
        return None
    if told.get("Username") == "<token>":
        return {"identitytoken": str(told["Secret"])}
    return {"username": str(told.get("Username", "")), "password": str(told.get("Secret", ""))}
