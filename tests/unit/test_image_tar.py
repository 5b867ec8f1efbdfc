import io
import subprocess
import tarfile

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from sampan.errors import InvalidInput
from sampan.image import tar

KINDS = {
    tar.REGULAR: tarfile.REGTYPE,
    tar.DIRECTORY: tarfile.DIRTYPE,
    tar.SYMLINK: tarfile.SYMTYPE,
    tar.LINK: tarfile.LNKTYPE,
    tar.FIFO: tarfile.FIFOTYPE,
    tar.CHARACTER: tarfile.CHRTYPE,
    tar.BLOCK_DEVICE: tarfile.BLKTYPE,
}


def pieces(data, size=700):
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data, size=700):
    reader = tar.Reader(pieces(data, size))
    members = []
    while (entry := reader.next_entry()) is not None:
        members.append((entry, b"".join(reader.body())))
    return members, reader.ended


def archive(*members, format=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as file:
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name="a", **fields):
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=130).map(
    lambda text: text.strip() or "x"
)
members = st.builds(
    lambda parts, kind, mode, uid, gid, mtime, link, content, devmajor, devminor: (
        member(
            "/".join(parts),
            type=kind,
            mode=mode,
            uid=uid,
            gid=gid,
            mtime=mtime,
            linkname=link if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE) else "",
            devmajor=devmajor,
            devminor=devminor,
        ),
        content if kind == tarfile.REGTYPE else b"",
    ),
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from(list(KINDS.values())),
    st.integers(0, 0o7777),
    st.integers(0, 1 << 33),
    st.integers(0, 1 << 33),
    st.integers(0, 1 << 33),
    names,
    st.binary(max_size=1500),
    st.integers(0, 4095),
    st.integers(0, 1 << 20),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(members, max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 3000),
)
def test_archives_are_read_as_tarfile_reads_them(written, format, size):
    data = archive(*written, format=format)

    found, ended = read(data, size)

    assert ended
    with tarfile.open(fileobj=io.BytesIO(data)) as oracle:
        expected = list(oracle)
        for (entry, content), info in zip(found, expected, strict=True):
            name = entry.name.decode()
            assert name.rstrip("/") == info.name.rstrip("/")
            assert KINDS[entry.kind] == info.type
            assert (entry.mode, entry.uid, entry.gid) == (info.mode, info.uid, info.gid)
            assert entry.mtime_ns == info.mtime * 1_000_000_000
            if info.isdev() and not info.isfifo():
                assert entry.device == (info.devmajor, info.devminor)
            if info.issym() or info.islnk():
                assert entry.link.decode() == info.linkname
            if info.isreg():
                assert content == oracle.extractfile(info).read()


def test_long_names_fractions_and_attributes_come_from_pax_records():
    info = member("d/" * 100 + "name", mtime=1.5)
    info.pax_headers = {"SCHILY.xattr.user.a": "b=c\n", "mtime": "1234567890.123456789", "uid": "4000000000"}

    [(entry, content)], _ = read(archive((info, b"content")))

    assert entry.name == b"d/" * 100 + b"name"
    assert entry.mtime_ns == 1234567890123456789
    assert entry.uid == 4_000_000_000
    assert entry.xattrs == ((b"user.a", b"b=c\n"),)
    assert content == b"content"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"1.0000000019", 1_000_000_001),
        (b"7.", 7 * 10**9),
    ],
)
def test_times_have_nanoseconds(text, expected):
    assert tar.parse_time(text) == expected


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]
)
def test_sparse_files_are_understood_in_every_form_that_gnu_tar_writes(tmp_path, options):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        for number in range(40):
            file.seek(number * 65536)
            file.write(b"%04d" % number)
        file.truncate(5_000_000)
    data = subprocess.run(
        ["tar", "-C", tmp_path, "-S", *options, "-cf", "-", "sparse"], capture_output=True, check=True
    )

    [(entry, content)], _ = read(data.stdout, 65536)

    assert entry.name == b"sparse"
    assert entry.size == 5_000_000
    assert len(entry.regions) >= 40
    whole = bytearray(entry.size)
    position = 0
    for offset, length in entry.regions:
        whole[offset : offset + length] = content[position : position + length]
        position += length
    assert bytes(whole) == path.read_bytes()


def test_a_cut_anywhere_in_a_member_is_an_error():
    data = archive((member("a"), b"x" * 700), (member("b" * 200), b"y"))
    end = len(data.rstrip(b"\0"))

    for cut in range(1, end, 37):
        if cut % 512 == 0:
            continue
        with pytest.raises(InvalidInput, match="cut short"):
            read(data[:cut])


def test_a_cut_at_a_members_border_shows_in_the_missing_end_mark():
    data = archive((member("a"), b""), (member("b"), b""))

    found, ended = read(data[:512])

    assert len(found) == 1
    assert not ended


@pytest.mark.parametrize("after", range(256, 3000, 256))
def test_what_fails_in_the_stream_is_not_taken_for_its_end(after):
    data = archive((member("a"), b"x"), (member("b"), b"y"))

    def stream():
        yield data[:after]
        raise InvalidInput("the decompressor has a word to say")

    def read_all():
        reader = tar.Reader(stream())
        while reader.next_entry() is not None:
            pass
        reader.drain()

    with pytest.raises(InvalidInput, match="a word to say"):
        read_all()


def test_what_is_no_tar_is_refused():
    with pytest.raises(InvalidInput, match="no tar archive"):
        read(b"#!/bin/sh\n" + b"echo hello\n" * 100)


def header(**changes):
    block = bytearray(archive((member("a"), b""))[:512])
    for start, text in changes.values():
        block[start : start + len(text)] = text
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (124, b"\xff" * 12)},
        {"size": (124, b"\x80" + b"\xff" * 11)},
        {"size": (124, b"00000000009\0")},
        {"size": (124, b"-0000000001\0")},
        {"size": (124, b"0x000000001\0")},
        {"uid": (108, b"1_0\0    ")},
        {"kind": (156, b"Z")},
        {"kind": (156, b"M")},
        {"kind": (156, b"x"), "size": (124, b"77777777777\0")},
    ],
)
def test_numbers_and_types_of_no_honest_writer_are_refused(changes):
    with pytest.raises(InvalidInput):
        read(header(**changes))


@pytest.mark.parametrize(
    "data",
    [b"5 a=b", b"0 a=b\n", b"99 a=b\n", b"x a=b\n", b"6 a=b", b"6 =bc\n", b"6 abc\n", b"-6 a=b\n", b"1 ", b" 6 a=b\n"],
)
def test_broken_pax_records_are_refused(data):
    with pytest.raises(InvalidInput):
        tar.parse_pax(data)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=120))))
def test_pax_records_are_taken_apart(records):
    records = [(key.replace(b"=", b"-"), value) for key, value in records]
    data = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        while len(str(length)) + len(key) + len(value) + 3 != length:
            length = len(str(length)) + len(key) + len(value) + 3
        data += b"%d %s=%s\n" % (length, key, value)

    assert tar.parse_pax(data) == records


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 2500), st.binary(min_size=1, max_size=30))
@example(b"", 0, b"a")
def test_damage_is_an_error_of_ours_or_harmless(junk, place, patch):
    data = bytearray(archive((member("a" * 150, mode=0o644), b"x" * 600), (member("b"), b"y")))
    data[place : place + len(patch)] = patch

    for broken in (bytes(data), junk):
        try:
            read(broken)
        except InvalidInput:
            pass
