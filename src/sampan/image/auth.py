"""Who we are to a registry: Docker's config.json, its credential helpers, and the API's X-Registry-Auth header."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess

import msgspec

from sampan.errors import Failed, InvalidInput, doing
from sampan.spec.distribution import AuthConfig

_HELPER_TIMEOUT_S = 30
_DOCKER_HUB = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105  # what a helper answers as name where its secret is an identity token
_URL_SAFE = str.maketrans("-_", "+/")
_HELPER_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class _ConfigFile(msgspec.Struct, frozen=True):
    """The part of ~/.docker/config.json that is about registries."""

    auths: dict[str, AuthConfig] | None = None
    creds_store: str | None = msgspec.field(name="credsStore", default=None)
    cred_helpers: dict[str, str] | None = msgspec.field(name="credHelpers", default=None)


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
        auth = msgspec.json.decode(document, type=AuthConfig) if document.strip() else AuthConfig()
    except (binascii.Error, ValueError) as e:
        raise InvalidInput(f"can't read X-Registry-Auth: {e}") from e
    return with_password(auth) if auth != AuthConfig(server_address=auth.server_address) else None


def find(registry: str, directory: str | None = None) -> AuthConfig | None:
    """Look credentials up in config.json of `directory`, $DOCKER_CONFIG or ~/.docker; None: go there as nobody."""
    directory = directory or os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    path = f"{directory}/config.json"
    try:
        with open(path, "rb") as file:
            config = msgspec.json.decode(file.read(), type=_ConfigFile)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as e:
        raise InvalidInput(f"can't read {path}: {e}") from e
    keys = _keys(registry)
    helper = next((config.cred_helpers[key] for key in keys if key in (config.cred_helpers or {})), config.creds_store)  # type: ignore[index]
    if helper:
        found = _ask(helper, _DOCKER_HUB if registry == "docker.io" else registry)
        if found is not None:
            return found
    for key, auth in (config.auths or {}).items():
        if key in keys or _host(key) in keys:
            return with_password(auth) if auth != AuthConfig() else None
    return None


def with_password(auth: AuthConfig) -> AuthConfig:
    """Take `auth`, base64 of name and password, apart."""
    if not auth.auth or auth.username:
        return auth
    try:
        name, _, password = base64.b64decode(auth.auth).decode().partition(":")
    except ValueError as e:
        raise InvalidInput("can't read the credentials: `auth` is no base64 of name:password") from e
    return msgspec.structs.replace(auth, username=name, password=password.rstrip("\0"), auth="")


def _keys(registry: str) -> tuple[str, ...]:
    if registry == "docker.io":
        return (_DOCKER_HUB, "index.docker.io", "docker.io", "registry-1.docker.io")
    return (registry, f"https://{registry}", f"http://{registry}")


def _host(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _ask(helper: str, server: str) -> AuthConfig | None:
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
            answer = msgspec.json.decode(done.stdout, type=_HelperAnswer)
        except msgspec.DecodeError as e:
            raise Failed(f"its answer can't be read: {e}") from e
    if answer.username == _TOKEN_USER:
        return AuthConfig(identity_token=answer.secret)
    return AuthConfig(username=answer.username, password=answer.secret)
