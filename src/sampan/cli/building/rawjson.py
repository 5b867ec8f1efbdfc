"""Progress of a build for programs: BuildKit's solve status, a JSON object a line; moby/buildkit, client/graph.go."""

from __future__ import annotations

import binascii
import time

from sampan.cli.building.trace import warning_text
from sampan.cli.output import write_all
from sampan.client.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.building.trace import Event, Trace, Vertex

    Json = dict[str, Any]


class RawJson:
    """Writes a status for each event."""

    def __init__(self, trace: Trace, stream: int = 2) -> None:
        self.trace = trace
        self._stream = stream
        self._ahead = time.time() - trace.now()

    def start(self) -> None:
        """Nothing is shown by itself."""

    def take(self, event: Event) -> None:
        """Show one event."""
        vertex = self.trace.take(event)
        status = self._status(vertex, event) if vertex is not None else {}
        if vertex is None and event["event"] == "Warned":
            status = {"warnings": [_warning(event, "")]}
        if status:
            write_all(self._stream, f"{dumps(status)}\n".encode("utf-8", "surrogateescape"))

    def finish(self) -> None:
        """Nothing is left open."""

    def _status(self, vertex: Vertex, event: Event) -> Json:
        match event["event"]:
            case "StepOutput":
                stream = 2 if event["stream"] == "stderr" else 1
                log = {"vertex": _digest(vertex), "stream": stream, "data": event["data"]}
                return {"logs": [{**log, "timestamp": self._moment(self.trace.now())}]}
            case "Transfer":
                return {"statuses": [self._transfer(vertex, event["what"])]}
            case "Warned":
                return {"warnings": [_warning(event, _digest(vertex))]}
            case "Built":
                statuses = [self._transfer(vertex, name) for name in vertex.statuses]
                return {"vertexes": [self._vertex(vertex)], "statuses": statuses}
            case _:
                return {"vertexes": [self._vertex(vertex)]}

    def _vertex(self, vertex: Vertex) -> Json:
        told: Json = {"digest": _digest(vertex), "name": vertex.name, "started": self._moment(vertex.began)}
        if vertex.ended is not None:
            told["completed"] = self._moment(vertex.ended)
        if vertex.cached:
            told["cached"] = True
        if vertex.error:
            told["error"] = vertex.error
        return told

    def _transfer(self, vertex: Vertex, name: str) -> Json:
        status = vertex.statuses[name]
        told: Json = {"id": status.name, "vertex": _digest(vertex)}
        if status.total:
            told["total"] = status.total
        told |= {"current": status.current, "timestamp": self._moment(self.trace.now())}
        told["started"] = self._moment(status.began)
        if status.ended is not None:
            told["completed"] = self._moment(status.ended)
        return told

    def _moment(self, at: float) -> str:
        """Return a time of the trace's clock in RFC 3339."""
        whole, fraction = divmod(int((at + self._ahead) * 1_000_000), 1_000_000)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{fraction:06}Z"


def _warning(event: Event, digest: str) -> Json:
    told: Json = {"vertex": digest, "level": 1, "short": _encoded(warning_text(event))}
    if event.get("description"):
        told["detail"] = [_encoded(event["description"])]
    if event.get("url"):
        told["url"] = event["url"]
    location = event.get("location")
    if location:
        told["range"] = [{"start": {"line": location["line"]}, "end": {"line": location["end_line"]}}]
    return told


def _encoded(text: str) -> str:
    return binascii.b2a_base64(text.encode(), newline=False).decode()


def _digest(vertex: Vertex) -> str:
    """Return what tells the vertices apart. It is no cache key."""
    if not vertex.digest:
        import hashlib

        vertex.digest = f"sha256:{hashlib.sha256(f'{vertex.index} {vertex.name}'.encode()).hexdigest()}"
    return vertex.digest
