"""Keep the interpreter out of a container's reach.

A container whose program is a script for /proc/self/exe has this process execute the host's interpreter once more, and
could open that file for writing as soon as nobody executes it (CVE-2019-5736). So the commands that put a process into
a container execute themselves again from a copy of the interpreter's mount that belongs to no namespace and is
read-only: /proc/PID/exe leads to a file that nobody can open for writing. Costs one bare interpreter start.

The two calls go straight through `_ctypes`: `ctypes` itself would double what is paid before the exec.
"""

from __future__ import annotations

import os
import sys

from sampan.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPEN_TREE = 428
MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOUNT_ATTR_RDONLY = b"\1" + bytes(31)
_OURS = "SAMPAN_RUNTIME_LIBRARY_PATH"
"""What LD_LIBRARY_PATH was before the exec, which the interpreter's own library may need to be found again."""


def execute_again(words: list[str]) -> None:
    """Execute this command again from behind the seal. Returns where the interpreter can't be written to anyway."""
    if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        return
    interpreter = _read_only_interpreter()
    if interpreter < 0:
        raise Unsupported(
            "can't keep the interpreter out of the container's reach: the kernel makes no copy of its mount",
            "that takes CAP_SYS_ADMIN and Linux 5.12",
        )
    flags = ["-I", "-S"] + (["-B"] if sys.dont_write_bytecode else [])
    os.execve(interpreter, [sys.executable, *flags, "-c", _program(), *words], _environment())


def _read_only_interpreter() -> int:
    """Return a descriptor of the interpreter in a detached, read-only mount; below 0 where that can't be made."""
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
    """Return the program that goes on: this package and msgspec by their directories, and nothing of `site`."""
    needed = [p for p in sys.path if p and any(os.path.isdir(f"{p}/{name}") for name in ("sampan", "msgspec"))]
    return (
        f"import sys; sys.path[:0] = {needed!r}; from sampan.oci import seal, main; "
        "seal.forget(); sys.exit(main.main(sealed=True))"
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
    """Behind the seal: be as if LD_LIBRARY_PATH had never been changed, for hooks and criu."""
    before = os.environ.pop(_OURS, None)
    if before:
        os.environ["LD_LIBRARY_PATH"] = before
    elif before is not None:
        del os.environ["LD_LIBRARY_PATH"]
