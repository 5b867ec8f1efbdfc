"""One line of a container as a message: for syslog in its three forms, or for the journal."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from sampan.supervise.logfile import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

_SEVERITY = {"stdout": 6, "stderr": 3}  # info, err; syslog(3)
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


class Syslog(NamedTuple):
    """`form` is "", rfc3164, rfc5424 or rfc5424micro; `counted` puts a message's length before it (RFC 5425)."""

    form: str
    facility: int
    hostname: str
    tag: str
    counted: bool

    def message(self, stream: str, line: bytes, now_ns: int) -> bytes:
        """Return a line as Docker sends it: ended by a newline in every form."""
        priority = self.facility * 8 + _SEVERITY[stream]
        hostname, tag, pid = self.hostname.encode(), self.tag.encode(), os.getpid()
        text = line.removesuffix(b"\n")
        if self.form == "":
            message = b"<%d>%b %b[%d]: %b\n" % (priority, _stamp(now_ns), tag, pid, text)
        elif self.form == "rfc3164":
            message = b"<%d>%b %b %b[%d]: %b\n" % (priority, _stamp(now_ns), hostname, tag, pid, text)
        else:
            moment = _moment(now_ns, micro=self.form == "rfc5424micro")
            message = b"<%d>1 %b %b %b %d %b - %b\n" % (priority, moment, hostname, tag, pid, tag, text)
        return b"%d %b" % (len(message), message) if self.counted else message


_stamped = (-1, b"")
_dated = (-1, "", "")


def _stamp(now_ns: int) -> bytes:
    """Return RFC 3164's time: of the place, without a year."""
    global _stamped
    seconds = now_ns // 1_000_000_000
    if seconds != _stamped[0]:
        at = time.localtime(seconds)
        month = _MONTHS[at.tm_mon - 1]
        _stamped = (seconds, b"%b %2d %02d:%02d:%02d" % (month, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec))
    return _stamped[1]


def _moment(now_ns: int, *, micro: bool) -> bytes:
    """Return RFC 5424's time, of the place, with its offset."""
    global _dated
    seconds, rest = divmod(now_ns, 1_000_000_000)
    if seconds != _dated[0]:
        at = time.localtime(seconds)
        offset = at.tm_gmtoff // 60
        zone = "Z" if not offset else f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
        _dated = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", at), zone)
    fraction = f".{rest // 1000:06}" if micro else ""
    return f"{_dated[1]}{fraction}{_dated[2]}".encode()


def journal(fields: bytes) -> Callable[[str, bytes, int], bytes]:
    """Return the maker of messages in the journal's native protocol. `fields` are those that all have."""

    def message(stream: str, line: bytes, now_ns: int) -> bytes:
        text = line.removesuffix(b"\n")
        partial = b"CONTAINER_PARTIAL_MESSAGE=true\n" if text == line else b""
        moment = rfc3339(now_ns)
        return b"%bPRIORITY=%d\nSYSLOG_TIMESTAMP=%b\n%bMESSAGE=%b\n" % (
            fields, _SEVERITY[stream], moment, partial, text,
        )  # fmt: skip

    return message
