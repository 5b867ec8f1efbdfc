"""The tar writer, with tarfile and GNU tar as oracles, and our own reader."""

import io
import subprocess
import tarfile

import pytest
from hypothesis import given, strategies as st

from sampan.image import tar, tarwrite

KINDS = {
    tar.REGULAR: tarfile.REGTYPE,
    tar.DIRECTORY: tarfile.DIRTYPE,
    tar.SYMLINK: tarfile.SYMTYPE,
    tar.LINK: tarfile.LNKTYPE,
    tar.FIFO: tarfile.FIFOTYPE,
    tar.CHARACTER: tarfile.CHRTYPE,
    tar.BLOCK_DEVICE: tarfile.BLKTYPE,
}
ATTRIBUTE = b"user.some"


def archive(*members):
    parts = []
    for entry, content in members:
        parts += [tarwrite.header(entry), content, tarwrite.padding(len(content))]
    return b"".join([*parts, tarwrite.END])


def entry(name=b"a", kind=tar.REGULAR, **fields):
    given = {"mode": 0o644, "uid": 0, "gid": 0, "size": 0, "mtime_ns": 0, **fields}
    return tar.Entry(name=name, kind=kind, **given)


def read(data):
    reader = tar.Reader(iter([data]))
    found = []
    while (member := reader.next_entry()) is not None:
        found.append((member, b"".join(reader.body())))
    assert reader.ended
    return found


part = st.binary(min_size=1, max_size=150).map(lambda b: b.translate(None, b"\0/")).filter(lambda b: b.strip(b"."))
names = st.lists(part, min_size=1, max_size=4).map(b"/".join)
numbers = st.one_of(st.integers(0, 2**21 + 2), st.integers(0, 2**32 - 2))


@st.composite
def members(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    content = draw(st.binary(max_size=1200)) if kind == tar.REGULAR else b""
    return (
        entry(
            draw(names),
            kind,
            mode=draw(st.integers(0, 0o7777)),
            uid=draw(numbers),
            gid=draw(numbers),
            size=len(content),
            mtime_ns=draw(st.integers(-(2**62), 2**62)),
            link=draw(names) if kind in (tar.SYMLINK, tar.LINK) else b"",
            device=(draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
            if kind in (tar.CHARACTER, tar.BLOCK_DEVICE)
            else (0, 0),
            xattrs=draw(
                st.lists(st.tuples(st.just(ATTRIBUTE), st.binary(min_size=1, max_size=40)), max_size=1).map(tuple)
            ),
        ),
        content,
    )


@given(st.lists(members(), max_size=4))
def test_tarfile_reads_what_was_written(written):
    with tarfile.open(fileobj=io.BytesIO(archive(*written)), errors="surrogateescape") as opened:
        found = list(opened)

        for info, (wanted, content) in zip(found, written, strict=True):
            assert info.name == wanted.name.decode(errors="surrogateescape")
            assert info.type == KINDS[wanted.kind]
            assert (info.mode, info.uid, info.gid) == (wanted.mode, wanted.uid, wanted.gid)
            assert (info.uname, info.gname) == ("", "")
            assert info.mtime == wanted.mtime_ns // 10**9
            assert info.linkname == wanted.link.decode(errors="surrogateescape")
            assert (info.devmajor, info.devminor) == wanted.device
            for name, value in wanted.xattrs:
                assert info.pax_headers[f"SCHILY.xattr.{name.decode()}"].encode(errors="surrogateescape") == value
            if wanted.kind == tar.REGULAR:
                assert opened.extractfile(info).read() == content


@given(st.lists(members(), max_size=4))
def test_our_reader_reads_what_was_written(written):
    for (found, data), (wanted, content) in zip(read(archive(*written)), written, strict=True):
        wanted.mtime_ns -= wanted.mtime_ns % 10**9
        found.name = found.name.rstrip(b"/") if found.kind == tar.DIRECTORY else found.name
        assert (found, data) == (wanted, content)


def test_gnu_tar_reads_what_was_written(tmp_path):
    long = b"d" * 120 + b"/" + b"e" * 140
    (tmp_path / "a.tar").write_bytes(
        archive(
            (entry(b"short", size=3, mtime_ns=10**18), b"abc"),
            (entry(long, size=3), b"abc"),
            (entry("ä/ö".encode(), tar.DIRECTORY, mode=0o755, uid=3_000_000, gid=2**31), b""),
            (entry(b"link", tar.SYMLINK, link=b"t" * 200), b""),
        )
    )

    said = subprocess.run(
        ["tar", "--numeric-owner", "-tvf", tmp_path / "a.tar"],
        capture_output=True,
        check=True,
        env={"TZ": "UTC", "LC_ALL": "C.UTF-8"},
    )

    assert said.stderr == b""
    lines = said.stdout.decode().splitlines()
    assert lines[0] == "-rw-r--r-- 0/0               3 2001-09-09 01:46 short"
    assert lines[1].endswith(long.decode())
    assert lines[2].split()[1] == "3000000/2147483648"
    assert lines[2].endswith("ä/ö/")
    assert lines[3].endswith("link -> " + "t" * 200)


@pytest.mark.parametrize(
    ("plain", "name"),
    [
        (True, b"n" * 100),
        (True, b"p" * 155 + b"/" + b"n" * 100),
        (True, b"p" * 50 + b"/" + b"q" * 50 + b"/n"),
        (False, b"n" * 101),
        (False, b"p" * 156 + b"/n"),
        (False, b"p" * 155 + b"/" + b"n" * 101),
        (False, "ä".encode()),
    ],
)
def test_a_name_has_an_extended_header_only_where_ustar_has_no_room(plain, name):
    data = archive((entry(name), b""))

    assert (len(data) == 3 * tar.BLOCK) is plain
    assert read(data)[0][0].name == name


def test_a_file_of_more_than_8_gib_has_its_size_told():
    header = tarwrite.header(entry(size=8 * 1024**3))

    (info,) = [tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict")]
    assert info.size == 0
    assert b"19 size=8589934592\n" in header


def test_the_same_entry_is_the_same_bytes_whatever_the_order_of_its_attributes():
    one = entry(xattrs=((b"user.a", b"1"), (b"user.b", b"2")))
    other = entry(xattrs=((b"user.b", b"2"), (b"user.a", b"1")))

    assert tarwrite.header(one) == tarwrite.header(other)


def test_the_fraction_of_a_time_is_left_out():
    assert tarwrite.header(entry(mtime_ns=1_999_999_999)) == tarwrite.header(entry(mtime_ns=1_000_000_000))
