"""The paths of the API: a table of method, path and handler, and the way from a request to its row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from sampan.api import (
    archive,
    build,
    containers,
    images,
    lists,
    moving,
    networks,
    prunes,
    secrets,
    stats,
    system,
    volumes,
)
from sampan.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.api.call import Call


class Route(NamedTuple):
    """`{id}` in a path is one segment, `{name}` any number of them: a repository's name has slashes."""

    method: str
    path: str
    handler: Callable[[Call], None]


ROUTES = (
    Route("GET", "/_ping", system.ping),
    Route("HEAD", "/_ping", system.ping),
    Route("GET", "/version", system.version),
    Route("GET", "/info", system.info),
    Route("GET", "/events", system.events),
    Route("GET", "/system/df", system.disk_usage),
    Route("POST", "/auth", images.check_auth),
    Route("GET", "/containers/json", containers.list_containers),
    Route("POST", "/containers/create", containers.create),
    Route("GET", "/containers/{id}/json", containers.inspect),
    Route("GET", "/containers/{id}/top", containers.top),
    Route("GET", "/containers/{id}/logs", containers.logs),
    Route("GET", "/containers/{id}/changes", containers.changes),
    Route("GET", "/containers/{id}/export", containers.export),
    Route("POST", "/commit", containers.commit),
    Route("POST", "/containers/{id}/start", containers.start),
    Route("POST", "/containers/{id}/stop", containers.stop),
    Route("POST", "/containers/{id}/restart", containers.restart),
    Route("POST", "/containers/{id}/kill", containers.kill),
    Route("POST", "/containers/{id}/pause", containers.pause),
    Route("POST", "/containers/{id}/unpause", containers.unpause),
    Route("POST", "/containers/{id}/rename", containers.rename),
    Route("POST", "/containers/{id}/wait", containers.wait),
    Route("POST", "/containers/{id}/attach", containers.attach),
    Route("GET", "/containers/{id}/attach/ws", containers.attach_websocket),
    Route("POST", "/containers/{id}/resize", containers.resize),
    Route("POST", "/containers/{id}/exec", containers.exec_create),
    Route("DELETE", "/containers/{id}", containers.remove),
    Route("DELETE", "/containers/{id}/{name}", containers.remove),
    Route("POST", "/exec/{id}/start", containers.exec_start),
    Route("POST", "/exec/{id}/resize", containers.exec_resize),
    Route("GET", "/exec/{id}/json", containers.exec_inspect),
    Route("GET", "/images/json", images.list_images),
    Route("POST", "/images/create", images.create),
    Route("POST", "/images/load", images.load),
    Route("GET", "/images/get", moving.save),
    Route("GET", "/images/{name}/get", moving.save),
    Route("POST", "/images/{name}/push", moving.push),
    Route("GET", "/images/{name}/json", images.inspect),
    Route("GET", "/images/{name}/history", images.history),
    Route("POST", "/images/{name}/tag", images.tag),
    Route("DELETE", "/images/{name}", images.remove),
    Route("POST", "/containers/prune", prunes.containers),
    Route("POST", "/images/prune", prunes.images),
    Route("POST", "/volumes/prune", prunes.volumes),
    Route("POST", "/networks/prune", prunes.networks),
    Route("POST", "/build", build.classic),
    Route("POST", "/build/cancel", build.cancel),
    Route("POST", "/build/prune", prunes.build_cache),
    Route("GET", "/networks", networks.list_networks),
    Route("GET", "/networks/{id}", networks.inspect),
    Route("DELETE", "/networks/{id}", networks.remove),
    Route("POST", "/networks/create", networks.create),
    Route("POST", "/networks/{id}/connect", networks.connect),
    Route("POST", "/networks/{id}/disconnect", networks.disconnect),
    Route("GET", "/volumes", volumes.list_volumes),
    Route("POST", "/volumes/create", volumes.create),
    Route("GET", "/volumes/{id}", volumes.inspect),
    Route("PUT", "/volumes/{id}", volumes.update),
    Route("DELETE", "/volumes/{id}", volumes.remove),
    Route("GET", "/secrets", secrets.list_secrets),
    Route("POST", "/secrets/create", secrets.create),
    Route("GET", "/secrets/{id}", secrets.inspect),
    Route("DELETE", "/secrets/{id}", secrets.remove),
    Route("GET", "/distribution/{name}/json", moving.distribution),
    Route("GET", "/sampan/info", system.info),
    Route("POST", "/sampan/build", build.build),
    Route("POST", "/sampan/copy", moving.copy),
    Route("POST", "/sampan/lists", lists.create),
    Route("GET", "/sampan/lists/{name}", lists.inspect),
    Route("HEAD", "/sampan/lists/{name}", lists.exists),
    Route("DELETE", "/sampan/lists/{name}", lists.delete),
    Route("POST", "/sampan/lists/{name}/add", lists.add),
    Route("POST", "/sampan/lists/{name}/annotate", lists.annotate),
    Route("POST", "/sampan/lists/{name}/remove", lists.remove),
    Route("POST", "/sampan/lists/{name}/push", lists.push),
    Route("GET", "/sampan/remote", moving.inspect),
    Route("DELETE", "/sampan/remote", moving.delete),
    Route("GET", "/sampan/remote/tags", moving.list_tags),
    Route("POST", "/sampan/stop", system.stop),
    Route("POST", "/sampan/reset", system.reset),
    Route("GET", "/sampan/doctor", system.doctor),
    Route("GET", "/sampan/prune", prunes.plan),
    Route("GET", "/sampan/networks/audit", system.network_audit),
    Route("GET", "/sampan/images/tree", images.tree),
    Route("GET", "/sampan/images/{name}/map", images.image_map),
    Route("GET", "/sampan/images/plan", images.plan_pull),
    Route("POST", "/sampan/images/{name}/untag", images.untag),
    Route("POST", "/sampan/commit", containers.commit_more),
    Route("GET", "/sampan/containers/{id}/logs", containers.logs_gathered),
    Route("POST", "/sampan/containers/{id}/explain", containers.explain),
    Route("GET", "/sampan/containers/{id}/why", containers.why),
    Route("POST", "/sampan/containers/{id}/start", containers.start_explained),
    Route("POST", "/sampan/containers/{id}/ports", containers.update_ports),
    Route("POST", "/sampan/containers/{id}/healthcheck", containers.update_health),
    Route("POST", "/sampan/containers/{id}/healthcheck/run", containers.check_health),
    Route("POST", "/containers/{id}/update", containers.update),
    Route("GET", "/containers/{id}/stats", stats.one),
    Route("HEAD", "/containers/{id}/archive", archive.stat_path),
    Route("GET", "/containers/{id}/archive", archive.read_path),
    Route("PUT", "/containers/{id}/archive", archive.write_path),
    Route("GET", "/sampan/stats", stats.several),
    Route("POST", "/sampan/exec/{id}/explain", containers.exec_explain),
    Route("POST", "/sampan/descriptors", containers.lend),
)
"""What is built."""

