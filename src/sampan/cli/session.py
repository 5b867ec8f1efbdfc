"""The connection to the engine that a command uses: which instance, the requests, the errors that it answers."""

from __future__ import annotations

import os

from sampan.cli.failure import Failure, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from sampan.client.wire import Connection, Hijacked, Response
    from sampan.dirs import Dirs

_GREATEST = (1, 50)


class ServerError(Failure):
    """The engine refused: Docker's words first, since scripts look for them; then its hint.

    `exit_status` is what `run` ends with; 0 if the engine, another one, does not say.
    """

    def __init__(self, message: str, hint: str, status: int, exit_status: int) -> None:
        super().__init__(f"Error response from daemon: {message}", hint)
        self.text = message
        self.http_status = status
        self.exit_status = exit_status


class Session:
    """Global options, and the connection, which is made when it is first needed."""

    def __init__(self, *, root: str | None = None, host: str | None = None, config: str | None = None) -> None:
        self.root = root
        self.host = host
        self._dirs: Dirs | None = None
        self._config_directory = config
        self._config: dict[str, Any] | None = None
        self._connection: Connection | None = None
        self.prefix = ""
        self._opened: list[Connection] = []

    @property
    def dirs(self) -> Dirs:
        """The directories of this command's instance."""
        if self._dirs is None:
            from sampan.dirs import find

            self._dirs = find(self.root)
        return self._dirs

    @property
    def socket(self) -> str:
        """The path of the API's socket: --host, --root, SAMPAN_ROOT, DOCKER_HOST, the default, in this order."""
        host = self.host
        if host is None and not self.root and not os.environ.get("SAMPAN_ROOT"):
            host = os.environ.get("DOCKER_HOST") or None
        if host is None:
            return self.dirs.socket
        if not host.startswith(("unix://", "/")):
            raise Unavailable(f"{host} is unsupported as a host", "name a socket: unix:///run/sampan/docker.sock")
        return host.removeprefix("unix://")

    def connect(self) -> Connection:
        """Return one more connection to the engine, which is started if it is ours and does not run."""
        from sampan.client import wire

        path = self.socket
        ours = path == self.dirs.socket
        connection = wire.Connection(path)
        self._opened.append(connection)
        try:
            connection.connect()
        except wire.Unreachable:
            if ours:
                from sampan.client import start

                start.start(self.dirs, connection)
                return self._as_ours(connection)
            raise Failure(
                f"Cannot connect to the Docker daemon at unix://{path}. Is the docker daemon running?",
                "leave --host and DOCKER_HOST out: sampan starts its own engine where none runs",
            ) from None
        if ours:
            return self._as_ours(connection)
        if not self.prefix:
            self.prefix = _negotiate(connection)
        return connection

    def _as_ours(self, connection: Connection) -> Connection:
        """Our own engine speaks our version: there is nothing to negotiate."""
        from sampan.client.wire import API_VERSION

        self.prefix = self.prefix or f"/v{API_VERSION}"
        return connection

    def close(self) -> None:
        """Close every connection that was opened."""
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self._connection = None

    def ask(self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None) -> Response:
        """Send a request on the session's own connection and return the answer, or raise ServerError.

        A question that changes nothing is asked again when the server goes away in the middle: another one comes up.
        """
        from sampan.client import wire

        def connect() -> Connection:
            kept, self._connection = self._connection, None
            return kept or self.connect()

        def send(connection: Connection) -> Response:
            answer = request(connection, method, self.prefix + target, body, headers)
            self._connection = connection
            return answer

        return checked(wire.ask(connect, send, harmless=method in ("GET", "HEAD")))

    def open(self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None) -> Response:
        """Like `ask`, on a connection of its own: for answers that are read beside other requests."""
        from sampan.client import wire

        def send(connection: Connection) -> Response:
            return request(connection, method, self.prefix + target, body, headers)

        return checked(wire.ask(self.connect, send, harmless=method in ("GET", "HEAD") or _only_waits(target)))

    def hijack(self, target: str, body: object = None) -> Hijacked:
        """Send a request after which the connection is a raw stream."""
        from sampan.client import wire
        from sampan.client.jsontext import dumps
        from sampan.errors import SampanError

        connection = self.connect()
        data = None if body is None else dumps(body).encode("utf-8", "surrogateescape")
        try:
            return connection.hijack("POST", self.prefix + target, data)
        except (wire.ConnectionLost, wire.Unreachable):
            raise
        except SampanError as e:
            raise ServerError(e.message, e.hint, e.http_status, e.exit_status) from None

    @property
    def config_directory(self) -> str:
        """Where Docker's client keeps its configuration: --config, DOCKER_CONFIG, ~/.docker."""
        return self._config_directory or os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")

    def config(self) -> dict[str, Any]:
        """Return config.json, empty where there is none: detachKeys, psFormat, auths …"""
        if self._config is None:
            from sampan.client.jsontext import loads

            try:
                with open(f"{self.config_directory}/config.json", "rb") as f:
                    value = loads(f.read())
                self._config = value if isinstance(value, dict) else {}
            except (OSError, ValueError):
                self._config = {}
        return self._config


def request(connection: Connection, method: str, target: str, body: object, headers: dict[str, str] | None) -> Response:
    """Send a request; a body that is neither bytes nor pieces becomes JSON."""
    if body is None or isinstance(body, bytes):
        return connection.request(method, target, body, headers)
    if isinstance(body, (dict, list)):
        from sampan.client.jsontext import dumps

        return connection.request(method, target, dumps(body).encode("utf-8", "surrogateescape"), headers)
    pieces: Iterable[bytes] = body  # type: ignore[assignment]
    return connection.request(method, target, pieces, headers)


def checked(answer: Response) -> Response:
    """Return the answer, or raise what it refuses."""
    if answer.status < 400:
        return answer
    from sampan.client.wire import error_of

    body = answer.read()
    error = error_of(answer.status, body)
    raise ServerError(error.message, error.hint, answer.status, error.exit_status if b'"kind"' in body else 0)


def _negotiate(connection: Connection) -> str:
    """Return the prefix of the greatest version that both sides speak; another engine may be older than we are."""
    version = connection.request("HEAD", "/_ping").headers.get("api-version", "1.24")
    theirs = tuple(int(part) for part in version.split(".") if part.isdecimal())
    major, minor = min(theirs, _GREATEST) if len(theirs) == 2 else _GREATEST
    return f"/v{major}.{minor}"


def _only_waits(target: str) -> bool:
    """Tell whether a request may be made again although it is a POST: it waits for what then still is so."""
    path, _, parameters = target.partition("?")
    return path.endswith("/wait") and "next-exit" not in parameters
