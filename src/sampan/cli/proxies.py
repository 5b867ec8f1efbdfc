"""The variables that tell programs of a proxy: of config.json, for containers and builds, and of this process."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_FIELDS = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}
_OF_PODMAN = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def configured(config: Mapping[str, Any], socket: str) -> dict[str, str]:
    """Return the proxies of config.json for the engine at `socket`, in both cases: docker/cli, ParseProxyConfig."""
    proxies = config.get("proxies")
    if not isinstance(proxies, dict):
        return {}
    chosen = proxies.get(f"unix://{socket}", proxies.get("default"))
    found = {}
    for field, name in _FIELDS.items():
        value = chosen.get(field) if isinstance(chosen, dict) else None
        if value:
            found[name] = found[name.lower()] = str(value)
    return found


def add(variables: list[str], found: Mapping[str, str]) -> list[str]:
    """Return the variables with those proxies that are not among them: what was given for this container counts."""
    given = {variable.partition("=")[0] for variable in variables}
    return [f"{name}={value}" for name, value in found.items() if name not in given] + variables


def of_environment() -> list[str]:
    """Return those that this process has, as Podman passes them on."""
    names = (*_OF_PODMAN, *(name.upper() for name in _OF_PODMAN))
    return [f"{name}={os.environ[name]}" for name in names if name in os.environ]
