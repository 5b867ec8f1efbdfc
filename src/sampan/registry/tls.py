"""TLS: connections that begin with a handshake, and certificates that may be replaced while they are served."""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import termios
import threading
from typing import TYPE_CHECKING

from sampan.errors import Failed, InvalidInput, doing
from sampan.http11.channel import Channel, ClientGone, Patience

if TYPE_CHECKING:
    from sampan.http11.channel import Request
    from sampan.registry.log import Log

# The words are those of Go's net/http: clients that try plain http look for them.
_NO_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_PIECE = 65536  # a TLS record holds 16 KiB; more at a time saves calls


class Certificates:
    """The server's certificate and key, and whose clients' certificates are accepted. Read again when one changes."""

    def __init__(self, cert: str, key: str, client_ca: str, log: Log) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._log = log
        self._lock = threading.Lock()
        self._seen = self._state()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Return what the next connection is to use; the old one where the new files are of no use."""
        with self._lock:
            if (state := self._state()) != self._seen:
                self._seen = state
                try:
                    self._context = self._load()
                except (Failed, InvalidInput, OSError) as e:
                    self._log.problem(f"the certificate has changed and is of no use: {e}")
            return self._context

    def _state(self) -> list[object]:
        """Return what changes when a file is replaced or written to."""
        states: list[object] = []
        for path in (self._cert, self._key, self._client_ca):
            try:
                status = os.stat(path)
                states.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                states.append(None)
        return states

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _check_readable("--tls-cert", self._cert)
        _check_readable("--tls-key", self._key)
        try:
            # A key with a passphrase would be asked for on the terminal.
            context.load_cert_chain(self._cert, self._key, password=_no_passphrase)
        except ssl.SSLError as e:
            why = "the key does not belong to the certificate" if e.reason == "KEY_VALUES_MISMATCH" else _why(e)
            raise InvalidInput(f"can't use {self._cert} with {self._key}: {why}", "both are to be in PEM form") from e
        if self._client_ca:
            _check_readable("--client-ca", self._client_ca)
            try:
                context.load_verify_locations(self._client_ca)
            except ssl.SSLError as e:
                raise InvalidInput(f"can't use {self._client_ca}: {_why(e)}", "it is to be in PEM form") from e
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _check_readable(option: str, path: str) -> None:
    with doing(f"can't read {option}"), open(path, "rb"):
        pass


def _no_passphrase() -> str:
    raise InvalidInput("can't use the key: it has a passphrase", "write one without: openssl pkey -in KEY -out NEW-KEY")


def _why(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


class TlsChannel(Channel):
    """A connection under TLS. The handshake comes with the first request, in the connection's own thread."""

    client: ssl.SSLSocket

    def __init__(
        self, client: socket.socket, preamble: str, patience: Patience, *, context: ssl.SSLContext, log: Log
    ) -> None:
        wrapped = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        super().__init__(wrapped, preamble, patience)
        self._log = log
        self._greeted = False

    def next(self) -> Request | None:
        """Wait for a request, the first time for the handshake before it."""
        if not self._greeted:
            self._greeted = True
            self._wait_at_most(self._patience.head_s, self._patience.head_s)
            try:
                self.client.do_handshake()
            except OSError as e:
                self._log.request(f"TLS handshake failed: {e}")
                if getattr(e, "reason", "") == "HTTP_REQUEST":
                    socket.socket.send(self.client, _NO_TLS)
                raise ClientGone from e
        return super().next()

    def pending(self) -> bool:
        """Tell whether bytes have come that nobody has read. Asked by another thread: OpenSSL's part is left alone."""
        try:
            # Not recv: Python waits for a socket with a timeout to become readable, MSG_DONTWAIT or not.
            return any(fcntl.ioctl(self.client.fileno(), termios.FIONREAD, bytes(4)))
        except (OSError, ValueError):  # it is closed
            return False

    def _send(self, data: bytes, flags: int = 0) -> None:  # noqa: ARG002 a TLS socket takes none
        super()._send(data)

    def _send_some(self, file: int, offset: int, count: int) -> int:
        data = os.pread(file, min(count, _PIECE), offset)
        self.client.sendall(data)
        return len(data)

    def _set_timeouts(self, receive_s: int, send_s: int) -> None:
        # SO_RCVTIMEO would make the socket begin again at each end of the time: ssl takes EAGAIN for "wait on".
        self.client.settimeout(max(receive_s, send_s))
