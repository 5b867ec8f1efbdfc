"""The headers about a part of something: Range of a download, Content-Range of an upload, If-None-Match. Pure."""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/(?:\d{1,19}|\*))?", re.ASCII)


class Unsatisfiable(Exception):
    """No byte of the content is in the range."""


def wanted(header: str, size: int) -> range | None:
    """Return which bytes of `size` a Range header asks for, None where all are to be sent.

    Several ranges, other units and what is malformed are ignored, as RFC 9110 §14.2 permits. Raises Unsatisfiable, also
    for a range that ends before it begins, as Go's servers and so most registries do.
    """
    match = _ONE_RANGE.fullmatch(header)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return range(max(0, size - int(last)), size)
    if int(first) >= size or (last and int(last) < int(first)):
        raise Unsatisfiable
    return range(int(first), min(int(last) + 1 if last else size, size))


def chunk(header: str) -> range | None:
    """Return which bytes an uploaded chunk says it is; None where the header is malformed."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        return None
    return range(int(match[1]), int(match[2]) + 1)


def matches(header: str, digest: str) -> bool:
    """Tell whether an If-None-Match or If-Range header names the content; its entity tag is the quoted digest."""
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or f'"{digest}"' in tags
