"""`ps`: containers as lines, filtered as Docker does it. Reads memory only, unless sizes are asked for."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from sampan.engine.filtering import has_label, search
from sampan.engine.network_settings import networks, published
from sampan.engine.port_bindings import in_range, summaries
from sampan.errors import InvalidInput, NotFound, SampanError
from sampan.image import lineage
from sampan.spec.docker import ContainerSummary, SummaryHostConfig, SummaryNetworkSettings
from sampan.spec.state import State, Status
from sampan.units import format_ago, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.engine.requests import Filters

_FILTERS = frozenset({
    "ancestor", "before", "command", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name",
    "label!", "network", "publish", "restart-policy", "since", "status", "until", "volume",
})  # fmt: skip
_STATUSES = frozenset(status.value for status in Status)


def containers(core: Core, *, all: bool, limit: int, size: bool, filters: Filters) -> list[ContainerSummary]:
    """Return the newest first. A filter by status, exit code, or another container's age looks at stopped ones too."""
    _check(filters)
    found = sorted(core.registry, key=lambda container: container.created_ns, reverse=True)
    everyone = all or limit > 0 or bool(filters.keys() & {"status", "exited", "before", "since"})
    tests = _tests(core, filters)
    result = []
    for container in found:
        if (everyone or container.active) and not container.removed and _passes(container, tests):
            result.append(summary(core, container, size=size))
            if limit and len(result) == limit:
                break
    return result


def summary(core: Core, container: Container, *, size: bool = False) -> ContainerSummary:
    """Return one line."""
    from sampan.engine.inspecting import mount_points

    body = container.body
    state = container.state
    mode = body.host_config.network_mode
    return ContainerSummary(
        id=container.id,
        names=(f"/{container.name}",),
        image=_image_name(core, container),
        image_id=container.image_id,
        command=command_line((*(body.entrypoint or ()), *(body.cmd or ()))),
        created=container.created_ns // 10**9,
        labels=body.labels or {},
        state=state.status.value,
        status=status_text(state),
        host_config=SummaryHostConfig(network_mode=mode, annotations=body.host_config.annotations),
        network_settings=SummaryNetworkSettings(networks=networks(core, container)),
        ports=summaries(published(container)),
        mounts=mount_points(container),
        size_rw=core.snapshots.usage(container.id) if size else 0,
        size_root_fs=_image_size(core, container) if size else 0,
    )


def _image_name(core: Core, container: Container) -> str:
    """Return the name that it was made by; the image's id if that name leads elsewhere by now."""
    if not container.image_id:
        return ""
    try:
        found = core.images.resolve(container.image_name).id
    except SampanError:
        found = ""
    return container.image_name if found == container.image_id else container.image_id


def _image_size(core: Core, container: Container) -> int:
    try:
        image = core.images.resolve(container.image_id).size if container.image_id else 0
    except NotFound:
        image = 0
    return image + core.snapshots.usage(container.id)


def command_line(args: tuple[str, ...]) -> str:
    """Join as Docker does: a word with a space in single quotes."""
    return " ".join(f"'{arg}'" if " " in arg else arg for arg in args)


