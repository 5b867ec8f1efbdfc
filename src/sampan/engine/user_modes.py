"""What `--userns` and its like ask for, read. Pure.

""  host                       the host's users
remap  nomap                   the instance's range of ids, which all such containers share
auto[:size=N]                  a range of its own
keep-id[:uid=U,gid=G,size=N]   the same range, but for the caller's user, who is U there, or has the same number
private                        what the annotations UIDMAP, GIDMAP, SUBUIDNAME and SUBGIDNAME say
container:NAME                 the user namespace of another container
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from sampan.engine.merge import joined
from sampan.errors import InvalidInput, Unsupported
from sampan.spec.annotations import GIDMAP, OWN_IDS, SUBGIDNAME, SUBUIDNAME, UIDMAP
from sampan.spec.runtime import IdMapping

if TYPE_CHECKING:
    from sampan.spec.docker import HostConfig

Kind = Literal["uid", "gid"]
Maps = tuple[IdMapping, ...]

USUAL_SIZE = 65536
_LARGEST = (1 << 32) - 1
_MOST_LINES = 340  # user_namespaces(7)
_OPTIONS = {"auto": {"size"}, "keep-id": {"uid", "gid", "size"}}
_MODES = ("host", "remap", "nomap", "auto", "keep-id", "private", "container")
_HINT = "host, remap, auto[:size=N], keep-id[:uid=N,gid=N], nomap, private, container:NAME"


class UserMode(NamedTuple):
    """A mode, and its options."""

    name: str
    size: int = USUAL_SIZE
    own: tuple[int, int] = (0, 0)  # keep-id: the caller's user and group on the host
    inner: tuple[int, int] = (0, 0)  # and in the container
    container: str = ""
    maps: tuple[Maps, Maps] = ((), ())  # private: of users and groups
    names: tuple[str, str] = ("", "")  # private: whose entries of /etc/subuid and /etc/subgid


class UserNamespace(NamedTuple):
    """A container's: its mappings, and whose it is if that is another container's."""

    uids: Maps
    gids: Maps
    join: str = ""


def parse(host_config: HostConfig, default: str = "host") -> UserMode:
    """Read what is asked for; `default` where nothing is. Raises InvalidInput."""
    text = host_config.userns_mode
    annotations = host_config.annotations or {}
    explicit = any(name in annotations for name in (UIDMAP, GIDMAP, SUBUIDNAME, SUBGIDNAME))
    text = text or ("private" if explicit else default)
    name, _, rest = text.partition(":")
    if name not in _MODES or ((rest or ":" in text) and name not in {*_OPTIONS, "container"}):
        raise InvalidInput(f"invalid userns mode: {text[:80]}", f"it is one of {_HINT}")
    if explicit and name != "private":
        raise InvalidInput("conflicting options: --userns and --uidmap, --gidmap, --subuidname or --subgidname")
    if name == "container":
        if not joined(text):
            raise InvalidInput(f"invalid userns mode: {text[:80]}", "name a container behind the colon")
        return UserMode(name, container=rest)
    if name == "private":
        return _private(annotations)
    return _with_options(name, rest, annotations)


def _with_options(name: str, rest: str, annotations: dict[str, str]) -> UserMode:
    options = {}
    for text in filter(None, rest.split(",")):
        key, _, value = text.partition("=")
        if name == "auto" and key in ("uidmapping", "gidmapping"):
            raise Unsupported(f"unsupported: --userns=auto:{key}", "say the whole of it: --uidmap, --gidmap")
        if key not in _OPTIONS[name]:
            raise InvalidInput(f"invalid userns mode: {name} has no option {text[:80]!r}", f"it is one of {_HINT}")
        options[key] = _number(value, text)
    size = options.get("size", USUAL_SIZE)
    if not 1 <= size <= _LARGEST:
        raise InvalidInput(f"invalid size of a user namespace: {size}")
    if name != "keep-id":
        return UserMode("remap" if name == "nomap" else name, size)
    uid, _, gid = annotations.get(OWN_IDS, "0:0").partition(":")
    own = (_number(uid, uid), _number(gid, gid))
    inner = (options.get("uid", own[0]), options.get("gid", own[1]))
    if max(*own, *inner) >= _LARGEST:
        raise InvalidInput(f"invalid userns mode: {name}: there are ids from 0 to {_LARGEST - 1}")
    return UserMode(name, size, own, inner)


def _private(annotations: dict[str, str]) -> UserMode:
    """Where only users or only groups are said, the others are mapped in the same way, as by Podman."""
    uids, gids = (_maps(annotations.get(name, "")) for name in (UIDMAP, GIDMAP))
    user, group = annotations.get(SUBUIDNAME, ""), annotations.get(SUBGIDNAME, "")
    if (uids or gids) and (user or group):
        raise InvalidInput("conflicting options: --uidmap or --gidmap, and --subuidname or --subgidname")
    if not (uids or gids or user or group):
        raise InvalidInput("can't make a user namespace: no ids are mapped", "--uidmap, or --userns=auto")
    if any(maps and not is_mapped(maps, 0) for maps in (uids, gids)):
        raise InvalidInput(
            "can't make a user namespace: its root is nobody on the host: user and group 0 are not mapped",
            "--uidmap 0:HOST:COUNT",
        )
    return UserMode("private", maps=(uids or gids, gids or uids), names=(user or group, group or user))


def _maps(text: str) -> Maps:
    """Read `CONTAINER:HOST[:COUNT]`, several with commas between."""
    found = []
    for row in filter(None, text.split(",")):
        parts = row.split(":")
        if len(parts) not in (2, 3):
            raise InvalidInput(f"invalid id mapping: {row[:80]!r}", "it is CONTAINER:HOST:COUNT, as in 0:100000:65536")
        inner, outer, size = (_number(part, row) for part in (*parts, "1")[:3])
        if size < 1 or inner + size > _LARGEST or outer + size > _LARGEST:
            raise InvalidInput(f"invalid id mapping: {row}: there are ids from 0 to {_LARGEST - 1}")
        found.append(IdMapping(container_id=inner, host_id=outer, size=size))
    if len(found) > _MOST_LINES:
        raise InvalidInput(f"invalid id mapping: it has {len(found)} rows, and the kernel takes {_MOST_LINES}")
    _refuse_overlap(found)
    return tuple(found)


def is_mapped(maps: Maps, id: int) -> bool:
    """Tell whether a container's `id` is somebody on the host."""
    return any(row.container_id <= id < row.container_id + row.size for row in maps)


