"""The host's kernel, as every plan is given it."""

from __future__ import annotations

from sampan.kernel import features
from sampan.spec.host import CgroupMode, Host


def probe() -> Host:
    """Ask the kernel once what it can do."""
    found = features.probe()._asdict()
    return Host(**(found | {"cgroup_mode": CgroupMode(found["cgroup_mode"])}))
