"""What happened: `docker events`. Kept in memory, the last thousand of them, and handed to whoever listens."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput
from sampan.spec.docker import EventActor, EventMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.engine.requests import EventsQuery, Filters

_REMEMBERED = 1000
_BEHIND = 10_000
"""Events a listener may be behind; one that reads slower loses the oldest."""

_FILTERS = frozenset({"container", "daemon", "event", "image", "label", "network", "scope", "type", "volume"})


class Bus:
    """Where events are told, and listened to."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._past: deque[EventMessage] = deque(maxlen=_REMEMBERED)
        self._listeners: set[Listener] = set()

    def tell(self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:
        """Record an event and hand it to the listeners. Never blocks."""
        now = time.time_ns()
        actor = EventActor(id=id, attributes=dict(attributes or {}))
        event = EventMessage(type=type, action=action, actor=actor, scope="local", time=now // 10**9, time_nano=now)
        with self._changed:
            self._past.append(event)
            for listener in self._listeners:
                listener.queue.append(event)
            if self._listeners:
                self._changed.notify_all()

    def listen(self, query: EventsQuery) -> Listener:
        """Return the events that `query` asks for, past ones first. Raises InvalidInput for an unknown filter."""
        for name in query.filters:
            if name not in _FILTERS:
                raise InvalidInput(f"invalid filter '{name}'")
        if query.until_ns is not None and (query.since_ns or 0) > query.until_ns:
            since, until = (f"{at // 10**9}.{at % 10**9:09}" for at in (query.since_ns or 0, query.until_ns))
            raise InvalidInput(f"`since` time ({since}) cannot be after `until` time ({until})")
        with self._changed:
            listener = Listener(self, self._changed, query, self._past if query.since_ns is not None else ())
            self._listeners.add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """Stop handing events to it."""
        with self._changed:
            self._listeners.discard(listener)
            self._changed.notify_all()


class Listener:
    """An iterator over events that blocks for the next one; `close` from any thread ends it."""

    def __init__(
        self, bus: Bus, changed: threading.Condition, query: EventsQuery, past: deque[EventMessage] | tuple[()]
    ) -> None:
        self.queue = deque(past, maxlen=_BEHIND)
        self._bus = bus
        self._changed = changed
        self._query = query
        self._closed = False

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._bus.forget(self)

    def __iter__(self) -> Iterator[EventMessage]:
        until_ns = self._query.until_ns
        try:
            while not self._closed:
                event = self._next(until_ns)
                if event is None or (until_ns is not None and event.time_nano > until_ns):
                    return
                if event.time_nano >= (self._query.since_ns or 0) and matches(event, self._query.filters):
                    yield event
        finally:
            self.close()

    def _next(self, until_ns: int | None) -> EventMessage | None:
        with self._changed:
            while not self.queue and not self._closed:
                left = None if until_ns is None else (until_ns - time.time_ns()) / 10**9
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            return self.queue.popleft() if self.queue else None


def matches(event: EventMessage, filters: Filters) -> bool:
    """Tell whether an event passes: one value of each filter must fit, all values of `label`."""
    actor = event.actor
    named = actor.attributes.get("name", "")
    for name, values in filters.items():
        if name == "label":
            if not all(_labelled(actor.attributes, value) for value in values):
                return False
        elif name == "event":
            # "exec_start: sh" is known by its first word too
            if not any(event.action == v or event.action.split(":")[0] == v for v in values):
                return False
        elif name in ("type", "scope"):
            if (event.type if name == "type" else event.scope) not in values:
                return False
        elif name == "image":
            image = named if event.type == "image" else actor.attributes.get("image", "")
            if not any(image == v or image.split(":")[0] == v or actor.id == v for v in values):
                return False
        elif event.type != name or not any(v in (actor.id, named) or actor.id.startswith(v) for v in values):
            return False
    return True


def _labelled(attributes: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in attributes and (not equals or attributes[key] == value)
