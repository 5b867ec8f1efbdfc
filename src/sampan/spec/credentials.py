"""Whose credentials are for which registry: the keys of Docker's config.json and of podman's auth.json. Pure.

Sources: docker/cli, config/credentials; containers-auth.json(5). The command line imports this too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HUB = "https://index.docker.io/v1/"
"""The key of Docker Hub's credentials."""

TOKEN_USER = "<token>"  # noqa: S105
"""What a helper answers as name where its secret is an identity token."""

_HUB_HOSTS = ("index.docker.io", "docker.io", "registry-1.docker.io")


def server_of(registry: str) -> str:
    """Return the name under which a registry's credentials are kept."""
    return HUB if registry == "docker.io" else registry


def hostname_of(server: str) -> str:
    """Return the registry of a key or of what a user typed: without scheme and path; Docker Hub is docker.io."""
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if host in _HUB_HOSTS else host


def auth_files(environment: Mapping[str, str], uid: int, home: str) -> tuple[str, ...]:
    """Return where podman, skopeo and buildah keep credentials."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return (named,)
    runtime = environment.get("XDG_RUNTIME_DIR")
    own = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return (
        f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{uid}/auth.json",
        f"{own}/containers/auth.json",
    )


def helper_of(config: Mapping[str, Any], registry: str, repository: str = "") -> tuple[str, str] | None:
    """Return which credential helper to ask, and for which key; None where there is none."""
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict):
        for key in _keys(registry, repository):
            if isinstance(helpers.get(key), str) and helpers[key]:
                return helpers[key], HUB if key in _HUB_HOSTS else key
    store = config.get("credsStore")
    return (store, server_of(registry)) if isinstance(store, str) and store else None


def kept_for(config: Mapping[str, Any], registry: str, repository: str = "") -> dict[str, str] | None:
    """Return what a file itself has for a repository, with X-Registry-Auth's names: the longest key counts."""
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    for key in _keys(registry, repository):
        if found := _read(auths.get(key)):
            return found
    for key, entry in auths.items():
        if _is_whole(key) and hostname_of(key) == registry and (found := _read(entry)):
            return found
    return None


def _keys(registry: str, repository: str) -> list[str]:
    """Return the keys for a repository, the longest first."""
    keys = []
    path = f"{registry}/{repository}" if repository else ""
    while "/" in path:
        keys.append(path)
        path = path.rpartition("/")[0]
    if registry == "docker.io":
        return [*keys, HUB, *_HUB_HOSTS]
    return [*keys, registry, f"https://{registry}", f"http://{registry}"]


def _is_whole(key: str) -> bool:
    """Tell whether a key is for a whole registry: Docker's may have a scheme, and the path of an API."""
    return "://" in key or key.partition("/")[2].rstrip("/") in ("", "v1", "v2")


def _read(entry: object) -> dict[str, str] | None:
    """Take an entry apart; None where nothing is in it."""
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"])}
    name, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        import binascii  # a library to load, where a build or a pull has no credentials

        try:
            name, colon, password = binascii.a2b_base64(str(entry["auth"])).decode().partition(":")
        except ValueError:
            return None
        if not colon:
            return None
    if not name:
        return None
    return {"username": name, "password": password.rstrip("\0")}


def told_by_helper(name: str, secret: str) -> dict[str, str]:
    """Return a helper's answer with X-Registry-Auth's names."""
    return {"identitytoken": secret} if name == TOKEN_USER else {"username": name, "password": secret}
