"""User namespaces of containers: which ids of the host their users are, and the namespaces made for a start."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from sampan.engine import id_ranges, user_modes
from sampan.engine.id_ranges import Range
from sampan.engine.joining import with_joined
from sampan.engine.user_modes import UserNamespace
from sampan.errors import InvalidInput, NotFound, from_os_error
from sampan.network.namespace import Namespace
from sampan.spec.runtime import IdMapping
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.engine.user_modes import Kind, Maps, UserMode
    from sampan.spec.docker import ContainerCreate, HostConfig
    from sampan.spec.runtime import Spec

_SHARING = ("network_mode", "ipc_mode", "pid_mode")
_KINDS: tuple[Kind, Kind] = ("uid", "gid")
_EVERY_ID = (1 << 32) - 1
_choosing = threading.Lock()


def asked(core: Core, body: ContainerCreate, *, shared: bool = False) -> ContainerCreate:
    """Return the request with the mode that counts, and the user whom that implies. Raises InvalidInput.

    With `shared` it gets no ids of its own, where that is the default.
    """
    default = core.settings.read().userns.default
    default = "remap" if shared and default == "auto" else default
    mode = user_modes.parse(body.host_config, default)
    if mode.name == "host":
        return body
    user_modes.check(body.host_config)
    user = body.user or (":".join(map(str, mode.inner)) if mode.name == "keep-id" else "")
    text = "private" if mode.name == "private" else body.host_config.userns_mode or default
    return replace(body, user=user, host_config=replace(body.host_config, userns_mode=text))


def is_asked(host_config: HostConfig) -> bool:
    """Tell of a container that was made whether it has a user namespace."""
    return host_config.userns_mode not in ("", "host")


def choose(core: Core, container: Container, joins: Mapping[str, str]) -> UserNamespace | None:
    """Return what a container's users are on the host; from now on no other gets the same, unless it shares them."""
    host_config = container.body.host_config
    if not is_asked(host_config):
        return None
    mode = user_modes.parse(host_config)
    sharers = [mode.container] if mode.name == "container" else [joins[f] for f in _SHARING if f in joins]
    for name in sharers:
        return _of_another(core, name)
    with _choosing:
        found = _maps(core, mode)
        if mode.name == "auto":
            core.ids_of[container.id] = found
    return found


def _of_another(core: Core, name: str) -> UserNamespace:
    """Who shares a network shares the user namespace that owns it, as with Docker."""
    try:
        other = core.registry.find(name)
    except NotFound as e:  # as a 404 it would have a docker client pull the image
        raise InvalidInput(e.message, e.hint) from None
    if not is_asked(other.body.host_config):
        raise InvalidInput(
            f"cannot share the namespaces of container {other.name}: it has no user namespace", "--userns=host, as it"
        )
    linux = core.spec(other).linux
    return UserNamespace(linux.uid_mappings, linux.gid_mappings, other.id)


def _maps(core: Core, mode: UserMode) -> UserNamespace:
    if mode.name == "private":
        return UserNamespace(_said(mode, 0), _said(mode, 1))
    if mode.name == "keep-id" and mode.own == (0, 0):  # root's ids are all ids, as with Podman
        every = (IdMapping(container_id=0, host_id=0, size=_EVERY_ID),)
        return UserNamespace(every, every)
    owner = core.settings.read().userns.ids_of
    ranges = {kind: id_ranges.of_user(owner, kind) for kind in _KINDS}
    if mode.name == "auto":
        taken = list(_taken(core))
        uids, gids = (_own(ranges[kind], [t[n] for t in taken], mode.size) for n, kind in enumerate(_KINDS))
    else:
        uids, gids = (id_ranges.first(ranges[kind], mode.size) for kind in _KINDS)
    if mode.name == "keep-id":
        uids, gids = (_kept(mode, n, maps) for n, maps in enumerate((uids, gids)))
    return UserNamespace(uids, gids)


def _said(mode: UserMode, n: int) -> Maps:
    return mode.maps[n] or id_ranges.first(id_ranges.of_user(mode.names[n], _KINDS[n], must=True), _EVERY_ID)


def _kept(mode: UserMode, n: int, shared: Maps) -> Maps:
    return user_modes.around(mode.inner[n], mode.own[n], shared[0].host_id, min(shared[0].size, mode.size))


def _own(ranges: Iterable[Range], taken: list[Range], size: int) -> Maps:
    start = id_ranges.free(ranges, taken, size, reserved=user_modes.USUAL_SIZE)
    return (IdMapping(container_id=0, host_id=start, size=size),)


def _taken(core: Core) -> Iterable[tuple[Range, Range]]:
    """Return what other containers have for themselves."""
    for id in set(core.ids_of) - {container.id for container in core.registry}:
        del core.ids_of[id]
    for container in core.registry:
        if not container.body.host_config.userns_mode.startswith("auto"):
            continue
        if container.id not in core.ids_of:
            try:
                linux = core.spec(container).linux
            except NotFound:  # it is just being made, and waits for its own
                continue
            core.ids_of[container.id] = UserNamespace(linux.uid_mappings, linux.gid_mappings)
        uids, gids, _ = core.ids_of[container.id]
        yield Range(uids[0].host_id, uids[0].size), Range(gids[0].host_id, gids[0].size)


def check_directory(users: UserNamespace, path: str) -> None:
    """Refuse a directory as the root that none of the container's users owns: its root could not even read it."""
    owner = os.stat(path).st_uid
    if not any(m.host_id <= owner < m.host_id + m.size for m in users.uids):
        raise InvalidInput(
            f"can't use {path} as the root: its owner {owner} is nobody in the container's user namespace",
            f"--rootfs {path}:O shows its files as the container's own",
        )


# ----------------------------------------------------------------------------------------------------- at a start


class Made(NamedTuple):
    """Namespaces for a container to be in: of its network, and of its users where that is not another container's."""

    network: Namespace
    users: Namespace | None


def make(core: Core, spec: Spec) -> Made:
    """Make a network namespace that belongs to the container's users: only so may they mount its sysfs.

    A process with threads, as this one, can make no user namespace: a worker does, and ends.
    """
    path = next(n.path for n in with_joined(core, spec).linux.namespaces if n.type == "user")
    job = messages.MakeNamespaces(
        uid_mappings=rows(spec.linux.uid_mappings), gid_mappings=rows(spec.linux.gid_mappings), user_namespace=path
    )
    with closing(core.worker()) as channel:
        pid = channel.ask(job, messages.NamespacesMade).pid
        try:
            network = Namespace(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            users = None if path else Namespace(os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as e:
            raise from_os_error(e).within("can't hold a container's namespaces") from e
    return Made(network, users)


def rows(maps: Maps) -> tuple[tuple[int, int, int], ...]:
    """Return mappings as messages have them."""
    return tuple((m.container_id, m.host_id, m.size) for m in maps)