def check_user(users: UserNamespace, user: str) -> None:
    """Refuse a user or group, given by number, that the user namespace has not: only a start would notice."""
    name, _, group = user.partition(":")
    for kind, maps, text in (("user", users.uids, name), ("group", users.gids, group)):
        if text.isascii() and text.isdigit() and not is_mapped(maps, int(text)):
            raise InvalidInput(
                f"can't run as {kind} {text}: it is not mapped in the container's user namespace",
                "map more: --uidmap, --userns=auto:size=N",
            )


def _refuse_overlap(maps: list[IdMapping]) -> None:
    for field in ("container_id", "host_id"):
        end = 0
        for row in sorted(maps, key=lambda row: int(getattr(row, field))):
            start = getattr(row, field)
            if start < end:
                raise InvalidInput(f"invalid id mapping: id {start} is in two rows")
            end = start + row.size


def _number(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidInput(f"invalid number of a user or group: {whole[:80]!r}")
    return int(text)


def around(inner: int, outer: int, start: int, size: int) -> Maps:
    """Map one id of the container to `outer` and all others to those from `start`, as many as `size` says."""
    rows = ((0, start, min(inner, size)), (inner, outer, 1), (inner + 1, start + inner, size - inner - 1))
    return tuple(IdMapping(container_id=c, host_id=h, size=n) for c, h, n in rows if n > 0)


def check(host_config: HostConfig) -> None:
    """Refuse what would take the container out of its user namespace, in Docker's words: moby, daemon_unix.go."""
    if host_config.privileged:
        raise InvalidInput(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode",
            "--userns=host",
        )
    if host_config.network_mode == "host":
        raise InvalidInput(
            "cannot share the host's network namespace when user namespaces are enabled", "--userns=host"
        )
    if host_config.pid_mode == "host":
        raise InvalidInput("cannot share the host PID namespace when user namespaces are enabled", "--userns=host")
