"""Images as a tree: each with its platform, sizes and containers, and below it its layers with who shares them."""

from __future__ import annotations

import time

from sampan.cli.table import ellipsis, last_used, tabulate
from sampan.units import format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Tree = dict[str, Any]

_SHORT = 12
_STEP = 40
_HEADERS = ["IMAGE", "ID", "PLATFORM", "SIZE", "UNIQUE", "USED BY", "LAST USED"]


def rendered(images: list[Tree], *, trunc: bool) -> str:
    """Return the tree as a table. A layer's USED BY are the other images that have it; it is unique without any."""
    rows = [_HEADERS]
    now = time.time()
    for image in images:
        layers = image.get("Layers") or []
        rows.append(_image_row(image, now, trunc=trunc))
        rows += [_layer_row(layer, last=number == len(layers), trunc=trunc) for number, layer in enumerate(layers, 1)]
    return "".join(f"{line.rstrip()}\n" for line in tabulate(rows).splitlines())


def _image_row(image: Tree, now: float, *, trunc: bool) -> list[str]:
    names = image.get("RepoTags") or image.get("RepoDigests") or ["<none>"]
    users = [f"{user['Name']} ({user['State']})" for user in image.get("Users") or ()]
    shared = image.get("SharedSize", 0)
    return [
        ", ".join(names if not trunc else [name.partition("@")[0] for name in names]),
        _id(image["Id"], trunc=trunc),
        image.get("Platform", ""),
        format_bytes(image["Size"]),
        format_bytes(image["Size"] - shared),
        ", ".join(users) or "-",
        last_used(image.get("LastUsed", 0), now),
    ]


def _layer_row(layer: Tree, *, last: bool, trunc: bool) -> list[str]:
    others = layer.get("SharedWith") or []
    step = plain(step_of(layer))
    return [
        ("└─ " if last else "├─ ") + (ellipsis(step, _STEP) if trunc else step),
        _id(layer["DiffID"], trunc=trunc),
        "",
        format_bytes(layer["Size"]),
        format_bytes(0 if others else layer["Size"]),
        ", ".join(others) or "-",
        "",
    ]


def step_of(layer: Tree) -> str:
    """Return the line of the history that made a layer, on one line and without what builders put around it."""
    text = " ".join(layer.get("CreatedBy", "").split()).removesuffix(" # buildkit")
    return text.removeprefix("RUN ").removeprefix("/bin/sh -c ").removeprefix("#(nop) ").strip()


def plain(text: str) -> str:
    """Return a text that a terminal takes for nothing else: images' names of files and steps may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _id(digest: str, *, trunc: bool) -> str:
    return digest.removeprefix("sha256:")[:_SHORT] if trunc else digest
