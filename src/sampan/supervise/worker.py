"""The worker: forked by the keeper for one job that takes a core or a while; it answers and ends."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import sampan
from sampan.errors import Failed, InvalidInput, SampanError
from sampan.supervise import messages as m
from sampan.supervise.launcher import refusal

if TYPE_CHECKING:
    import socket


def _installed() -> tuple[int, int]:
    found = os.stat(sampan.__file__)
    return found.st_ino, found.st_mtime_ns


_INSTALLED = _installed()


def run(sock: socket.socket) -> None:
    """Do what the first request asks for."""
    gc.enable()
    decoder = m.Decoder()
    frame = m.receive(sock, decoder)
    if frame is None:
        return
    try:
        answer = _do(frame)
    except (SampanError, OSError) as e:
        answer = refusal(e)
    m.send(sock, answer, frame.seq)


def _do(frame: m.Frame) -> m.Message:
    match frame.message:
        case m.Unpack():
            return _unpack(frame.message, frame.fds)
        case m.Pack():
            return _pack(frame.message, frame.fds)
        case m.Remove(path=path):
            from sampan.kernel.trees import remove_tree

            remove_tree(path)
            return m.Done()
        case _:
            raise InvalidInput(f"a worker can't do {type(frame.message).__name__}")


def _unpack(job: m.Unpack, fds: tuple[int, ...]) -> m.Unpacked:
    _check_installed("unpack")
    import msgspec

    from sampan.image.unpack import unpack_layer
    from sampan.spec.image import LayerLimits

    limits = msgspec.json.decode(job.limits, type=LayerLimits)
    try:
        layer = unpack_layer(
            fds[0], job.target, digest=job.digest, diff_id=job.diff_id, keep_blob=job.keep_blob, limits=limits
        )
    finally:
        for fd in fds:
            os.close(fd)
    return m.Unpacked(
        digest=layer.digest,
        diff_id=layer.diff_id,
        compressed_bytes=layer.compressed_bytes,
        content_bytes=layer.content_bytes,
        tar_bytes=layer.tar_bytes,
    )


def _pack(job: m.Pack, fds: tuple[int, ...]) -> m.Packed:
    _check_installed("pack")
    from sampan.image.compression import Compression
    from sampan.image.pack import pack_layer

    try:
        packed = pack_layer(job.layer, fds[0], compression=Compression(job.kind, job.level))
    finally:
        for fd in fds:
            os.close(fd)
    return m.Packed(digest=packed.digest, size=packed.size, diff_id=packed.diff_id)


def _check_installed(verb: str) -> None:
    # Modules are imported in the worker only: the keeper stays small. What is on the disk must be what the keeper is.
    if _installed() != _INSTALLED:
        raise Failed(f"can't {verb}: sampan was upgraded since its keeper started", "run the command once more")
