"""`top` with Podman's descriptors, as `user,hpid,seccomp` or `%U %C`: a process as it and as the host sees it.

Titles and values are those of containers/psgo. All comes from /proc, see proc(5); names inside are of the container's
own /etc/passwd and /etc/group.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from typing import TYPE_CHECKING

from sampan.build.configuration import go_duration
from sampan.kernel.credentials import CAPABILITIES
from sampan.kernel.path import read_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_NS = 10**9
_LONGEST_FILE = 1 << 20
_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}
_UNKNOWN = "?"
_Known = dict[tuple[int, int, str], dict[int, str]]
"""Names by number, of files that are known by their root and their path in it."""


def descriptors(words: Iterable[str]) -> tuple[str, ...]:
    """Return the descriptors that words name, as `pid,comm` or `%C`; none where one of them is something else."""
    names = [name for word in words for name in word.split(",")]
    found = tuple(_AIX.get(name, name) for name in names)
    return found if all(name in _COLUMNS for name in found) else ()


def table(names: Sequence[str], pids: Iterable[int]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return titles and rows; a process that ends meanwhile has none."""
    rows = []
    known: _Known = {}
    for pid in pids:
        try:
            process = _Process(pid, known)
            rows.append(tuple(_COLUMNS[name][1](process) for name in names))
        except OSError:
            continue
    return tuple(_COLUMNS[name][0] for name in names), tuple(rows)


class _Process:
    """What /proc says of one process."""

    def __init__(self, pid: int, known: _Known) -> None:
        self.pid = pid
        self._known = known
        text = self.read("stat")
        self.name = text[text.index("(") + 1 : text.rindex(")")]
        self.stat = text[text.rindex(")") + 2 :].split()  # [0] is the state, the third field of proc(5)
        lines = (line.partition(":") for line in self.read("status").splitlines())
        self.status = {name: value.split() for name, _, value in lines}

    def read(self, name: str) -> str:
        with open(f"/proc/{self.pid}/{name}", "rb") as file:
            return file.read(_LONGEST_FILE).decode(errors="replace")

    @property
    def started(self) -> float:
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return boot + int(self.stat[19]) / _TICKS

    @property
    def cpu_ns(self) -> int:
        return (int(self.stat[11]) + int(self.stat[12])) * _NS // _TICKS

    @property
    def elapsed_ns(self) -> int:
        return max(1, int((time.time() - self.started) * _NS))

    def _names(self, path: str) -> dict[int, str]:
        """Return names by number of a file in its root, which others have as well."""
        try:
            root = os.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_CLOEXEC)
        except OSError:  # a zombie has none
            return {}
        try:
            status = os.fstat(root)
            key = status.st_dev, status.st_ino, path
            if key not in self._known:
                self._known[key] = _names(read_in_root(root, path, _LONGEST_FILE))
            return self._known[key]
        finally:
            os.close(root)

    def user(self, field: int) -> str:
        """Its own name of one of its users (0 the real, 1 the effective one)."""
        id = self._inside("uid_map", int(self.status["Uid"][field]))
        return self._names("etc/passwd").get(id, str(id))

    def group(self, id: int) -> str:
        inside = self._inside("gid_map", id)
        return self._names("etc/group").get(inside, str(inside))

    def _inside(self, name: str, id: int) -> int:
        for line in self.read(name).splitlines():
            inside, outside, count = map(int, line.split())
            if outside <= id < outside + count:
                return inside + id - outside
        return 65534  # who has no id there: user_namespaces(7)

    def parent(self) -> str:
        """Its parent's number inside, 0 for one that is outside."""
        parent = int(self.status["PPid"][0])
        try:
            with open(f"/proc/{parent}/status") as file:
                numbers = next((line.split()[1:] for line in file if line.startswith("NSpid:")), [])
        except OSError:
            return "0"
        return numbers[-1] if len(numbers) == len(self.status["NSpid"]) else "0"

    def capabilities(self, field: str) -> str:
        bits = int(self.status[field][0], 16)
        return ",".join(sorted(n.removeprefix("CAP_") for n, bit in CAPABILITIES.items() if bits >> bit & 1)) or "none"

    def command(self) -> str:
        return self.read("cmdline").replace("\0", " ").strip() or f"[{self.name}]"

    def label(self) -> str:
        try:
            return self.read("attr/current").strip("\0\n") or _UNKNOWN
        except OSError:
            return _UNKNOWN


