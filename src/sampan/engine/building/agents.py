"""RUN --mount=type=ssh: a socket of the step's own, behind which the client's agent answers.

The agent's socket itself would keep its owner and mode, and be there after the step.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import suppress
from typing import Self

from sampan.errors import Failed

_PIECE = 1 << 16


class AgentProxy:
    """Listens at `path` in a `with`; who connects talks to the agent at `agent`."""

    def __init__(self, path: str, agent: str, *, owner: tuple[int, int], mode: int) -> None:
        self._path = path
        self._agent = agent
        self._owner = owner
        self._mode = mode
        self._listening = socket.socket(socket.AF_UNIX)
        self._stopping, self._stop = os.pipe2(os.O_CLOEXEC)

    def __enter__(self) -> Self:
        probe = socket.socket(socket.AF_UNIX)
        try:
            probe.connect(self._agent)
        except OSError as e:
            self._close()
            why = (e.strerror or str(e)).lower()
            raise Failed(f"can't reach the SSH agent {self._agent}: {why}", "is it running? ssh-add -l") from e
        finally:
            probe.close()
        self._listening.bind(self._path)
        os.chown(self._path, *self._owner)
        os.chmod(self._path, self._mode)
        self._listening.listen()
        threading.Thread(target=self._accept, name="ssh agent", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stop)  # which ends the threads: they see the end of the pipe
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _accept(self) -> None:
        listening = self._listening.fileno()
        while self._stopping not in select.select([listening, self._stopping], [], [])[0]:
            with suppress(OSError):
                client, _ = self._listening.accept()
                stopping = os.dup(self._stopping)  # the thread's own: it may live longer
                threading.Thread(target=self._relay, args=(client, stopping), name="ssh agent", daemon=True).start()
        self._listening.close()
        os.close(self._stopping)

    def _relay(self, client: socket.socket, stopping: int) -> None:
        with client, socket.socket(socket.AF_UNIX) as agent, suppress(OSError):
            agent.connect(self._agent)
            others = {client.fileno(): (client, agent), agent.fileno(): (agent, client)}
            while stopping not in (ready := select.select([*others, stopping], [], [])[0]):
                if not all(_pass_on(*others[fd]) for fd in ready):
                    break
        os.close(stopping)

    def _close(self) -> None:
        self._listening.close()
        os.close(self._stopping)
        os.close(self._stop)


def _pass_on(source: socket.socket, target: socket.socket) -> bool:
    """Pass on what has come; False at the end."""
    data = source.recv(_PIECE)
    target.sendall(data)
    return bool(data)
