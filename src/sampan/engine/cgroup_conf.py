"""`--cgroup-conf`: files of a container's control group written as they are, in cgroup v2's names. Pure.

On cgroup v1 those are taken that mean the same there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.errors import InvalidInput, Unsupported
from sampan.spec.annotations import CGROUP_CONF
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import Cpu, HugepageLimit, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.spec.host import Host

_FILE = re.compile(r"[a-z_]+(\.[A-Za-z0-9_]+)+")
_OURS = frozenset({"procs", "threads", "kill", "freeze", "subtree_control", "type"})
_NUMBERS = {"cpu.idle": "idle", "cpu.max.burst": "burst"}
_HUGE = re.compile(r"hugetlb\.([0-9]+[KMG]B)\.max")
_MOST = 1 << 63


def applied(resources: Resources, annotations: Mapping[str, str], host: Host) -> Resources:
    """Return the limits with those that were named by their files."""
    asked = {name.removeprefix(CGROUP_CONF): text for name, text in annotations.items() if name.startswith(CGROUP_CONF)}
    for file, text in asked.items():
        controller, _, rest = file.partition(".")
        if not _FILE.fullmatch(file) or (controller == "cgroup" and rest in _OURS) or not text.isprintable():
            raise InvalidInput(f"invalid --cgroup-conf: {file}={text}", "FILE=TEXT of cgroup v2, as in cpu.idle=1")
        if host.cgroup_mode is not CgroupMode.V2:
            resources = _on_v1(resources, file, text)
        elif controller not in {*host.cgroup_controllers, "cgroup"}:
            raise Unsupported(
                f"can't set {file}: this host gives no {controller} control group", "enable the controller (cgroups(7))"
            )
    return replace(resources, unified=asked) if asked and host.cgroup_mode is CgroupMode.V2 else resources


def _on_v1(resources: Resources, file: str, text: str) -> Resources:
    if file in _NUMBERS:
        return replace(resources, cpu=replace(resources.cpu or Cpu(), **{_NUMBERS[file]: _number(file, text)}))
    if huge := _HUGE.fullmatch(file):
        limit = HugepageLimit(page_size=huge[1], limit=_number(file, text))
        return replace(resources, hugepage_limits=(*resources.hugepage_limits, limit))
    raise Unsupported(f"can't set {file}: this host has cgroup v1, which has no such file", "leave --cgroup-conf out")


def _number(file: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < _MOST):
        raise InvalidInput(f"invalid --cgroup-conf: {file}={text}: it is no number")
    return int(text)
