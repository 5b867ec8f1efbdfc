"""The typed client of the engine's API."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

import sampan
from sampan import dirs
from sampan.client import start, wire
from sampan.client.containers import Containers
from sampan.client.images import Images
from sampan.client.networks import Networks
from sampan.client.secrets import Secrets
from sampan.client.volumes import Volumes
from sampan.errors import Failed, InvalidInput
from sampan.spec import docker
from sampan.units import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

T = TypeVar("T", bound=msgspec.Struct)

USER_AGENT = f"sampan/{sampan.__version__} (python)"


class Client:
    """A client of one instance, whose server is started if it does not run.

        with sampan.Client() as client:
            print(client.containers.run("host", ["echo", "hi"]).stdout)

    `root` chooses the instance, like SAMPAN_ROOT. `base_url` (`unix:///…/docker.sock`) names a socket instead, of
    whoever speaks Docker's API there; nothing is started then. A client may be shared by threads. Every method raises
    `sampan.errors.SampanError`.
    """

    def __init__(self, root: str | None = None, *, base_url: str | None = None) -> None:
        self._api = Api(root, base_url)
        self.containers = Containers(self._api)
        """Run, create, find and list containers."""
        self.images = Images(self._api)
        """Pull, load, import, find and list images."""
        self.networks = Networks(self._api)
        """Create, find and list networks."""
        self.volumes = Volumes(self._api)
        """Create, find and list volumes."""
        self.secrets = Secrets(self._api)
        """Create, find and list secrets."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Containers run on."""
        self._api.close()

    def ping(self) -> str:
        """Return the API version that the server speaks."""
        with self._api.exchange("GET", "/_ping") as answer:
            answer.read()
            return answer.headers.get("api-version", "")

    def info(self) -> docker.SystemInfo:
        """Return what `sampan info` tells."""
        return self._api.get(docker.SystemInfo, "/info")

    def version(self) -> docker.SystemVersion:
        """Return what `sampan version` tells of the server."""
        return self._api.get(docker.SystemVersion, "/version")

    def disk_usage(self, *kinds: str) -> docker.DiskUsage:
        """Return what takes how much room; only of some kinds: image, container, volume, build-cache."""
        return self._api.get(docker.DiskUsage, f"/system/df{wire.query(type=kinds)}")

    def prune_plan(
        self,
        kinds: Iterable[str] = (),
        *,
        all: bool = False,
        filters: Mapping[str, str | Iterable[str]] | None = None,
    ) -> docker.PrunePlan:
        """Return what prunes of these kinds (none: of all) would remove, and why the rest stays; sizes are in bytes.

        Kinds are "container", "network", "volume", "image" and "build-cache". `all`: also images that have a name, and
        cached steps whose layers images have. Raises InvalidInput for another kind or a filter that one has not.
        """
        asked = wire.query(kind=tuple(kinds), all=all, filters=filter_lists(filters))
        return self._api.get(docker.PrunePlan, f"/sampan/prune{asked}")

    def events(
        self,
        *,
        since: str | float | None = None,
        until: str | float | None = None,
        filters: Mapping[str, str | Iterable[str]] | None = None,
    ) -> Iterator[docker.EventMessage]:
        """Give events as they happen, for ever unless `until` is given. Close the iterator to stop.

        Times are seconds since 1970, or text as `--since` takes it: "10m", "2024-01-02T15:04:05Z".
        """
        query = wire.query(since=seconds(since), until=seconds(until), filters=filter_lists(filters))
        with self._api.exchange("GET", f"/events{query}") as answer:
            for line in answer.lines():
                if line.strip():
                    yield docker.decode_answer(docker.EventMessage, line)


