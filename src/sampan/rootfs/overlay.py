"""Put layers together, so that what overlayfs shows is what unpacking them one over the other would have made.

Layers are unpacked each by itself, and overlayfs takes a merged directory's metadata from the topmost layer that has
it. Two things would go wrong. A layer with `tmp/a` and no entry for `tmp` has a `tmp` of mode 0755, which would hide
the 1777 below. And a whiteout in a directory that no other layer has would show as a strange device, because overlayfs
looks for whiteouts only where it merges. Both are cured by one more layer on top, the shape: empty directories with
the right metadata. Most images need none.

On a store that lies on overlayfs itself, where whiteouts are files (image/extract), overlayfs does not look for them in
the lowest of the directories that it merges: the shape has those whiteouts again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.errors import Failed, doing
from sampan.ids import new_id
from sampan.kernel.trees import remove_tree
from sampan.spec.decoding import decode_json
from sampan.spec.image import LayerRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.dirs import Dirs

_RECORD = "layer.json"
OPAQUE_XATTR = "trusted.overlay.opaque"
WHITEOUT_XATTR = "trusted.overlay.whiteout"
MARKER = ".dockerenv"
"""An empty file in the root, by which software tells that it is in a container: Docker's (moby, initlayer)."""
OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


class Metadata(NamedTuple):
    """What a directory is, beside its content. As an implied directory gets it, unless said otherwise."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


class Chain(NamedTuple):
    """Layers that were put together."""

    lowerdirs: tuple[str, ...]  # topmost first, never empty
    root: Metadata
    marked: bool  # one of them has a MARKER that shows


class _Layer(NamedTuple):
    content: str  # its directory
    implied: frozenset[bytes]
    whiteouts: frozenset[bytes]


class _Shaped(NamedTuple):
    """A directory of the shape."""

    metadata: Metadata
    whiteouts: tuple[bytes, ...] = ()


def assemble(dirs: Dirs, diff_ids: Sequence[str]) -> Chain:
    """Put layers together, the lowest first; make the shape on the disk if one is needed and not there yet."""
    layers = _read(dirs, diff_ids)
    root = next((metadata_of(layer.content) for layer in layers if b"" not in layer.implied), Metadata())
    lowerdirs = tuple(layer.content for layer in layers)
    shape = _shape(layers)
    if shape or not layers:
        name = hashlib.sha256("\n".join(diff_ids).encode()).hexdigest()
        lowerdirs = (_build(dirs, name, shape), *lowerdirs)
    return Chain(lowerdirs, root, is_marked(lowerdirs))


def is_marked(lowerdirs: Iterable[str]) -> bool:
    """Tell whether a MARKER shows in these directories, topmost first: images made by `export` have one."""
    for directory in lowerdirs:
        path = os.fsencode(f"{directory}/{MARKER}")
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        return not (stat.S_ISCHR(status.st_mode) or _xattr(path, WHITEOUT_XATTR))
    return False


def mark(upperdir: str) -> None:
    """Make the MARKER in the directory that a container writes to."""
    os.close(os.open(f"{upperdir}/{MARKER}", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755))


def root_of(lowerdirs: Sequence[str]) -> Metadata:
    """Return what the root directory is in layers that `assemble` has put together, or in the image `host`."""
    for directory in lowerdirs:
        if directory == "/":
            return metadata_of(directory)
        layer = os.path.dirname(directory)
        if os.path.exists(f"{layer}/{_RECORD}") and b"" not in _record(layer).implied:  # a shape or cover has none
            return metadata_of(directory)
    return Metadata()


def metadata_of(path: str | bytes) -> Metadata:
    """Read what a directory is."""
    status = os.lstat(path)
    names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith(OVERLAY_XATTRS))
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    return Metadata(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, xattrs)


def apply_metadata(path: str | bytes, metadata: Metadata) -> None:
    """Make a directory what `metadata` says."""
    os.chown(path, metadata.uid, metadata.gid, follow_symlinks=False)
    os.chmod(path, metadata.mode)
    for name, value in metadata.xattrs:
        os.setxattr(path, name, value, follow_symlinks=False)


def _read(dirs: Dirs, diff_ids: Sequence[str]) -> list[_Layer]:
    """The layers that show, topmost first. overlayfs takes none twice, and the upper one hides the lower one anyway."""
    layers = []
    for diff_id in dict.fromkeys(reversed(diff_ids)):
        path = dirs.layer(diff_id)
        try:
            record = _record(path)
        except (FileNotFoundError, msgspec.DecodeError) as e:
            raise Failed(f"can't use layer {diff_id}: it is missing or damaged", "pull or load its image again") from e
        layers.append(_Layer(f"{path}/diff", frozenset(record.implied), frozenset(record.whiteouts)))
        if record.opaque_root:
            break
    return layers


def _record(layer: str) -> LayerRecord:
    with open(f"{layer}/{_RECORD}", "rb") as file:
        return decode_json(file.read(), LayerRecord)


def _shape(layers: Sequence[_Layer]) -> dict[bytes, _Shaped]:
    """Which directories the shape has, parents before children; empty if it isn't needed."""
    found: dict[bytes, _Shaped] = {}
    candidates = {path for layer in layers for path in layer.implied | layer.whiteouts}
    for path in sorted(candidates):
        shown, own = _merged(layers, path)
        if not shown:
            continue
        ghosts = _ghosts(shown, path)
        orphans = len(shown) == 1 and path in shown[0].whiteouts
        # The root is merged with the container's own, and has the metadata of that.
        if not ghosts and (not path or (not orphans and metadata_of(_at(shown[0], path)) == own)):
            continue
        found[path] = _Shaped(own, ghosts)
        for above in _above(path):
            if above not in found:
                found[above] = _Shaped(_merged(layers, above)[1])
    return dict(sorted(found.items()))


