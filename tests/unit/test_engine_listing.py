"""The lines of `ps`, and its filters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.engine.core import Core
from sampan.engine.events import Bus, matches
from sampan.engine.listing import command_line, containers, status_text
from sampan.engine.mounts import Wanted
from sampan.engine.network_registry import Networks
from sampan.engine.registry import Container, Registry
from sampan.engine.requests import EventsQuery
from sampan.engine.store import Store
from sampan.errors import InvalidInput, NotFound
from sampan.spec.docker import EventActor, EventMessage
from sampan.spec.image import Image, ImageConfig
from sampan.spec.state import State, Status
from support.engine import completed

SECOND = 10**9


class _Images:
    """Two images, the second with a layer on top of the first's."""

    base = Image(id="sha256:base", config=ImageConfig(), raw_config=b"", diff_ids=("sha256:1",))
    above = Image(id="sha256:above", config=ImageConfig(), raw_config=b"", diff_ids=("sha256:1", "sha256:2"))

    def resolve(self, name: str) -> Image:
        if name != "base":
            raise NotFound(f"No such image: {name}")
        return self.base

    def list(self) -> tuple[Image, ...]:
        return (self.base, self.above)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    found = Core()
    found.registry = Registry()
    found.store = Store(str(tmp_path / "state.db"))
    found.networks = Networks(found.store)
    found.images = _Images()  # type: ignore[assignment]
    for number, (name, image, state, labels) in enumerate(
        [
            ("first", "sha256:base", State(status=Status.EXITED, exit_code=3), {"a": "1"}),
            ("second", "sha256:above", State(status=Status.RUNNING), {"a": "2", "b": ""}),
            ("third", "sha256:other", State(status=Status.PAUSED), {}),
            ("fourth", "sha256:other", State(), {}),
        ]
    ):
        body = completed({"NetworkMode": "none"}, Labels=labels)
        one = Container(f"{number}{name}", name, number * SECOND, (image, "img"), body, state)
        one.mounts = (Wanted(type="volume", name=f"v{number}", target="/data"),)
        found.registry.add(one)
    yield found
    found.store.close()


def names(core: Core, *, all: bool = True, limit: int = 0, **filters: Any) -> list[str]:
    given = {key.replace("_", "-"): values for key, values in filters.items()}
    return [c.names[0][1:] for c in containers(core, all=all, limit=limit, size=False, filters=given)]


def test_the_newest_comes_first_and_only_the_running_unless_all(core: Core) -> None:
    assert names(core) == ["fourth", "third", "second", "first"]
    assert names(core, all=False) == ["third", "second"]


def test_a_limit_looks_at_stopped_ones_too(core: Core) -> None:
    assert names(core, all=False, limit=1) == ["fourth"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"name": ("ir",)}, ["third", "first"]),
        ({"name": ("^/second$",)}, ["second"]),
        ({"id": ("1",)}, ["second"]),
        ({"status": ("exited", "created")}, ["fourth", "first"]),
        ({"exited": ("3",)}, ["first"]),
        ({"exited": ("0",)}, []),
        ({"label": ("a",)}, ["second", "first"]),
        ({"label": ("a=2", "b")}, ["second"]),
        ({"label": ("a=1", "b")}, []),
        ({"ancestor": ("base",)}, ["second", "first"]),
        ({"ancestor": ("nothing",)}, []),
        ({"before": ("third",)}, ["second", "first"]),
        ({"since": ("third",)}, ["fourth"]),
        ({"volume": ("v2",)}, ["third"]),
        ({"volume": ("/data",), "status": ("paused",)}, ["third"]),
        ({"network": ("none",), "name": ("first",)}, ["first"]),
    ],
)
def test_filters(core: Core, filters: dict[str, tuple[str, ...]], found: list[str]) -> None:
    assert names(core, **filters) == found


@pytest.mark.parametrize("filters", [{"colour": ("red",)}, {"status": ("odd",)}, {"exited": ("x",)}])
def test_a_wrong_filter_is_refused(core: Core, filters: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InvalidInput, match="invalid filter"):
        names(core, **filters)


def test_a_filter_by_an_unknown_container_is_refused(core: Core) -> None:
    with pytest.raises(NotFound, match="No such container: nobody"):
        names(core, before=("nobody",))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State(), "Created"),
        (State(status=Status.RUNNING, started_at_ns=40 * SECOND), "Up About a minute"),
        (State(status=Status.PAUSED, started_at_ns=90 * SECOND), "Up 10 seconds (Paused)"),
        (State(status=Status.EXITED, exit_code=137, finished_at_ns=95 * SECOND), "Exited (137) 5 seconds ago"),
        (State(status=Status.REMOVING), "Removal In Progress"),
    ],
)
def test_the_status_column(state: State, text: str) -> None:
    assert status_text(state, now_ns=100 * SECOND) == text


def test_a_word_with_a_space_is_quoted() -> None:
    assert command_line(("sh", "-c", "a b")) == "sh -c 'a b'"


# ------------------------------------------------------------------------------------------------ events


def event(type: str = "container", action: str = "start", id: str = "abc", **attributes: str) -> EventMessage:
    return EventMessage(type=type, action=action, actor=EventActor(id=id, attributes=attributes))


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"type": ("container",)}, True),
        ({"type": ("image",)}, False),
        ({"event": ("die", "start")}, True),
        ({"event": ("die",)}, False),
        ({"container": ("web",)}, True),
        ({"container": ("ab",)}, True),
        ({"container": ("db",)}, False),
        ({"image": ("busybox",)}, True),
        ({"label": ("x=1",)}, True),
        ({"label": ("x=1", "y")}, False),
        ({"type": ("container",), "event": ("die",)}, False),
    ],
)
def test_event_filters(filters: dict[str, tuple[str, ...]], passes: bool) -> None:
    assert matches(event(name="web", image="busybox:1", x="1"), filters) is passes


def test_an_exec_is_known_by_the_first_word_of_its_action() -> None:
    assert matches(event(action="exec_start: sh -c x"), {"event": ("exec_start",)})


def test_past_events_come_only_when_asked_for() -> None:
    bus = Bus()
    bus.tell("container", "create", "a")

    since = bus.listen(EventsQuery(since_ns=0, until_ns=1 << 62))
    new = bus.listen(EventsQuery())
    bus.tell("container", "start", "a")

    assert [next(iter(since)).action] == ["create"]
    assert next(iter(new)).action == "start"


def test_a_listener_ends_at_its_until_and_when_closed() -> None:
    bus = Bus()
    bus.tell("container", "create", "a")

    assert [e.action for e in bus.listen(EventsQuery(since_ns=0, until_ns=time.time_ns()))] == ["create"]
    listener = bus.listen(EventsQuery())
    listener.close()
    assert list(listener) == []
