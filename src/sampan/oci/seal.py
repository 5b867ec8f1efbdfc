"""Keep the interpreter out of a container's reach.

A container whose program is a script for /proc/self/exe has this process execute the host's interpreter once more, and
could open that file for writing as soon as nobody executes it (CVE-2019-5736). So the commands that put a process into
a container run by an interpreter on a read-only mount, of which /proc/PID/exe leads to nothing that can be written.

* `execute_again`: from a copy of the interpreter's mount that belongs to no namespace; a second interpreter start.
* `prepare`: the first command that needed that leaves START/SCRIPT/, with which the next ones need it no more: the
  script finds the interpreter there, bound onto `python` read-only, `interpreter`, a link to the file that it is bound
  from, and `main.py`. It goes with the machine's next start; an interpreter that was replaced is bound anew.
"""

from __future__ import annotations

import os
import sys

from sampan.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

START = "/run/sampan-runtime/start"
"""The script knows this path."""

OPEN_TREE = 428
MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOUNT_ATTR_RDONLY = b"\1" + bytes(31)
_OURS = "SAMPAN_RUNTIME_LIBRARY_PATH"
"""What LD_LIBRARY_PATH was before the exec, which the interpreter's own library may need to be found again."""
_SCRIPT = "SAMPAN_RUNTIME_SCRIPT"
"""The path by which the script was called."""


def sealed() -> bool:
    """Whether this interpreter can't be written to through /proc/self/exe."""
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)


def execute_again(words: list[str]) -> None:
    """Execute this command again by a sealed interpreter."""
    interpreter = _read_only_interpreter()
    if interpreter < 0:
        raise Unsupported(
            "can't keep the interpreter out of the container's reach: the kernel makes no copy of its mount",
            "that takes CAP_SYS_ADMIN and Linux 5.12",
        )
    if script := os.environ.get(_SCRIPT):
        prepare(script)
    program = f"{_program()}; main(behind=True)"
    os.execve(interpreter, [sys.executable, "-I", "-S", "-c", program, *words], _environment())


def _read_only_interpreter() -> int:
    """Return a descriptor of the interpreter in a detached, read-only mount; below 0 where that can't be made.

    The calls go straight through `_ctypes`: `ctypes` itself would double what is paid before the exec.
    """
    import _ctypes

    itself: Any = None  # what the stubs of dlopen(3) do not know
    call = _ctypes.dlsym(_ctypes.dlopen(itself, os.RTLD_NOW), "syscall")

    def syscall(*arguments: int | bytes) -> int:
        result: int = _ctypes.call_function(call, arguments)
        return result

    fd = syscall(OPEN_TREE, _AT_FDCWD, b"/proc/self/exe", _OPEN_TREE_CLONE | os.O_CLOEXEC)
    if fd < 0 or syscall(MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, _MOUNT_ATTR_RDONLY, len(_MOUNT_ATTR_RDONLY)) < 0:
        return -1
    return fd


def _program() -> str:
    """Return how a program begins that finds this package and msgspec, and needs nothing of `site`."""
    needed = [p for p in sys.path if p and any(os.path.isdir(f"{p}/{name}") for name in ("sampan", "msgspec"))]
    return (
        f"import sys; sys.path[:0] = {needed!r}; from sampan.oci import lean; lean.install(); "
        "from sampan.oci.main import main"
    )


def _environment() -> dict[str, str]:
    """Have the interpreter find its own library where it is linked to it by $ORIGIN, which the seal changes."""
    environment = dict(os.environ)
    with open("/proc/self/maps", "rb", buffering=0) as file:
        maps = os.fsdecode(file.readall())
    at = maps.find("/libpython")
    if at >= 0:
        directory = maps[maps.rfind(" ", 0, at) + 1 : at]
        environment[_OURS] = before = environment.get("LD_LIBRARY_PATH", "")
        environment["LD_LIBRARY_PATH"] = f"{directory}:{before}" if before else directory
    return environment


def forget() -> None:
    """Behind the seal: be as if LD_LIBRARY_PATH had never been changed, for hooks."""
    before = os.environ.pop(_OURS, None)
    if before:
        os.environ["LD_LIBRARY_PATH"] = before
    elif before is not None:
        del os.environ["LD_LIBRARY_PATH"]


# ------------------------------------------------------------------------------------------------- for the next time


def prepare(script: str) -> None:
    """Leave a sealed interpreter for the next commands of a script, unless that has been found not to work here."""
    directory = f"{START}{script}"
    if not script.startswith("/") or os.path.normpath(script) != script or os.path.exists(f"{directory}/unusable"):
        return
    try:
        os.makedirs(directory, 0o711, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # not root's machine, or no writable /run: every command seals itself then
        return
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _bind(directory, os.readlink("/proc/self/exe"))
    except OSError:  # another command is at it, or mounts can't be made here
        pass
    finally:
        os.close(lock)


def _bind(directory: str, interpreter: str) -> None:
    from sampan.kernel.mount import MS, mount, umount

    target, link = f"{directory}/python", f"{directory}/interpreter"
    if os.path.lexists(link):  # of an interpreter that was replaced
        os.unlink(link)
    if not os.path.exists(target):
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        while True:
            umount(target, detach=True)
    except OSError:  # nothing is mounted there any more; of a file of the same filesystem `ismount` says no
        pass
    mount(interpreter, target, None, MS.BIND)
    # A bind mount ignores MS_RDONLY until it is remounted; mount(2), NOTES.
    mount(None, target, None, MS.REMOUNT | MS.BIND | MS.RDONLY | MS.NOSUID | MS.NODEV)
    with open(f"{directory}/main.py", "w") as file:
        file.write(f"{_program().replace('; ', chr(10))}\nmain(behind=True)\n")
    if _starts(target):
        os.symlink(interpreter, link)  # last: the script looks for it
    else:
        umount(target, detach=True)
        os.close(os.open(f"{directory}/unusable", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _starts(interpreter: str) -> bool:
    """Whether it finds its library and its modules by another path: a relocatable one does not."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open("/dev/null", os.O_RDWR), 2)
            os.execve(interpreter, [interpreter, "-I", "-S", "-c", "import ctypes, fcntl, _json"], {})
        finally:
            os._exit(127)
    return os.waitpid(pid, 0)[1] == 0
