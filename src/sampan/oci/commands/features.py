"""`features`: what this runtime can do, in the form of the specification's features.md."""

from __future__ import annotations

import sys
from typing import get_args

from sampan import __version__
from sampan.kernel.credentials import CAPABILITIES
from sampan.kernel.seccomp_profile import ACTIONS, NATIVE, OPERATORS
from sampan.oci.report import lines
from sampan.oci.version import OCI_VERSION, OCI_VERSION_MIN
from sampan.runtime import mounts
from sampan.runtime.hooks import STATUS
from sampan.spec.runtime import SeccompFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.main import Invocation

USAGE = ""
OPTIONS = ()


def perform(invocation: Invocation) -> int:
    """Print it."""
    del invocation
    sys.stdout.write("\n".join(lines(features())) + "\n")
    return 0


def features() -> dict[str, Any]:
    """Return what is built, whatever this host's kernel has of it."""
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION,
        "hooks": list(STATUS),
        "mountOptions": sorted(mounts.OPTIONS),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(f"SCMP_ARCH_{name.upper()}" for name in NATIVE.values()),
                "knownFlags": list(get_args(SeccompFlag)),
                "supportedFlags": list(get_args(SeccompFlag)),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"org.sampan.version": __version__, "org.opencontainers.runc.checkpoint.enabled": "true"},
    }
