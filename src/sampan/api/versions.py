"""Which versions of the Docker Engine API are spoken, and what differs between them.

One table says which fields of an answer exist in which versions; the engine fills the newest form.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import msgspec

from sampan.errors import InvalidInput
from sampan.spec import docker

if TYPE_CHECKING:
    from collections.abc import Callable

Version = tuple[int, int]

LEAST: Version = (1, 24)
GREATEST: Version = (1, 50)

MULTIPLEXED_CONTENT_TYPE: Version = (1, 42)
"""Since then a stream in frames has a content type of its own."""

WEBSOCKET_STREAMS: Version = (1, 42)
"""Since then an attach by a WebSocket chooses streams; before, it has all."""
WEBSOCKET_BINARY: Version = (1, 28)
EXEC_CONSOLE_SIZE: Version = (1, 42)
ENABLE_IPV4: Version = (1, 48)
LISTS_WITHOUT_CONTAINERS: Version = (1, 28)
"""Since then a list of networks does not tell who is on them."""
EARLY_WAIT_HEADERS: Version = (1, 30)
"""Since then a wait answers its head at once, and has conditions."""


def say(version: Version) -> str:
    """Return `1.50`."""
    return f"{version[0]}.{version[1]}"


def negotiate(text: str) -> Version:
    """Return the version that a path begins with (`1.41`), the greatest for none; or refuse in Docker's words."""
    if not text:
        return GREATEST
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(text) < 10):
        raise InvalidInput(f"can't read the client's API version {text!r}")
    version = (int(major), int(minor))
    if version < LEAST:
        raise InvalidInput(
            f"client version {text} is too old. Minimum supported API version is {say(LEAST)}, "
            "please upgrade your client to a newer version"
        )
    if version > GREATEST:
        raise InvalidInput(f"client version {text} is too new. Maximum supported API version is {say(GREATEST)}")
    return version


class Field(NamedTuple):
    """A field of an answer that not every version has.

    One that went away, or has changed, is computed by `old` for the versions before `until`.
    """

    type: type[msgspec.Struct]
    name: str
    since: Version = LEAST
    until: Version | None = None  # the first version without it
    old: Callable[[Any], object] | None = None


def _whole_config(image: docker.ImageInspect) -> docker.ContainerConfig:
    """Return an image's configuration as it was told before 1.50: with all the fields of a container's."""
    config = image.config or docker.ImageConfig()
    names = [field.name for field in msgspec.structs.fields(config)]
    return docker.ContainerConfig(**{name: getattr(config, name) for name in names})


def _builder_size(usage: docker.DiskUsage) -> int:
    return sum(cache.size for cache in usage.build_cache or () if not cache.shared)


def _all_aliases(endpoint: docker.EndpointSettings) -> tuple[str, ...] | None:
    """Return aliases as they were told before 1.45: with the short id and the host name, by which names are found too.

    docker-compose 1.29 joins a network once more, at its end, whose aliases lack the id.
    """
    return tuple(dict.fromkeys((*(endpoint.aliases or ()), *(endpoint.dns_names or ())[1:]))) or None


FIELDS = (
    Field(docker.ImageInspect, "config", until=(1, 50), old=_whole_config),
    Field(docker.ImageInspect, "container", until=(1, 45), old=lambda _: ""),
    Field(docker.ImageInspect, "container_config", until=(1, 45), old=lambda _: docker.ContainerConfig()),
    Field(docker.ImageSummary, "virtual_size", until=(1, 44), old=lambda image: image.size),
    Field(docker.ImageInspect, "virtual_size", until=(1, 44), old=lambda image: image.size),
    Field(docker.ImageSummary, "descriptor", since=(1, 48)),
    Field(docker.ImageInspect, "descriptor", since=(1, 48)),
    Field(docker.ImageInspect, "manifests", since=(1, 48)),
    Field(docker.ImageSummary, "manifests", since=(1, 47)),
    Field(docker.DiskUsage, "builder_size", until=(1, 42), old=_builder_size),
    Field(docker.BuildCache, "parent", until=(1, 42), old=lambda cache: (cache.parents or ("",))[0]),
    Field(docker.BuildCache, "parents", since=(1, 42)),
    Field(docker.SystemInfo, "bridge_nf_iptables", until=(1, 50), old=lambda _: False),
    Field(docker.SystemInfo, "bridge_nf_ip6tables", until=(1, 50), old=lambda _: False),
    Field(docker.SystemInfo, "kernel_memory", until=(1, 42), old=lambda _: False),
    Field(docker.Commit, "expected", until=(1, 49), old=lambda commit: commit.id),
    Field(docker.SystemInfo, "cgroup_version", since=(1, 41)),
    Field(docker.SystemInfo, "default_address_pools", since=(1, 40)),
    Field(docker.SystemInfo, "cdi_spec_dirs", since=(1, 46)),
    Field(docker.SystemInfo, "discovered_devices", since=(1, 50)),
    Field(docker.HostConfig, "annotations", since=(1, 43)),
    Field(docker.HostConfig, "cgroupns_mode", since=(1, 40)),
    Field(docker.SummaryHostConfig, "annotations", since=(1, 46)),
    Field(docker.EndpointSettings, "dns_names", since=(1, 44)),
    Field(docker.EndpointSettings, "aliases", until=(1, 45), old=_all_aliases),
    Field(docker.EndpointSettings, "gw_priority", since=(1, 48)),
    Field(docker.ContainerConfig, "stop_timeout", since=(1, 25)),
    Field(docker.HealthConfig, "start_interval", since=(1, 44)),
    Field(docker.TmpfsOptions, "options", since=(1, 46)),
    Field(docker.VolumeOptions, "subpath", since=(1, 45)),
    Field(docker.Network, "enable_ipv4", since=ENABLE_IPV4),
)
"""Fields by version. What is not here is in every version from `LEAST` to `GREATEST`."""


def present(value: Any, version: Version) -> Any:
    """Return an answer (a struct, or a list of them) as `version` has it. Fields that it lacks are UNSET."""
    if isinstance(value, (list, tuple)):
        return [present(item, version) for item in value]
    if isinstance(value, dict):
        return {key: present(item, version) for key, item in value.items()}
    if not isinstance(value, msgspec.Struct):
        return value
    change = _changes(type(value), version)
    if change is None:
        return value
    new: dict[str, object] = dict.fromkeys(change.gone, msgspec.UNSET)
    for name in change.within:
        new[name] = present(getattr(value, name), version)
    for name, old in change.old:
        new[name] = present(old(value), version)
    return msgspec.structs.replace(value, **new)


class _Change(NamedTuple):
    gone: tuple[str, ...]
    old: tuple[tuple[str, Callable[[Any], object]], ...]
    within: tuple[str, ...]  # fields whose own fields change


@cache
def _changes(type: type[msgspec.Struct], version: Version) -> _Change | None:
    """Tell what of a type a version changes, None for nothing at all (the greatest: nearly always)."""
    mine = [field for field in FIELDS if issubclass(type, field.type)]
    gone = tuple(f.name for f in mine if version < f.since)
    old = tuple((f.name, f.old) for f in mine if f.old is not None and f.until is not None and version < f.until)
    within = tuple(f.name for f in msgspec.structs.fields(type) if any(_structs(f.type, version)))
    return _Change(gone, old, within) if gone or old or within else None


def _structs(annotation: Any, version: Version) -> list[bool]:
    if isinstance(annotation, _STRUCT):
        return [_changes(annotation, version) is not None]
    return [changed for part in get_args(annotation) for changed in _structs(part, version)]


_STRUCT = type(msgspec.Struct)
