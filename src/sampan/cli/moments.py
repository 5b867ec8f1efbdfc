"""Moments as --since and --until take them, and as Go shows those of the API."""

from __future__ import annotations

from sampan.cli.failure import Failure, quoted


def moment(text: str, flag: str) -> str:
    """Return "1700000000.000000000", the API's form, for a time stamp, seconds, or a while ago ("10m"); "" for ""."""
    if not text:
        return ""
    import time

    from sampan.errors import InvalidInput
    from sampan.units import parse_time

    try:
        ns = parse_time(text, time.time_ns())
    except InvalidInput:
        cause = f"failed to parse value as time or duration: {quoted(text)}"
        raise Failure(f'invalid value for "{flag}": {cause}', "write 10m, 2024-01-02T15:04:05Z or seconds") from None
    return f"{ns // 10**9}.{ns % 10**9:09}"


def as_go(text: str) -> str:
    """Return a moment of the API as Go shows it: `2024-01-02 03:04:05.678 +0000 UTC`."""
    import re

    found = re.fullmatch(r"([0-9-]+)T([0-9:.]+)(Z|[+-][0-9:]+)", text)
    if found is None:
        return text
    zone = "+0000 UTC" if found[3] == "Z" else f"{found[3].replace(':', '')} {found[3].replace(':', '')}"
    return f"{found[1]} {found[2]} {zone}"
