"""The installed `sampan` program with a root of its own, and the proof that nothing of it is left."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PROGRAM = str(Path(sys.executable).with_name("sampan"))
CGROUPS = Path("/sys/fs/cgroup")


class Result(NamedTuple):
    """What a finished command said."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The output without the newline at its end."""
        return self.out.rstrip("\n")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def json(self) -> Any:
        return json.loads(self.out)


class Sampan:
    """Call it with a command line; it runs the installed program with this root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "SAMPAN_"))}
        self.env = {**clean, "SAMPAN_ROOT": str(root), "HOME": str(root / "home"), "LC_ALL": "C.UTF-8"}

    def __call__(
        self,
        *args: str | Path,
        check: bool = True,
        input: str | bytes | None = None,
        timeout: float = 60,
        env: Mapping[str, str] = {},
        cwd: Path | None = None,
    ) -> Result:
        """Run to the end; with `check`, an exit code other than 0 fails the test with all that was said."""
        argv = [PROGRAM, *map(str, args)]
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            argv,
            env={**self.env, **env},
            cwd=cwd,
            timeout=timeout,
            check=False,
            capture_output=True,
            **({"stdin": subprocess.DEVNULL} if data is None else {"input": data}),
        )
        result = Result(
            tuple(argv[1:]), done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and result.code != 0:
            said = f"exit code {result.code}\nstdout: {result.out}\nstderr: {result.err}{self.log()}"
            raise AssertionError(f"sampan {' '.join(result.args)}: {said}")
        return result

    def fails(self, code: int, *args: str | Path, **how: Any) -> Result:
        """Run and insist on this exit code, and on one message without a traceback."""
        result = self(*args, check=False, **how)
        assert result.code == code, (result, self.log())
        assert "Traceback" not in result.err, result.err
        return result

    def start(self, *args: str | Path, **popen: Any) -> subprocess.Popen[bytes]:
        """Start without waiting; stdout and stderr are pipes unless told otherwise."""
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        return subprocess.Popen([PROGRAM, *map(str, args)], env=self.env, **settings)

    def json(self, *args: str | Path) -> Any:
        return self(*args).json()

    def inspect(self, name: str) -> Any:
        """The only element of `sampan inspect NAME`."""
        (found,) = self.json("inspect", name)
        return found

    def log(self) -> str:
        """What keeper and server had to say, for a failing test's report."""
        try:
            return f"\nkeeper.log: {(self.run_directory / 'keeper.log').read_text()[-4000:]}"
        except OSError:
            return ""

    @property
    def run_directory(self) -> Path:
        return self.root / "run"

    @property
    def socket(self) -> Path:
        return self.run_directory / "docker.sock"

    @property
    def instance(self) -> str | None:
        """The id that is in every cgroup's name; None before the first command."""
        try:
            return (self.root / "instance").read_text().strip()
        except OSError:
            return None

    def info(self, field: str) -> int:
        """A pid of `sampan info`, asked for when it is needed (this starts keeper and server)."""
        return int(self("info", "--format", "{{." + field + "}}").line)

    def shim_pid(self, name: str) -> int:
        """The parent of the container's init."""
        pid = self.inspect(name)["State"]["Pid"]
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    def remove_everything(self) -> None:
        """Remove every container, then every image (layers are then free)."""
        for id in self("ps", "-aq", "--no-trunc").lines:
            self("rm", "-f", id)

    def leftovers(self) -> list[str]:
        """What is still there of containers that were removed. Removal goes on behind the answer: wait for it."""
        left: list[str] = last_seen(self._traces)
        return left

    def _traces(self) -> list[str]:
        found = [f"cgroup {path}" for path in self.cgroups()]
        found += [f"mount {line}" for line in self.mounts()]
        found += [f"link {name}" for _, name in socket.if_nameindex() if name.startswith(f"sp{self.instance}v")]
        for directory in (self.root / "containers", self.root / "tmp", self.run_directory / "shims"):
            if directory.is_dir():
                found += [f"directory {path}" for path in directory.iterdir()]
        found += [f"process {pid}: {text}" for pid, text in self.contained()]
        found += [f"link {name}" for name in self.links() if name[10:11] in ("v", "m")]
        return found

    def links(self) -> list[str]:
        """The instance's links in this network namespace: sp, its id, and a letter: b for bridges, v for veths."""
        return [name for _, name in socket.if_nameindex() if self.instance and name.startswith(f"sp{self.instance}")]

    def cgroups(self) -> list[str]:
        """The containers' control groups, of every hierarchy."""
        if not self.instance:
            return []
        parents = groups_named(f"sampan-{self.instance}")
        return [f"{parent}/{name}" for parent in parents for name in _names(parent) if len(name) == 64]

    def mounts(self) -> list[str]:
        """Mounts on the host at or from this root."""
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{self.root}/" in line]

    def contained(self) -> Iterator[tuple[int, str]]:
        """Processes inside this instance's containers."""
        if self.instance:
            for pid, text in _processes("cgroup"):
                if any(
                    f"/sampan-{self.instance}/" in line and len(line.rpartition("/")[2]) == 64
                    for line in text.splitlines()
                ):
                    yield pid, _read(f"/proc/{pid}/cmdline").replace("\0", " ")

    def ours(self) -> list[tuple[int, str]]:
        """Keeper, server, shims and workers of this root, and clients of it that still run."""
        return [
            (pid, text.replace("\0", " "))
            for pid, text in _processes("cmdline")
            if str(self.root) in text and "sampan" in text and pid != os.getpid()
        ]

    def _killed(self) -> bool:
        """Kill what is there, again: a server that sees its keeper's end has begun another."""
        left = [*self.ours(), *self.contained()]
        for pid, _ in left:
            _kill(pid, signal.SIGKILL)
        return not left

    def end(self) -> None:
        """Stop keeper, server and all containers, and remove the root. Kills only processes of this root."""
        for pid, text in self.ours():
            if "supervise.keeper" in text:
                _kill(pid, signal.SIGTERM)
        if not wait_until(lambda: not self.ours(), timeout=3, fail=False) or list(self.contained()):
            wait_until(self._killed, timeout=5, fail=False)
        if self.instance:
            for parent in groups_named(f"sampan-{self.instance}"):
                for path in groups_in(parent):
                    wait_until(lambda path=path: _remove_group(path), what=f"{path} is empty")
        for name in self.links():
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
        table = ["nft", "delete", "table", "inet", f"sampan-{self.instance}"]
        subprocess.run(table, check=False, capture_output=True)
        # The cover of the image `host` (rootfs/host.py), which a killed server leaves, and rootfs/writable.py's place.
        base = f"/dev/shm/sampan-{zlib.crc32(os.fsencode(os.path.realpath(self.root))):08x}"
        for path in (base, f"{base}-writable"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)


