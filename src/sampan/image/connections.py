"""Connections to one registry and to the servers that it names: each with the proxy, and the trust, that is its own.

A registry's authorities in certs.d count for the servers that it names, too, as with Docker. Its client certificate and
its insecurity do not: beyond the same host name, each server needs its own.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InsecureRequestWarning, MaxRetryError, NewConnectionError, SSLError

from sampan import __version__
from sampan.errors import Failed, InvalidInput, Unsupported
from sampan.image import trust
from sampan.image.address import is_loopback, shown
from sampan.image.proxies import proxy_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from urllib3.response import BaseHTTPResponse, HTTPResponse

    from sampan.spec.settings import Place, Registries

urllib3.disable_warnings(InsecureRequestWarning)  # who is not verified is said in the configuration

_CONNECT_S = 15
_LONGEST_HEAD_S = 30  # from its first byte on, at most; the socket's timeout is for each byte of one that drips
_AGENT = {"User-Agent": f"sampan/{__version__}"}
_UNKNOWN_AUTHORITY = frozenset((18, 19, 20, 21))  # OpenSSL, X509_V_ERR_*
_NOT_NOW = frozenset((9, 10))
_WANTS_CERTIFICATE = ("ALERT_CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE")  # OpenSSL's servers, and Go's


class Connections:
    """Pools of connections, made when they are first needed. Several threads may use them."""

    def __init__(self, place: Place, registries: Registries) -> None:
        self._place = place
        self._registries = registries
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._open = _Open()
        self.certificates = trust.directory_of(place.host, registries.certificates)

    def schemes(self) -> tuple[str, ...]:
        """Return how the registry may be spoken to, in the order to try."""
        if self._place.scheme:
            return (self._place.scheme,)
        if is_loopback(self._place.host):
            return ("https",) if self.certificates else ("http", "https")
        return ("https", "http") if self._place.insecure else ("https",)

    def is_insecure(self, host: str) -> bool:
        """Tell whether a server's certificate need not be known, or it may speak plain http: as it is configured."""
        if self._registries.is_insecure(host) or (is_loopback(host) and self.certificates is None):
            return True
        return self._place.insecure and _name(host) == _name(self._place.host)

    def request(
        self, method: str, url: str, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str], timeout_s: float
    ) -> BaseHTTPResponse:
        """Send one request, follow nothing. Raises urllib3's HTTPError; InvalidInput for what no header may have."""
        try:
            response = self._pool(url).request(
                method,
                url,
                body=body,
                headers={**_AGENT, **headers},
                timeout=urllib3.Timeout(connect=min(_CONNECT_S, timeout_s), read=timeout_s),
                preload_content=False,
                redirect=False,
            )
        except HTTPError:
            raise
        except ValueError as e:
            raise InvalidInput(f"can't {method} {shown(url)}: {e}") from e
        self._open.add_response(response)
        return response

    def shut(self) -> None:
        """Break every connection, now and later, from any thread: whoever waits for one gets urllib3's HTTPError."""
        self._open.shut()

    def close(self) -> None:
        """Close every connection, and every answer that was not read to its end. No other thread uses them now."""
        self._open.close_responses()
        for pool in self._pools.values():
            pool.clear()

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        pool = self._pools.get(key)
        if pool is None:
            tls = self._context(parts.netloc) if parts.scheme == "https" else None
            pool = self._pools[key] = _pool(proxy_for(url, os.environ), tls, self._open)
        return pool

    def _context(self, host: str) -> ssl.SSLContext:
        own = trust.directory_of(host, self._registries.certificates)
        directories = [path for path in (self.certificates, own) if path is not None]
        return trust.context(dict.fromkeys(directories), ours=own, verify=not self.is_insecure(host))


