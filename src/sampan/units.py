"""Numbers with units, as people write them on a command line: "512m", "1.5", "30s", "8080:80/udp".

Every function raises `InvalidInput` that names what was given and what would be right. Nothing is imported at the top:
the command line uses this on its hot path.
"""

from __future__ import annotations

from sampan.errors import InvalidInput

_BINARY = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SECONDS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_INT64_MAX = (1 << 63) - 1
_CPU = 10**9
_PROTOCOLS = ("tcp", "udp", "sctp")


def _number(text: str) -> tuple[int, int] | None:
    """Return a plain decimal as numerator and denominator; None where it is none (`float` takes "nan", "1_0")."""
    whole, dot, fraction = text.partition(".")
    if not (whole + fraction).isascii() or not (whole + fraction).isdigit() or (dot and not fraction) or not whole:
        return None
    return int(whole + fraction), 10 ** len(fraction)


def parse_bytes(text: str) -> int:
    """Return the bytes of "512m", "1.5g", "64KiB", "100": units are powers of 1024, in either case, as in Docker."""
    lower = text.strip().lower()
    digits = lower.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = lower[len(digits) :].strip()
    if len(unit) > 1:
        unit = unit.removesuffix("b").removesuffix("i") if unit[0] in "kmgtp" and unit[-1] == "b" else "?"
    number = _number(digits)
    if number is None or unit not in _BINARY:
        raise InvalidInput(f"invalid size: {text!r}", "write a number and b, k, m, g or t: 512m")
    size = number[0] * _BINARY[unit] // number[1]
    if size > _INT64_MAX:
        raise InvalidInput(f"invalid size: {text!r} is more than a file or a limit can be")
    return size


def format_bytes(size: int) -> str:
    """Return a size as Docker's tables have it: four digits at most and decimal units, "1.24MB"."""
    return _scaled(size, 1000, ("B", "kB", "MB", "GB", "TB", "PB", "EB"))


def format_bytes_binary(size: int) -> str:
    """Return a size in powers of 1024, "512MiB", as Docker shows limits."""
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def _scaled(size: float, base: int, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if size < base:
            return f"{size:.4g}{unit}" if base == 1024 else f"{size:.3g}{unit}"
        size /= base
    return f"{size:.4g}{units[-1]}"


def parse_cpus(text: str) -> int:
    """Return billionths of a CPU (Docker's NanoCpus) of "1.5"."""
    number = _number(text.strip())
    if number is None or (number[0] * _CPU) % number[1]:
        raise InvalidInput(f"invalid number of CPUs: {text!r}", "write a decimal number with at most nine digits: 1.5")
    nano = number[0] * _CPU // number[1]
    if nano > _INT64_MAX:
        raise InvalidInput(f"invalid number of CPUs: {text!r} is too large")
    return nano


def parse_duration(text: str) -> int:
    """Return the nanoseconds of "30s", "1m30s", "1.5h", "100ms", as Go has it: no number but 0 is without a unit."""
    rest = text.strip()
    if rest == "0":
        return 0
    negative = rest.startswith("-")
    rest = rest[1:] if rest[:1] in ("-", "+") else rest
    total = 0 if rest else -1
    while rest and total >= 0:
        after = rest.lstrip("0123456789.")
        number = _number(rest[: len(rest) - len(after)])
        unit = next((u for u in _SECONDS if after.startswith(u)), "")
        rest = after[len(unit) :]
        total = total + number[0] * _SECONDS[unit] // number[1] if number and unit else -1
    if not 0 <= total <= _INT64_MAX:
        raise InvalidInput(f"invalid duration: {text!r}", "write numbers with ns, us, ms, s, m or h: 1m30s")
    return -total if negative else total


def format_duration(ns: int) -> str:
    """Write nanoseconds as Go's `Duration.String` does: "200ms", "1.5s", "1m30s", "1h0m0s"."""
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if 0 < ns < min(size * 10**3, 10**9):
            return f"{_decimal(ns, size)}{unit}"
    minutes, ns = divmod(ns, 60 * 10**9)
    text = f"{_decimal(ns, 10**9)}s"
    if minutes:
        text = f"{minutes // 60}h{minutes % 60}m{text}" if minutes >= 60 else f"{minutes}m{text}"
    return text


def _decimal(number: int, size: int) -> str:
    whole, part = divmod(number, size)
    digits = str(size + part)[1:].rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


class Port:
    """One published or exposed range. `host_ip` is empty and the host's ports are 0 when they were not given."""

    __slots__ = ("container_first", "container_last", "host_first", "host_ip", "host_last", "protocol")

    def __init__(self, container: tuple[int, int], protocol: str, host_ip: str, host: tuple[int, int]) -> None:
        self.container_first, self.container_last = container
        self.protocol = protocol
        self.host_ip = host_ip
        self.host_first, self.host_last = host


def parse_port(text: str) -> Port:
    """Return the parts of "80", "8080:80/udp", "127.0.0.1:8080:80", "[::1]::53/udp", "8000-8010:80-90"."""
    address, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidInput(f"invalid proto: {protocol!r} in {text!r}", "a port's protocol is tcp, udp or sctp")
    before, _, container = address.rpartition(":")
    host_ip, host = "", before
    if ":" in before:
        host_ip, _, host = before.rpartition(":")
        host_ip = host_ip[1:-1] if host_ip.startswith("[") and host_ip.endswith("]") else host_ip
    inside = _ports(container, text)
    outside = _ports(host, text) if host else (0, 0)
    # One container port may take any free one of a host range; ranges must otherwise be of one length.
    if host and inside[0] != inside[1] and outside[1] - outside[0] != inside[1] - inside[0]:
        raise InvalidInput(f"invalid ranges specified for container and host ports: {text!r}")
    return Port(inside, protocol, host_ip, outside)


def _ports(text: str, whole: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = (first, last if dash else first)
    if not all(n.isascii() and n.isdigit() and len(n) <= 5 and 0 < int(n) < 65536 for n in numbers):
        raise InvalidInput(f"invalid port: {text!r} in {whole!r}", "ports are numbers from 1 to 65535")
    if int(numbers[1]) < int(numbers[0]):
        raise InvalidInput(f"invalid port range: {text!r} in {whole!r}", "the first port comes first")
    return int(numbers[0]), int(numbers[1])


def parse_time(text: str, now_ns: int) -> int:
    """Return nanoseconds since 1970 of a moment as Docker's `--since` takes it.

    Seconds ("1700000000.5"), RFC 3339 in full or shortened ("2024-01-02T15:04", without a zone: UTC) or a duration
    back from now ("10m").
    """
    number = _number(text)
    if number is not None:
        return number[0] * 10**9 // number[1]
    if text[:4].isdigit() and text[4:5] == "-":
        return parse_timestamp(text)
    try:
        return now_ns - parse_duration(text)
    except InvalidInput:
        raise InvalidInput(f"invalid time: {text!r}", "write 10m, 2024-01-02T15:04:05Z or seconds since 1970") from None


def parse_timestamp(text: str) -> int:
    """Return nanoseconds since 1970 of RFC 3339, with up to nine digits of a second."""
    import calendar
    import re

    match = re.fullmatch(
        r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?(Z|[+-]\d\d:\d\d)?", text
    )
    if match is None:
        raise InvalidInput(f"invalid time: {text!r}", "write it as 2024-01-02T15:04:05Z")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61 and year >= 1):
        raise InvalidInput(f"invalid time: {text!r}", "write it as 2024-01-02T15:04:05Z")
    if day > calendar.monthrange(year, month)[1]:
        raise InvalidInput(f"invalid time: {text!r}: that month has fewer days")
    seconds = calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))
    zone = match[8]
    if zone and zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * 10**9 + int((match[7] or "0").ljust(9, "0"))


