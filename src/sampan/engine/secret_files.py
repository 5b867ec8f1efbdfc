"""What a container has of secrets: copies in its directory, made with it, gone with it.

Those that are files in it are bound there; those that are variables are read at each start and exec, so that neither
its record nor its configuration has their values.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.engine.secret_uses import asked
from sampan.engine.secrets import write_private
from sampan.errors import InvalidInput, doing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sampan.engine.core import Core
    from sampan.engine.mounts import Wanted
    from sampan.engine.registry import Container
    from sampan.engine.secret_uses import Use
    from sampan.spec.runtime import Process, Spec


def directory(own: str) -> str:
    """Return where in a container's directory they are."""
    return f"{own}/secrets"


def look_up(core: Core, uses: Sequence[Use]) -> tuple[bytes, ...]:
    """Return the data of each. Raises NotFound, and InvalidInput for one that can't be a variable."""
    return tuple(_data(core, use) for use in uses)


def _data(core: Core, use: Use) -> bytes:
    data = core.secrets.read(use.secret)
    if use.variable:
        try:
            bad = "\0" in data.decode()
        except UnicodeDecodeError:
            bad = True
        if bad:
            raise InvalidInput(
                f"can't use secret {use.secret} as the variable {use.variable}: its data is no text",
                "mount it as a file",
            )
    return data


def write(own: str, uses: Sequence[Use], contents: Iterable[bytes]) -> None:
    """Write the copies into a new container's directory."""
    if not uses:
        return
    with doing("can't write a container's secrets"):
        os.mkdir(directory(own), 0o700)
        for use, data in zip(uses, contents, strict=True):
            path = f"{directory(own)}/{use.number}"
            write_private(path, data)
            os.chown(path, use.uid, use.gid)
            os.chmod(path, use.mode)  # after it: chown(2) takes the set-user-ID bit away


def placed(mounts: Iterable[Wanted], own: str) -> tuple[Wanted, ...]:
    """Return mounts with the paths of the copies, in place of their numbers."""
    return tuple(
        replace(mount, source=f"{directory(own)}/{mount.source}") if mount.type == "secret" else mount
        for mount in mounts
    )


def without_files(spec: Spec, own: str) -> Spec:
    """Return a configuration without those that are files: they are of a run, as the tmpfs is that they are in."""
    kept = tuple(mount for mount in spec.mounts if not mount.source.startswith(f"{directory(own)}/"))
    return replace(spec, mounts=kept)


def variables(core: Core, container: Container) -> dict[str, str]:
    """Return the secrets that are variables, by name."""
    found = {}
    for use in asked(container.body.host_config.annotations):
        if use.variable:
            path = f"{directory(core.dirs.container(container.id))}/{use.number}"
            with doing(f"can't read secret {use.secret}"), open(path, "rb") as file:
                found[use.variable] = file.read().decode()
    return found


def with_variables(process: Process, values: Mapping[str, str]) -> Process:
    """Return a process with more variables."""
    if not values:
        return process
    kept = [text for text in process.env if text.partition("=")[0] not in values]
    return replace(process, env=(*kept, *(f"{name}={value}" for name, value in values.items())))
