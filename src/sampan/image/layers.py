"""Unpacked layers by diff id: each is made once, whoever asks for it and how many at a time.

A layer is made in tmp/ and renamed when it is whole; one that is interrupted may be gone on with (`unfinished`). While
somebody works with layers that no image names yet they are pinned, and `remove` leaves them alone.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from sampan.errors import Failed, doing
from sampan.ids import check_digest, is_digest, new_id
from sampan.image import unfinished
from sampan.image.recipe import RECIPE, REPLACED, has_recipe
from sampan.image.unpack import BLOB, read_record
from sampan.kernel.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Set as AbstractSet
    from typing import BinaryIO

    from sampan.dirs import Dirs
    from sampan.image.compression import Compression
    from sampan.spec.image import LayerRecord


class Unpacked(Protocol):
    """What unpacking a layer found out: `spec.image.LayerResult`, or a worker's answer."""

    @property
    def digest(self) -> str:
        """Of the bytes as read."""

    @property
    def diff_id(self) -> str:
        """Of the uncompressed tar."""

    @property
    def content_bytes(self) -> int:
        """Of all regular files."""


class Unpacker(Protocol):
    """Unpacks a layer somewhere: in a worker process, or here in a test. As `unpack.unpack_layer`."""

    def __call__(
        self, fd: int, target: str, *, digest: str | None, diff_id: str | None, size: int | None = None
    ) -> Unpacked:
        """Read `fd` to its end into the new directory `target`; leave no `target` on failure. `fd` stays open.

        With a `size`, one that works in a process of its own may keep what it has where `fd` ends before that many
        bytes, and wait in the directory above `target`.
        """


class Interrupted(Unpacker, Protocol):
    """An unpacker that was left in the middle of a layer, and goes on with it; called once, it is closed after."""

    @property
    def place(self) -> str:
        """The directory above its target."""

    @property
    def offset(self) -> int:
        """How many bytes it has: the next `fd` begins after them."""

    def close(self) -> None:
        """Let it go on waiting, unless it was called."""


class Resume(Protocol):
    """Finds who waits with what a key (`unfinished.key`) names."""

    def __call__(self, key: str) -> Interrupted | None:
        """Return an unpacker that can go on, if there is one."""


class Packed(Protocol):
    """What packing a layer gave: `spec.image.LayerPacked`, or a worker's answer."""

    @property
    def digest(self) -> str:
        """Of the bytes as written."""

    @property
    def size(self) -> int:
        """Of the bytes as written."""

    @property
    def diff_id(self) -> str:
        """Of the uncompressed tar, verified."""


class Packer(Protocol):
    """Writes an unpacked layer's tar: in a worker process, or here in a test. As `pack.pack_layer`."""

    def __call__(self, layer: str, fd: int, *, compression: Compression) -> Packed:
        """Write the tar of the layer's directory `layer` to `fd`, compressed; `fd` stays open."""


class Keeper(Protocol):
    """Somebody else who holds layers: they stay as long as it says so."""

    def diff_ids(self) -> AbstractSet[str]:
        """The layers that it holds."""

    def synced(self, until_ns: int) -> None:
        """Hear that all layers written before this moment are on the disk."""


