"""Requests and surroundings for tests of the engine's pure parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from sampan.engine import mounts
from sampan.engine.merge import complete
from sampan.engine.resources import Machine
from sampan.engine.translate import Surroundings, translate
from sampan.engine.unbuilt import refuse_unbuilt
from sampan.spec.docker import ContainerCreate, HostConfig, decode
from sampan.spec.host import CgroupMode, Host
from sampan.spec.image import ExecutionConfig, Rootfs
from sampan.spec.runtime import Spec

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4

HOST = Host(
    architecture="x86_64",
    kernel=(6, 18),
    cgroup_mode=CgroupMode.V1,
    cgroup_controllers=frozenset({"memory", "cpu", "cpuset", "pids", "devices", "freezer"}),
    namespaces=frozenset({"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}),
)
ROOTFS = Rootfs(path="/r/rootfs", lowerdirs=("/l/top", "/l/base"), upperdir="/r/upper", workdir="/r/work")
MACHINE = Machine(frozenset({0, 1}), frozenset({0}))


def request(host_config: dict[str, Any] | None = None, **fields: Any) -> ContainerCreate:
    """Return a create body from Docker's JSON names: request({"Memory": 1}, Cmd=["true"])."""
    document = {"Image": "busybox", "Cmd": ["true"], **fields, "HostConfig": host_config or {}}
    return decode(ContainerCreate, msgspec.json.encode(document))


def completed(host_config: dict[str, Any] | None = None, image: ExecutionConfig | None = None, **fields: Any):
    body = request(host_config, **fields)
    refuse_unbuilt(body)
    return complete(body, image or ExecutionConfig())


def surroundings(body: ContainerCreate, **changes: Any) -> Surroundings:
    given: dict[str, Any] = {
        "id": ID,
        "host": HOST,
        "machine": MACHINE,
        "host_name": "thishost",
        "rootfs": ROOTFS,
        "mounts": mounts.name_volumes(mounts.wanted(body), "/v"),
        "files": "/c",
        "cgroup_parent": "/sampan-1",
        "seccomp": "default",
        "apparmor": "",
        "joins": {},
    }
    return Surroundings(**{**given, **changes})


def translated(
    host_config: dict[str, Any] | None = None,
    image: ExecutionConfig | None = None,
    *,
    given: dict[str, Any] | None = None,
    warnings: list[str] | None = None,
    **fields: Any,
) -> Spec:
    """Return the OCI configuration of a request in Docker's JSON names."""
    body = completed(host_config, image, **fields)
    return translate(body, surroundings(body, **(given or {})), [] if warnings is None else warnings)


def host_config(**fields: Any) -> HostConfig:
    return completed(fields).host_config


def until(condition: Callable[[], Any], what: str = "it", timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about in {timeout_s} s"
        time.sleep(0.01)
    return found
