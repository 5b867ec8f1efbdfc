"""Hands the listener of a seccomp filter over to the agent that is to answer; imported only where a plan has one.

The call with which the listener would be sent may be one that the filter asks about, and nobody could answer yet. So
another process sends it, which shares this one's table of descriptors and not its filter.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed
from sampan.kernel import namespaces, process, seccomp
from sampan.spec.runtime import ContainerState  # msgspec reads the annotation

if TYPE_CHECKING:
    from sampan.runtime import ops
    from sampan.runtime.scene import Scene

_CLONE_FILES = 0x400
_NUMBER_BYTES = 4


class ProcessState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the agent is sent beside the descriptor: config-linux.md, "The Container Process State"."""

    oci_version: str
    fds: tuple[str, ...] = ("seccompFd",)
    pid: int
    metadata: str
    state: ContainerState


_encoder = msgspec.json.Encoder()


def connect(path: str) -> int:
    """Connect to the agent; the caller's side sees the host's files, and has its rights."""
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.connect(path)
        return agent.detach()
    except (FileNotFoundError, ConnectionRefusedError) as e:
        raise Failed(f"nobody listens at {path}", "start the seccomp agent first") from e
    finally:
        agent.close()


def describe(op: ops.DescribeProcess, container_pidfd: int) -> bytes:
    """Write what the agent is told. The host's /proc is still in reach, and knows this process by the host's number."""
    pid = int(os.readlink("/proc/self"))
    state = msgspec.structs.replace(op.state, pid=pid if container_pidfd < 0 else process.pidfd_pid(container_pidfd))
    return _encoder.encode(ProcessState(oci_version=state.oci_version, pid=pid, metadata=op.metadata, state=state))


def set_filter(filter: bytes, flags: int, scene: Scene) -> None:
    """Set the filter, and return when the agent has its listener."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    helper, pidfd = namespaces.clone(_CLONE_FILES)
    if helper == 0:
        os._exit(_send(reader, scene))
    number = 0
    try:
        number = seccomp.set_filter(filter, flags=flags | seccomp.FLAGS["SECCOMP_FILTER_FLAG_NEW_LISTENER"])
    finally:
        os.write(writer, number.to_bytes(_NUMBER_BYTES, "little"))
        _, status = os.waitpid(helper, 0)
        for fd in (reader, writer, pidfd, scene.agent_fd, *([number] if number else [])):
            os.close(fd)
        scene.agent_fd = -1
    if status:
        raise Failed("the seccomp agent could not be sent the listener")


def _send(reader: int, scene: Scene) -> int:
    """Be the helper: wait for the listener's number, 0 where there is none, and send it."""
    try:
        number = int.from_bytes(os.read(reader, _NUMBER_BYTES), "little")
        if not number:
            return 0
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, scene.agent_fd)
        sent = socket.send_fds(agent, [scene.agent_document], [number])
        agent.sendall(scene.agent_document[sent:])
        agent.shutdown(socket.SHUT_RDWR)  # the descriptor is the other process's too, whose close may be asked about
        agent.detach()
    except OSError:
        return 1
    return 0
