"""Hooks of containers that are not part of their making, poststart and poststop, and the bundle that all are told of.

Programs such as nvidia-ctk read the container's configuration in that directory. It is there as long as a run whose
poststop hooks have not been run: so they are run once, by whoever finds that it is over.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from sampan.engine.core import encode
from sampan.errors import SampanError, doing
from sampan.spec.runtime import ContainerState, read
from sampan.supervise import messages

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.spec.runtime import Spec

_HOOKS_S = 600
_CONFIG = "config.json"


def bundle_of(core: Core, id: str, spec: Spec) -> str:
    """Return the directory that hooks are told of; "" where there are none."""
    return core.dirs.container(id) if spec.hooks else ""


def write_bundle(core: Core, id: str, spec: Spec) -> None:
    """Write the configuration for hooks, if there are any."""
    if spec.hooks:
        path = _path(core, id)
        with doing("can't write the configuration for hooks"):
            with open(f"{path}.new", "wb") as file:
                file.write(encode(spec))
            os.replace(f"{path}.new", path)


def started(core: Core, id: str, pid: int) -> None:
    """Run the poststart hooks; one that fails is raised."""
    _run(core, id, "poststart", pid)


def over(core: Core, id: str) -> None:
    """Run the poststop hooks of a run that is over, if that is not done yet; one that fails is told in the log.

    With the container's lock held, for a next run has its own.
    """
    path = _path(core, id)
    if not os.path.exists(path):
        return
    try:
        _run(core, id, "poststop", 0)
    except SampanError as e:
        print(f"sampan: {id[:12]}: {e.message}", file=sys.stderr, flush=True)
    with suppress(FileNotFoundError):  # with its directory
        os.unlink(path)


def _run(core: Core, id: str, stage: str, pid: int) -> None:
    """Have a worker run them: a server of many threads does not fork."""
    path = _path(core, id)
    if not os.path.exists(path):
        return
    with doing(f"can't run the {stage} hooks"), open(path, "rb") as file:
        spec = read(file.read())
    hooks = getattr(spec.hooks, stage, ())
    if not hooks:
        return
    directory = core.dirs.container(id)
    state = ContainerState(oci_version=spec.oci_version, id=id, pid=pid, bundle=directory, annotations=spec.annotations)
    job = messages.RunHooks(stage=stage, hooks=encode(hooks), state=encode(state), directory=directory)
    with closing(core.worker()) as channel:
        channel.ask(job, messages.Done, timeout_s=_HOOKS_S)


def _path(core: Core, id: str) -> str:
    return f"{core.dirs.container(id)}/{_CONFIG}"
