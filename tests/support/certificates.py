"""A certificate authority of a test, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Authority:
    """`certificate` is the authority's; `issue` signs others."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._name = name
        directory.mkdir(parents=True, exist_ok=True)
        self._key("ca")
        self._openssl("req", "-x509", "-new", "-key", f"{name}-ca.key", "-subj", f"/CN={name}", "-days", "2", "-out", f"{name}-ca.crt")  # fmt: skip  # noqa: E501
        self.certificate = directory / f"{name}-ca.crt"

    def issue(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """Return a certificate and its key, for a server at `addresses` (IP:…, DNS:…) or for a client."""
        self._key(name)
        stem = f"{self._name}-{name}"
        self._openssl("req", "-new", "-key", f"{stem}.key", "-subj", f"/CN={name}", "-out", f"{stem}.csr")
        extensions = self._directory / f"{stem}.ext"
        extensions.write_text(
            f"subjectAltName={','.join(addresses)}\n" if addresses else "extendedKeyUsage=clientAuth\n"
        )
        self._openssl(
            "x509", "-req", "-in", f"{stem}.csr", "-CA", f"{self._name}-ca.crt", "-CAkey", f"{self._name}-ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", extensions.name, "-out", f"{stem}.crt",
        )  # fmt: skip
        return self._directory / f"{stem}.crt", self._directory / f"{stem}.key"

    def server(self, *addresses: str, clients_of: Authority | None = None) -> ssl.SSLContext:
        """Return what a server at `addresses` speaks TLS with; with `clients_of` it wants to see a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server", *addresses))
        if clients_of is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients_of.certificate)
        return context

    def _key(self, name: str) -> None:
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{self._name}-{name}.key")

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self._directory, timeout=60)
