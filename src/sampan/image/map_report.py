"""Where the bytes of layers put together are: what is told of a walk."""

from __future__ import annotations

from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush, nlargest
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.image.map import DELETED, Walk, how_of
from sampan.spec import docker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.image.map import File
    from sampan.spec.docker.image_map import How

_MOST = 0.9  # of what a layer hides, where it is said to be


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How much is to be told: `top` of everything, directories down to `depth`, `nodes` for a drawing."""

    depth: int = 3
    top: int = 10
    nodes: int = 0


class _Totals(NamedTuple):
    """For each directory, with all below it."""

    size: list[int]
    wasted: list[int]
    files: list[int]


def report(layers: Sequence[str], numbers: Sequence[int], wanted: Wanted) -> docker.ImageMap:
    """Walk the layers in these directories, the lowest first, which have these numbers in their image."""
    walk = Walk(layers, keep_files=max(wanted.top, wanted.nodes))
    totals = _totals(walk)
    chosen = _largest_directories(walk, totals, wanted)
    nodes = _nodes(totals, wanted)
    by_layer = _by_layer(walk, {0, *chosen, *nodes})
    named = _Named(walk, numbers)
    return docker.ImageMap(
        size=totals.size[0],
        wasted=totals.wasted[0],
        files=totals.files[0],
        layers=_layers(walk, numbers),
        directories=tuple(
            docker.MapDirectory(
                path=shown(walk.path(directory)),
                size=totals.size[directory],
                files=totals.files[directory],
                wasted=totals.wasted[directory],
                layers=tuple(numbers[layer] for layer in sorted(by_layer[directory])),
            )
            for directory in chosen
        ),
        largest=named.files(walk.largest, wanted.top),
        waste=_waste(walk, numbers, wanted.top),
        wasted_files=named.files(walk.largest_wasted, wanted.top),
        nodes=named.nodes(nodes, totals, by_layer, wanted.nodes),
    )


def shown(path: bytes) -> str:
    """A path as text: bytes that are not UTF-8 are written by their number, with a backslash and an x."""
    return path.decode("utf-8", "backslashreplace")


def _totals(walk: Walk) -> _Totals:
    totals = _Totals(*([0] * len(walk.names) for _ in range(3)))
    for cell in walk.cells():
        totals.size[cell.directory] += cell.size
        totals.files[cell.directory] += cell.files
        if cell.hider != walk.seen:
            totals.wasted[cell.directory] += cell.size
    for directory in range(len(walk.names) - 1, 0, -1):
        for numbers in totals:
            numbers[walk.parents[directory]] += numbers[directory]
    return totals


def _largest_directories(walk: Walk, totals: _Totals, wanted: Wanted) -> list[int]:
    depths = [0] * len(walk.names)
    for directory in range(1, len(walk.names)):
        depths[directory] = depths[walk.parents[directory]] + 1
    near = (d for d in range(1, len(walk.names)) if depths[d] <= wanted.depth and totals.size[d])
    return nlargest(wanted.top, near, key=lambda d: (totals.size[d], -d))


def _nodes(totals: _Totals, wanted: Wanted) -> list[int]:
    """The largest directories, in their order. None is larger than its parent: so all parents are among them."""
    largest = nlargest(wanted.nodes, range(len(totals.size)), key=lambda d: (totals.size[d], -d))
    return sorted(d for d in largest if totals.size[d] or d == 0)


def _by_layer(walk: Walk, chosen: set[int]) -> dict[int, Counter[int]]:
    """The bytes of each layer below each of the `chosen` directories, of which the root must be one."""
    nearest = [0] * len(walk.names)
    for directory in range(1, len(walk.names)):
        nearest[directory] = directory if directory in chosen else nearest[walk.parents[directory]]
    found: dict[int, Counter[int]] = {directory: Counter() for directory in chosen}
    for cell in walk.cells():
        if cell.size:
            found[nearest[cell.directory]][cell.layer] += cell.size
    for directory in sorted(chosen, reverse=True)[:-1]:
        found[nearest[walk.parents[directory]]].update(found[directory])
    return found


def _layers(walk: Walk, numbers: Sequence[int]) -> tuple[docker.MapLayer, ...]:
    size, files, wasted = [0] * walk.count, [0] * walk.count, [0] * walk.count
    for cell in walk.cells():
        size[cell.layer] += cell.size
        files[cell.layer] += cell.files
        wasted[cell.layer] += cell.size if cell.hider != walk.seen else 0
    return tuple(
        docker.MapLayer(number=numbers[layer], size=size[layer], files=files[layer], wasted=wasted[layer])
        for layer in range(walk.count)
    )


def _waste(walk: Walk, numbers: Sequence[int], top: int) -> tuple[docker.MapWaste, ...]:
    """What each layer hides of each other, the most first, and where that is."""
    size: Counter[tuple[int, int]] = Counter()
    files: Counter[tuple[int, int]] = Counter()
    places: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for cell in walk.cells():
        if cell.hider != walk.seen and cell.size:
            group = (cell.layer, cell.hider)
            size[group] += cell.size
            files[group] += cell.files
            places[group][cell.directory] += cell.size
    return tuple(
        docker.MapWaste(
            layer=numbers[layer],
            by=numbers[how_of(hider)[0]],
            how=_word(hider),
            size=size[layer, hider],
            files=files[layer, hider],
            path=shown(walk.path(_place(walk, places[layer, hider]))),
        )
        for layer, hider in nlargest(top, size, key=lambda group: (size[group], group))
    )


def _place(walk: Walk, found: Counter[int]) -> int:
    """The lowest directory that has most of it. If two have most, one is below the other and has the larger number."""
    least = sum(found.values()) * _MOST
    left = [-directory for directory in found]
    heapify(left)
    while left:
        directory = -heappop(left)
        if found[directory] >= least:
            return directory
        parent = walk.parents[directory]
        if parent not in found:
            heappush(left, -parent)
        found[parent] += found[directory]
    return 0


def _word(hider: int) -> How:
    return "deleted" if how_of(hider)[1] == DELETED else "overwritten"


class _Named:
    """Files and nodes as they are told: by names, and layers by their numbers in the image."""

    def __init__(self, walk: Walk, numbers: Sequence[int]) -> None:
        self._walk = walk
        self._numbers = numbers

    def files(self, found: list[File], top: int) -> tuple[docker.MapFile, ...]:
        told = [self._file(file) for file in nlargest(top, found) if file.size]
        return tuple(sorted(told, key=lambda file: (-file.size, file.path, file.layer)))

    def _file(self, file: File) -> docker.MapFile:
        hidden = file.hider != self._walk.seen
        return docker.MapFile(
            path=shown(self._walk.path(file.directory, file.name)),
            layer=self._numbers[file.layer],
            size=file.size,
            by=self._numbers[how_of(file.hider)[0]] if hidden else 0,
            how=_word(file.hider) if hidden else "",
        )

    def nodes(
        self, directories: list[int], totals: _Totals, by_layer: dict[int, Counter[int]], most: int
    ) -> tuple[docker.MapNode, ...]:
        """Directories, parents first, then the largest files in them."""
        number = {directory: index for index, directory in enumerate(directories)}
        files = [file for file in nlargest(most, self._walk.largest) if file.size and file.directory in number]
        told = [
            docker.MapNode(
                name=shown(self._walk.names[directory]) or "/",
                parent=number.get(self._walk.parents[directory], -1),
                size=totals.size[directory],
                wasted=totals.wasted[directory],
                files=totals.files[directory],
                layers=tuple((self._numbers[layer], size) for layer, size in sorted(by_layer[directory].items())),
            )
            for directory in directories
        ]
        return (*told, *(self._file_node(file, number) for file in files))

    def _file_node(self, file: File, number: dict[int, int]) -> docker.MapNode:
        return docker.MapNode(
            name=shown(file.name),
            parent=number[file.directory],
            size=file.size,
            wasted=file.size if file.hider != self._walk.seen else 0,
            layers=((self._numbers[file.layer], file.size),),
            file=True,
        )