def status_text(state: State, now_ns: int | None = None) -> str:
    """Return the STATUS column: "Up 3 minutes (Paused)", "Exited (0) 5 seconds ago", "Created"."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    if state.status is Status.RUNNING:
        return f"Up {format_ago((now_ns - state.started_at_ns) / 1e9)}{_health(state)}"
    if state.status is Status.PAUSED:
        return f"Up {format_ago((now_ns - state.started_at_ns) / 1e9)} (Paused)"
    if state.status in (Status.EXITED, Status.RESTARTING):
        ago = format_ago((now_ns - state.finished_at_ns) / 1e9)
        return f"{state.status.value.capitalize()} ({state.exit_code}) {ago} ago"
    if state.status is Status.REMOVING:
        return "Removal In Progress"
    return state.status.value.capitalize()


def _health(state: State) -> str:
    if state.health is None:
        return ""
    return f" (health: {state.health.status})" if state.health.status == "starting" else f" ({state.health.status})"


# ------------------------------------------------------------------------------------------------------- filters


def _check(filters: Filters) -> None:
    for name in filters:
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter '{name}'", f"there are {', '.join(sorted(_FILTERS))}")
    for value in filters.get("status", ()):
        if value not in _STATUSES:
            raise InvalidInput(f"invalid filter 'status={value}'", f"it is one of {', '.join(sorted(_STATUSES))}")
    for value in filters.get("exited", ()):
        if not re.fullmatch(r"-?\d{1,9}", value):
            raise InvalidInput(f"invalid filter 'exited={value}'", "it is a number")
    for value in filters.get("health", ()):
        if value not in ("none", "starting", "healthy", "unhealthy"):
            raise InvalidInput(f"invalid filter 'health={value}'")
    for name in ("expose", "publish"):
        for value in filters.get(name, ()):
            in_range(value, (), name)
    for value in filters.get("is-task", ()):
        if value not in ("true", "false"):
            raise InvalidInput(f"invalid filter 'is-task={value}'", "it is true or false")


def _tests(core: Core, filters: Filters) -> list[tuple[bool, list[Callable[[Container], bool]]]]:
    """Return for each filter whether all of its values must hold, and a test for each value."""
    result = []
    for name, values in filters.items():
        result.append((name in ("label", "label!"), [_test(core, name, value) for value in values]))
    return result


def _passes(container: Container, tests: list[tuple[bool, list[Callable[[Container], bool]]]]) -> bool:
    for every, alternatives in tests:
        results = (test(container) for test in alternatives)
        if alternatives and not (all(results) if every else any(results)):
            return False
    return True


def _test(core: Core, name: str, value: str) -> Callable[[Container], bool]:
    match name:
        case "id":
            return lambda c: c.id.startswith(value) or bool(search(value, c.id))
        case "name":
            return lambda c: bool(search(value, c.name) or search(value, f"/{c.name}"))
        case "label":
            return lambda c: has_label(c.body.labels or {}, value)
        case "label!":
            return lambda c: not has_label(c.body.labels or {}, value)
        case "command":
            return lambda c: bool(search(value, command_line((*(c.body.entrypoint or ()), *(c.body.cmd or ())))))
        case "restart-policy":
            return lambda c: (c.body.host_config.restart_policy.name or "no") == value
        case "until":
            latest = parse_time(value, time.time_ns())
            return lambda c: c.created_ns < latest
        case "status":
            return lambda c: c.state.status.value == value
        case "exited":
            return lambda c: c.state.status is Status.EXITED and c.state.exit_code == int(value)
        case "ancestor":
            return _ancestor(core, value)
        case "before" | "since":
            other = core.registry.find(value).created_ns
            return lambda c: c.created_ns < other if name == "before" else c.created_ns > other
        case "volume":
            return lambda c: any(value in (m.name, m.target, m.source) for m in c.mounts)
        case "network":
            return _on_network(core, value)
        case "health":
            return lambda c: value == (c.state.health.status if c.state.health else "none")
        case "is-task":
            return lambda _: value == "false"
        case "isolation":
            return lambda _: True  # Linux has one kind, and Docker does not look there
        case "expose":
            return lambda c: in_range(value, [(p.private_port, p.type) for p in summaries(published(c))], name)
        case _:  # publish
            return lambda c: in_range(value, [(p.host_port, p.protocol) for p in c.state.ports], name)


def _on_network(core: Core, ref: str) -> Callable[[Container], bool]:
    """Tell who is, or will be, on a network that is named by its name, its id, or that one's beginning."""
    try:
        ids = {core.networks.find(ref).id}
    except (NotFound, InvalidInput):
        ids = set()
    return lambda c: any(ref == name or s.network_id in ids for name, s in networks(core, c).items())


def _ancestor(core: Core, name: str) -> Callable[[Container], bool]:
    """An image by name or id; that of an image made of it, or with more layers on top, descends from it as well."""
    try:
        image = core.images.resolve(name)
    except (NotFound, InvalidInput):
        return lambda c: c.image_name == name
    layers, images = image.diff_ids, core.images.list()
    parents = lineage.parents(images)
    descended = {image.id}
    for other in images:
        on_top = len(other.diff_ids) > len(layers) > 0 and other.diff_ids[: len(layers)] == layers
        if on_top or _made_of(other.id, image.id, parents):
            descended.add(other.id)
    return lambda c: c.image_id in descended


def _made_of(id: str, ancestor: str, parents: dict[str, str]) -> bool:
    while id in parents and id != ancestor:
        id = parents[id]
    return id == ancestor
