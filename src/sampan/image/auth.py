"""Who we are to a registry: Docker's config.json, its credential helpers, and the API's X-Registry-Auth header."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from typing import Any

import msgspec

from sampan.errors import Failed, InvalidInput, doing, from_os_error
from sampan.spec import credentials
from sampan.spec.decoding import convert, decode_json
from sampan.spec.distribution import AuthConfig
from sampan.spec.document import UNREADABLE

_HELPER_TIMEOUT_S = 30
_URL_SAFE = str.maketrans("-_", "+/")
_HELPER_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class _HelperAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


def from_header(text: str) -> AuthConfig | None:
    """Read an X-Registry-Auth header: JSON in URL-safe base64. Empty ones, which clients send too, are None."""
    if not text:
        return None
    try:
        text = text.rstrip("=").translate(_URL_SAFE)
        document = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        auth = decode_json(document, AuthConfig) if document.strip() else AuthConfig()
    except (binascii.Error, ValueError) as e:
        raise InvalidInput(f"can't read X-Registry-Auth: {e}") from e
    return with_password(auth) if auth != AuthConfig(server_address=auth.server_address) else None


def find(registry: str, repository: str = "", directory: str | None = None) -> AuthConfig | None:
    """Look credentials up in config.json of `directory`, $DOCKER_CONFIG or ~/.docker, then where podman keeps them.

    None: go there as nobody.
    """
    home = os.path.expanduser("~")
    directory = directory or os.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
    for path in (f"{directory}/config.json", *credentials.auth_files(os.environ, os.geteuid(), home)):
        config = _read(path)
        helper = credentials.helper_of(config, registry, repository)
        found = _ask(*helper) if helper is not None else None
        found = found or credentials.kept_for(config, registry, repository)
        if found is not None:
            return convert(found, AuthConfig)
    return None


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return decode_json(file.read(), dict[str, Any])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as e:
        raise from_os_error(e).within("can't read credentials") from e
    except UNREADABLE as e:
        raise InvalidInput(f"can't read {path}: {e}") from e


def with_password(auth: AuthConfig) -> AuthConfig:
    """Take `auth`, base64 of name and password, apart."""
    if not auth.auth or auth.username:
        return auth
    try:
        name, _, password = base64.b64decode(auth.auth).decode().partition(":")
    except ValueError as e:
        raise InvalidInput("can't read the credentials: `auth` is no base64 of name:password") from e
    return msgspec.structs.replace(auth, username=name, password=password.rstrip("\0"), auth="")


def _ask(helper: str, server: str) -> dict[str, str] | None:
    """Ask a credential helper; its protocol is docker/docker-credential-helpers, README."""
    if not _HELPER_NAME.fullmatch(helper):
        raise InvalidInput(f"can't use credential helper {helper!r}: it is no program's name")
    program = f"docker-credential-{helper}"
    with doing(f"can't run {program}", "install it, or take it out of ~/.docker/config.json"):
        try:
            done = subprocess.run(
                [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"it gave no answer in {_HELPER_TIMEOUT_S} s") from None
        if done.returncode:
            said = (done.stdout or done.stderr).decode(errors="replace").strip()
            if "credentials not found" in said:
                return None
            raise Failed(said or f"it ended with status {done.returncode}")
        try:
            answer = decode_json(done.stdout, _HelperAnswer)
        except UNREADABLE as e:
            raise Failed(f"its answer can't be read: {e}") from e
    return credentials.told_by_helper(answer.username, answer.secret)