def new_root() -> Path:
    """A short path, for sockets; on the disk, since the `host` image's layers must be able to lie under an overlay."""
    return Path(tempfile.mkdtemp(prefix="sp-", dir=os.environ.get("SAMPAN_TEST_DIR", "/tmp")))


def wait_until(condition: Callable[[], object], *, timeout: float = 30, fail: bool = True, what: str = "") -> Any:
    """Return the condition's first true value; a false one at the end fails the test, or is returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            assert value or not fail, f"not within {timeout} s: {what or condition}"
            return value
        time.sleep(0.02)


def last_seen(look: Callable[[], Any], *, timeout: float = 30) -> Any:
    """Look until nothing is seen; return what the last look saw. One look more might see what has begun since."""
    seen: Any = None

    def nothing() -> bool:
        nonlocal seen
        seen = look()
        return not seen

    wait_until(nothing, timeout=timeout, fail=False)
    return seen


def has_ended(pid: int) -> bool:
    """Tell whether a process has ended; an orphan that has is there until the first process looks, seconds later."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 0)[0])
    finally:
        os.close(fd)


def command_lines(pids: Sequence[int]) -> list[str]:
    return [_read(f"/proc/{pid}/cmdline").replace("\0", " ") for pid in pids]


def _processes(file: str) -> Iterator[tuple[int, str]]:
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (text := _read(f"/proc/{entry}/{file}")):
            yield int(entry), text


def groups_named(name: str) -> list[Path]:
    """Control groups at the top of each hierarchy; `**` would fail where another's group goes while it looks."""
    return [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]


def groups_in(parent: Path) -> list[Path]:
    """A control group with all that are in it, the innermost first; those that go meanwhile are passed over."""
    return [Path(path) for path, _, _ in os.walk(parent, topdown=False)]


def _names(group: Path) -> list[str]:
    """What is in a control group's directory: nothing where its keeper has just left."""
    try:
        return os.listdir(group)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _remove_group(path: Path) -> bool:
    """Whether a control group is gone; those who were killed in it take a moment to leave."""
    try:
        path.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