def _names(text: bytes) -> dict[int, str]:
    """Return names by number, the first one where several have it."""
    fields = [line.split(":") for line in text.decode("latin-1").splitlines()]
    pairs = [(int(f[2]), f[0]) for f in fields if len(f) > 2 and f[2].isascii() and f[2].isdecimal()]
    return dict(reversed(pairs))


def _host_user(process: _Process) -> str:
    uid = int(process.status["Uid"][1])
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _host_group(id: str) -> str:
    try:
        return grp.getgrgid(int(id)).gr_name
    except KeyError:
        return id


def terminal(device: int) -> str:
    """Return the name of a process's terminal, by its number in /proc/PID/stat."""
    major, minor = os.major(device), os.minor(device)
    if device == 0:
        return _UNKNOWN
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major <= 143 else f"tty{minor}"


def _started(process: _Process) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(process.started))


_AIX = {
    "%C": "pcpu", "%G": "group", "%P": "ppid", "%U": "user", "%a": "args", "%c": "comm", "%g": "rgroup", "%n": "nice",
    "%p": "pid", "%r": "pgid", "%t": "etime", "%u": "ruser", "%x": "time", "%y": "tty", "%z": "vsz",
}  # fmt: skip

_COLUMNS: dict[str, tuple[str, Callable[[_Process], str]]] = {
    "args": ("COMMAND", _Process.command),
    "capamb": ("AMBIENT CAPS", lambda process: process.capabilities("CapAmb")),
    "capbnd": ("BOUNDING CAPS", lambda process: process.capabilities("CapBnd")),
    "capeff": ("EFFECTIVE CAPS", lambda process: process.capabilities("CapEff")),
    "capinh": ("INHERITED CAPS", lambda process: process.capabilities("CapInh")),
    "capprm": ("PERMITTED CAPS", lambda process: process.capabilities("CapPrm")),
    "comm": ("COMMAND", lambda process: process.name),
    "etime": ("ELAPSED", lambda process: go_duration(process.elapsed_ns)),
    "group": ("GROUP", lambda process: process.group(int(process.status["Gid"][1]))),
    "groups": ("GROUPS", lambda process: ",".join(process.group(int(id)) for id in process.status["Groups"])),
    "hgroup": ("HGROUP", lambda process: _host_group(process.status["Gid"][1])),
    "hgroups": ("HGROUPS", lambda process: ",".join(map(_host_group, process.status["Groups"]))),
    "hpid": ("HPID", lambda process: str(process.pid)),
    "huser": ("HUSER", _host_user),
    "label": ("LABEL", _Process.label),
    "nice": ("NI", lambda process: process.stat[16]),
    "pcpu": ("%CPU", lambda process: f"{process.cpu_ns / process.elapsed_ns * 100:.3f}"),
    "pgid": ("PGID", lambda process: process.status["NSpgid"][-1]),
    "pid": ("PID", lambda process: process.status["NSpid"][-1]),
    "ppid": ("PPID", _Process.parent),
    "rgroup": ("RGROUP", lambda process: process.group(int(process.status["Gid"][0]))),
    "rss": ("RSS", lambda process: str(int(process.stat[21]) * _PAGE_KIB)),
    "ruser": ("RUSER", lambda process: process.user(0)),
    "seccomp": ("SECCOMP", lambda process: _SECCOMP.get(process.status["Seccomp"][0], _UNKNOWN)),
    "state": ("STATE", lambda process: process.stat[0]),
    "stime": ("STIME", _started),
    "time": ("TIME", lambda process: go_duration(process.cpu_ns)),
    "tty": ("TTY", lambda process: terminal(int(process.stat[4]))),
    "user": ("USER", lambda process: process.user(1)),
    "vsz": ("VSZ", lambda process: str(int(process.stat[20]) // 1024)),
}
"""Descriptor to its title, and what gives its value."""
