"""Layers made to exhaust who unpacks them: refused with what is too much, and nothing left; or done in little time."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import resource
import tarfile

import pytest
import zstandard

from sampan.errors import InvalidInput, SampanError
from sampan.image import compression
from sampan.image.recipe import tar_of
from sampan.image.unpack import unpack_layer
from sampan.spec.image import LayerLimits
from support import tars
from support.tars import archive, directory, header, member, pax, symlink, written

SMALL = LayerLimits(max_layer_bytes=50 << 20, max_layer_entries=100, max_compression_ratio=50)
END = bytes(1024)


@pytest.fixture(autouse=True)
def _bombs_are_small(monkeypatch):
    monkeypatch.setattr(compression, "NO_BOMB_BYTES", 1 << 20)


def unpack(base, data, **options):
    path = base / "data"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return unpack_layer(fd, str(base / "layer"), **options)
    finally:
        os.close(fd)
        path.unlink()


def refused(base, data, match, **options):
    with pytest.raises(InvalidInput, match=match) as caught:
        unpack(base, data, **options)
    assert os.listdir(base) == []
    return caught.value


def zeros(size):
    return written(*member("zeros", bytes(size))) + END


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
def test_a_decompression_bomb_is_refused_by_its_ratio(tmp_path, compress):
    error = refused(tmp_path, compress(zeros(20 << 20)), "is a decompression bomb", limits=SMALL)

    assert "max-compression-ratio in [limits]" in error.hint


def test_a_bomb_in_many_members_is_one_too(tmp_path):
    part = zstandard.compress(bytes(1 << 20))

    refused(tmp_path, zstandard.compress(zeros(512)[:1024]) + part * 20, "is a decompression bomb", limits=SMALL)


def test_what_compresses_well_is_no_bomb_while_it_is_small(tmp_path):
    unpack(tmp_path, gzip.compress(zeros(1 << 19)), limits=SMALL)

    assert (tmp_path / "layer/diff/zeros").stat().st_size == 1 << 19


def test_a_tar_of_too_many_bytes_is_refused(tmp_path):
    data = written(*member("a", os.urandom(1 << 20))) * 60 + END

    assert "max-layer-bytes in [limits]" in refused(tmp_path, data, "more than 52428800 bytes", limits=SMALL).hint


def test_bytes_after_the_end_count_too(tmp_path):
    data = zstandard.compress(written(*member("a")) + END + bytes(40 << 20))

    refused(tmp_path, data, "is a decompression bomb", limits=SMALL)


def test_too_many_entries_are_refused(tmp_path):
    data = archive(*(member(f"{number}") for number in range(101)))

    assert "max-layer-entries in [limits]" in refused(tmp_path, data, "more than 100 files", limits=SMALL).hint


@pytest.mark.parametrize("form", tars.SPARSE_FORMS)
def test_a_sparse_file_of_an_impossible_size_is_refused(tmp_path, form):
    size = 1 << 32 if form == "old" else 1 << 61

    error = refused(
        tmp_path, tars.sparse("file", [(0, b"x")], size, form) + END, "can't unpack layer: file claims", limits=SMALL
    )

    assert str(size) in error.message


SPARSE = {
    "regions that overlap": [(0, 10), (5, 10)],
    "regions out of order": [(100, 10), (0, 10)],
    "a region behind the end": [(0, 10), (5000, 10)],
    "regions that are not there": [(0, 10), (100, 10), (200, 10)],
    "a region of most of the world": [(0, 1 << 60)],
    "an offset that overflows": [((1 << 63) - 1, 20)],
}


@pytest.mark.parametrize("pairs", SPARSE.values(), ids=SPARSE)
@pytest.mark.parametrize("form", ["0.1", "1.0"])
def test_maps_that_lie_are_refused(tmp_path, pairs, form):
    records = [(b"GNU.sparse.realsize" if form == "1.0" else b"GNU.sparse.size", b"4096"), (b"GNU.sparse.name", b"f")]
    numbers = [number for pair in pairs for number in pair]
    text = b""
    if form == "1.0":
        records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
        text = tars.padded(b"".join(b"%d\n" % number for number in (len(pairs), *numbers)))
    else:
        records.append((b"GNU.sparse.map", b",".join(b"%d" % number for number in numbers)))
    data = pax(records) + header(size=(124, b"%011o\0" % (20 + len(text)))) + text + tars.padded(b"x" * 20) + END

    refused(tmp_path, data, r"the map of sparse file f is broken|sparse file f has 20 bytes, not|is no number")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"5\n",
        b"x\n",
        b"-1\n",
        b"99999999999999999999\n",
        b"1\n1\n",
        b"1\n0\nx\n",
        b"1000000000\n0\n1\n",
        b"\n\n\n",
    ],
)
def test_maps_in_a_body_that_are_broken_are_refused(tmp_path, text):
    records = [(b"GNU.sparse.realsize", b"10"), (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    body = tars.padded(text) or bytes(512)

    refused(tmp_path, pax(records) + header(size=(124, b"%011o\0" % len(body))) + body + END, "can't read tar archive")


PAX = {
    "a size that is negative": (b"size", b"-1"),
    "a size that is no number": (b"size", b"0x10"),
    "a size of a hundred digits": (b"size", b"9" * 100),
    "an owner that is negative": (b"uid", b"-5"),
    "an owner out of range": (b"gid", b"4294967295"),
    "a time that is none": (b"mtime", b"yesterday"),
    "a time with two points": (b"mtime", b"1.2.3"),
    "a NUL in the name": (b"path", b"a\0b"),
    "a NUL in a sparse file's name": (b"GNU.sparse.name", b"a\0b"),
    "a NUL in an attribute's name": (b"SCHILY.xattr.user.a\0b", b"x"),
    "an attribute without a name": (b"SCHILY.xattr.", b"x"),
    "an attribute's name over 255": (b"SCHILY.xattr.user." + b"n" * 300, b"x"),
    "an attribute over 64 KiB": (b"SCHILY.xattr.user.a", b"x" * 70_000),
    "a name that climbs out": (b"path", b"../../evil"),
    "a name over 255": (b"path", b"n" * 256),
}


@pytest.mark.parametrize("record", PAX.values(), ids=PAX)
def test_extended_headers_that_are_abused_are_refused(tmp_path, record):
    records = [record, (b"GNU.sparse.size", b"0")] if record[0] == b"GNU.sparse.name" else [record]

    with pytest.raises(SampanError, match="can't unpack layer"):
        unpack(tmp_path, pax(records) + header() + END)

    assert os.listdir(tmp_path) == []


def test_an_extended_header_over_a_mebibyte_is_refused(tmp_path):
    refused(tmp_path, pax([(b"comment", b"x" * (1 << 20))]) + header() + END, "an extended header of")


def test_extended_headers_without_end_are_refused(tmp_path):
    refused(tmp_path, pax([(b"comment", b"x")]) * 1000 + header() + END, "more than 16 headers about one member")


def test_global_headers_do_not_grow_without_end(tmp_path):
    members = (pax([(b"key%d" % n, b"x" * 1000)], b"g") + header() for n in range(200))

    refused(tmp_path, b"".join(members) + END, "its global headers are too long")


@pytest.mark.timeout(60)
def test_a_long_sparse_map_takes_little_time(tmp_path):
    """Each block of a map in a body made the whole of it to be read again: 3 MiB took minutes."""
    regions = [(number * 2, b"x") for number in range(300_000)]
    data = tars.sparse("file", regions, 600_000) + END

    unpack(tmp_path, data)

    assert (tmp_path / "layer/diff/file").read_bytes() == b"x\0" * 300_000


@pytest.mark.timeout(60)
def test_a_directory_that_is_replaced_again_and_again_takes_little_time(tmp_path):
    """Each time all other directories were looked through: 20,000 times 20,000."""
    many = [directory(f"dir/{number}") for number in range(5_000)]
    again = [one for _ in range(5_000) for one in (member("a/x"), member("a"), directory("a"))]

    unpack(tmp_path, archive(*many, *again))

    assert (tmp_path / "layer/diff/a").is_dir()


def test_names_that_come_again_are_kept_once_for_each_time(tmp_path):
    data = archive(*(member("a", b"%d" % number) for number in range(500)))

    unpack(tmp_path, data)

    assert (tmp_path / "layer/diff/a").read_bytes() == b"499"
    assert b"".join(tar_of(str(tmp_path / "layer"))) == data


def test_a_link_is_not_followed_to_where_a_later_member_puts_a_directory(tmp_path):
    """A race that a layer plays with itself: the same name is in turn a directory and a link out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = tmp_path / "in"
    inside.mkdir()
    members = []
    for number in range(50):
        members += [
            directory("d"),
            member(f"d/{number}", b"x"),
            symlink("d", str(outside)),
            member(f"d/evil{number}", b"x"),
        ]

    unpack(inside, archive(*members))

    assert os.listdir(outside) == []