class Layers:
    """The layers of one instance."""

    def __init__(self, dirs: Dirs) -> None:
        self._dirs = dirs
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._listeners: defaultdict[str, list[Callable[[int], None]]] = defaultdict(list)
        self._come: dict[str, int] = {}  # bytes of those that are being made
        self._places: set[str] = set()  # where this server has layers unpacked
        os.makedirs(f"{dirs.layers}/sha256", mode=0o711, exist_ok=True)
        os.makedirs(dirs.tmp, mode=0o700, exist_ok=True)

    def find(self, diff_id: str) -> LayerRecord | None:
        """Return the record of a layer if it is here and whole."""
        try:
            return read_record(self._dirs.layer(check_digest(diff_id)))
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def find_complete(self, diff_id: str) -> LayerRecord | None:
        """Return it if its tar can be written, too: not if the layer is from before there were recipes."""
        record = self.find(diff_id)
        return record if record is not None and has_recipe(self._dirs.layer(diff_id)) else None

    def open_blob(self, diff_id: str, digest: str) -> BinaryIO | None:
        """Open the blob with this digest that a layer was unpacked from, if it was kept (`store.keep-blobs`)."""
        record = self.find(diff_id)
        if record is None or record.blob != digest:
            return None
        try:
            return open(f"{self._dirs.layer(diff_id)}/{BLOB}", "rb")
        except FileNotFoundError:
            return None

    @contextmanager
    def working(self) -> Iterator[Pins]:
        """Work with layers that no image names yet: what the Pins are given stays until the end of the block."""
        pins = Pins(self, self._lock, self._pins)
        try:
            yield pins
        finally:
            pins.release()

    @contextmanager
    def making(self, diff_id: str) -> Iterator[LayerRecord | None]:
        """Make a layer in the block unless its record is given: nobody else does meanwhile. Its pin must be held."""
        with self._lock:
            making = self._making[diff_id]
        with making:
            with self._lock:
                self._come.pop(diff_id, None)
            yield self.find_complete(diff_id)
        with self._lock:
            self._making.pop(diff_id, None)

    def coming(self, diff_id: str) -> int | None:
        """Return how many bytes have come of a layer that is being made, None if nobody makes it."""
        with self._lock:
            making = self._making.get(diff_id)
            return self._come.get(diff_id, 0) if making is not None and making.locked() else None

    @contextmanager
    def told(self, diff_id: str, listener: Callable[[int], None]) -> Iterator[None]:
        """In the block, call `listener` with how many bytes of a layer have come, whoever makes it."""
        with self._lock:
            self._listeners[diff_id].append(listener)
        try:
            if come := self.coming(diff_id):  # the next may be long in coming
                listener(come)
            yield
        finally:
            with self._lock:
                self._listeners[diff_id].remove(listener)
                if not self._listeners[diff_id]:
                    del self._listeners[diff_id]

    def tell(self, diff_id: str, count: int) -> None:
        """Tell all who wait for a layer how many bytes have come."""
        with self._lock:
            self._come[diff_id] = count
            listeners = tuple(self._listeners.get(diff_id, ()))
        for listener in listeners:
            listener(count)

    @contextmanager
    def place(self, key: str, interrupted: Interrupted | None = None) -> Iterator[str]:
        """A path to unpack to: a new one, or that of `interrupted`. At the end what no worker keeps is removed."""
        with self._lock:
            place = interrupted.place if interrupted is not None else unfinished.new_place(self._dirs.tmp, key)
            self._places.add(place)
        target = f"{place}/{unfinished.LAYER}"
        try:
            yield target
        finally:
            if not (os.path.exists(target) and unfinished.is_held(place)):
                remove_tree(place)
            with self._lock:
                self._places.discard(place)

    def waiting(self, key: str = "") -> list[str]:
        """Return the places where interrupted unpackers wait, of one layer or of all; the longest first.

        What killed ones have left is removed.
        """
        self._remove_remains()
        held = unfinished.held(self._dirs.tmp, key)
        with self._lock:
            return [place for place in held if place not in self._places]

    def _remove_remains(self) -> None:
        trash = []
        with self._lock:
            for place in unfinished.places(self._dirs.tmp):
                if place not in self._places and not unfinished.is_held(place):
                    trash.append(f"{self._dirs.tmp}/{new_id()}")
                    with suppress(FileNotFoundError):  # it has given up, and removed it
                        os.rename(place, trash[-1])
        for path in trash:
            remove_tree(path)

    def keep(self, target: str, diff_id: str, result: Unpacked) -> LayerRecord:
        """Keep an unpacked layer that must be `diff_id`."""
        if result.diff_id != diff_id:
            raise Failed(f"can't keep layer {diff_id}: it was unpacked as {result.diff_id}")
        return self._adopt(target, diff_id)

    def adopt(self, target: str, result: Unpacked, pins: Pins) -> LayerRecord:
        """Keep an unpacked layer, the diff id of which was not known before."""
        record = pins.add(result.diff_id)
        if record is not None:
            remove_tree(target)
            return record
        return self._adopt(target, result.diff_id)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """A path in tmp/ to unpack to; what is there at the end of the block is removed."""
        target = f"{self._dirs.tmp}/{new_id()}"
        try:
            yield target
        finally:
            remove_tree(target)

    def is_pinned(self, diff_id: str) -> bool:
        """Tell whether somebody works with a layer."""
        with self._lock:
            return self._pins[diff_id] > 0

    def remove(self, diff_id: str) -> bool:
        """Remove a layer unless it is pinned; return whether it is gone now and was here."""
        trash = self.take_away(diff_id)
        if trash is not None:
            remove_tree(trash)
        return trash is not None

    def take_away(self, diff_id: str) -> str | None:
        """Do the quick part of `remove`; return the directory that remains to be removed, None if there is none."""
        trash = f"{self._dirs.tmp}/{new_id()}"
        with self._lock:
            if self._pins[diff_id]:
                return None
            try:
                os.rename(self._dirs.layer(check_digest(diff_id)), trash)
            except FileNotFoundError:
                return None
        return trash

    def keep_only(self, diff_ids: AbstractSet[str]) -> None:
        """Remove all others, less the pinned. What is no layer (a filesystem's lost+found) stays."""
        for name in os.listdir(f"{self._dirs.layers}/sha256"):
            if is_digest(f"sha256:{name}") and f"sha256:{name}" not in diff_ids:
                self.remove(f"sha256:{name}")

    def _adopt(self, target: str, diff_id: str) -> LayerRecord:
        layer = self._dirs.layer(check_digest(diff_id))
        with doing(f"can't keep layer {diff_id}"):
            try:
                os.rename(target, layer)
            except OSError:
                # Somebody else was faster, or what is there is damaged: layer.json is written last.
                record = self.find(diff_id)
                if record is not None:
                    _complete(layer, target)
                    return record
                if not os.path.exists(layer):
                    raise
                remove_tree(layer)
                os.rename(target, layer)
            return read_record(layer)


