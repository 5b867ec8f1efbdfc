"""Keeping credentials as Docker's client does: by a helper, else in config.json, of which the rest stays as it is."""

from __future__ import annotations

import binascii
import os

from sampan.cli.credentials import ask_helper
from sampan.cli.failure import Failure
from sampan.cli.output import warn
from sampan.spec.credentials import TOKEN_USER, helper_of, hostname_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.session import Session

_UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""


def store(session: Session, server: str, found: dict[str, str]) -> None:
    """Keep credentials, given with X-Registry-Auth's names."""
    token = found.get("identitytoken", "")
    helper = helper_of(session.config(), hostname_of(server))
    entry: dict[str, str] = {}
    if helper is not None:
        name, secret = (TOKEN_USER, token) if token else (found["username"], found["password"])
        from sampan.client.jsontext import dumps

        document = dumps({"ServerURL": server, "Username": name, "Secret": secret})
        try:
            ask_helper(helper[0], "store", document.encode())
        except Failure as e:
            raise Failure(f"Error saving credentials: {e.message}", e.hint) from None
    else:
        entry = entry_of(found)
    changed = _change(session, lambda auths: _put(auths, server, entry))
    if changed and helper is None and not token:
        warn(_UNENCRYPTED.format(_path(session)))


def entry_of(found: dict[str, str]) -> dict[str, str]:
    """Return what config.json has of credentials that are given with X-Registry-Auth's names."""
    token = found.get("identitytoken", "")
    entry = {"identitytoken": token} if token else {}
    if name := found.get("username"):  # Docker's client reads no file in which an entry has an empty one
        pair = f"{name}:{'' if token else found['password']}"
        entry = {"auth": binascii.b2a_base64(pair.encode(), newline=False).decode(), **entry}
    return entry


def _put(auths: dict[str, Any], server: str, entry: dict[str, str]) -> bool:
    changed = auths.get(server) != entry
    auths[server] = entry
    return changed


def erase(session: Session, server: str) -> None:
    """Forget a registry's credentials, under every spelling that they may have been kept in. Raises Failure."""
    host = hostname_of(server)
    helper = helper_of(session.config(), host)
    names = (server,) if host == "docker.io" else (host, f"http://{host}", f"https://{host}")

    def drop(auths: dict[str, Any]) -> bool:
        return [auths.pop(name, None) for name in names] != [None] * len(names)

    _change(session, drop)
    if helper is not None:
        ask_helper(helper[0], "erase", server.encode())


def _path(session: Session) -> str:
    return f"{session.config_directory}/config.json"


def _change(session: Session, change: Callable[[dict[str, Any]], bool]) -> bool:
    """Change `auths` in config.json, and nothing else in it; tell whether it was. Raises Failure."""
    try:
        return _change_file(session, change)
    except OSError as e:
        cause = (e.strerror or "").lower()
        raise Failure(f"Error saving credentials: {cause}: {e.filename or _path(session)}") from None


def _change_file(session: Session, change: Callable[[dict[str, Any]], bool]) -> bool:
    import fcntl
    import json

    os.makedirs(session.config_directory, 0o700, exist_ok=True)
    directory = os.open(session.config_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # until it is closed: two that log in at once must not lose each other
        path = os.path.realpath(_path(session))
        text = _text(path)
        try:
            config = json.loads(text or "{}")
            auths = config.setdefault("auths", {}) if isinstance(config, dict) else None
        except (ValueError, RecursionError):
            auths = None
        if not isinstance(auths, dict):
            raise Failure(f"Error saving credentials: can't read {path}: it is no JSON as Docker's client writes it")
        if not change(auths):
            return False
        _replace(path, json.dumps(config, indent="\t", ensure_ascii=False) + "\n")
        return True
    finally:
        os.close(directory)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _replace(path: str, text: str) -> None:
    """Write a file anew so that it is whole at any time, readable for its owner only, and still its owner's."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            try:
                before = os.stat(path)
            except FileNotFoundError:
                pass
            else:
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
