"""Which certificates a registry may show, and which one we show: the system's, and certs.d as Docker has it.

certs.d/HOST[:PORT]/*.crt            certificate authorities, beside the system's
certs.d/HOST[:PORT]/NAME.cert, .key  what we show
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from urllib3.util.ssl_ import create_urllib3_context

from sampan.errors import InvalidInput, doing
from sampan.spec.settings import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Iterable


def directory_of(host: str, roots: Iterable[str]) -> str | None:
    """Return the first directory that is there for `HOST[:PORT]`."""
    names = ("docker.io", host) if host == DOCKER_HUB else (host,)
    return next((path for root in roots for name in names if os.path.isdir(path := f"{root}/{name}")), None)


def context(directories: Iterable[str], *, ours: str | None, verify: bool) -> ssl.SSLContext:
    """Return what to speak TLS with: authorities from `directories`, our own certificate from `ours`."""
    made = create_urllib3_context()
    if verify:
        made.load_default_certs()
        for directory in directories:
            for name in _files(directory, ".crt"):
                with doing(f"can't use certificate {directory}/{name}"):
                    made.load_verify_locations(f"{directory}/{name}")
    else:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if ours is not None:
        _load_ours(made, ours)
    return made


def _load_ours(made: ssl.SSLContext, directory: str) -> None:
    certificates = {name.removesuffix(".cert") for name in _files(directory, ".cert")}
    keys = {name.removesuffix(".key") for name in _files(directory, ".key")}
    for name in sorted(certificates - keys):
        raise InvalidInput(
            f"missing key {name}.key for client certificate {name}.cert in {directory}",
            "CA certificates must use the extension .crt",
        )
    for name in sorted(keys - certificates):
        raise InvalidInput(f"missing client certificate {name}.cert for key {name}.key in {directory}")
    for name in sorted(certificates, reverse=True):  # OpenSSL keeps the last of each kind of key
        path = f"{directory}/{name}"
        with doing(f"can't use client certificate {path}.cert"):
            made.load_cert_chain(f"{path}.cert", f"{path}.key", password="")  # never ask the terminal


def _files(directory: str, suffix: str) -> list[str]:
    with doing("can't read certificates"):
        return sorted(name for name in os.listdir(directory) if name.endswith(suffix))
