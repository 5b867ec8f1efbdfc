"""The end of a container: its name is free at once, its record gone with one commit, its files behind the answer."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.engine import hooking, lifecycle, naming, remains, required, restarting
from sampan.engine.core import encode, now_ns
from sampan.engine.launch import exited, release_attaching
from sampan.engine.lifecycle import Verb
from sampan.engine.stopping import send_signal, wait_ended
from sampan.engine.why import Removed
from sampan.errors import Conflict, Failed, InvalidInput, SampanError, doing
from sampan.kernel.trees import remove_tree
from sampan.spec.state import Status
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.ending import Sender

_PATIENCE_S = 3.0
_ANSWER_S = 5
_KILL_TIMEOUT_S = 10
_TREE_S = 0.05
"""How long an answer waits for the files to be gone: usually they are few. The rest goes on behind it."""


def remove(core: Core, container: Container, *, force: bool, volumes: bool, by: Sender | None = None) -> None:
    """Remove a container; with `force` one that runs, after SIGKILL; with `volumes` its anonymous volumes too."""
    required.check_removable(core, container)
    answers = not force or _kill(core, container, by)
    with _locked(core, container, force=force):
        if container.removed:
            return
        if force and not (answers and _kill(core, container, by)):  # also once more: somebody may have started it again
            _kill_by_force(core, container)
        if force:
            restarting.call_off(core, container)
        try:
            lifecycle.check(Verb.REMOVE, container.state, container.id)
        except Conflict as e:
            raise Conflict(f'cannot remove container "/{container.name}": {e.message}', e.hint) from None
        discard(core, container, volumes=volumes or container.body.host_config.auto_remove)


@contextmanager
def _locked(core: Core, container: Container, *, force: bool) -> Iterator[None]:
    """Take the lock; with `force` from a verb that waits for processes which don't answer, by killing those."""
    got = container.lock.acquire(timeout=_PATIENCE_S if force else -1)
    try:
        while not got:
            container.doomed = True
            remains.kill(core, container.id)
            if channel := container.shim:
                channel.close()
            got = container.lock.acquire(timeout=_PATIENCE_S)
        yield
    finally:
        container.doomed = False
        if got:
            container.lock.release()


def _kill(core: Core, container: Container, by: Sender | None) -> bool:
    """Have its shim kill it, if it runs; False where it runs on, or the shim does not answer."""
    run = container.exits
    try:
        if container.running:
            send_signal(core, container, signal.SIGKILL, by, timeout_s=_ANSWER_S)
    except Conflict:
        return True
    except SampanError:
        return False
    return wait_ended(container, run, _KILL_TIMEOUT_S)


def _kill_by_force(core: Core, container: Container) -> None:
    """Kill it, and its shim, without asking anybody. With the lock held."""
    with doing(f'cannot remove container "/{container.name}"'):
        remains.kill(core, container.id)
    exited(core, container, messages.Exited(exit_code=128 + signal.SIGKILL, finished_at_ns=now_ns()))


def discard(core: Core, container: Container, *, volumes: bool = True) -> None:
    """Remove what is not running, with its lock held.

    The directory is renamed into tmp/ before the record goes, and removed after: a crash in between leaves a record
    without a directory, or a directory in tmp/, both of which the next start clears.
    """
    if container.sandbox:
        container.sandbox.release()
    hooking.over(core, container.id)
    trash = _take_away(core, container)
    channel, container.shim = container.shim, None
    forgotten = remains.forget(channel) if channel is not None else None  # its end need not be written down
    core.registry.remove(container)
    for exec_id in tuple(container.execs):
        core.execs.pop(exec_id, None)
    release_attaching(container)
    gone = core.volumes.remove_of(container, core.registry) if volumes else []
    for name in gone:
        core.bus.tell("volume", "destroy", name, {"driver": "local"})
    core.tell(container, "destroy")
    remover = threading.Thread(target=core.snapshots.discard, args=(container.id, trash), name="remove", daemon=True)
    if trash:
        remover.start()
    if channel is not None and forgotten is not None:
        remains.see_off(core, container.id, forgotten)
        channel.close()
    elif os.path.isdir(core.dirs.shim(container.id)):
        remains.clear(core, container.id)
    if trash:
        remover.join(_TREE_S)
    container.vanish()
    core.janitor.later("forget a container's names", lambda: naming.forget_container(core, container))
    core.janitor.later("collect unused layers", lambda: collect(core))


def _take_away(core: Core, container: Container) -> str:
    """Move the directory and delete the record; return where the directory is now, "" if there was none."""
    before, record = container.state.status, _record(container)
    container.update(status=Status.REMOVING)
    directory, trash = core.dirs.container(container.id), f"{core.dirs.tmp}/container-{container.id}"
    code = container.last_exit[0] if container.body.host_config.auto_remove else None
    try:
        with doing(f"can't remove container {container.name}"):
            try:
                os.rename(directory, trash)
            except FileNotFoundError:
                trash = ""
        try:
            core.store.delete(container.id, code, name=container.name, record=record)
        except Failed:  # also forgetting takes room on the disk: the files give it
            remove_tree(trash or directory)
            core.store.delete(container.id, code, name=container.name, record=record)
    except SampanError:
        # Docker's word for what can only be removed, which can be tried again.
        container.update(status=before if os.path.isdir(directory) else Status.DEAD)
        raise
    return trash


def _record(container: Container) -> bytes | None:
    """Return what is remembered for a while of one that removes itself, if it did not end well: why it ended."""
    if not container.body.host_config.auto_remove or not container.last_exit[0]:
        return None
    return encode(
        Removed(
            id=container.id,
            name=container.name,
            created_ns=container.created_ns,
            body=container.body,
            state=container.state,
        )
    )


def rename(core: Core, container: Container, name: str) -> None:
    """Give a container a free name."""
    with container.lock:
        lifecycle.check(Verb.RENAME, container.state, container.id)
        if name == container.name:
            raise InvalidInput("Renaming a container with the same name as its current name")
        with doing("Error when allocating new name"):
            old = core.registry.rename(container, name)
        try:
            core.store.set_name(container.id, name)
        except SampanError:
            core.registry.rename(container, old)
            raise
        if container.sandbox:
            container.sandbox.rename()
        core.tell(container, "rename", {"oldName": f"/{old}"})


def collect(core: Core) -> None:
    """Remove layers that neither an image nor a container needs."""
    from sampan.engine.imaging import in_use

    try:
        core.images.collect(lambda image_id: in_use(core, image_id))
    except SampanError as e:
        raise e.within("after a container was removed") from e
