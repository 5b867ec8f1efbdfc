"""The handshake of a WebSocket, RFC 6455 §4.2: what a request must have, and the head of its answer."""

from __future__ import annotations

import binascii
import hashlib
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Mapping

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


def check(headers: Mapping[str, str]) -> None:
    """Refuse a request that is no handshake, in dockerd's words, or comes from another site's page in a browser.

    A browser sends WebSockets anywhere, without asking whether it may: only their `Origin` tells (§10.2). Where the
    API can be reached by TCP, any page that somebody opens could else type into containers.
    """
    upgrades = "upgrade" in headers.get("connection", "").lower()
    if headers.get("upgrade", "").lower() != "websocket" or not upgrades:
        raise InvalidInput("not websocket protocol", "the request needs Connection: Upgrade and Upgrade: websocket")
    if headers.get("sec-websocket-version", "") != _VERSION:
        raise InvalidInput("missing or bad WebSocket Version", f"it must be {_VERSION}")
    if not _is_key(headers.get("sec-websocket-key", "")):
        raise InvalidInput("mismatch challenge/response", "Sec-WebSocket-Key must be 16 bytes in base64")
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if origin and not origin.lower().endswith(f"://{host.lower()}"):
        raise NotPermitted(
            f"can't attach for a page of {origin[:100]}: it is another site than {host[:100]}",
            "a proxy in between must pass Host on",
        )


def answer(headers: Mapping[str, str]) -> str:
    """Return the head of the answer to a request that is in order, less what all answers have."""
    digest = hashlib.sha1(headers["sec-websocket-key"].encode("latin-1") + _GUID, usedforsecurity=False).digest()
    accept = binascii.b2a_base64(digest, newline=False).decode()
    protocol, _, _ = headers.get("sec-websocket-protocol", "").partition(",")
    chosen = f"Sec-WebSocket-Protocol: {protocol.strip()}\r\n" if protocol.strip() else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}"
    )


def _is_key(key: str) -> bool:
    try:
        return len(binascii.a2b_base64(key.encode("latin-1"), strict_mode=True)) == 16
    except binascii.Error:
        return False
