"""What performing a plan needs and a plan can't hold: descriptors, numbers of processes, what was read."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import SampanError
from sampan.runtime.gate import error_of, message_of

if TYPE_CHECKING:
    from sampan.runtime.passwd import Identity

_TIMES = struct.Struct("=HQ")
_FD = struct.Struct("=i")
_MESSAGE_BYTES = 65536

MAPPED = b"m"
IN_CGROUPS = b"c"
DONE_OUTSIDE = b"o"

KILLED = 137
"""The exit code of a process whose program could not be executed, where its launcher was killed meanwhile."""


class Ready(NamedTuple):
    """The new process has done all but execute: (index, ns) of its steps, and what it did in part only."""

    steps: list[tuple[int, int]]
    warnings: list[str]


class Mounted:
    """The new process has its namespaces and mounts, and waits for what is done outside for them."""


class Reborn(NamedTuple):
    """The new process has made itself again, and ends."""

    pid: int
    pidfd: int


class Channel:
    """A socket pair's end between shim and new process; whole messages, closed by the exec."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.fd = end.fileno()

    def close(self) -> None:
        self._end.close()

    def move(self, fd: int) -> None:
        """Be at another descriptor."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, os.dup2(self.fd, fd, inheritable=False))
        self._end.close()
        self._end, self.fd = end, fd

    def send(self, message: bytes) -> None:
        self._end.send(message)

    def wait_for(self, message: bytes) -> None:
        """Wait until the other side says so. Where that was killed there is no use in going on, and nobody to tell."""
        if self._end.recv(1) != message:
            os._exit(KILLED)

    def send_console(self, master: int) -> None:
        socket.send_fds(self._end, [b"T"], [master])

    def send_ready(self, ready: Ready) -> None:
        times = b"".join(_TIMES.pack(index, ns) for index, ns in ready.steps)
        words = "\n".join(ready.warnings).encode("utf-8", "surrogateescape")
        self._end.send(b"R" + struct.pack("=H", len(ready.steps)) + times + words)

    def send_reborn(self, reborn: Reborn) -> None:
        socket.send_fds(self._end, [b"B" + _FD.pack(reborn.pid)], [reborn.pidfd])

    def send_mounted(self) -> None:
        self._end.send(b"M")

    def send_error(self, error: SampanError) -> None:
        self._end.send(message_of(error))

    def receive(self, *, wait: bool = True) -> SampanError | Ready | Mounted | Reborn | int | None:
        """Return what the new process says: an error, …, the console's master; None where it is gone or silent."""
        flags = 0 if wait else socket.MSG_DONTWAIT
        try:
            # Not socket.recv_fds: it leaves its flags out (Python 3.11).
            message, ancillary, _, _ = self._end.recvmsg(_MESSAGE_BYTES + 16, socket.CMSG_LEN(_FD.size), flags)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # it ended without having read all; what it said comes after this
            return self.receive(wait=wait)
        if message[:1] == b"T":
            (master,) = _FD.unpack(ancillary[0][2])
            os.set_inheritable(master, False)
            return int(master)
        if message[:1] == b"R":
            (count,) = struct.unpack_from("=H", message, 1)
            words = message[3 + count * _TIMES.size :].decode("utf-8", "surrogateescape")
            steps = [_TIMES.unpack_from(message, 3 + n * _TIMES.size) for n in range(count)]
            return Ready(steps, words.split("\n") if words else [])
        if message[:1] == b"B":
            (pidfd,) = _FD.unpack(ancillary[0][2])
            return Reborn(_FD.unpack(message[1:])[0], pidfd)
        if message[:1] == b"M":
            return Mounted()
        if message[:1] == b"E":
            return error_of(message)
        return None


class Scene:
    """One performance of a plan, on either side of the fork."""

    def __init__(self, root: str, channel: Channel) -> None:
        self.root = root  # the host's path of what becomes /
        self.channel = channel
        self.stdio: tuple[int, int, int] | None = None
        self.console_size: tuple[int, int] | None = None
        self.gated = False
        self.sibling = False  # the new process is a child of this one's parent
        self.container_pidfd = -1  # of the container that an exec enters
        self.gate_fd = -1  # a listening socket: who connects, and not the maker, lets it go on
        self.kept: tuple[int, ...] = ()  # descriptors that the program inherits, from 3 on
        self.proc_device = -1  # st_dev of the container's procfs
        self.pivots = True  # else the root is moved over the old one: a root on the first ramdisk can't be pivoted
        self.program = ""  # found before the process waits at a gate
        self.filters: dict[str, bytes] = {}  # by profile and variant, read before the fork
        self.machine = os.uname().machine
        self.agent_fd = -1  # a connection to the seccomp agent, and what it is told
        self.agent_document = b""
        # outside
        self.pid = -1  # of the new process; 0 in itself
        self.pidfd = -1
        self.steps: list[tuple[int, int]] = []
        self.warnings: list[str] = []
        self.console: int | None = None  # the terminal's master
        # inside
        self.root_fd = -1
        self.parent_fd = -1  # the directory inside the root that was needed last, and its path
        self.parent_path = ""
        self.overlay_fd = -1  # mounted outside, attached inside
        self.borrowed: dict[str, int] = {}  # detached mounts by their source
        self.trees: dict[str, int] = {}  # detached mounts by the target of the bind that they are for
        self.proc_fd = -1  # a procfs of our own, which nothing covers
        self.null_fd = -1
        self.empty_fd = -1
        self.slave_fd = -1
        self.arguments = (0, 0)
        self.identity: Identity | None = None

    def hear(self) -> Ready | Mounted | Reborn | None:
        """Wait, outside, for what the new process says; None where it is gone. Its errors are raised here."""
        while True:
            said = self.channel.receive()
            if isinstance(said, SampanError):
                raise said
            if not isinstance(said, int):
                return said
            self.console = said