def format_timestamp(ns: int) -> str:
    """Return RFC 3339 with nanoseconds, UTC, trailing zeros cut: the form of all of Docker's times."""
    import time

    seconds, rest = divmod(ns, 10**9)
    t = time.gmtime(seconds)
    text = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    fraction = f"{rest:09}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time, which Docker shows for what has not happened."""


def format_ago(seconds: float) -> str:
    """Return an age as Docker's tables have it: "About an hour", "3 minutes", "Less than a second"."""
    s = int(seconds)
    if s < 1:
        return "Less than a second"
    if s == 1:
        return "1 second"
    if s < 60:
        return f"{s} seconds"
    minutes = s // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(s / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(s / 3600 / 24 / 365)} years"


_SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17,
    "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26,
    "PROF": 27, "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip


def parse_signal(text: str) -> int:
    """Return the number of "9", "KILL", "sigkill", "RTMIN+3": Linux's numbers on x86 and ARM, signal(7)."""
    name = text.strip().upper().removeprefix("SIG")
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if name.isascii() and name.isdigit() and 1 <= int(name) <= 64:
        return int(name)
    if base in ("RTMIN", "RTMAX") and sign and offset.isascii() and offset.isdigit() and len(offset) < 3:
        number = _SIGNALS[base] + int(sign + offset)
        if 34 <= number <= 64:
            return number
    if name in _SIGNALS:
        return _SIGNALS[name]
    raise InvalidInput(f"Invalid signal: {text}", "name it as kill -l does: TERM, SIGHUP, 9")


def signal_name(number: int) -> str:
    """Return "SIGTERM" of 15, or the number as text."""
    for name, value in _SIGNALS.items():
        if value == number:
            return f"SIG{name}"
    return str(number)


def parse_detach_keys(text: str) -> bytes:
    """Return the bytes of "ctrl-p,ctrl-q": single characters, and ctrl- with a letter or another of ASCII 64 to 95."""
    keys = bytearray()
    for key in text.split(",") if text else ():
        if len(key) == 1 and key.isascii():
            keys += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and (key[5].lower().isascii() and "@" <= key[5].upper() <= "_"):
            keys.append(ord(key[5].upper()) - 64)
        else:
            raise InvalidInput(f"invalid detach keys ({text}) provided", "write them as ctrl-p,ctrl-q")
    return bytes(keys)
