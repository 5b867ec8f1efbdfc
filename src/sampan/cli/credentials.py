"""Credentials for registries, from config.json as Docker's client keeps them: credHelpers, credsStore, auths.

They are sent with each request in X-Registry-Auth; the engine keeps none.
"""

from __future__ import annotations

import os

from sampan.cli.failure import Failure
from sampan.cli.output import warn
from sampan.client.jsontext import dumps, loads
from sampan.spec.credentials import auth_files, helper_of, hostname_of, kept_for, server_of, told_by_helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.session import Session


_typed: dict[tuple[str, str], str] = {}  # user and registry → password; asked for once


def headers_for(session: Session, registry: str, repository: str = "", creds: str = "") -> dict[str, str]:
    """Return the header with the credentials for a repository; none where there are none.

    `creds`, USER:PASSWORD or USER, take the place of those that are kept.
    """
    if creds:
        return _header({**_given(creds, registry), "serveraddress": registry})
    found = find(session, registry, repository)
    return _header({**found, "serveraddress": server_of(registry)}) if found else {}


def find(session: Session, registry: str, repository: str = "") -> dict[str, str] | None:
    """Look credentials up: config.json, its helpers, then what podman and skopeo keep."""
    files = auth_files(os.environ, os.geteuid(), os.path.expanduser("~"))
    for config in (session.config(), *map(_read, files)):
        helper = helper_of(config, registry, repository)
        found = _from_helper(*helper) if helper is not None else None
        found = found or kept_for(config, registry, repository)
        if found is not None:
            return found
    return None


def every(session: Session) -> dict[str, dict[str, str]]:
    """Return all credentials by registry, for X-Registry-Config: a build may fetch from any of them."""
    files = auth_files(os.environ, os.geteuid(), os.path.expanduser("~"))
    keys: dict[str, None] = {}
    for config in (session.config(), *map(_read, files)):
        for field in ("auths", "credHelpers"):
            keys |= dict.fromkeys(config.get(field) or ())
    found = {}
    for key in keys:
        registry = hostname_of(key)
        server = server_of(registry)
        if server not in found and (known := find(session, registry)):
            found[server] = {**known, "serveraddress": server}
    return found


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as f:
            config = loads(f.read())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _given(creds: str, registry: str) -> dict[str, str]:
    """Read USER:PASSWORD; have what is missing typed, as Podman does."""
    user, colon, password = creds.partition(":")
    if not colon and (user, registry) not in _typed:
        from sampan.cli.prompt import ask

        refusal = Failure(
            f"sampan: can't ask for the password of {user}: standard input is no terminal",
            "give it after a colon: USER:PASSWORD",
            125,
        )
        question = f"Password of {user} at {registry}: "
        _typed[user, registry] = ask(question, secret=True, stream=2, refusal=refusal)
    return {"username": user, "password": password if colon else _typed[user, registry]}


def _header(document: dict[str, str]) -> dict[str, str]:
    import binascii  # a library of its own, which most commands need not load

    encoded = binascii.b2a_base64(dumps(document).encode(), newline=False).decode()
    return {"X-Registry-Auth": encoded.replace("+", "-").replace("/", "_")}


def _from_helper(helper: str, key: str) -> dict[str, str] | None:
    """Ask a helper; what it says when it fails is passed on, and then nobody's credentials are sent, as in Docker."""
    try:
        text = ask_helper(helper, "get", key.encode())
        told = loads(text)
        return told_by_helper(str(told.get("Username", "")), str(told.get("Secret", "")))
    except Failure as e:
        if "credentials not found" not in e.message:
            warn(f"WARNING: {e.message}")
    except (ValueError, AttributeError):
        warn(f"WARNING: error getting credentials: the answer of docker-credential-{helper} can't be read")
    return None


def ask_helper(helper: str, action: str, question: bytes) -> bytes:
    """Run `docker-credential-HELPER get|store|erase`; docker/docker-credential-helpers, README. Raises Failure."""
    program = f"docker-credential-{helper}"
    what = {"get": "getting", "store": "storing", "erase": "erasing"}[action]
    asked, answer = os.pipe(), os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, asked[0], 0),
        (os.POSIX_SPAWN_DUP2, answer[1], 1),
        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
    ]
    if "/" in helper:
        raise Failure(f"error {what} credentials: {helper!r} is no helper's name")
    try:
        process = os.posix_spawnp(program, [program, action], os.environ, file_actions=actions)
    except OSError as e:
        for descriptor in (*asked, *answer):
            os.close(descriptor)
        cause = "executable file not found in $PATH" if isinstance(e, FileNotFoundError) else (e.strerror or "").lower()
        raise Failure(f'error {what} credentials - err: exec: "{program}": {cause}, out: ``') from None
    os.close(asked[0])
    os.close(answer[1])
    try:
        with os.fdopen(asked[1], "wb") as f:
            f.write(question)
    except BrokenPipeError:
        pass  # it does not want to know: its status says why
    with os.fdopen(answer[0], "rb") as f:
        text = f.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        said = text.decode(errors="replace").strip()
        raise Failure(f"error {what} credentials - err: exit status {status}, out: `{said}`")
    return text
