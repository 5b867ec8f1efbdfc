"""What a container has changed: `diff`."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from sampan.engine import translate
from sampan.errors import Conflict, SampanError, Unsupported, doing
from sampan.spec.state import Status
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.image import Rootfs

WORK_S = 24 * 3600
_PIECE = 1 << 16


def changes(core: Core, container: Container) -> Iterator[bytes]:
    """Return what `container` has changed, as the API has it. It is in memory, and not in the server's own."""
    rootfs = rootfs_of(core, container)
    if not rootfs.upperdir:
        raise Unsupported(
            f"can't tell what {container.name} has changed: it runs from {rootfs.path} itself",
            f"run it from {rootfs.path}:O, which is then only read",
        )
    fd = os.memfd_create("changes", os.MFD_CLOEXEC)
    try:
        with (
            doing(f"can't tell what {container.name} has changed"),
            there(container),
            closing(core.worker()) as channel,
        ):
            root = core.snapshots.root(rootfs)
            job = messages.Changes(layers=rootfs.layers, root=root, own=own_mounts(core, container))
            channel.ask(job, messages.Done, (fd,), timeout_s=WORK_S)
    except BaseException:
        os.close(fd)
        raise
    return _pieces(fd)


@contextmanager
def there(container: Container) -> Iterator[None]:
    """Raise Conflict where a container was removed in the block: that is why not all its files could be read."""
    try:
        yield
    except SampanError:
        check_there(container)
        raise
    check_there(container)


def check_there(container: Container) -> None:
    """Raise Conflict where a container was removed while its files were read: not all of them were there any more."""
    if container.removed or container.state.status is Status.REMOVING:
        raise Conflict("it was removed meanwhile")


def rootfs_of(core: Core, container: Container) -> Rootfs:
    """Return what the container's root is mounted from, with all lower directories in their place."""
    rootfs = translate.rootfs_of(core.spec(container))
    with doing(f"can't read the files of {container.name}"), there(container):
        core.snapshots.make_ready(rootfs)
    return rootfs


def own_mounts(core: Core, container: Container) -> tuple[str, ...]:
    """Return where the engine mounts something that nobody has asked for: /proc, /etc/hosts and so on."""
    asked = {mount.target for mount in container.mounts}
    return tuple(m.destination for m in core.spec(container).mounts if m.destination not in {"/", *asked})


def _pieces(fd: int) -> Iterator[bytes]:
    with open(fd, "rb", buffering=0) as file:
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece
