"""`--log-opt syslog-…`: where the messages go, and whether somebody is there."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import Failed, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS = {
    "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key",
    "syslog-tls-skip-verify",
}  # fmt: skip

_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_PORT = 514
_DIAL_S = 10.0
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
_DAEMON = 3


class Destination(NamedTuple):
    """`network` is udp, tcp, tls, unix or unixgram; `host` is the path of the last two. `tls` as in `link.Receiver`."""

    network: str
    host: str
    port: int = 0
    tls: tuple[str, str, str, str, bool] | None = None

    def __str__(self) -> str:
        if self.network.startswith("unix"):
            return f"{self.network} {self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'udp' if self.network == 'udp' else 'tcp'} {host}:{self.port}"


def check(options: Mapping[str, str]) -> None:
    """Raise InvalidInput, in Docker's words, for what can't be."""
    facility(options.get("syslog-facility", ""))
    if options.get("syslog-format", "") not in _FORMATS:
        raise InvalidInput("Invalid syslog format", f"there are {', '.join(_FORMATS[1:])}")
    destination = parse(options)
    given = bool(options.get("syslog-address"))
    if given and destination.network.startswith("unix") and not os.path.exists(destination.host):
        raise InvalidInput(f"stat {destination.host}: no such file or directory", "it is --log-opt syslog-address")


def facility(text: str) -> int:
    """Return a facility's number by its name or number; Docker's default is daemon."""
    if not text:
        return _DAEMON
    if text in _FACILITIES:
        return _FACILITIES.index(text)
    if text.isascii() and text.isdigit() and len(text) < 3 and int(text) < len(_FACILITIES):
        return int(text)
    raise InvalidInput("invalid syslog facility", f"there are 0 to 23, {', '.join(filter(None, _FACILITIES))}")


def parse(options: Mapping[str, str]) -> Destination:
    """Read the address; without one, it is that of this machine's syslog."""
    address = options.get("syslog-address", "")
    if not address:
        return Destination("unixgram", next((path for path in _LOCAL if os.path.exists(path)), _LOCAL[0]))
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in {"udp", "tcp", "tcp+tls", "unix", "unixgram"}:
        raise InvalidInput(
            f"syslog-address should be in form proto://address, got {address}",
            "proto is udp, tcp, tcp+tls, unix or unixgram",
        )
    if scheme.startswith("unix"):
        return Destination(scheme, rest)
    host, port = _split(address, rest)
    if scheme != "tcp+tls":
        return Destination(scheme, host, port)
    ca, certificate, key = (options.get(f"syslog-tls-{name}", "") for name in ("ca-cert", "cert", "key"))
    # Docker takes any value for yes.
    return Destination("tls", host, port, (host, ca, certificate, key, bool(options.get("syslog-tls-skip-verify"))))


def _split(address: str, text: str) -> tuple[str, int]:
    text = text.partition("/")[0]
    host, _, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", str(_PORT))
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise InvalidInput(f'parse "{address[:255]}": invalid port ":{port[:80]}" after host')
    host = host.strip("[]") or "localhost"
    try:
        host.encode("idna")
    except UnicodeError:  # an empty or too long part of a name
        raise InvalidInput(f'parse "{address[:255]}": invalid host name') from None
    return host, int(port)


def reachable(destination: Destination) -> tuple[tuple[str, int], ...]:
    """Return the addresses as numbers. Raises Failed where a connection can't be made now, and says why.

    The shim makes its own, and again when it breaks, but asks no name server.
    """
    if destination.tls:
        _check_files(destination.tls)
    try:
        if destination.network.startswith("unix"):
            return _local(destination)
        return _remote(destination)
    except OSError as e:
        why = (e.strerror or str(e)).lower()
        raise Failed(
            f"failed to initialize logging driver: dial {destination}: {why}",
            "the container's output has nowhere to go: see --log-opt syslog-address",
        ) from None


def _local(destination: Destination) -> tuple[tuple[str, int], ...]:
    kind = socket.SOCK_DGRAM if destination.network == "unixgram" else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(_DIAL_S)
        sock.connect(destination.host)
    return ((destination.host, 0),)


def _remote(destination: Destination) -> tuple[tuple[str, int], ...]:
    kind = socket.SOCK_DGRAM if destination.network == "udp" else socket.SOCK_STREAM
    found = [address for *_, address in socket.getaddrinfo(destination.host, destination.port, type=kind)]
    addresses = tuple(dict.fromkeys((str(address[0]), int(address[1])) for address in found))
    if kind == socket.SOCK_STREAM:
        with socket.create_connection((destination.host, destination.port), _DIAL_S) as sock:
            if destination.tls:
                _shake_hands(sock, destination.tls)
    return addresses


def _shake_hands(sock: socket.socket, tls: tuple[str, str, str, str, bool]) -> None:
    from sampan.supervise.tls import Settings

    settings = Settings(*tls)
    settings.context().wrap_socket(sock, server_hostname=settings.server).close()


def _check_files(tls: tuple[str, str, str, str, bool]) -> None:
    """Say which file can't be read: ssl's own errors don't."""
    for what, path in zip(("CA certificate", "certificate", "key"), tls[1:4], strict=True):
        try:
            with open(path or os.devnull, "rb"):
                continue
        except OSError as e:
            why = (e.strerror or str(e)).lower()
            raise Failed(
                f'failed to initialize logging driver: could not read {what} "{path}": open {path}: {why}'
            ) from None
