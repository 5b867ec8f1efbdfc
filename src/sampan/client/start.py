"""Find an instance's server, and start it where there is none: nothing has to be set up before the first command.

The client starts the keeper only; the keeper opens the socket first of all and starts the server behind it, so the
first request waits in the socket's queue instead of being refused. On the command line's hot path: imports nothing.
"""

from __future__ import annotations

import os
import sys
import time

from sampan.client.wire import Connection, ConnectionLost, Unreachable
from sampan.errors import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.dirs import Dirs

PATIENCE_S = 30.0
"""How long a keeper may take to open its socket. It takes a tenth of a second on an idle machine."""

_POLL_S = 0.003
_AGAIN_S = 1.0


def connect(dirs: Dirs, user_agent: str = "sampan") -> Connection:
    """Return a connection to the instance's server, having started it if nobody listens.

    Raises NotPermitted or Failed with what the keeper said.
    """
    connection = Connection(dirs.socket, user_agent)
    try:
        connection.connect()
    except Unreachable:
        start(dirs, connection)
    return connection


def start(dirs: Dirs, connection: Connection) -> None:
    """Start the keeper and wait until a server answers `connection`.

    Several clients may do so at once: one keeper gets the lock and the others end with status 0. If the one that had
    it was just ending, nobody listens after all, so a further one is started.
    """
    deadline = time.monotonic() + PATIENCE_S
    said = os.memfd_create("keeper-stderr")
    try:
        keeper = _Keeper(dirs, said)
        while True:
            try:
                # The keeper listens before it does anything that may fail, so only an answer says that it is there.
                connection.request("GET", "/_ping").read()
                return
            except (Unreachable, ConnectionLost):
                connection.close()
                keeper.check(said)
            if time.monotonic() > deadline:
                raise Failed(
                    f"can't start the server: nobody listens on {dirs.socket} after {PATIENCE_S:.0f} s",
                    f"look at {dirs.keeper_log}",
                )
            time.sleep(_POLL_S)
            if keeper.ended_for(_AGAIN_S):
                keeper = _Keeper(dirs, said)
    finally:
        os.close(said)


class _Keeper:
    """The keeper process that this client started. It leads a session of its own and outlives us."""

    def __init__(self, dirs: Dirs, stderr: int) -> None:
        self._dirs = dirs
        self._ended: float | None = None
        null = "/dev/null"
        self._pid = os.posix_spawn(
            sys.executable,
            # -P: no module is taken from the directory that the user happens to be in
            [sys.executable, "-P", "-m", "sampan.supervise.origin", "--root", dirs.root],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=range(1, 32),
        )

    def check(self, stderr: int) -> None:
        """Raise what the keeper said if it has failed."""
        if self._ended is not None:
            return
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return
        self._ended = time.monotonic()
        if status == 0:
            return
        lines = os.pread(stderr, 65536, 0).decode(errors="replace").strip().splitlines()
        message, hint = (lines or [f"it ended with status {os.waitstatus_to_exitcode(status)}"]), ""
        if len(lines) > 1 and lines[-1].strip().startswith("hint:"):
            hint = lines[-1].strip().removeprefix("hint:").strip()
            message = lines[:-1]
        text = message[-1].removeprefix("sampan: ")
        raise Failed(
            text if text.startswith("can't start") else f"can't start the server: {text}",
            hint or f"look at {self._dirs.keeper_log}",
        )

    def ended_for(self, seconds: float) -> bool:
        """Tell whether it ended well (another one had the lock) as long ago as that."""
        return self._ended is not None and time.monotonic() - self._ended > seconds
