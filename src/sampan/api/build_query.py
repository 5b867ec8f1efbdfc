"""The parameters of Docker's `POST /build` as the request that they mean. Errors are worded as Docker's daemon does."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sampan.errors import InvalidInput, Unsupported
from sampan.spec.build import BuildRequest, CacheLocation, ContextKind, ContextSource, StepLimits
from sampan.spec.decoding import decode_json
from sampan.spec.distribution import Platform
from sampan.spec.docker.container import Ulimit
from sampan.spec.docker.image import AuthConfig

if TYPE_CHECKING:
    from sampan.api.call import Call

T = TypeVar("T")

_BUILDKIT = "the docker client builds with DOCKER_BUILDKIT=0 here; `sampan build` has all that BuildKit has"


def request_of(call: Call) -> BuildRequest:
    """Return what is asked. Raises InvalidInput, and Unsupported for what only BuildKit or Windows has."""
    _refuse(call)
    return BuildRequest(
        context=_context(call.text("remote")),
        dockerfile_name=call.text("dockerfile") or "Dockerfile",
        tags=tuple(tag for tag in call.texts("t") if tag),
        target=call.text("target"),
        platforms=_platforms(call.text("platform")),
        args=_arguments(call),
        labels=_json(call, "labels", dict[str, str], "error reading labels") or {},
        squash=call.flag("squash"),
        pull=call.flag("pull"),
        auths=_auths(call.header("x-registry-config")),
        no_cache=call.flag("nocache"),
        cache_from=tuple(
            CacheLocation(type="registry", attributes={"ref": name})
            for name in _json(call, "cachefrom", tuple[str, ...]) or ()
        ),
        network=call.text("networkmode"),
        add_hosts=_hosts(call),
        limits=_limits(call),
    )


def _refuse(call: Call) -> None:
    version = call.text("version", "1")
    if version == "2":
        raise Unsupported("unsupported: the builder of version 2", _BUILDKIT)
    if version not in ("", "1"):
        raise InvalidInput(f'invalid version "{version[:20]}"')
    if call.text("remote") == "client-session" or call.text("session"):
        raise InvalidInput(
            "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) instead",
            _BUILDKIT,
        )
    if call.text("outputs") not in ("", "[]", "null"):
        raise Unsupported("unsupported: outputs of a build by this API", _BUILDKIT)
    if call.text("isolation") not in ("", "default"):
        raise InvalidInput(f"invalid isolation ({call.text('isolation')[:20]}): linux has only default")
    if _json(call, "securityopt", tuple[str, ...]):
        raise Unsupported("unsupported: security options of a build", "leave --security-opt out")


def _context(remote: str) -> ContextSource:
    if not remote:
        return ContextSource(kind=ContextKind.TAR, keep_owners=False)
    plain = remote.partition("#")[0]
    is_url = remote.startswith(("http://", "https://"))
    if remote.startswith(("git://", "ssh://", "git@", "github.com/")) or (is_url and plain.endswith(".git")):
        return ContextSource(kind=ContextKind.GIT, value=remote)
    if is_url:
        return ContextSource(kind=ContextKind.URL, value=remote, keep_owners=False)
    raise InvalidInput(f"remoteURL ({remote[:200]}) could not be recognized as URL")


def _platforms(text: str) -> tuple[Platform, ...]:
    import os

    return (Platform.parse(text, os.uname().machine),) if text else ()


def _arguments(call: Call) -> dict[str, str]:
    """Return the arguments; one that is null is given no value, and so is as if it had not been named."""
    given = _json(call, "buildargs", dict[str, str | None], "error reading build args") or {}
    return {name: value for name, value in given.items() if value is not None}


def _hosts(call: Call) -> tuple[str, ...]:
    """Return the lines of /etc/hosts: a JSON list from Docker's client, or a parameter each."""
    given = call.texts("extrahosts")
    if given and given[0].startswith("["):
        return _json(call, "extrahosts", tuple[str, ...]) or ()
    return tuple(host for text in given for host in text.split(",") if host)


def _limits(call: Call) -> StepLimits:
    return StepLimits(
        memory=call.integer("memory") or 0,
        memory_swap=call.integer("memswap") or 0,
        cpu_shares=call.integer("cpushares") or 0,
        cpu_period=call.integer("cpuperiod") or 0,
        cpu_quota=call.integer("cpuquota") or 0,
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        cgroup_parent=call.text("cgroupparent"),
        shm_size=call.integer("shmsize") or 0,
        ulimits=_json(call, "ulimits", tuple[Ulimit, ...], "error reading ulimit settings") or (),
    )


def _json(call: Call, name: str, type: type[T], doing: str = "") -> T | None:
    text = call.text(name)
    if not text:
        return None
    try:
        value: T | None = decode_json(text, type | None)
    except (msgspec.DecodeError, RecursionError) as e:
        raise InvalidInput(f"{doing or f'invalid value of the parameter {name}'}: {e}") from e
    return value


def _auths(header: str) -> dict[str, AuthConfig]:
    """Read X-Registry-Config. What can't be read is no credentials, as in Docker."""
    if not header:
        return {}
    try:
        data: Any = binascii.a2b_base64(header.replace("-", "+").replace("_", "/"))
        return decode_json(data, dict[str, AuthConfig])
    except (ValueError, msgspec.DecodeError, RecursionError):
        return {}
