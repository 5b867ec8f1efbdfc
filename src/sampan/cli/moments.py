"""Moments as --since and --until take them, in the form of the API: seconds since 1970 with nine digits."""

from __future__ import annotations

from sampan.cli.failure import Failure, quoted


def moment(text: str, flag: str) -> str:
    """Return "1700000000.000000000" for a time stamp, seconds, or a while ago ("10m"); "" for ""."""
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
