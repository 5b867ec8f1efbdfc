"""Tar archives of all kinds, also such as no honest program writes."""

from __future__ import annotations

import io
import tarfile

from hypothesis import strategies as st

SPARSE_FORMS = ("old", "0.0", "0.1", "1.0")


def member(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o755, 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    info.size = len(content)
    return info, content


def directory(name, **fields):
    return member(name, type=tarfile.DIRTYPE, **fields)


def symlink(name, target):
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name, target):
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def device(name, major, minor, kind=tarfile.CHRTYPE):
    return member(name, type=kind, devmajor=major, devminor=minor)


def written(info, content=b"", format=tarfile.PAX_FORMAT):
    """One member as bytes, without an end mark."""
    return info.tobuf(format, "utf-8", "surrogateescape") + padded(content)


def archive(*members, format=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def padded(data, filler=b"\0"):
    return data + filler * (-len(data) % 512)


def header(**changes):
    """The header of an empty file `a`, with fields changed to (offset, bytes), its checksum right."""
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
    for start, text in changes.values():
        block[start : start + len(text)] = text
    return signed(block)


def signed(block):
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records, kind=b"x"):
    """An extended header of (key, value) records."""
    data = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        while len(str(length)) + len(key) + len(value) + 3 != length:
            length = len(str(length)) + len(key) + len(value) + 3
        data += b"%d %s=%s\n" % (length, key, value)
    return header(name=(0, b"pax\0"), size=(124, b"%011o\0" % len(data)), kind=(156, kind)) + padded(data)


def sparse(name, regions, size, form="1.0"):
    """A sparse file as GNU tar writes it: `regions` are (offset, content)."""
    content = b"".join(data for _, data in regions)
    pairs = [(offset, len(data)) for offset, data in regions]
    stored = (124, b"%011o\0" % len(content))
    name = name.encode()
    if form == "old":
        return _old_sparse(name, pairs, size, content)
    common = [(b"GNU.sparse.name", name)]
    if form == "1.0":
        text = padded(b"".join(b"%d\n" % n for n in (len(pairs), *(n for pair in pairs for n in pair))))
        records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"%d" % size)]
        stored = (124, b"%011o\0" % (len(content) + len(text)))
        return pax([*common, *records]) + header(name=(0, b"sparse\0"), size=stored) + text + padded(content)
    records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(pairs))]
    if form == "0.1":
        records.append((b"GNU.sparse.map", b",".join(b"%d,%d" % pair for pair in pairs)))
    else:
        for offset, length in pairs:
            records += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
    return pax([*common, *records]) + header(name=(0, b"sparse\0"), size=stored) + padded(content)


def _old_sparse(name, pairs, size, content):
    block = bytearray(tarfile.TarInfo(name.decode()).tobuf(tarfile.GNU_FORMAT)[-512:])
    block[156:157] = b"S"
    block[124:136] = b"%011o\0" % len(content)
    block[345:500] = bytes(155)
    block[386 : 386 + 96] = _pairs(pairs[:4], 96)
    rest = pairs[4:]
    block[482] = bool(rest)
    block[483:495] = b"%011o\0" % size
    more = b""
    while rest:
        more += _pairs(rest[:21], 504) + bytes([len(rest) > 21]) + bytes(7)
        rest = rest[21:]
    return signed(block) + more + padded(content)


def _pairs(pairs, size):
    return b"".join(b"%011o\0%011o\0" % pair for pair in pairs).ljust(size, b"\0")


_PARTS = st.sampled_from(["a", "b", "c", "dir", "é" * 60, "n" * 120])
_NAMES = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)
_CONTENTS = st.one_of(st.just(b""), st.binary(max_size=1200), st.binary(min_size=1, max_size=3).map(lambda b: b * 700))
_REGIONS = st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=700)), max_size=30)


def _apart(regions):
    placed, end = [], 0
    for gap, data in regions:
        placed.append((end + gap, data))
        end += gap + len(data)
    return placed, end


@st.composite
def _sparse_files(draw):
    regions, end = _apart(draw(_REGIONS))
    size = end + draw(st.integers(0, 5000))
    form = draw(st.sampled_from(SPARSE_FORMS))
    name = draw(_NAMES) if form != "old" else draw(st.sampled_from(["a", "b", "c", "dir/a"]))
    return sparse(name, regions or [(size, b"")], size, form)


_KINDS = st.sampled_from([directory, symlink, hardlink, device, member])
_FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


@st.composite
def _plain_members(draw):
    make, name, format = draw(_KINDS), draw(_NAMES), draw(_FORMATS)
    match make.__name__:
        case "symlink":
            info, content = symlink(name, draw(st.one_of(_NAMES, st.sampled_from(["..", "/", ".", "../dir"]))))
        case "hardlink":
            info, content = hardlink(name, draw(_NAMES))
        case "device":
            info, content = device(name, 1, 3)
        case "directory":
            info, content = directory(name)
        case _:
            info, content = member(name, draw(_CONTENTS))
    info.mode = draw(st.integers(0, 0o7777))
    info.mtime = draw(st.sampled_from([0, 1_600_000_000, 1 << 33]))
    filler = draw(st.sampled_from([b"\0", b"x"]))
    return info.tobuf(format, "utf-8", "surrogateescape") + padded(content, filler)


@st.composite
def _whiteouts(draw):
    mark = draw(st.sampled_from([".wh.a", ".wh.dir", ".wh..wh..opq", ".wh..wh.plnk", "dir/.wh.b"]))
    content = draw(st.sampled_from([b"", b"x" * 600]))
    return written(*member(mark, content))


_ODD = st.sampled_from(
    [
        pax([(b"comment", b"to all")], b"g"),
        header(name=(0, b"a volume\0"), kind=(156, b"V")),
        header(kind=(156, b"\0"), name=(0, b"old\0"), magic=(257, bytes(8))),
    ]
)
_ENDS = st.sampled_from([b"", bytes(512), bytes(1024), bytes(10240), bytes(1024) + b"garbage" * 99, bytes(512) + b"g"])

archives = st.builds(
    lambda parts, end: b"".join(parts) + end,
    st.lists(st.one_of(_plain_members(), _plain_members(), _sparse_files(), _whiteouts(), _ODD), max_size=12),
    _ENDS,
)
"""Whole archives, many of them with names that come again; some that must be refused."""
