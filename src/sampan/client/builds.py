"""Builds, by the Python client: `client.images.build`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

import msgspec

from sampan.errors import Failed, InvalidInput, from_os_error
from sampan.spec import build as spec
from sampan.spec.distribution import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from sampan.client.sdk import Api

    Progress = Callable[[spec.BuildEvent], None]

_PIECE = 1 << 16
_TYPE = {"Content-Type": "application/vnd.sampan.build"}


class BuildOptions(TypedDict, total=False):
    """What `client.images.build` takes beside the context."""

    dockerfile: str  # its path in the context
    tags: str | Sequence[str]
    target: str
    platform: str
    args: Mapping[str, str]
    labels: Mapping[str, str]
    contexts: Mapping[str, str]  # further directories of the server's machine, by name
    secrets: Mapping[str, bytes]
    pull: bool
    no_cache: bool
    network: str
    add_hosts: Mapping[str, str]
    squash: bool
    epoch_s: int  # SOURCE_DATE_EPOCH


class BuildFailed(Failed):
    """A step failed: `event` says which, with the Dockerfile's lines, the exit code and the last output."""

    def __init__(self, event: spec.StepFailed) -> None:
        super().__init__(event.message, event.hint)
        self.event = event


def build(
    api: Api,
    path: str | os.PathLike[str] | None,
    *,
    text: str | None,
    archive: BinaryIO | None,
    options: BuildOptions,
    progress: Progress | None,
) -> str:
    """Build; return the image's id. Raises BuildFailed."""
    request = msgspec.structs.replace(_request(options), context=_context(path, archive, text), dockerfile=text)
    built: spec.Built | None = None
    with api.exchange("POST", "/sampan/build", _pieces(request, archive), _TYPE) as answer:
        for line in answer.lines():
            event = msgspec.json.decode(line, type=spec.BuildEvent)
            if progress is not None:
                progress(event)
            if isinstance(event, spec.StepFailed):
                raise BuildFailed(event)
            if isinstance(event, spec.Built):
                built = event
    if built is None:
        raise Failed("the build ended without a result")
    return built.images[0].id


def _pieces(request: spec.BuildRequest, archive: BinaryIO | None) -> Iterator[bytes]:
    yield msgspec.json.encode(request) + b"\n"
    while archive is not None and (piece := archive.read(_PIECE)):
        yield piece


def _context(
    path: str | os.PathLike[str] | None, archive: BinaryIO | None, text: str | None
) -> spec.ContextSource | None:
    if (path is not None and archive is not None) or (path is None and archive is None and text is None):
        raise InvalidInput("can't build: a path, an archive or the text of a Dockerfile is wanted")
    if archive is not None:
        return spec.ContextSource(kind=spec.ContextKind.TAR)
    return _directory(path) if path is not None else None


def _directory(path: str | os.PathLike[str]) -> spec.ContextSource:
    try:
        seen = os.stat(path)
    except OSError as e:
        raise from_os_error(e) from e
    return spec.ContextSource(
        kind=spec.ContextKind.DIRECTORY, value=os.path.realpath(path), device=seen.st_dev, inode=seen.st_ino
    )


def _request(options: BuildOptions) -> spec.BuildRequest:
    tags = options.get("tags", ())
    platform = options.get("platform")
    return spec.BuildRequest(
        contexts={name: _directory(path) for name, path in options.get("contexts", {}).items()},
        dockerfile_name=options.get("dockerfile", "Dockerfile"),
        tags=(tags,) if isinstance(tags, str) else tuple(tags),
        target=options.get("target", ""),
        platforms=(Platform.parse(platform, os.uname().machine),) if platform else (),
        args=dict(options.get("args", {})),
        labels=dict(options.get("labels", {})),
        secrets=tuple(spec.Secret(id=id, value=value) for id, value in options.get("secrets", {}).items()),
        pull=options.get("pull", False),
        no_cache=options.get("no_cache", False),
        network=options.get("network", ""),
        add_hosts=tuple(f"{name}:{address}" for name, address in options.get("add_hosts", {}).items()),
        squash=options.get("squash", False),
        epoch_s=options.get("epoch_s"),
    )
