"""Layers written out again: compressed, the same bytes each time, verified; by workers and through pipes."""

import gzip
import hashlib
import os
import subprocess
import threading

import pytest
import zstandard

from sampan.errors import Failed, InvalidInput
from sampan.image import compression
from sampan.image.compression import Compression
from sampan.image.feed import packed
from sampan.image.pack import pack_layer
from sampan.image.unpack import unpack_layer
from support.tars import archive, member

DATA = archive(*(member(f"file{number}", os.urandom(700) * 40) for number in range(60)))
PLAIN = {
    "gzip": gzip.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "none": bytes,
}


def unpacked(base, data):
    path = base / "data"
    path.write_bytes(data)
    with open(path, "rb") as file:
        unpack_layer(file.fileno(), str(base / "layer"))
    return str(base / "layer")


@pytest.fixture
def layer(tmp_path):
    return unpacked(tmp_path, DATA)


def written(layer, how):
    with packed(pack_layer, layer, how) as packing:
        data = b"".join(packing)
        return data, packing.result


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("level", [None, 1, 9])
def test_a_layer_comes_out_as_it_went_in(layer, kind, level):
    data, result = written(layer, Compression(kind, level if kind != "none" else None))

    assert PLAIN[kind](data) == DATA
    assert result.size == len(data)
    assert result.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert result.diff_id == f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.mark.parametrize("kind", PLAIN)
def test_the_same_layer_gives_the_same_bytes_however_it_came(tmp_path, kind):
    """As it came in through a pipe in other pieces, its recipe is cut elsewhere."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with subprocess.Popen(
        ["/bin/sh", "-c", "dd bs=777 status=none"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as dd:
        pid = os.fork()
        if not pid:
            dd.stdin.write(DATA)
            os._exit(0)
        dd.stdin.close()
        unpack_layer(dd.stdout.fileno(), str(second / "layer"))
        os.waitpid(pid, 0)

    assert written(unpacked(first, DATA), Compression(kind))[0] == written(str(second / "layer"), Compression(kind))[0]


def test_gzip_without_isa_l(layer, monkeypatch):
    monkeypatch.setattr(compression, "isal_zlib", None)

    data, result = written(layer, Compression("gzip"))

    assert gzip.decompress(data) == DATA
    assert written(layer, Compression("gzip"))[1] == result


def test_a_damaged_layer_is_an_error_where_its_bytes_end(layer):
    with open(f"{layer}/diff/file3", "r+b") as file:
        file.write(b"X")

    with packed(pack_layer, layer, Compression()) as packing, pytest.raises(Failed, match="it is damaged"):
        b"".join(packing)


def test_who_stops_reading_stops_the_packer(layer):
    with packed(pack_layer, layer, Compression("none")) as packing:
        assert next(iter(packing))

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pack")]


@pytest.mark.parametrize(
    "how", [Compression("gzip", 10), Compression("gzip", 0), Compression("zstd", 23), Compression("none", 1)]
)
def test_levels_that_there_are_not_are_refused(layer, how):
    with pytest.raises(InvalidInput, match="invalid compression level"):
        written(layer, how)
