"""Why a program can't be executed, by plain reads.

execve(2) says ENOENT for a missing program, a missing loader and a missing interpreter alike. Runs in the container,
after its root has become `/`.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import CommandNotFound, NotExecutable, SampanError

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_HEAD_BYTES = 4096
_SHEBANG_BYTES = 256

# e_machine of elf(5) → uname's word.
_MACHINES = {
    3: "i686", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64",
    258: "loongarch64",
}  # fmt: skip
_RUNS = {"x86_64": {"x86_64", "i686"}, "aarch64": {"aarch64", "arm"}, "ppc64le": {"ppc64"}, "armv7l": {"arm"}}


def find(name: str, path: str) -> str:
    """Find a program as execvp does: a name with a slash is a path, others are looked for in `path`."""
    if "/" in name:
        return name
    for directory in path.split(":") if name else ():
        candidate = f"{directory or '.'}/{name}"
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and mode & 0o111:
            return candidate
    raise CommandNotFound(
        f'exec: "{name}": executable file not found in $PATH',
        f"the container's PATH is {path}: name a program that is in it, or give its whole path",
    )


def why(path: str, error: OSError, machine: str) -> SampanError:
    """Say why execve(2) of `path` failed with `error` on a machine that uname(2) calls so."""
    try:
        return _why(path, error, machine)
    except OSError:
        pass  # the file can't be read: what execve said has to do
    return _plain(path, error)


def _plain(path: str, error: OSError, more: str = "", hint: str = "", *, call: str = "") -> SampanError:
    cls = CommandNotFound if error.errno in {errno.ENOENT, errno.ENOTDIR} else NotExecutable
    text = "exec format error" if error.errno == errno.ENOEXEC else os.strerror(error.errno or 0).lower()
    return cls(f'exec: "{path}": {call}{text}' + (f": {more}" if more else ""), hint)


def _why(path: str, error: OSError, machine: str) -> SampanError:
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        if os.path.islink(path) and e.errno == errno.ENOENT:
            return _plain(path, e, f"it is a link to {os.readlink(path)}, which is missing", call=f"stat {path}: ")
        return _plain(path, e, hint="name a program that the image has", call=f"stat {path}: ")
    if stat.S_ISDIR(mode):
        return NotExecutable(
            f'exec: "{path}": is a directory: permission denied', "give a program's path, not a directory's"
        )
    if not stat.S_ISREG(mode):
        return NotExecutable(f'exec: "{path}": permission denied: it is no regular file')
    if error.errno == errno.EACCES:
        return _why_denied(path, error, mode)
    if error.errno in {errno.ENOENT, errno.ENOEXEC, errno.ELOOP, errno.EINVAL, errno.ELIBBAD}:
        more, hint = describe(_head(path), machine, os.path.exists)
        return _plain(path, error, more, hint)
    if error.errno == errno.E2BIG:
        return _plain(path, error, "arguments and environment are longer than the kernel takes")
    return _plain(path, error)


def _why_denied(path: str, error: OSError, mode: int) -> SampanError:
    if not mode & 0o111:
        return _plain(path, error, "its mode has no x", f"chmod +x {path} in the image")
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return _plain(path, error, "it is on a filesystem that is mounted noexec", "mount that without noexec")
    interpreter = parse_shebang(_head(path))
    if interpreter is not None and interpreter.path and os.path.exists(interpreter.path):
        other = os.stat(interpreter.path).st_mode
        if not stat.S_ISREG(other) or not other & 0o111:
            return _plain(path, error, f"its interpreter {interpreter.path} is not executable")
    return _plain(path, error, f"user {os.geteuid()} may not execute it")


def _head(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, _HEAD_BYTES)
    finally:
        os.close(fd)


# --------------------------------------------------------------------------------------- what the first bytes say: pure


class Shebang(NamedTuple):
    """A script's first line; `carriage_return`: the line ends as Windows has it."""

    path: str
    carriage_return: bool


class Elf(NamedTuple):
    """What an ELF file is for; `loader` is its PT_INTERP, empty where static or out of the bytes at hand."""

    machine: str
    loader: str


def parse_shebang(head: bytes) -> Shebang | None:
    """Read `#!interpreter`, as the kernel's binfmt_script does; None where there is none."""
    if not head.startswith(b"#!"):
        return None
    line, newline, _ = head[2:_SHEBANG_BYTES].partition(b"\n")
    words = line.strip(b" \t").split(maxsplit=1) if not line.strip(b" \t\r") else line.strip(b" \t").split(b" ", 1)
    first = words[0].split(b"\t", 1)[0] if words else b""
    ends_so = bool(newline) and line.endswith(b"\r")
    return Shebang(first.rstrip(b"\r").decode("utf-8", "replace"), ends_so)


def parse_elf(head: bytes) -> Elf | None:
    """Read machine and loader of an ELF file; None where it is none or is cut short."""
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        return None
    order = {1: "<", 2: ">"}.get(head[5])
    if order is None or head[4] not in {1, 2}:
        return None
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    return Elf(_MACHINES.get(machine, f"machine {machine}"), _loader(head, order, wide=head[4] == 2))


def _loader(head: bytes, order: str, *, wide: bool) -> str:
    try:
        if wide:
            (table,) = struct.unpack_from(f"{order}Q", head, 32)
            size, count = struct.unpack_from(f"{order}HH", head, 54)
        else:
            (table,) = struct.unpack_from(f"{order}I", head, 28)
            size, count = struct.unpack_from(f"{order}HH", head, 42)
        for n in range(min(count, 64)):
            at = table + n * size
            if struct.unpack_from(f"{order}I", head, at)[0] == 3:  # PT_INTERP
                form, offset_at, size_at = ("Q", at + 8, at + 32) if wide else ("I", at + 4, at + 16)
                (offset,) = struct.unpack_from(f"{order}{form}", head, offset_at)
                (length,) = struct.unpack_from(f"{order}{form}", head, size_at)
                return head[offset : offset + length].split(b"\0")[0].decode("utf-8", "replace")
    except (struct.error, OverflowError):
        pass
    return ""


def describe(head: bytes, machine: str, exists: Callable[[str], bool]) -> tuple[str, str]:
    """Say (why, what to do) of a file that begins so and that the kernel didn't take; empty where nothing is seen."""
    if not head:
        return "the file is empty", ""
    script = parse_shebang(head)
    if script is not None:
        return _describe_script(script, exists)
    elf = parse_elf(head)
    if elf is None:
        if head.startswith(b"\x7fELF"):
            return "the file is cut short or damaged", ""
        return (
            "it is neither a program nor a script with a #! line",
            "begin it with #!/bin/sh, or run it by its interpreter",
        )
    if elf.machine not in _RUNS.get(machine, {machine}):
        return (
            f"it is a program for {elf.machine}, and this machine is {machine}",
            f"use an image for {machine}: --platform",
        )
    if elf.loader and not exists(elf.loader):
        return (
            f"its loader {elf.loader} is missing in the container",
            "it was linked for another C library: use an image that has it, or link it statically",
        )
    return "", ""


def _describe_script(script: Shebang, exists: Callable[[str], bool]) -> tuple[str, str]:
    if not script.path:
        return "its #! line names no interpreter", ""
    if script.carriage_return:
        return (
            f"its #! line ends in a carriage return, so the kernel looks for {script.path + chr(13)!r}",
            "it has Windows line endings: convert it with dos2unix, or set * text eol=lf in .gitattributes",
        )
    if not exists(script.path):
        return f"its interpreter {script.path} is missing in the container", "install it, or change the #! line"
    return "", ""
