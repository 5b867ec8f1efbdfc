"""Workers that pack layers, on their way out of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from sampan.engine.workers import Workers
from sampan.supervise import messages

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.image.compression import Compression

_PACK_S = 24 * 3600


class Packer:
    """Writes layers' tars in processes of their own, as `Unpacker` unpacks them. In a `with`, they are used again."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._workers = Workers(core)

    def __enter__(self) -> Self:
        self._workers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def __call__(self, layer: str, fd: int, *, compression: Compression) -> messages.Packed:
        """Write the tar of the unpacked layer in the directory `layer` to `fd`."""
        job = messages.Pack(layer=layer, kind=compression.kind, level=compression.level)
        channel = self._workers.take()
        try:
            packed = channel.ask(job, messages.Packed, (fd,), timeout_s=_PACK_S)
        except BaseException:
            channel.close()
            raise
        self._workers.give_back(channel)
        return packed
