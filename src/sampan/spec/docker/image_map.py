"""Where an image's bytes are: the answer of /sampan/images/{name}/map, which Docker has not.

Layers are numbered from 1, the lowest. A file's bytes count in the layer that brings it; those of hard links once. They
are wasted where no container sees them, because a later layer has overwritten or deleted all names of the file.
"""

from __future__ import annotations

from typing import Literal

from sampan.spec.docker.body import Body, always

How = Literal["overwritten", "deleted"]


class MapLayer(Body, frozen=True, kw_only=True):
    """A layer as a whole. `wasted` of its bytes are hidden by later layers."""

    number: int = always(0)
    diff_id: str = always("")
    created_by: str = always("")
    size: int = always(0)
    files: int = always(0)
    wasted: int = always(0)
    shared_with: tuple[str, ...] = always(())


class MapFile(Body, frozen=True, kw_only=True):
    """A file. One that is wasted names the layer that hides it."""

    path: str = always("")
    layer: int = always(0)
    size: int = always(0)
    by: int = 0
    how: How | Literal[""] = ""


class MapDirectory(Body, frozen=True, kw_only=True):
    """A directory with all below it, in all layers."""

    path: str = always("")
    size: int = always(0)
    files: int = always(0)
    wasted: int = always(0)
    layers: tuple[int, ...] = always(())


class MapWaste(Body, frozen=True, kw_only=True):
    """What one layer hides of another. At least nine tenths of the bytes are below `path`."""

    layer: int = always(0)
    by: int = always(0)
    how: How = always("deleted")
    size: int = always(0)
    files: int = always(0)
    path: str = always("")


class MapNode(Body, frozen=True, kw_only=True):
    """A directory or a file of the map. `parent` is the number of a node before it; the first is the root, with -1.

    `layers` are pairs of a layer and the bytes that it brings below here. Bytes of a directory that none of its nodes
    has are those of many small files and directories.
    """

    name: str = always("")
    parent: int = always(-1)
    size: int = always(0)
    wasted: int = always(0)
    files: int = 0
    layers: tuple[tuple[int, int], ...] = always(())
    file: bool = False


class ImageMap(Body, frozen=True, kw_only=True):
    """Where an image's bytes are. `shared_size` of them are in layers that other images have too."""

    id: str = always("", "Id")
    repo_tags: tuple[str, ...] = always(())
    platform: str = always("")
    size: int = always(0)
    files: int = always(0)
    wasted: int = always(0)
    shared_size: int = always(0)
    layers: tuple[MapLayer, ...] = always(())
    directories: tuple[MapDirectory, ...] = always(())
    largest: tuple[MapFile, ...] = always(())
    waste: tuple[MapWaste, ...] = always(())
    wasted_files: tuple[MapFile, ...] = always(())
    nodes: tuple[MapNode, ...] = always(())
