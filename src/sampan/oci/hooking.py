"""The hooks that are not part of making a container: poststart and poststop. Imported only where there are any."""

from __future__ import annotations

from sampan.oci.version import OCI_VERSION
from sampan.runtime import hooks
from sampan.spec.runtime import ContainerState, Hooks, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.errors import SampanError
    from sampan.oci.store import Record


def poststart(record: Record) -> None:
    """Run what is to run when the program does; raise what failed."""
    hooks.run(_hooks(record).poststart, "poststart", _state(record, record.pid), record.facts["bundle"])


def poststop(record: Record) -> list[SampanError]:
    """Run what is to run when nothing is left of the container; return what failed."""
    return hooks.run_all(_hooks(record).poststop, "poststop", _state(record, 0), record.facts["bundle"])


def _hooks(record: Record) -> Hooks:
    return read(record.config()).hooks or Hooks()


def _state(record: Record, pid: int) -> ContainerState:
    bundle, annotations = record.facts["bundle"], record.facts["annotations"]
    return ContainerState(oci_version=OCI_VERSION, id=record.id, pid=pid, bundle=bundle, annotations=annotations)
