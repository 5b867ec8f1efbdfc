"""Write tar archives: ustar headers, and PAX ones for what doesn't fit. A codec only; the same entry, the same bytes.

Layers of Docker's are of this form. Deterministic: no names of users, no times but the modification's, in whole
seconds (a fraction would cost each file a PAX header, and Docker, Podman and BuildKit leave it out as well). Holes are
written as zeros: readers of layers disagree about the sparse formats, and where a file has holes is not its content.
The formats: pax(1) of POSIX.1-2017; extended attributes as star(1), libarchive and Go write them.
"""

from __future__ import annotations

import struct
import zlib

from sampan.image import tar

END = bytes(2 * tar.BLOCK)
"""What ends an archive."""

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
_USTAR = b"ustar\x0000"
_NO_CHECKSUM = b" " * 8
_SHORT, _LONG = 8**7, 8**11  # what the two widths of numbers hold
_NO_NUMBER = b"0" * 7
_XATTR = b"SCHILY.xattr."
_PAX_NAME = b"PaxHeaders.0/"


def header(entry: tar.Entry) -> bytes:
    """Return all that comes before the member's content, which is padded by `padding(entry.size)`.

    A directory's name gets its slash. `regions` are not looked at, nor is the fraction of the time.
    """
    name = entry.name + b"/" if entry.kind == tar.DIRECTORY and not entry.name.endswith(b"/") else entry.name
    seconds = entry.mtime_ns // 1_000_000_000
    records = _records(entry, name, seconds)
    prefix, short = _split(name) if name.isascii() else (b"", name)
    plain = _ustar(entry, prefix, short, seconds)
    if not records:
        return plain
    body = b"".join(_record(key, value) for key, value in records)
    extension = tar.Entry(_PAX_NAME + short[-80:].strip(b"/"), b"x", 0o644, 0, 0, len(body), 0)
    return _ustar(extension, b"", extension.name, 0) + body + padding(len(body)) + plain


def padding(size: int) -> bytes:
    """Return the zeros between content of `size` bytes and the next header."""
    return bytes(-size % tar.BLOCK)


def _records(entry: tar.Entry, name: bytes, seconds: int) -> list[tuple[bytes, bytes]]:
    """Return what needs an extended header, in the order of the keys."""
    records = []
    for key, value in ((b"gid", entry.gid), (b"uid", entry.uid)):
        if value >= _SHORT:
            records.append((key, b"%d" % value))
    if entry.link and not (entry.link.isascii() and len(entry.link) <= 100):
        records.append((b"linkpath", entry.link))
    if not 0 <= seconds < _LONG:
        records.append((b"mtime", b"%d" % seconds))
    if not name.isascii() or (len(name) > 100 and not _split(name)[0]):
        records.append((b"path", name))
    if entry.size >= _LONG:
        records.append((b"size", b"%d" % entry.size))
    records += [(_XATTR + key, value) for key, value in entry.xattrs]
    return sorted(records) if records else records


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Part a long name at a slash into ustar's two fields; the prefix is empty where one field does, or two don't."""
    if len(name) <= 100 or len(name) > 256:
        return b"", name
    slash = name.find(b"/", len(name) - 101, len(name) - 1)
    return (name[:slash], name[slash + 1 :]) if 0 < slash <= 155 else (b"", name)


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE` and a newline, LENGTH counting its own digits too."""
    length = len(key) + len(value) + 3
    digits = len(str(length))
    digits = len(str(length + digits))
    return b"%d %b=%b\n" % (length + digits, key, value)


def _ustar(entry: tar.Entry, prefix: bytes, name: bytes, seconds: int) -> bytes:
    major, minor = (b"%07o" % number for number in entry.device) if any(entry.device) else (_NO_NUMBER, _NO_NUMBER)
    fields = (
        name[:100],
        b"%07o" % entry.mode,
        b"%07o" % (entry.uid if entry.uid < _SHORT else 0),
        b"%07o" % (entry.gid if entry.gid < _SHORT else 0),
        b"%011o" % (entry.size if entry.size < _LONG else 0),
        b"%011o" % (seconds if 0 <= seconds < _LONG else 0),
        _NO_CHECKSUM,
        entry.kind,
        entry.link[:100],
        _USTAR,
        major,
        minor,
        prefix,
    )
    block = _HEADER.pack(*fields)
    return b"%b%06o\0 %b" % (block[:148], _sum(block), block[156:])


def _sum(block: bytes) -> int:
    # Half of Adler's checksum is the sum of all bytes and 1, modulo a prime that no block of ASCII comes up to.
    return (zlib.adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)
