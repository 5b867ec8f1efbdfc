"""Calling criu: the program, its directories, what its log says, and what it is not to leave."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.errors import Failed, InvalidInput, NotFound, Unsupported, doing
from sampan.kernel import cgroupfs, namespaces
from sampan.kernel.mount import MS, mount
from sampan.kernel.path import open_in_root
from sampan.oci.criu import Directories, last_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from sampan.oci.main import Invocation
    from sampan.oci.options import Given

_TOLD = 4000
"""How much of what criu prints is read where it has come to no log."""


def program(invocation: Invocation, verb: str) -> str:
    """Return criu's path; raise Unsupported where it is not installed."""
    asked = invocation.options.value("criu")
    found = _found(asked or "criu")
    if not found:
        raise Unsupported(
            f"can't {verb} the container: {asked or 'criu'} is not installed",
            "install the package criu (3.11 or later), or name the program: sampan-runtime --criu FILE",
        )
    return found


def _found(name: str) -> str:
    places = [""] if "/" in name else os.get_exec_path()
    tried = (os.path.abspath(os.path.join(place, name)) for place in places)
    return next((path for path in tried if os.path.isfile(path) and os.access(path, os.X_OK)), "")


def directories(given: Given, log: str) -> Directories:
    """Return where the files are to be: below the working directory unless the options say."""
    images = os.path.abspath(given.value("image-path") or "checkpoint")
    return Directories(images, os.path.abspath(given.value("work-path") or images), log)


def existing(directories: Directories) -> None:
    """Refuse images that are not there."""
    if not os.path.isdir(directories.images):
        raise NotFound(f"can't restore the container: {directories.images} is no directory", "give --image-path")


def check_parent(directories: Directories, parent: str) -> None:
    """Refuse files of a pre-dump that criu would not find: it takes them as relative to the new ones."""
    if parent and (parent.startswith("/") or not os.path.isdir(os.path.join(directories.images, parent))):
        raise InvalidInput(
            f"can't use --parent-path {parent}: it is to be a directory's path as seen from --image-path",
            "with --image-path /c/2 and a pre-dump in /c/1 it is ../1",
        )


class KeptIfWhole:
    """Make directories that are missing; when what is done then fails, remove what has come into them, or them."""

    def __init__(self, *paths: str) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self._before: dict[str, set[str] | None] = {}

    def __enter__(self) -> None:
        """Make them."""
        for path in self._paths:
            with doing(f"can't make {path}"):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                try:
                    os.mkdir(path, 0o700)
                    self._before[path] = None
                except FileExistsError:
                    self._before[path] = set(os.listdir(path))

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what has come since, unless all went well."""
        if error is None:
            return
        for path, names in reversed(self._before.items()):
            for name in set(os.listdir(path)) - (names or set()):
                os.unlink(f"{path}/{name}")
            if names is None:
                os.rmdir(path)


def resolver(root: str) -> Callable[[str], str]:
    """Return what follows the links in a path of a container, whose root is at `root`, as far as it is there."""
    real = os.path.realpath(root)

    def resolve(path: str) -> str:
        root_fd = os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = open_in_root(root_fd, path, os.O_PATH)
        except FileNotFoundError:
            return os.path.normpath(path)
        finally:
            os.close(root_fd)
        try:
            return "/" + os.readlink(f"/proc/self/fd/{fd}")[len(real) :].lstrip("/")
        finally:
            os.close(fd)

    return resolve


def call(
    words: Sequence[str],
    verb: str,
    directories: Directories,
    prepare: Callable[[], None] | None = None,
    inherited: Iterable[int] = (),
) -> None:
    """Execute criu, in a process that `prepare` is called in; raise Failed with what its log says.

    With `prepare` it has this process's standard descriptors, for the restored processes; those of `inherited` always.
    """
    with suppress(FileNotFoundError):  # or an old one would tell of another error
        os.unlink(f"{directories.work}/{directories.log}")
    printed, prints = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(words, prepare, inherited, prints)
    os.close(prints)
    with open(printed, "rb", buffering=0) as file:
        said = b""
        while len(said) < _TOLD and (more := file.read(_TOLD)):
            said += more
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        how = f"criu was killed by signal {-status}" if status < 0 else "criu failed"
        text = _log(directories) or said.decode(errors="replace")
        raise Failed(
            f"can't {verb} the container: {how}: {last_errors(text) or text.strip()[-500:] or 'it says nothing'}",
            "criu check says whether it can work on this kernel",
        )


def _become(words: Sequence[str], prepare: Callable[[], None] | None, inherited: Iterable[int], prints: int) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for fd in inherited:
            os.set_inheritable(fd, True)
        if prepare:
            prepare()
        else:
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(prints, 1)
            os.dup2(prints, 2)
        os.execv(words[0], list(words))
    except BaseException as e:
        os.write(prints, f"Error {e}\n".encode())
    finally:
        os._exit(127)


def _log(directories: Directories) -> str:
    try:
        with open(f"{directories.work}/{directories.log}", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return ""
    return text if "Error" in text else ""


def as_root_mount(root: str) -> None:
    """Make a directory a mount, which criu wants of a root, in a mount namespace of this process's own."""
    namespaces.unshare(namespaces.CLONE.NEWNS)
    mount(None, "/", None, MS.SLAVE | MS.REC)
    mount(root, root, None, MS.BIND | MS.REC)


def enter(cgroups: Iterable[tuple[str, str]]) -> None:
    """Move this process into control groups: what it makes is born there."""
    for _, directory in cgroups:
        cgroupfs.add_process(directory, 0)