def many_files(count):
    """A tar of `count` empty files, made as it is read."""
    for number in range(count):
        info = tarfile.TarInfo(f"d{number // 1000}/f{number}")
        yield info.tobuf(tarfile.USTAR_FORMAT)
    yield END


def test_memory_stays_flat_however_many_files_there_are(tmp_path):
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=1) as file:
        for piece in many_files(20_000):
            file.write(piece)
    (tmp_path / "data").write_bytes(data.getvalue())
    pid = os.fork()
    if not pid:
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with open(tmp_path / "data", "rb") as file:
                unpack_layer(file.fileno(), str(tmp_path / "layer"))
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os._exit(0 if grown < 25 << 10 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_compressed_data_that_wants_much_memory_is_refused(tmp_path):
    """An xz dictionary of 1.5 GiB, and a zstd window of 2."""
    wants = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    long = zstandard.ZstdCompressor(compression_params=wants).compressobj()
    zstd = long.compress(zeros(1 << 20)) + long.flush()
    xz = bytearray(lzma.compress(zeros(1 << 20), preset=0))
    position = xz.index(b"\x21\x01") + 2
    xz[position] = 39
    for data in (zstd, bytes(xz)):
        with pytest.raises(InvalidInput, match="can't decompress"):
            unpack(tmp_path, data)
        assert os.listdir(tmp_path) == []


def test_a_wrong_digest_is_found_before_anything_is_visible(tmp_path):
    data = archive(member("a", b"x"))

    refused(tmp_path, data, "digest does not match", digest=f"sha256:{hashlib.sha256(b'').hexdigest()}")
