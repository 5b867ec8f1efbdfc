"""TLS on a socket that somebody else reads and writes: bytes in, bytes out, nothing that waits.

Imported by a shim whose log goes over TLS, and by nobody else: `ssl` costs it 3 MiB.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple


class Settings(NamedTuple):
    """What --log-opt syslog-tls-* say; paths may be empty. `server` is the name that the certificate must have."""

    server: str
    ca: str
    certificate: str
    key: str
    skip_verify: bool

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises OSError (ssl.SSLError too) naming none."""
        context = ssl.create_default_context(cafile=self.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # during one nothing can be written
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key or None)
        return context


class Tls:
    """The client's side of one connection."""

    def __init__(self, settings: Settings) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = settings.context().wrap_bio(self._in, self._out, server_hostname=settings.server)

    def handshake(self) -> bool:
        """Go on with it; True when it is done. What `outgoing` gives is to be sent. Raises OSError if it fails."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def received(self, data: bytes) -> None:
        """Take what came from the other end."""
        self._in.write(data)

    def ended(self) -> bool:
        """Read what the other end says (keys, tickets, perhaps words) and return whether it has ended."""
        try:
            while self._object.read(4096):
                continue
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True

    def outgoing(self) -> bytes:
        """Return what is to be sent."""
        return self._out.read()

    def encrypted(self, message: bytes) -> bytes:
        """Return a message as it is to be sent."""
        self._object.write(message)
        return self._out.read()

    def farewell(self) -> bytes:
        """Return what says that no more comes."""
        try:
            self._object.unwrap()
        except OSError:  # it waits for the other end's, which we don't
            pass
        return self._out.read()
