"""What the registry says on standard error: a line per request, and what goes wrong."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.http11.channel import Channel, Request


class Log:
    """Writes whole lines, each with one write(2), so that those of several threads don't mix."""

    def __init__(self, *, quiet: bool = False, fd: int = 2) -> None:
        self._quiet = quiet
        self._fd = fd

    def begin(self, channel: Channel, request: Request) -> Log.Line:
        """Return the line of a request, to be completed."""
        return self.Line(self, channel, request)

    def problem(self, text: str) -> None:
        """Write what went wrong, also when quiet."""
        self._write(f"{_now()} error: {text}")

    def request(self, text: str) -> None:
        """Write what was asked and answered."""
        if not self._quiet:
            self._write(f"{_now()} {text}")

    def _write(self, line: str) -> None:
        try:
            os.write(self._fd, f"{line}\n".encode("utf-8", "backslashreplace"))
        except OSError:  # nobody reads it any more, or the disk is full: the registry goes on
            pass

    class Line:
        """`CLIENT USER "METHOD PATH" STATUS BYTES SECONDSs "AGENT"`, in the manner of web servers' logs."""

        def __init__(self, log: Log, channel: Channel, request: Request) -> None:
            self._log = log
            self._channel = channel
            self._request = request
            self.user = ""
            self.broken = False

        def end(self, seconds: float) -> None:
            """Write it."""
            channel, request = self._channel, self._request
            target = request.path + (f"?{request.query}" if request.query else "")
            agent = request.headers.get("user-agent", "")
            status = "broken" if self.broken else channel.status
            who = f"{_peer(channel)} {_quoted(self.user) if self.user else '-'}"
            what = f"{_quoted(f'{request.method} {target[:500]}')} {status} {channel.sent} {seconds:.3f}s"
            self._log.request(f"{who} {what} {_quoted(agent[:200])}")


def _peer(channel: Channel) -> str:
    try:
        return str(channel.client.getpeername()[0])
    except (OSError, IndexError):
        return "-"


def _quoted(text: str) -> str:
    """Return the text in quotes, with nothing in it that a terminal or a reader of lines would obey."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\x{ord(c):02x}" for c in text) + '"'


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z"
