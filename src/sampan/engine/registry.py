"""The containers of this instance in memory, and how a name or the beginning of an id finds one."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sampan.engine.names import random_name
from sampan.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.engine.health import Watch
    from sampan.engine.links import Channel
    from sampan.engine.mounts import Wanted
    from sampan.engine.sandbox import Sandbox
    from sampan.spec import docker
    from sampan.spec.runtime import Spec
    from sampan.spec.state import State
    from sampan.supervise.messages import AnswerNames, Attach


class Container:
    """One container. `lock` is held by a verb that changes it; `state` is replaced under `changed` alone.

    Every other field is set by the verb that holds `lock`, or never after creation.
    """

    def __init__(
        self, id: str, name: str, created_ns: int, image: tuple[str, str], body: docker.ContainerCreate, state: State
    ) -> None:
        self.id = id
        self.name = name
        self.created_ns = created_ns
        self.image_id, self.image_name = image
        self.body = body
        self.state = state
        self.lock = threading.RLock()
        self.changed = threading.Condition(threading.Lock())
        self.exits = 0  # how often it has ended since this server began: what "next-exit" waits for
        self.rests = 0  # and how often without being about to start again: what "not-running" waits for
        self.saving = threading.Lock()  # held while the state is written down: the latest is the last to be written
        self.removed = False
        self.doomed = False  # `rm -f` is tired of waiting: who holds `lock` gives up
        self.last_exit = (state.exit_code, state.error)
        self.spec: Spec | None = None  # as made at creation, until the first start has used it
        self.shim: Channel | None = None
        self.attaching: list[tuple[int, Attach]] = []  # connections (ours to close) that wait for the start
        self.execs: dict[str, None] = {}  # their ids, oldest first
        self.committing = False  # and `lock` is held as long as that takes
        self.restarts = 0  # how many are under way: `--rm` removes nothing meanwhile
        self.written: dict[str, str] = {}  # its own files, as this server has written them
        self.mounts: tuple[Wanted, ...] = ()
        self.names: AnswerNames | None = None  # what its shim answers; None: it has no name server
        self.sandbox: Sandbox | None = None  # its networks while it runs, and until they are given back
        self.pidfd: int | None = None  # its first process, where nobody else may see its end: `witness`
        self.restart: threading.Timer | None = None  # what starts it again, while it is in state `restarting`
        self.watch: Watch | None = None  # how its health is checked in this run; None: not at all
        self.restart_delay_s = 0.0  # how long it waited for that the last time
        self.on_change: set[Callable[[], None]] = (
            set()
        )  # called, under `changed`, at each change: for who waits with poll

    @property
    def volumes(self) -> list[str]:
        """The names of the volumes it uses."""
        return [mount.name for mount in self.mounts if mount.type == "volume"]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The images that it needs: its own, and those mounted in it."""
        return (self.image_id, *(mount.source for mount in self.mounts if mount.type == "image"))

    @property
    def running(self) -> bool:
        """Whether its processes exist."""
        return self.state.alive

    @property
    def active(self) -> bool:
        """Whether its processes exist, or will again by themselves."""
        return self.state.active

    def become(self, state: State) -> None:
        """Replace the state and wake whoever waits for a change."""
        with self.changed:
            self._become(state)

    def _become(self, state: State) -> None:
        if self.state.alive and not state.alive:
            self.exits += 1
            self.last_exit = (state.exit_code, state.error)
        self.rests += self.state.active and not state.active
        self.state = state
        self._wake()

    def update(self, **fields: object) -> State:
        """Replace some fields of the state and return it."""
        return self.change(lambda state: msgspec.structs.replace(state, **fields))

    def change(self, how: Callable[[State], State]) -> State:
        """Replace the state by what follows from it, with no other change in between, and return it."""
        with self.changed:
            self._become(how(self.state))
            return self.state

    @contextmanager
    def restarted(self) -> Iterator[None]:
        """Keep what `--rm` removes at its end while the `with` lasts, in which it ends to be started again."""
        with self.changed:
            self.restarts += 1
        try:
            yield
        finally:
            with self.changed:
                self.restarts -= 1

    def vanish(self) -> None:
        """Tell whoever waits that the container is no more."""
        with self.changed:
            self.removed = True
            self._wake()

    def wake(self) -> None:
        """Have whoever waits look again."""
        with self.changed:
            self.changed.notify_all()

    def _wake(self) -> None:
        self.changed.notify_all()
        for callback in tuple(self.on_change):
            callback()

    def wait_until(self, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Block until `done()` holds, looked at after each change; False when it does not in time."""
        with self.changed:
            return self.changed.wait_for(done, timeout_s)


class Registry:
    """All containers by id and by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, id: str) -> Container | None:
        """Return the container of a whole id."""
        return self._by_id.get(id)

    def add(self, container: Container) -> None:
        """Take the container in, or raise Docker's Conflict when its name is taken."""
        with self._lock:
            self._claim(container.name, container.id)
            self._by_id[container.id] = container

    def rename(self, container: Container, name: str) -> str:
        """Give it a free name; return the old one."""
        with self._lock:
            self._claim(name, container.id)
            old = container.name
            container.name = name
            del self._by_name[old]
            return old

    def remove(self, container: Container) -> None:
        """Forget it: its name is free at once."""
        with self._lock:
            self._by_id.pop(container.id, None)
            if self._by_name.get(container.name) == container.id:
                del self._by_name[container.name]

    def _claim(self, name: str, id: str) -> None:
        other = self._by_name.setdefault(name, id)
        if other != id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{other}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def find(self, ref: str) -> Container:
        """Return the container of an id, a name, or an id's beginning that only one has; in this order, as Docker."""
        with self._lock:
            bare = ref.removeprefix("/")
            id = ref if ref in self._by_id else self._by_name.get(bare)
            if id is None and ref:
                matches = [i for i in self._by_id if i.startswith(ref)]
                if len(matches) > 1:
                    raise InvalidInput(f"multiple IDs found with provided prefix: {ref}", "give more of its digits")
                id = matches[0] if matches else None
            if id is None:
                raise NotFound(f"No such container: {ref}", "`sampan ps -a` lists them")
            return self._by_id[id]

    def unused_name(self) -> str:
        """Return a name for who gave none."""
        while (name := random_name()) in self._by_name:
            pass
        return name
