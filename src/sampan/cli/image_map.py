"""An image's map as text: layers, the largest directories and files, and what is wasted."""

from __future__ import annotations

from sampan.cli.image_tree import plain, step_of
from sampan.cli.table import ellipsis, tabulate
from sampan.units import format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Map = dict[str, Any]

_SHORT = 12
_STEP = 60


def rendered(found: Map, *, trunc: bool) -> str:
    """Return the whole text."""
    parts = [
        summary(found),
        _section("", _layer_rows(found, trunc=trunc)),
        _section("LARGEST DIRECTORIES", _directory_rows(found)),
        _section("LARGEST FILES", _file_rows(found["Largest"])),
        _section("WASTED", _waste_rows(found)),
        _section("LARGEST WASTED FILES", _file_rows(found["WastedFiles"])),
    ]
    return "\n".join(part for part in parts if part)


def summary(found: Map) -> str:
    """Return what image it is, how large, and how much of it is wasted and shared."""
    names = ", ".join(found["RepoTags"]) or found["Id"].removeprefix("sha256:")[:_SHORT]
    size = found["Size"]
    layers, files = _count(len(found["Layers"]), "layer"), _count(found["Files"], "file")
    lines = (
        f"{plain(names)} ({found['Platform']}): {format_bytes(size)} in {layers} and {files}",
        f"{_share(found['Wasted'], size)} wasted: overwritten or deleted by later layers",
        f"{_share(found['SharedSize'], size)} in layers that other images have too",
    )
    return "".join(f"{line}\n" for line in lines)


def _share(part: int, whole: int) -> str:
    return f"{format_bytes(part)} ({percent(part, whole)})"


def percent(part: int, whole: int) -> str:
    """Return a share, `<1%` for a little one."""
    if part and part * 100 < whole:
        return "<1%"
    return f"{part * 100 // whole if whole else 0}%"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _section(title: str, rows: list[list[str]]) -> str:
    if len(rows) < 2:
        return ""
    table = "".join(f"{line.rstrip()}\n" for line in tabulate(rows).splitlines())
    return f"{title}\n{table}" if title else table


def _layer_rows(found: Map, *, trunc: bool) -> list[list[str]]:
    rows = [["LAYER", "SIZE", "FILES", "WASTED", "SHARED WITH", "CREATED BY"]]
    for layer in found["Layers"]:
        step = plain(step_of(layer))
        rows.append(
            [
                str(layer["Number"]),
                format_bytes(layer["Size"]),
                str(layer["Files"]),
                format_bytes(layer["Wasted"]),
                plain(", ".join(layer["SharedWith"])) or "-",
                ellipsis(step, _STEP) if trunc else step,
            ]
        )
    return rows


def _directory_rows(found: Map) -> list[list[str]]:
    rows = [["SIZE", "WASTED", "FILES", "LAYERS", "DIRECTORY"]]
    for directory in found["Directories"]:
        layers = ",".join(map(str, directory["Layers"]))
        size, wasted = format_bytes(directory["Size"]), format_bytes(directory["Wasted"])
        rows.append([size, wasted, str(directory["Files"]), layers, plain(directory["Path"])])
    return rows


def _file_rows(files: list[Map]) -> list[list[str]]:
    rows = [["SIZE", "LAYER", "HIDDEN", "FILE"]]
    for file in files:
        hidden = f"{file['How']} by {file['By']}" if file.get("How") else "-"
        rows.append([format_bytes(file["Size"]), str(file["Layer"]), hidden, plain(file["Path"])])
    return rows


def _waste_rows(found: Map) -> list[list[str]]:
    rows = [["SIZE", "FILES", "OF LAYER", "HIDDEN", "MOSTLY IN"]]
    for waste in found["Waste"]:
        hidden = f"{waste['How']} by {waste['By']}"
        size = format_bytes(waste["Size"])
        rows.append([size, str(waste["Files"]), str(waste["Layer"]), hidden, plain(waste["Path"])])
    return rows