def _ghosts(shown: Sequence[_Layer], path: bytes) -> tuple[bytes, ...]:
    """Names of whiteouts that are files and would be seen in the directory `path` that these layers show."""
    *above, lowest = shown
    directory = _at(lowest, path)
    if path not in lowest.whiteouts or _xattr(directory, OPAQUE_XATTR) != b"x":
        return ()
    names = {name for name in os.listdir(directory) if _xattr(directory + b"/" + name, WHITEOUT_XATTR)}
    return tuple(sorted(names.difference(*(os.listdir(_at(layer, path)) for layer in above))))


def _merged(layers: Sequence[_Layer], path: bytes) -> tuple[list[_Layer], Metadata]:
    """Walk down to `path` as overlayfs does: return the layers whose directory shows there, and its true metadata.

    The layers are none where something else than a directory shows.
    """
    shown = list(layers)
    below: list[_Layer] = []  # hidden only by a mark that the directory starts anew, which is not about metadata
    for part in [*_above(path), path]:
        candidates, shown, below = shown, [], []
        opaque = False
        for layer in candidates:
            try:
                status = os.lstat(_at(layer, part))
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                break
            (below if opaque else shown).append(layer)
            opaque = opaque or _is_opaque(layer, part)
    described = (layer for layer in (*shown, *below) if path not in layer.implied)
    return shown, next((metadata_of(_at(layer, path)) for layer in described), Metadata())


def _build(dirs: Dirs, name: str, directories: dict[bytes, _Shaped]) -> str:
    target = f"{dirs.shapes}/{name}"
    if os.path.isdir(target):
        return target
    scratch = f"{dirs.tmp}/{new_id()}"
    with doing("can't make the directories of an image"):
        try:
            os.makedirs(dirs.shapes, mode=0o711, exist_ok=True)
            os.makedirs(scratch)
            for path, shaped in directories.items():
                _make(os.fsencode(scratch) + b"/" + path, shaped.whiteouts)
            for path, shaped in directories.items():
                apply_metadata(os.fsencode(scratch) + b"/" + path, shaped.metadata)
            os.rename(scratch, target)
        except FileExistsError:  # somebody else was faster
            pass
        finally:
            remove_tree(scratch)
    return target


def _make(directory: bytes, whiteouts: Sequence[bytes]) -> None:
    os.makedirs(directory, exist_ok=True)
    for name in whiteouts:
        os.close(os.open(directory + b"/" + name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.setxattr(directory + b"/" + name, WHITEOUT_XATTR, b"y")
    if whiteouts:
        os.setxattr(directory, OPAQUE_XATTR, b"x")


def _above(path: bytes) -> Iterable[bytes]:
    """The directories above `path`, topmost first, less the root."""
    parts = path.split(b"/")
    return (b"/".join(parts[:count]) for count in range(1, len(parts)))


def _at(layer: _Layer, path: bytes) -> bytes:
    return os.fsencode(layer.content) + b"/" + path


def _is_opaque(layer: _Layer, path: bytes) -> bool:
    return _xattr(_at(layer, path), OPAQUE_XATTR) == b"y"


def _xattr(path: bytes, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None