class _Open:
    """What is open: sockets, as long as anything reads or writes them, and answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a WeakSet can't be gone through while another thread adds to it
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._responses: WeakSet[BaseHTTPResponse] = WeakSet()
        self._shut = False

    def add_socket(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.add(opened)
            if self._shut:
                _shut(opened)

    def add_response(self, response: BaseHTTPResponse) -> None:
        with self._lock:
            self._responses.add(response)

    def shut(self) -> None:
        with self._lock:
            self._shut = True
            for opened in self._sockets:
                _shut(opened)

    def close_responses(self) -> None:
        with self._lock:
            responses = list(self._responses)
        for response in responses:
            response.close()


def _shut(opened: socket.socket) -> None:
    with suppress(OSError):  # it has come to its end just now
        socket.socket.shutdown(opened, socket.SHUT_RDWR)  # of TLS, too, beneath it


class _Head:
    """The head of an answer that is waited for: it comes in time, or the connection is shut."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._socket = connection.sock
        self._timer = threading.Timer(float(connection.timeout or 0) + _LONGEST_HEAD_S, self._shut)
        self._timer.daemon = True
        self._late = False

    def _shut(self) -> None:
        self._late = True
        _shut(self._socket)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._late:  # to http.client it may look whole
            raise TimeoutError


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, open: _Open, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open = open

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        self._open.add_socket(opened)
        return opened

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        with _Head(self):
            return super().getresponse()


class _TlsConnection(HTTPSConnection):
    def __init__(self, *args: Any, open: _Open, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open = open
        self._beneath: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        self._beneath = opened.dup()  # during the handshake nobody else has the socket: ssl.SSLSocket._create
        self._open.add_socket(self._beneath)
        return opened

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            if self._beneath is not None:
                self._beneath.close()
        self._open.add_socket(self.sock)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        with _Head(self):
            return super().getresponse()


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _pool(proxy: str | None, tls: ssl.SSLContext | None, open: _Open) -> urllib3.PoolManager:
    manager = _manager(proxy, tls)
    pools = {"http": partial(_Pool, open=open), "https": partial(_TlsPool, open=open)}
    manager.pool_classes_by_scheme = pools  # type: ignore[assignment]  # they are called, and no more
    return manager


def _manager(proxy: str | None, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(retries=False, maxsize=8, ssl_context=tls)
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https"):
        raise Unsupported(f"unsupported: proxy {parts.scheme}://{parts.hostname}", "use an http or https proxy")
    headers = {}
    if parts.username is not None:
        headers = urllib3.make_headers(proxy_basic_auth=f"{parts.username}:{parts.password or ''}")
    return urllib3.ProxyManager(proxy, retries=False, maxsize=8, ssl_context=tls, proxy_headers=headers)


def _name(host: str) -> str | None:
    return urlsplit(f"//{host}").hostname


def refused(error: BaseException | None, *, for_good: bool = False) -> bool:
    """Tell whether it is of no use to try again at once: nobody listens, there is no such host, TLS is not agreed.

    Only the last of these is `for_good`.
    """
    kinds = SSLError if for_good else NewConnectionError | ConnectionRefusedError | SSLError
    return any(isinstance(e, kinds) for e in _chain(error))


def unreachable(host: str, error: HTTPError) -> Failed:
    """Say why there is no connection to a host; in Go's words, which people search for, where TLS fails."""
    cause = next((e for e in _chain(error) if isinstance(e, OSError)), error)
    hint = "check the registry's name and that it runs"
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"tls: failed to verify certificate: {_certificate_fault(cause)}"
        hint = f"put its authority's certificate into /etc/sampan/certs.d/{host}/ca.crt"
    elif isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        text = "http: server gave HTTP response to HTTPS client"
        hint = f'to speak plain http to it, write insecure = true below [registries."{host}"] in the configuration'
    elif isinstance(cause, ssl.SSLError):
        text = f"tls: {(cause.reason or text).lower().replace('_', ' ')}"
        if (cause.reason or "").endswith(_WANTS_CERTIFICATE):
            hint = f"it wants to see a client's certificate: put it into /etc/sampan/certs.d/{host}/client.cert, .key"
    else:
        text = text[:300].lower()
    return Failed(f"can't reach registry {host}: {text}", hint)


def _certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return "x509: certificate signed by unknown authority"
    if error.verify_code in _NOT_NOW:
        return "x509: certificate has expired or is not yet valid"
    return f"x509: {error.verify_message.rstrip('.')}"


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.reason if isinstance(error, MaxRetryError) else error.__cause__ or error.__context__
