"""Where runs of health checks are noted besides the container's own record: a file in a directory, and events."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine.core import encode
from sampan.engine.health_options import health_log
from sampan.engine.inspecting import health_of, result_of
from sampan.errors import InvalidInput, doing
from sampan.kernel.mount import AT_FDCWD
from sampan.kernel.path import RESOLVE, openat2
from sampan.spec.annotations import HEALTH_LOG_DESTINATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.state import Health

_EVENT_OUTPUT = 4096


def placed(body: ContainerCreate) -> ContainerCreate:
    """Return the body with the real path of its checks' directory. Raises InvalidInput where nothing can be noted.

    Links on the way are followed now only: later the container may have laid them, if it can write to what is above.
    """
    annotations = body.host_config.annotations or {}
    directory = health_log(annotations).directory
    if not directory:
        return body
    _check(directory)
    annotations = {**annotations, HEALTH_LOG_DESTINATION: os.path.realpath(directory)}
    return replace(body, host_config=replace(body.host_config, annotations=annotations))


def _check(directory: str) -> None:
    """Raise InvalidInput in Podman's words."""
    try:
        mode = os.stat(directory).st_mode
    except OSError as e:
        raise InvalidInput(
            f"HealthCheck Log '{directory}' destination error: stat {directory}: {(e.strerror or '').lower()}"
        ) from None
    if not stat.S_ISDIR(mode):
        raise InvalidInput(f"HealthCheck Log '{directory}' destination must be directory")


def write(directory: str, id: str, health: Health) -> None:
    """Write `<id>-healthcheck.log`, in the form that `inspect` and Podman have, in one step for who reads it."""
    name = f"{id}-healthcheck.log"
    with doing(f"can't write {directory}/{name}"):
        place = openat2(AT_FDCWD, directory, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE.NO_SYMLINKS)
        try:
            _replace(place, name, encode(health_of(health)))
        finally:
            os.close(place)


def _replace(place: int, name: str, text: bytes) -> None:
    """A link that somebody has laid there is not followed; what a killed server has left is taken over."""
    new = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=place)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
        os.rename(new, name, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=place)
        raise


def attributes(health: Health) -> Mapping[str, str]:
    """Return what an event tells of the latest run, by Podman's names."""
    last = replace(health.log[-1], output=health.log[-1].output[:_EVENT_OUTPUT])
    return {"health_failing_streak": str(health.failing_streak), "health_log": encode(result_of(last)).decode()}
