"""A layer whose input ends early is gone on with from another descriptor, wherever the cut is."""

import gzip
import hashlib
import os
import random

import pytest
import zstandard

from sampan.errors import Failed, InvalidInput
from sampan.image.unpack import unpack_layer
from sampan.kernel.fds import memfd
from support.tars import archive, member

NOISE = random.Random(3).randbytes(100_000)
TAR = archive(member("a", NOISE), member("b/c", b"small"), member("d", NOISE[:1000]))


class Input:
    """Gives `data` in parts, each by a descriptor of its own; `asked` are the positions that more was wanted at."""

    def __init__(self, data, *cuts, ends=True):
        self._data = data
        self._parts = iter([*cuts, len(data)] if ends else cuts)
        self._open = []
        self.asked = []

    def more(self, position):
        self.asked.append(position)
        end = next(self._parts, None)
        if end is None:
            raise Failed("there is no more")
        fd = memfd("part", self._data[position:end])
        self._open.append(fd)
        return fd

    def unpack(self, target, digest=None):
        start = self.more(0)
        self.asked.clear()
        try:
            return unpack_layer(
                start,
                str(target),
                digest=digest or "sha256:" + hashlib.sha256(self._data).hexdigest(),
                size=len(self._data),
                more=self.more,
            )
        finally:
            for fd in self._open:
                os.close(fd)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_the_layer_is_the_same_wherever_its_input_was_cut(tmp_path, compress):
    data = compress(TAR)
    size = len(data)

    for number, cut in enumerate([0, 1, 3, 511, 512, 70_000, size - 1000, size - 1]):
        source = Input(data, cut)
        result = source.unpack(tmp_path / str(number))

        assert source.asked == [cut]
        assert result.diff_id == "sha256:" + hashlib.sha256(TAR).hexdigest()
        assert (tmp_path / str(number) / "diff/a").read_bytes() == NOISE
        assert (tmp_path / str(number) / "diff/b/c").read_bytes() == b"small"


def test_a_layer_may_be_cut_again_and_again(tmp_path):
    cuts = list(range(0, 100_000, 7_777))
    source = Input(gzip.compress(TAR), *cuts)

    source.unpack(tmp_path / "layer")
    assert source.asked == cuts


@pytest.mark.parametrize("cut", [0, 50_000])
def test_where_nobody_goes_on_nothing_is_left(tmp_path, cut):
    source = Input(gzip.compress(TAR), cut, ends=False)

    with pytest.raises(Failed, match="there is no more"):
        source.unpack(tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


def test_what_is_wrong_with_the_part_that_came_is_said_before_more_is_asked_for(tmp_path):
    bad = archive(member("ok", b"x"), member("../out", b"x"), member("rest", NOISE))
    source = Input(bad, 50_000)

    with pytest.raises(InvalidInput, match="leads out of the image's root"):
        source.unpack(tmp_path / "layer")
    assert source.asked == []
    assert not (tmp_path / "layer").exists()


def test_a_digest_is_of_all_parts(tmp_path):
    with pytest.raises(InvalidInput, match="digest does not match"):
        Input(gzip.compress(TAR), 50_000).unpack(tmp_path / "layer", digest="sha256:" + "0" * 64)
