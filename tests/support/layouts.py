"""Images in OCI layouts, made by hand: for tests of what copies them."""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.image_store import tarball

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "org.opencontainers.image.ref.name"


class Out:
    """What an archive is written to."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # getvalue closes it

    def write(self, data: bytes) -> None:
        self._file.write(data)

    @contextmanager
    def direct(self, size: int) -> Iterator[int]:
        yield self._file.fileno()

    def getvalue(self) -> bytes:
        with self._file:
            self._file.seek(0)
            return self._file.read()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


class HandMade:
    """A layout at `path` to which blobs and images are added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[dict[str, Any]] = []
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._write()

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        (self.path / "blobs" / sha256(data).replace(":", "/")).write_bytes(data)
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}

    def image(self, *tars: bytes, architecture: str = "amd64", compress: Any = packed, **more: Any) -> dict[str, Any]:
        """Add an image of these layers; return its descriptor."""
        kind = LAYER if compress is bytes else LAYER + "+gzip"
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(json.dumps(config).encode(), CONFIG),
            "layers": [self.blob(compress(tar), kind) for tar in tars],
            **more,
        }
        return self.blob(json.dumps(manifest).encode(), MANIFEST)

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        return self.blob(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(), INDEX)

    def name(self, descriptor: dict[str, Any], name: str = "") -> str:
        """Have index.json name it; return the digest."""
        self._entries.append({**descriptor, **({"annotations": {NAME: name}} if name else {})})
        self._write()
        return str(descriptor["digest"])

    def _write(self) -> None:
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self._entries}))


def two_layers() -> tuple[bytes, bytes]:
    return tarball(a=b"lower" * 1000), tarball(b=b"upper" * 1000)


def platforms(layout: HandMade, name: str = "") -> str:
    """Put an index of two platforms, which share a layer, into a layout."""
    lower, upper = two_layers()
    entries = [
        {**layout.image(lower, upper), "platform": {"os": "linux", "architecture": "amd64"}},
        {
            **layout.image(lower, architecture="arm64"),
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        },
    ]
    return layout.name(layout.index(*entries), name)