_NOT_BUILT = """
GET /images/search
POST /session
POST /grpc
POST /secrets/{id}/update
"""

UNSUPPORTED = tuple(
    Route(method, path, system.unsupported)
    for method, path in (line.split() for line in _NOT_BUILT.strip().splitlines())
)
"""What Docker's API has beside that. Swarm's paths and plugins are no part of this engine: they are not found."""


class _Pattern(NamedTuple):
    match: re.Pattern[str]
    methods: dict[str, Callable[[Call], None]]


def _compile() -> dict[str, list[_Pattern]]:
    """Group the table by the first segment; fixed paths before those with variables, the fewer the sooner."""
    by_path: dict[str, dict[str, Callable[[Call], None]]] = {}
    for route in ROUTES + UNSUPPORTED:
        by_path.setdefault(route.path, {})[route.method] = route.handler
    groups: dict[str, list[_Pattern]] = {}
    for path in sorted(by_path, key=lambda p: (p.count("{name}"), p.count("{"), -len(p))):
        pattern = re.escape(path).replace(r"\{id\}", "(?P<id>[^/]+)").replace(r"\{name\}", "(?P<name>.+)")
        groups.setdefault(path.split("/")[1], []).append(_Pattern(re.compile(pattern), by_path[path]))
    return groups


_GROUPS = _compile()
_VERSION = re.compile(r"/v([0-9.]+)(/.*)")


def split_version(path: str) -> tuple[str, str]:
    """Return the version that a path begins with, "" for none, and the rest of the path."""
    match = _VERSION.fullmatch(path)
    return (match[1], match[2]) if match else ("", path)


def find(method: str, path: str) -> tuple[Callable[[Call], None], dict[str, str]]:
    """Return the handler of a path without its version, and the path's variables, decoded.

    As by dockerd, a path that has other methods only is not found either.
    """
    for pattern in _GROUPS.get(path.split("/", 2)[1] if path.startswith("/") else "", ()):
        match = pattern.match.fullmatch(path)
        handler = pattern.methods.get(method)
        if match and handler:
            return handler, {name: _variable(text) for name, text in match.groupdict().items()}
    raise NotFound("page not found")


def _variable(text: str) -> str:
    """Decode a path's variable: what can't be any object's name is refused before anything looks for it."""
    value = unquote(text, errors="surrogateescape")
    if len(value) > 512 or not value.isprintable() or ".." in value.split("/"):
        raise InvalidInput(f"invalid name in the path: {value[:60]!r}", "no object can have it")
    return value
