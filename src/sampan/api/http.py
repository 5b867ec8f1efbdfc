"""What the Engine API's connections have beyond HTTP: the version in every answer, and hijacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.http11.channel import Channel, Patience

if TYPE_CHECKING:
    import socket

PATIENCE = Patience(idle_s=300, head_s=300, body_s=300, send_s=60)


class ApiChannel(Channel):
    """A connection of the API's. `identity` is the header line that says who answers."""

    def __init__(self, client: socket.socket, identity: str) -> None:
        super().__init__(client, identity, PATIENCE)
        self._identity = identity

    def for_version(self, version: str) -> None:
        """Say `version` in the answers to this request."""
        self._preamble = f"Api-Version: {version}\r\nDocker-Experimental: false\r\nOstype: linux\r\n{self._identity}"

    def upgrade(self, content_type: str) -> tuple[socket.socket, bytes]:
        """Answer a hijack: the connection, and what was read of it past the request, are the caller's."""
        assert self._request is not None
        upgraded = "upgrade" in self._request.headers
        start = "HTTP/1.1 101 UPGRADED\r\n" if upgraded else "HTTP/1.1 200 OK\r\n"
        head = f"{start}Content-Type: {content_type}\r\n"
        if upgraded:
            head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        return self.give_away(head)

    def give_away(self, head: str) -> tuple[socket.socket, bytes]:
        """Answer with a head of which the last lines are ours; return what `upgrade` does."""
        self.body()  # at most an exec's options
        self.answered = self._closing = True
        self._send(f"{head}{self._preamble}\r\n".encode("latin-1", "replace"))
        self._wait_at_most(0, 0)  # it would stay on the socket, whoever has it
        return self.client, self._body.rest
