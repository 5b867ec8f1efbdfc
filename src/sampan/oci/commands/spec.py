"""`spec`: write a configuration to begin with."""

from __future__ import annotations

import os

from sampan.errors import Conflict, InvalidInput
from sampan.oci.options import Option
from sampan.oci.report import lines
from sampan.oci.version import OCI_VERSION
from sampan.spec.defaults import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sampan.oci.main import Invocation

USAGE = "[OPTIONS]"
OPTIONS = (
    Option("bundle b", "directory to write into; the working directory unless given"),
    Option("file f", "the file's name, instead of config.json"),
    Option("rootless", "for a user without rights: in a user namespace of its own", "flag"),
)

_ENV = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_SAFE = ["nosuid", "noexec", "nodev"]


def perform(invocation: Invocation) -> int:
    """Write it, unless one is there."""
    directory = invocation.given.value("bundle") or "."
    path = os.path.join(directory, invocation.given.value("file") or "config.json")
    if invocation.given.arguments:
        raise InvalidInput("spec takes no arguments")
    text = "\n".join(lines(configuration(rootless=invocation.given.flag("rootless")), "\t")) + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise Conflict(f"File {path} exists. Remove it first") from None
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    return 0


def configuration(*, rootless: bool) -> dict[str, Any]:
    """Return a shell in a container of its own, with few capabilities and a root that is not written to."""
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": _ENV,
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "sampan",
        "mounts": list(_mounts(rootless=rootless)),
        "linux": _linux(rootless=rootless),
    }


def _mounts(*, rootless: bool) -> Iterator[dict[str, Any]]:
    def mount(destination: str, type: str, source: str, *options: str) -> dict[str, Any]:
        given = {"options": list(options)} if options else {}
        return {"destination": destination, "type": type, "source": source, **given}

    yield mount("/proc", "proc", "proc")
    yield mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k")
    group = [] if rootless else ["gid=5"]
    yield mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *group)
    yield mount("/dev/shm", "tmpfs", "shm", *_SAFE, "mode=1777", "size=65536k")
    yield mount("/dev/mqueue", "mqueue", "mqueue", *_SAFE)
    if rootless:
        yield mount("/sys", "none", "/sys", "rbind", *_SAFE, "ro")
    else:
        yield mount("/sys", "sysfs", "sysfs", *_SAFE, "ro")
    yield mount("/sys/fs/cgroup", "cgroup", "cgroup", *_SAFE, "relatime", "ro")


def _linux(*, rootless: bool) -> dict[str, Any]:
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "user" if rootless else "network"]
    linux: dict[str, Any] = {"namespaces": [{"type": name} for name in namespaces]}
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return linux | {"maskedPaths": list(paths.MASKED), "readonlyPaths": list(paths.READONLY)}
