"""What a RUN's `--mount` comes to. Pure."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Literal, cast

from sampan.build import configuration
from sampan.build.dockerfile.errors import Fault
from sampan.spec.build import BindMount, CacheMount, Mount, Origin, OriginKind, SecretMount, SshMount, TmpfsMount

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.build.dockerfile.mounts import Mount as Written


def mount(written: Written, workdir: str, find: Callable[[str], Origin]) -> Mount:
    """Complete a mount by the rules of its type; `find` tells what its `from` is. Raises Fault."""
    match written.type:
        case "bind":
            origin = find(written.from_) if written.from_ else Origin()
            return BindMount(
                target=_target(written, workdir),
                origin=origin,
                source=configuration.absolute("/", written.source),
                readonly=written.readonly,
            )
        case "cache":
            return _cache(written, workdir, find)
        case "tmpfs":
            return TmpfsMount(target=_target(written, workdir), size=written.size_bytes)
        case "secret":
            return _secret(written)
        case _:
            return _ssh(written)


def _cache(written: Written, workdir: str, find: Callable[[str], Origin]) -> CacheMount:
    origin = find(written.from_) if written.from_ else None
    target = _target(written, workdir)
    return CacheMount(
        target=target,
        id=written.id or posixpath.normpath(written.target or target),
        sharing=cast("Literal['shared', 'private', 'locked']", written.sharing),
        origin=None if origin is not None and origin.kind is OriginKind.SCRATCH else origin,
        source=configuration.absolute("/", written.source),
        readonly=written.readonly,
        mode=0o755 if written.mode is None else written.mode,
        uid=written.uid or 0,
        gid=written.gid or 0,
    )


def _secret(written: Written) -> SecretMount:
    id = written.source or written.id or posixpath.basename(written.target)
    target = written.target
    if not target and written.env is None:
        target = f"/run/secrets/{posixpath.basename(id)}"
    return SecretMount(
        id=id,
        target=configuration.absolute("/", target) if target else "",
        env=written.env or "",
        required=written.required,
        mode=0o400 if written.mode is None else written.mode,
        uid=written.uid or 0,
        gid=written.gid or 0,
    )


def _ssh(written: Written) -> SshMount:
    if written.source:
        raise Fault("ssh does not support source", written.source)
    return SshMount(
        id=written.id or "default",
        target=configuration.absolute("/", written.target) if written.target else "",
        required=written.required,
        mode=0o600 if written.mode is None else written.mode,
        uid=written.uid or 0,
        gid=written.gid or 0,
    )


def _target(written: Written, workdir: str) -> str:
    target = configuration.absolute(workdir, written.target)
    if target == "/":
        raise Fault(f'invalid mount target "{written.target or target}"', written.target)
    return target
