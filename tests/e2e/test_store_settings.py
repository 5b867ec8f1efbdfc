"""What config.toml says about layers reaches the workers that unpack them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan, new_root
from support.tars import archive, member


@pytest.fixture
def sampan() -> Iterator[Sampan]:
    sampan = Sampan(new_root())
    yield sampan
    sampan.end()


def settings(sampan: Sampan, text: str) -> None:
    (sampan.root / "config.toml").write_text(text)


@pytest.mark.parametrize("key", ["max-layer-bytes = 9000", "max-layer-entries = 2"])
def test_a_layer_beyond_the_limits_is_refused_with_the_key_that_allows_more(
    sampan: Sampan, tmp_path: Path, key
) -> None:
    (tmp_path / "layer.tar").write_bytes(archive(*(member(name, b"x" * 3000) for name in "abc")))
    settings(sampan, f"[limits]\n{key}\n")

    refused = sampan("import", tmp_path / "layer.tar", "app", check=False)

    assert refused.code == 1
    assert f"{key.split()[0]} in [limits] of config.toml" in refused.err
    assert list(sampan.root.glob("layers/sha256/*")) == []
    settings(sampan, "")
    sampan("import", tmp_path / "layer.tar", "app")


def test_blobs_are_kept_where_that_is_set(sampan: Sampan, tmp_path: Path) -> None:
    layer = gzip.compress(archive(member("a", b"content")))
    (tmp_path / "layer.tar.gz").write_bytes(layer)
    settings(sampan, "[store]\nkeep-blobs = true\n")

    sampan("import", tmp_path / "layer.tar.gz", "app")

    (kept,) = sampan.root.glob("layers/sha256/*/blob")
    assert kept.read_bytes() == layer
    record = json.loads((kept.parent / "layer.json").read_text())
    assert record["blob"] == f"sha256:{hashlib.sha256(layer).hexdigest()}"
