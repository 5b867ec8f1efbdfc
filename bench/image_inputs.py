"""Images to move: a Debian in one layer, small files in five, a gigabyte of all sorts in one; and five that share."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from support.images import cache

WORDS = [f"{first}{second}" for first in ("con", "re", "ta", "ine", "lay", "for", "un", "sam") for second in
         ("tain", "er", "ble", "mount", "root", "ing", "pan", "ed", "the", "of", "and")]  # fmt: skip
MEMBER = "application/vnd.oci.image"


class Size(NamedTuple):
    """How large the made ones are."""

    small_files: int
    mixed_bytes: int


FULL = Size(50_000, 1_000_000_000)
QUICK = Size(5_000, 100_000_000)


class Image(NamedTuple):
    """One image as an OCI layout, for skopeo."""

    name: str
    title: str
    layout: Path


def images(directory: Path, size: Size, names: Sequence[str]) -> list[Image]:
    """Make those that are asked for of the three that are moved."""
    mixed = f"{size.mixed_bytes // 10**6:,} MB of all sorts, one layer"
    kinds: dict[str, tuple[str, Callable[[], list[Path]]]] = {
        "debian": ("Debian, 170 MB, one layer", lambda: [debian()]),
        "small": (
            f"{size.small_files:,} small files, five layers",
            lambda: list(small_files(directory, size.small_files)),
        ),
        "mixed": (mixed, lambda: [mixed_files(directory, size.mixed_bytes)]),
    }
    return [Image(name, kinds[name][0], layout(directory / name, kinds[name][1]())) for name in names]


def sharing(directory: Path) -> list[Image]:
    """Make five images over one base, each with a layer of its own, two of which are the same."""
    base = debian()
    made = []
    for number in range(5):
        tar = directory / f"own-{number}.tar"
        write(tar, ((f"srv/app/{n}", text(random.Random(number // 2 * 1000 + n), 20_000)) for n in range(500)))
        made.append(Image(f"five{number}", "", layout(directory / f"five{number}", [base, tar])))
    return made


def debian() -> Path:
    """Return the tar of Debian's minbase, which is kept between runs."""
    target = cache() / "debian-minbase-1.tar"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(partial)]
        subprocess.run(command, check=True, timeout=900, stdin=subprocess.DEVNULL)
        partial.rename(target)
    return target


def small_files(directory: Path, count: int) -> Iterator[Path]:
    """Write five tars of files of one to eight kilobytes, a hundred in a directory."""
    for layer in range(5):
        tar = directory / f"small-{layer}.tar"
        numbers = range(layer * count // 5, (layer + 1) * count // 5)
        write(tar, ((f"usr/share/{n // 100}/{n}.txt", text(random.Random(n), 1000 + n * 37 % 7000)) for n in numbers))
        yield tar


def mixed_files(directory: Path, size: int) -> Path:
    """Write one tar of files from a kilobyte to 32 MB, whose first two fifths don't compress."""
    generator = random.Random(1)
    tar = directory / "mixed.tar"

    def files() -> Iterator[tuple[str, bytes]]:
        left, number = size, 0
        while left > 0:
            length = min(left, int(1000 * 2 ** generator.uniform(0, 15)))
            content = generator.randbytes(length * 2 // 5)
            content += text(generator, length - len(content))
            yield f"opt/{number // 100}/{number}", content
            left -= length
            number += 1

    write(tar, files())
    return tar


def text(generator: random.Random, length: int) -> bytes:
    """Return words that compress as programs and prose do, to a third."""
    chunk = " ".join(generator.choice(WORDS) + str(generator.randrange(50)) for _ in range(min(length, 40_000) // 5))
    data = chunk.encode()
    return (data * (length // len(data) + 1))[:length]


def write(path: Path, files: Iterator[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        seen: set[str] = set()
        for name, content in files:
            parent = name.rpartition("/")[0]
            parts = parent.split("/")
            for depth in range(1, len(parts) + 1):
                directory = "/".join(parts[:depth])
                if directory not in seen:
                    seen.add(directory)
                    entry = tarfile.TarInfo(directory)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            tar.addfile(member, io.BytesIO(content))


def layout(directory: Path, tars: Sequence[Path]) -> Path:
    """Write an OCI layout of these layers, compressed by gzip as registries have them."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def document(content: object, media_type: str) -> dict[str, object]:
        data = json.dumps(content).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"{MEMBER}.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    layers = [_compressed(blobs, tar) for tar in tars]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(tar)}" for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEMBER}.manifest.v1+json",
        "config": document(config, "config.v1+json"),
        "layers": layers,
    }
    entry = document(manifest, "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def _compressed(blobs: Path, tar: Path) -> dict[str, object]:
    packed = tar.with_suffix(".tar.gz")
    if not packed.exists():
        partial = tar.with_suffix(f".{os.getpid()}.gz")
        with partial.open("wb") as file:
            subprocess.run(["gzip", "-6", "-n", "-c", tar], check=True, stdout=file)
        partial.rename(packed)
    digest = _digest(packed)
    shutil.copyfile(packed, blobs / digest)
    size = packed.stat().st_size
    return {"mediaType": f"{MEMBER}.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": size}


@functools.cache
def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