class Api:
    """Connections to the server, used by one exchange at a time each and kept for the next."""

    def __init__(self, root: str | None, base_url: str | None) -> None:
        if base_url is not None and not base_url.startswith("unix://"):
            raise InvalidInput(f"can't connect to {base_url}: only unix:// sockets are spoken to")
        self._path = base_url.removeprefix("unix://") if base_url is not None else None
        self._dirs = dirs.find(root)
        self._idle: list[wire.Connection] = []
        self._lock = threading.Lock()

    def connection(self) -> wire.Connection:
        """Return an open connection of the caller's own, idle or new; starts the server where that is ours to do."""
        with self._lock:
            connection = (
                self._idle.pop() if self._idle else wire.Connection(self._path or self._dirs.socket, USER_AGENT)
            )
        try:
            connection.connect()
        except wire.Unreachable:
            if self._path is not None:
                raise
            start.start(self._dirs, connection)
        return connection

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[wire.Response]:
        """Send a request and give its answer, which is no error. The connection is kept if it was read to its end."""
        target = target if target == "/_ping" else f"/v{wire.API_VERSION}{target}"
        used: list[wire.Connection] = []

        def connect() -> wire.Connection:
            used.append(self.connection())
            return used[-1]

        answer = wire.ask(
            connect, lambda it: it.request(method, target, body, headers), harmless=method in ("GET", "HEAD")
        )
        connection = used[-1]
        try:
            answer.check()
            yield answer
            if answer.done:
                with self._lock:
                    self._idle.append(connection)
                return
        except BaseException:
            connection.close()
            raise
        connection.close()

    def hijack(self, target: str, body: bytes | None = None) -> wire.Hijacked:
        """Send a request after which the connection is a raw stream."""
        return self.connection().hijack("POST", f"/v{wire.API_VERSION}{target}", body)

    def get(self, type: type[T], target: str) -> T:
        """GET one object."""
        with self.exchange("GET", target) as answer:
            return docker.decode_answer(type, answer.read())

    def get_list(self, type: type[T], target: str) -> list[T]:
        """GET a list of objects."""
        with self.exchange("GET", target) as answer:
            data = answer.read()
        try:
            items = msgspec.json.decode(data, type=list[msgspec.Raw] | None)
        except msgspec.DecodeError as e:
            raise Failed(f"can't read the server's answer: {e}") from e
        return [docker.decode_answer(type, bytes(item)) for item in items or ()]

    def ask(self, type: type[T], target: str) -> T:
        """POST and return the object that is answered."""
        return docker.decode_answer(type, self.post(target))

    def post(self, target: str, body: msgspec.Struct | None = None, method: str = "POST") -> bytes:
        """POST (or DELETE) and return the answer's body."""
        data = msgspec.json.encode(body) if body is not None else None
        with self.exchange(method, target, data) as answer:
            return answer.read()

    def progress(
        self, target: str, body: Iterable[bytes] | None, report: Any, headers: Mapping[str, str] | None = None
    ) -> list[docker.ProgressMessage]:
        """POST what answers in lines of progress; `report` is called with each. Raises the error that a line tells."""
        messages = []
        with self.exchange("POST", target, body, headers) as answer:
            for line in answer.lines():
                if not line.strip():
                    continue
                message = docker.decode_answer(docker.ProgressMessage, line)
                if message.error or message.error_detail:
                    detail = message.error_detail or docker.ErrorDetail(message=message.error)
                    raise Failed(detail.message, detail.hint)
                messages.append(message)
                if report is not None:
                    report(message)
        return messages


def filter_lists(filters: Mapping[str, str | Iterable[str]] | None) -> dict[str, list[str]] | None:
    """Return filters in the API's form: a list for each name."""
    if not filters:
        return None
    return {name: [value] if isinstance(value, str) else list(value) for name, value in filters.items()}


def seconds(moment: str | float | None) -> str | None:
    """Return a moment in the API's form: seconds since 1970, with decimals."""
    if moment is None:
        return None
    if not isinstance(moment, str):
        return f"{moment:.9f}"
    import time

    ns = parse_time(moment, time.time_ns())
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09d}"
