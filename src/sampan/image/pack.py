"""Pack one layer: write its tar again, compress, verify. The story of a worker process."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sampan.errors import doing
from sampan.image.compression import compressed
from sampan.image.inode import write_all
from sampan.image.recipe import diff_id_of, tar_of
from sampan.spec.image import LayerPacked

if TYPE_CHECKING:
    from sampan.image.compression import Compression


def pack_layer(layer: str, fd: int, *, compression: Compression) -> LayerPacked:
    """Write the tar that was unpacked into the directory `layer` to `fd`, compressed. The same bytes every time.

    What was written is the layer only if this returns: damage shows at the end. BrokenPipeError where nobody reads.
    """
    plain = compression.kind == "none"
    digest = hashlib.sha256()
    size = 0
    for piece in compressed(tar_of(layer), compression):
        if not plain:  # else it is the diff id, by which `tar_of` checks what it gives
            digest.update(piece)
        size += len(piece)
        with doing("can't write a layer"):
            write_all(fd, piece)
    diff_id = diff_id_of(layer)
    return LayerPacked(digest=diff_id if plain else "sha256:" + digest.hexdigest(), size=size, diff_id=diff_id)
