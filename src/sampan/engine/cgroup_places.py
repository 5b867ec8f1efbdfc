"""Where the control groups of containers are that have a parent of their own: `--cgroup-parent`.

All others are found by the instance's name. These are noted in RUN/cgroups before a start and forgotten when they are
gone, so that a server after a killed one finds them, also where the container has no record: a build's step has none.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, doing
from sampan.runtime.cgroups import below

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANOTHERS = re.compile(r"/(engine|[0-9a-f]{64})(/|$)")


class CgroupPlaces:
    """The noted ones, by container."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._places: dict[str, str] = {}
        for id in os.listdir(directory):
            with open(f"{directory}/{id}", "rb") as file:
                self._places[id] = os.fsdecode(file.read())

    def note(self, id: str, place: str) -> None:
        """Note the path of a container's group below each hierarchy's mount."""
        if self._places.get(id) == place:
            return
        path = f"{self._directory}/{id}"
        with doing(f"can't note the control group of {id[:12]}"):
            with open(f"{path}.new", "wb") as file:
                file.write(os.fsencode(place))
            os.rename(f"{path}.new", path)
        self._places[id] = place

    def of(self, id: str) -> str | None:
        """Return what was noted."""
        return self._places.get(id)

    def forget(self, id: str) -> None:
        """Forget a container whose groups are gone."""
        if self._places.pop(id, None) is not None:
            with suppress(FileNotFoundError):
                os.unlink(f"{self._directory}/{id}")

    def ids(self) -> Iterable[str]:
        """Return the containers of which a place is noted."""
        return tuple(self._places)


def place(parent: str, own_parent: str, id: str) -> str:
    """Return where a container's group is: below `parent` if one was given, else below the instance's. Pure.

    A name is below the root, as with Docker, whose daemon has none of its own; one that ends in .slice has systemd's
    place. Raise InvalidInput for what can be no group, and for one of a container or the engine.
    """
    if not parent:
        return f"{own_parent}/{id}"
    if not parent.isprintable():
        raise InvalidInput(f"invalid cgroup parent: {parent[:80]!r}", "name a control group: /team, or team.slice")
    found = below(parent, id)
    if found.startswith(f"{own_parent}/") and _ANOTHERS.match(found.rpartition("/")[0].removeprefix(own_parent)):
        raise InvalidInput(
            f"invalid cgroup parent: {parent}: it is a container's own, or the engine's",
            "what is in it would end with that; name another",
        )
    return found
