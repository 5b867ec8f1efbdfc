"""What of each kind a prune removes, and why each other thing stays. It looks, and removes nothing.

`pruning` removes what goes; `prune_plan` tells it beforehand. `gone` are the ids of containers that are taken to be
removed already: a prune of everything removes them first, and what only they used goes with the same prune.
Source: moby, daemon/prune.go and daemon/images/image_prune.go. One thing is not taken over: there `image prune -a`
takes all names but one of an image that a container uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.engine import endpoints, lists, required
from sampan.engine.filtering import check, duration_ns, labels_pass, truth, until_ns
from sampan.engine.image_listing import shown_name, surroundings, unused_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from sampan.engine.core import Core
    from sampan.engine.image_listing import Surroundings
    from sampan.engine.registry import Container
    from sampan.engine.requests import Filters
    from sampan.spec.image import Image
    from sampan.spec.network import Network
    from sampan.spec.state import Volume

_CONTAINERS = frozenset({"label", "label!", "until"})
_NETWORKS = frozenset({"label", "label!", "until"})
_IMAGES = frozenset({"dangling", "label", "label!", "until", "unused-for"})
_VOLUMES = frozenset({"all", "label", "label!"})


class Stays(NamedTuple):
    """Why something is not removed; `instead` is the command that would free it, "" where none does."""

    because: str
    instead: str = ""


FILTERED = Stays("a filter leaves it out")


def containers(core: Core, filters: Filters) -> Iterator[tuple[Container, Stays | None]]:
    """Tell of each container; what does not run goes."""
    check(filters, _CONTAINERS)
    until = until_ns(filters)
    users, gone = required.users(core), set()
    every = list(core.registry)
    for container in reversed(every) if users else every:  # those that require others are younger, and go first
        if container.removed:
            continue
        if container.active:
            yield container, Stays(f"it is {container.state.status.value}", f"sampan rm -f {container.name}")
        elif _is_late(until, container.created_ns) or not labels_pass(filters, container.body.labels):
            yield container, FILTERED
        elif stay := next((user for user in users.get(container.id, ()) if user.id not in gone), None):
            yield container, Stays(f"{stay.name} requires it", f"sampan rm --depend {container.name}")
        else:
            gone.add(container.id)
            yield container, None


def networks(core: Core, filters: Filters, gone: Collection[str] = ()) -> Iterator[tuple[Network, Stays | None]]:
    """Tell of each network that was made. A container that doesn't run keeps its own: it could not start without."""
    check(filters, _NETWORKS)
    until = until_ns(filters)
    users = _users(core, gone, lambda container: {s.network_id for s in endpoints.places(container).values()})
    for network in core.networks:
        if network.predefined:
            continue
        if used := users.get(network.id):
            yield network, _used(used, f"sampan network rm {network.name}")
        elif _is_late(until, network.created_ns) or not labels_pass(filters, network.labels):
            yield network, FILTERED
        else:
            yield network, None


def volumes(core: Core, filters: Filters, gone: Collection[str] = ()) -> Iterator[tuple[Volume, Stays | None]]:
    """Tell of each volume: those that nobody named go, with `all` the named ones too."""
    check(filters, _VOLUMES)
    everything = truth(filters, "all") is True
    users = _users(core, gone, lambda container: container.volumes)
    for volume in core.volumes.all():
        if used := users.get(volume.name):
            yield volume, _used(used, "" if volume.anonymous else f"sampan volume rm {volume.name}")
        elif not (volume.anonymous or everything):
            yield volume, Stays("it has a name", f"sampan volume rm {volume.name}")
        elif not labels_pass(filters, volume.labels):
            yield volume, FILTERED
        else:
            yield volume, None


def images(core: Core, filters: Filters, gone: Collection[str] = ()) -> Iterator[tuple[Image, Stays | None]]:
    """Tell of each image that is not built in: those without a tag go, with `dangling` false all."""
    check(filters, _IMAGES)
    until, least = until_ns(filters), duration_ns(filters.get("unused-for", ()), "unused-for")
    only_dangling = truth(filters, "dangling") is not False
    around, in_lists = surroundings(core, gone), lists.listed(core)
    for image in core.images.list(all=True):
        if image.host:
            continue
        reason = _needed(core, image, around)
        if reason is None and image.id in in_lists:
            reason = Stays("a list of images names it", "sampan manifest rm")
        if reason is None and only_dangling and image.repo_tags:
            reason = Stays("it has a name", "sampan image prune -a")
        if reason is None and (
            _is_late(until, image.created_ns)
            or unused_ns(image, around) < least
            or not labels_pass(filters, image.config.execution.labels)
        ):
            reason = FILTERED
        yield image, reason


def _needed(core: Core, image: Image, around: Surroundings) -> Stays | None:
    if users := around.users.get(image.id):
        there = [container for id in users if (container := core.registry.get(id)) is not None]
        return _used(there, f"sampan rmi {shown_name(image)}")
    if image.id in around.intermediate:
        children = [id for id, parent in around.parents.items() if parent == image.id]
        name = shown_name(core.images.resolve(children[0]))
        return Stays(f"image {name} was made from it", f"sampan rmi {name}")
    return None


def _is_late(until: int | None, created_ns: int) -> bool:
    return until is not None and created_ns > until


def _users(core: Core, gone: Collection[str], used: Callable[[Container], Iterable[str]]) -> dict[str, list[Container]]:
    """Return the containers that use each thing, by what `used` says of one."""
    found: dict[str, list[Container]] = {}
    for container in core.registry:
        for id in used(container) if container.id not in gone else ():
            found.setdefault(id, []).append(container)
    return found


def _used(containers: list[Container], then: str) -> Stays:
    """Say so. `then` is the command that removes it when they have gone; "": it goes with them."""
    names = [container.name for container in containers]
    force = "-f " if any(container.active for container in containers) else ""
    who = f"container {names[0]} uses" if len(names) == 1 else f"containers {', '.join(names)} use"
    flags = force if then else f"{force}-v "
    return Stays(f"{who} it", f"sampan rm {flags}{' '.join(names)}" + (f" && {then}" if then else ""))
