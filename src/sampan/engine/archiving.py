"""`cp`: files of a container as an archive, and an archive into a container, running or not."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from sampan.engine import secret_files
from sampan.engine.changing import WORK_S, rootfs_of
from sampan.engine.joining import without_joined
from sampan.engine.user_namespaces import rows
from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.runtime import mounts, ops, plan as planning
from sampan.spec.state import Status
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sampan.engine.core import Core
    from sampan.engine.links import Channel
    from sampan.engine.registry import Container
    from sampan.image.compression import Readable

_PIECE = 1 << 18


def stat_path(core: Core, container: Container, path: str) -> messages.PathFound:
    """Tell what a path in a container is."""
    with _place(core, container) as place, _worker(core, container) as channel:
        return channel.ask(messages.StatPath(place=place, path=_checked(path)), messages.PathFound, timeout_s=WORK_S)


def read_path(core: Core, container: Container, path: str) -> Generator[bytes]:
    """Give a tar of a path in pieces; it is whole if this ends without an error."""
    with _place(core, container) as place, _worker(core, container) as channel:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with open(reading, "rb", buffering=0) as pipe:
            try:
                done = channel.post(messages.ReadPath(place=place, path=_checked(path)), (writing,))
            finally:
                os.close(writing)
            while piece := pipe.read(_PIECE):
                yield piece
            done.wait(messages.Done, WORK_S)
    core.tell(container, "archive-path")


def write_path(
    core: Core, container: Container, path: str, stream: Readable, *, keep_kinds: bool, as_user: bool
) -> None:
    """Unpack an archive into a directory of a container; `as_user`: all of it is then the container's user's."""
    user = container.body.user if as_user else ""
    with _place(core, container) as place, _worker(core, container) as channel:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        job = messages.WritePath(place=place, path=_checked(path), keep_kinds=keep_kinds, user=user)
        try:
            done = channel.post(job, (reading,))
        finally:
            os.close(reading)
        _pump(stream, writing)
        done.wait(messages.Done, WORK_S)
    core.tell(container, "extract-to-dir")


def _pump(stream: Readable, fd: int) -> None:
    """Pass the request's body on. If the worker refuses it, the rest is read all the same: clients answer only then."""
    with suppress(BrokenPipeError), open(fd, "wb", buffering=0) as pipe:
        while piece := stream.read(_PIECE):
            view = memoryview(piece)
            while view:
                view = view[pipe.write(view) :]
    while stream.read(_PIECE):
        pass


def _checked(path: str) -> str:
    if not path:
        raise InvalidInput("bad parameter: query parameter 'path' must not be empty")
    if "\0" in path:
        raise InvalidInput("a path has no zero byte")
    return path


@contextmanager
def _place(core: Core, container: Container) -> Iterator[messages.Place]:
    """Say where a container's files are; one that does not run can't be started or removed in the block."""
    container.lock.acquire()
    held = True
    try:
        state = container.state
        if container.removed or state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict(f"can't copy from or to {container.name}: it is being removed")
        if container.running and state.pid:
            container.lock.release()
            held = False
            yield messages.Place(pid=state.pid, start_time=state.start_time)
            return
        yield _mounted(core, container)
    finally:
        if held:
            container.lock.release()


def _mounted(core: Core, container: Container) -> messages.Place:
    """Return the steps that mount the root with what is mounted there, owned by whom it is owned by in a run."""
    rootfs_of(core, container)
    spec = secret_files.without_files(without_joined(core.spec(container)), core.dirs.container(container.id))
    assert spec.root
    user = mounts.has_user(spec)
    root = mounts.overlay(spec, core.host, detached=user)
    of_user: tuple[ops.Outside, ...] = (*root, *mounts.layered(spec, core.host), *mounts.apart(spec)) if user else ()
    outside = (*of_user, *mounts.mapped(spec))
    shown = (op for op in mounts.filesystems(spec, core.host) if _is_shown(op))
    first = () if user and root else root or (ops.BindRoot(spec.root.path),)
    last = (ops.MakeReadOnly("/", mounted=True),) if spec.root.readonly else ()
    inside: tuple[ops.Inside, ...] = (*first, *shown, *last)
    steps = (*(planning.Step("outside", op) for op in outside), *(planning.Step("inside", op) for op in inside))
    return messages.Place(
        plan=planning.encode(planning.Plan(id=container.id, steps=steps, root=spec.root.path)),
        uid_mappings=rows(spec.linux.uid_mappings),
        gid_mappings=rows(spec.linux.gid_mappings),
    )


_OF_A_RUN = frozenset({"proc", "sysfs", "tmpfs", "devpts", "mqueue"})


def _is_shown(op: ops.Inside) -> bool:
    """Tell whether it is there without a run: a filesystem is if it is a volume's."""
    if isinstance(op, ops.Mount):
        return op.type not in _OF_A_RUN
    return isinstance(op, ops.Bind | ops.MountOverlay | ops.AttachOverlay)


@contextmanager
def _worker(core: Core, container: Container) -> Iterator[Channel]:
    with closing(core.worker()) as channel:
        try:
            yield channel
        except NotFound as e:
            raise NotFound(f"{e.message} in container {container.name}", e.hint) from None
        except Conflict as e:  # it has just ended
            raise e.within(f"can't copy from or to {container.name}") from None
