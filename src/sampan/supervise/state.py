"""What a shim knows, on the disk: RUN/shims/ID/state.json, for whoever comes after a killed shim.

It is a `Status` with what a new shim needs beside it. Written to a new file and renamed: one reads the old or the new.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import msgspec

from sampan.spec.ending import Sent
from sampan.supervise.messages import ExecStatus, Exited, LogConfig, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.dirs import Dirs

FILE = "state.json"
SOCKET = "shim.sock"
PORTS = "ports.json"  # see `binding`


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process that the shim is or was the parent of."""

    name: str  # "" the container's init, else the exec's id
    pid: int
    start_time: int
    streams: tuple[tuple[str, int], ...] = ()  # (stream, inode of the pipe; 0 for a terminal)


class State(Status, frozen=True, kw_only=True, tag="status"):
    """The file's content."""

    boot_id: str = ""
    tasks: tuple[Task, ...] = ()  # those that run
    stdin_once: bool = False
    own_pid_namespace: bool = True  # with its init all processes of the container have ended
    log: LogConfig = LogConfig(path=None)
    names_ports: tuple[int, int] = (0, 0)  # of the name server: UDP, TCP; its successor has the same
    sent: tuple[Sent, ...] = ()  # the latest signals that came by `Signal`, each from before it was sent


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(State).decode

_BACKLOG = 16


def write(directory_fd: int, state: State) -> None:
    """Replace the state file in a shim's directory."""
    fd = os.open(f"{FILE}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    text = encode(state)
    try:
        if os.write(fd, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), FILE)
    finally:
        os.close(fd)
    os.rename(f"{FILE}.new", FILE, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)


def read(directory: str) -> State | None:
    """Return what a shim wrote last; None where it had written nothing, or what can't be read."""
    try:
        with open(f"{directory}/{FILE}", "rb", buffering=0) as file:
            return decode(file.readall())
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def listen(directory_fd: int) -> socket.socket:
    """Bind shim.sock in a shim's directory, in the place of one that a killed shim may have left."""
    path = f"/proc/self/fd/{directory_fd}/{SOCKET}"
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(path)
    except OSError:
        os.unlink(path)
        listening.bind(path)
    os.chmod(path, 0o600)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


def connect(directory: str, name: str) -> socket.socket | None:
    """Connect to the shim, or to whoever else listens at socket `name`, in a directory; None if nobody does."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    except OSError:
        sock.close()
        return None
    finally:
        os.close(fd)
    return sock


def remove(directory: str) -> None:
    """Remove a shim's directory; that it is gone is fine."""
    for name in (SOCKET, FILE, f"{FILE}.new", PORTS, f"{PORTS}.new"):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return file.readall().decode().strip()


def ids(dirs: Dirs) -> Iterator[str]:
    """Yield the containers that have, or had, a shim."""
    try:
        yield from sorted(os.listdir(dirs.shims))
    except FileNotFoundError:
        return


def dead(state: State, exited: Exited) -> State:
    """Return the state of a container that has ended while nobody looked."""
    execs = tuple(
        e if e.exit_code is not None else ExecStatus(exec_id=e.exec_id, pid=e.pid, exit_code=137) for e in state.execs
    )
    return msgspec.structs.replace(state, phase="exited", exited=exited, execs=execs, tasks=())
