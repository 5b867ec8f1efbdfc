"""Jobs of a worker that read what a container consists of: its changes told, made a layer, all of it as an archive."""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from sampan.errors import doing
from sampan.image import tarwrite
from sampan.image.compose import Composer
from sampan.image.inode import show
from sampan.image.settle import Settler
from sampan.kernel.trees import remove_tree
from sampan.rootfs.diff import report
from sampan.rootfs.overlay import Metadata
from sampan.rootfs.union import Stack
from sampan.supervise import messages as m
from sampan.supervise.members import Members, root_entry

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from sampan.spec.image import LayerResult

_PIECE = 1 << 18
_WATCH = "watch"


def tell_changes(job: m.Changes, fd: int) -> m.Done:
    """Write what was changed to `fd`."""
    report(job.layers, Metadata(*job.root), job.own, fd)
    return m.Done()


def compose(job: m.Compose) -> m.Unpacked:
    """Make the layer."""
    try:
        with Stack(job.layers) as stack, Composer(job.target) as composer:
            members = Members(stack, job.newest_ns)
            for member in members.of_all() if job.whole else members.of_changes(Metadata(*job.root), job.own):
                composer.add(member.entry, member.source, has_holes=member.has_holes)
            layer = composer.finish()
    except BaseException:
        remove_tree(job.target)
        raise
    return _unpacked(layer)


def _unpacked(layer: LayerResult) -> m.Unpacked:
    return m.Unpacked(
        digest=layer.digest,
        diff_id=layer.diff_id,
        compressed_bytes=layer.compressed_bytes,
        content_bytes=layer.content_bytes,
        tar_bytes=layer.tar_bytes,
    )


def squash(job: m.Squash) -> m.Unpacked:
    """Make one layer of several."""
    try:
        with Stack(job.layers) as stack, Composer(job.target) as composer:
            if job.root is not None:
                composer.add(root_entry(Metadata(*job.root)))
            for member in Members(stack).of_top(job.count):
                composer.add(member.entry, member.source, has_holes=member.has_holes)
            layer = composer.finish()
    except BaseException:
        remove_tree(job.target)
        raise
    return _unpacked(layer)


def settle(job: m.Settle) -> m.Unpacked:
    """Make the layer of the directory that a container wrote to."""
    upper = job.layers[0]
    try:
        with Stack(job.layers) as stack, Settler(job.target, upper) as settler:
            for member in Members(stack, job.newest_ns).of_changes(Metadata(*job.root), job.own):
                settler.add(member.entry, member.source, has_holes=member.has_holes)
                if member.entry.mtime_ns == job.newest_ns:
                    settler.retime(member.entry.name, job.newest_ns)
            layer = settler.finish()
    except BaseException:
        remove_tree(job.target)
        raise
    return _unpacked(layer)


def export(job: m.Export, fd: int) -> m.Done:
    """Write the archive to `fd`."""
    with Stack(job.layers) as stack, open(fd, "wb", buffering=_PIECE, closefd=False) as file:
        for entry, source, _ in Members(stack).of_all():
            file.write(tarwrite.header(entry))
            if source is not None:
                with doing(show(entry.name)[:300]):
                    file.writelines(_pieces(source, entry.size))
                file.write(tarwrite.padding(entry.size))
        file.write(tarwrite.END)
    return m.Done()


def _pieces(source: int, size: int) -> Iterator[bytes]:
    """Give `size` bytes of a file that may change meanwhile: zeros for what it lacks."""
    while size:
        piece = os.read(source, min(size, _PIECE)) or bytes(min(size, _PIECE))
        size -= len(piece)
        yield piece


def end_with(server: socket.socket) -> None:
    """From now on end this process as soon as nobody waits for its answer."""
    if any(thread.name == _WATCH for thread in threading.enumerate()):  # of the job before
        return

    def watch() -> None:
        poll = select.poll()
        poll.register(server, select.POLLRDHUP)
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, name=_WATCH, daemon=True).start()
