"""The state of one shim's container: in memory as it is, in its file as soon as the disk takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.supervise import state as facts

if TYPE_CHECKING:
    from sampan.supervise.loop import Loop

_WRITE_AGAIN_S = 0.5


class Record:
    """What is known of the container. `directory_fd` is the shim's directory."""

    def __init__(self, loop: Loop, directory_fd: int) -> None:
        self._loop = loop
        self._directory_fd = directory_fd
        self._state: facts.State | None = None
        self._written = b""
        self._unwritten = False

    @property
    def state(self) -> facts.State:
        """Return what is known. It is decoded when somebody wants to know."""
        if self._state is None:
            self._state = facts.decode(self._written)
        return self._state

    def take(self, written: bytes) -> None:
        """Go on with what the launcher has written down."""
        self._written = written

    def adopt(self, state: facts.State) -> None:
        """Go on with what a killed shim had written down; the next `change` says so in the file."""
        self._state = state

    def change(self, **fields: object) -> None:
        """Change what is known, and write it down."""
        self._state = msgspec.structs.replace(self.state, **fields)
        self._write_down()

    def _write_down(self) -> None:
        """On a full disk: later. What is known is told all the same, and only a killed shim's successor needs it."""
        try:
            facts.write(self._directory_fd, self.state)
        except OSError:
            if not self._unwritten:
                self._loop.call_later(_WRITE_AGAIN_S, self._write_again)
            self._unwritten = True
        else:
            self._unwritten = False

    def _write_again(self) -> None:
        if self._unwritten:
            self._unwritten = False
            self._write_down()
