"""An image's map as one page for a browser: a treemap to zoom into, and the tables. It loads nothing from anywhere.

Whatever an image brings (names of files, lines of its history) is text here: in HTML it is escaped, in the script's
data no tag can begin, and the script makes nothing but text of it. The page's own policy lets no other script run.
"""

from __future__ import annotations

import os

from sampan.cli.image_map import percent
from sampan.cli.image_tree import plain, step_of
from sampan.units import format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Map = dict[str, Any]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src '{hash}'">
<title>{name}: image map</title>
<style>
{css}</style>
</head>
<body>
<h1>{name}</h1>
<div class="soft">{platform} · <code>{id}</code></div>
<div class="facts">{facts}</div>
<div class="bar">
<div class="crumbs"></div>
<div class="choice">colour by <button value="layer" aria-pressed="true">layer</button>
<button value="waste" aria-pressed="false">waste</button></div>
</div>
<svg role="img" aria-label="Where the bytes of the image are"><defs>
<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<path d="M0 0V7"/></pattern></defs></svg>
<div class="soft">Click a directory to go into it, Escape to come back. Hatched: wasted, a later layer has overwritten
or deleted it. Point at a layer below to see what it brings.</div>
<div id="tip" hidden></div>
{tables}
<script type="application/json" id="map">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def page(found: Map) -> str:
    """Return the page of a map that has nodes."""
    script = _read("page.js")
    names = ", ".join(found["RepoTags"]) or found["Id"].removeprefix("sha256:")[:12]
    return _PAGE.format(
        hash=_hash(script),
        name=_escape(names),
        css=_read("page.css"),
        platform=_escape(found["Platform"]),
        id=_escape(found["Id"]),
        facts=_facts(found),
        tables=_tables(found),
        data=_data(found),
        script=script,
    )


def _read(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _hash(script: str) -> str:
    """Name a script in a page's policy; Content Security Policy Level 3, 2.3.1."""
    from base64 import b64encode
    from hashlib import sha256

    return "sha256-" + b64encode(sha256(script.encode()).digest()).decode()


def _data(found: Map) -> str:
    """Return what the script draws, as JSON in which no tag begins."""
    from sampan.client.jsontext import dumps

    nodes = [
        [
            plain(node["Name"]),
            node["Parent"],
            node["Size"],
            node["Wasted"],
            node.get("Files", 0),
            int(node.get("File", False)),
            node["Layers"],
        ]
        for node in found["Nodes"]
    ]
    text = dumps({"nodes": nodes, "steps": [plain(step_of(layer)) for layer in found["Layers"]]})
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _facts(found: Map) -> str:
    size = found["Size"]
    facts = [
        ("", format_bytes(size), f"in {found['Files']:,} files"),
        ("", str(len(found["Layers"])), "layers"),
        (" mark", f"{format_bytes(found['Wasted'])}", f"wasted, {percent(found['Wasted'], size)}"),
        ("", format_bytes(found["SharedSize"]), f"shared with other images, {percent(found['SharedSize'], size)}"),
    ]
    return "".join(
        f'<div class="fact{kind}"><b>{_escape(value)}</b>{_escape(what)}</div>' for kind, value, what in facts
    )


def _tables(found: Map) -> str:
    return "\n".join(
        (
            _layers(found),
            _table("Wasted", ("Size", "Files", "Of layer", "Hidden", "Mostly in"), map(_waste_row, found["Waste"])),
            _table("Largest directories", ("Size", "Wasted", "Files", "Layers", "Directory"),
                   map(_directory_row, found["Directories"])),
            _table("Largest files", ("Size", "Layer", "Hidden", "File"), map(_file_row, found["Largest"])),
        )
    )  # fmt: skip


def _layers(found: Map) -> str:
    rows = []
    for layer in found["Layers"]:
        cells = (
            f'<td class="number"><span class="swatch"></span>{layer["Number"]}</td>',
            *(f'<td class="number">{_escape(text)}</td>' for text in _layer_numbers(layer)),
            f"<td>{_escape(', '.join(layer['SharedWith'])) or '-'}</td>",
            f'<td class="wide"><code>{_escape(step_of(layer))}</code></td>',
        )
        rows.append(f'<tr class="layer" data-layer="{layer["Number"]}">{"".join(cells)}</tr>')
    heads = ("Layer", "Size", "Files", "Wasted", "Shared with", "Made by")
    return _framed("Layers", heads, rows, numbers=4)


def _layer_numbers(layer: Map) -> tuple[str, str, str]:
    return format_bytes(layer["Size"]), f"{layer['Files']:,}", format_bytes(layer["Wasted"])


def _waste_row(waste: Map) -> tuple[str, ...]:
    hidden = f"{waste['How']} by layer {waste['By']}"
    return format_bytes(waste["Size"]), str(waste["Files"]), str(waste["Layer"]), hidden, waste["Path"]


def _directory_row(directory: Map) -> tuple[str, ...]:
    layers = ", ".join(map(str, directory["Layers"]))
    size, wasted = format_bytes(directory["Size"]), format_bytes(directory["Wasted"])
    return size, wasted, str(directory["Files"]), layers, directory["Path"]


def _file_row(file: Map) -> tuple[str, ...]:
    hidden = f"{file['How']} by layer {file['By']}" if file.get("How") else "-"
    return format_bytes(file["Size"]), str(file["Layer"]), hidden, file["Path"]


def _table(title: str, heads: tuple[str, ...], rows: Any) -> str:
    """Return a table the first column of which is a number and the last a path."""
    made = []
    for first, *middle, last in rows:
        cells = f'<td class="number">{_escape(first)}</td>' + "".join(f"<td>{_escape(cell)}</td>" for cell in middle)
        made.append(f'<tr>{cells}<td class="wide"><code>{_escape(last)}</code></td></tr>')
    return _framed(title, heads, made) if made else ""


def _framed(title: str, heads: tuple[str, ...], rows: list[str], *, numbers: int = 1) -> str:
    kinds = [" class=number" if index < numbers else "" for index in range(len(heads))]
    head = "".join(f"<th{kind}>{_escape(text)}</th>" for kind, text in zip(kinds, heads, strict=True))
    return f'<h2>{_escape(title)}</h2><div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _escape(text: str) -> str:
    """Return a text as HTML has it, in tags and in attributes, with nothing in it that is not to be seen."""
    for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        text = text.replace(character, name)
    return plain(text)