def _complete(layer: str, unpacked: str) -> None:
    """Give a layer that was unpacked before there were recipes the recipe of the same one; containers may use it."""
    if not has_recipe(layer):
        if os.path.exists(f"{unpacked}/{REPLACED}"):
            os.rename(f"{unpacked}/{REPLACED}", f"{layer}/{REPLACED}")
        os.rename(f"{unpacked}/{RECIPE}", f"{layer}/{RECIPE}")


class Pins:
    """The layers that one piece of work holds."""

    def __init__(self, layers: Layers, lock: threading.Lock, pins: Counter[str]) -> None:
        self._layers = layers
        self._lock = lock
        self._pins = pins
        self._mine: list[str] = []

    def add(self, diff_id: str) -> LayerRecord | None:
        """Hold a layer, whether or not it is here yet; return its record if it is, and complete."""
        with self._lock:
            self._pins[diff_id] += 1
            self._mine.append(diff_id)
        return self._layers.find_complete(diff_id)

    def release(self) -> tuple[str, ...]:
        """Hold nothing any more; return what was held."""
        with self._lock:
            held, self._mine = tuple(self._mine), []
            for diff_id in held:
                self._pins[diff_id] -= 1
                if not self._pins[diff_id]:
                    del self._pins[diff_id]
        return held


def boot_id() -> str:
    """Name this boot of the machine: what was written in another one and not seen onto the disk may be torn."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
