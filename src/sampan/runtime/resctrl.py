"""Classes of service of the resctrl filesystem, which Intel RDT is used by; imported only where a plan has one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, NotFound
from sampan.kernel import cgroupfs

if TYPE_CHECKING:
    from sampan.runtime import ops


def join(op: ops.JoinResctrl, pid: int) -> None:
    """Make the class where it is missing, and put the process in; config-linux.md, "IntelRdt"."""
    there = os.path.isdir(op.directory)
    if op.shared and not op.schemata and not there:
        raise NotFound(f"there is no class of service {op.directory}", "make it, or give its schemata")
    if op.shared and there:
        _compare(op)
    else:
        if not there:
            os.mkdir(op.directory, 0o755)
        for line in op.schemata:
            cgroupfs.write(op.directory, "schemata", f"{line}\n")
    cgroupfs.write(op.directory, "tasks", str(pid))
    if op.monitor:
        os.makedirs(op.monitor, 0o755, exist_ok=True)
        cgroupfs.write(op.monitor, "tasks", str(pid))


def _compare(op: ops.JoinResctrl) -> None:
    """Refuse a class that others have made otherwise."""
    present = {_normal(line) for line in cgroupfs.read(op.directory, "schemata").split("\n")}
    for line in op.schemata:
        if _normal(line) not in present:
            raise InvalidInput(f"the class of service {op.directory} is there, and has another schema than {line}")


def _normal(line: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Read "  L3:0=0ff;1=f" as what it says, however it is padded."""
    resource, _, values = line.strip().partition(":")
    pairs = (pair.partition("=") for pair in values.split(";") if pair)
    return resource.strip(), frozenset((domain.strip(), value.strip().lstrip("0")) for domain, _, value in pairs)
