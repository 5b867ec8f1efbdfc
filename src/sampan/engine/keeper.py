"""The engine's side of the keeper: what it tells, replacing a dead one, and leaving when nobody needs the server."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from sampan.engine import networks, witness
from sampan.engine.reaching import TRIES
from sampan.errors import SampanError
from sampan.supervise import messages
from sampan.supervise.start import replace_keeper

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sampan.engine.core import Core
    from sampan.engine.links import Channel

_ANSWER_S = 10
_RETRY_S = 1.0
_losing = threading.Lock()


def listen_to_keeper(core: Core, sock: socket.socket) -> None:
    """Take over the channel to the keeper; at its end another keeper is started."""
    channel = core.links.add(sock, "the keeper")
    core.keeper = channel
    core.keeper_there.set()
    channel.on_gone = lambda gone: _gone(core, gone)
    if channel.gone:  # it was killed before anybody was told to look
        _gone(core, channel)


def _gone(core: Core, channel: Channel) -> None:
    with _losing:
        if core.keeper is not channel:
            return
        core.keeper_there.clear()
        core.keeper = None
    if core.closing or core.listening is None:
        return
    threading.Thread(target=_replace, args=(core,), name="new keeper", daemon=True).start()


def _replace(core: Core) -> None:
    witness.hold(core)
    while not core.closing and core.listening is not None:
        try:
            listen_to_keeper(core, replace_keeper(core.dirs, core.listening, host_fd=core.host_fd))
            return
        except (SampanError, OSError) as e:
            print(f"sampan: can't start a keeper: {e}", file=sys.stderr, flush=True)
            time.sleep(_RETRY_S)


class Idle:
    """Ends the server when no container runs and nobody has called for a while."""

    def __init__(self, core: Core, after_s: float) -> None:
        self._core = core
        self._after_s = after_s
        self._lock = threading.Lock()
        self._connections = 0
        self._foreign = False  # a client other than sampan's own has called
        self._leave: Callable[[], None] | None = None
        self._quiet_since = time.monotonic()

    def connected(self, user_agent: str) -> None:
        """Somebody calls."""
        with self._lock:
            self._connections += 1
            self._foreign = self._foreign or user_agent.partition("/")[0] != "sampan"

    def disconnected(self) -> None:
        """Somebody has gone."""
        with self._lock:
            self._connections -= 1
            self._quiet_since = time.monotonic()

    def begin(self, leave: Callable[[], None]) -> None:
        """Look from time to time whether the server is of use; `leave` is called once when it is not."""
        self._leave = leave
        if self._after_s > 0:
            self._core.janitor.later("rest when idle", self._look, self._after_s)

    def _look(self) -> None:
        with self._lock:
            busy = self._connections > 0 or any(container.active for container in self._core.registry)
            busy = busy or bool(self._core.images.layers.waiting())  # for the next pull, not for long
            quiet_s = time.monotonic() - self._quiet_since
        if busy or quiet_s < self._after_s:
            wait_s = self._after_s if busy else max(0.1, self._after_s - quiet_s)
            self._core.janitor.later("rest when idle", self._look, wait_s)
            return
        self.end(hold=self._foreign)

    def end(self, *, hold: bool) -> None:
        """End the server, and with it the keeper unless it is to `hold` the socket; containers run on."""
        networks.rest(self._core)
        # One that was just killed is being replaced, and the next would start another server: it is waited for.
        for _ in range(TRIES if self._core.listening is not None else 0):
            keeper = self._core.the_keeper()
            told = keeper.post(messages.Leave(hold=hold))
            told.wait_quietly(_ANSWER_S)
            if not told.broken:
                break
            self._core.the_keeper(keeper)  # killed before it had heard it: tell the next, too
        if self._leave is not None:
            self._leave()


def restart_server(core: Core) -> None:
    """Have the keeper execute a new server in this one's place."""
    core.the_keeper().post(messages.Restart()).wait_quietly(_ANSWER_S)
