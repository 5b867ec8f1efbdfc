"""What can go wrong, by what the caller can do about it.

    class           HTTP  exit   the caller can
    InvalidInput     400   125   correct what was given
    NotPermitted     403   125   ask for the right, or run as another user
    NotFound         404   125   name something that exists
    Conflict         409   125   wait, rename, stop or force
    Unsupported      501   125   leave the option out, or use another kernel
    CommandNotFound  400   127   name a program that is in the container
    NotExecutable    400   126   fix the program's mode, format or interpreter
    Failed           500   125   read the cause

`message` reads `can't <verb> <object>: <cause>`, lower case; advice is in `hint`. `doing()` adds context on the way up,
and is the one place where an `OSError` becomes one of these classes.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False  # `typing` and `contextlib` would double the start of the command line, which imports this
if TYPE_CHECKING:
    from typing import ClassVar


class SampanError(Exception):
    """The base: a `message` for people and a `hint` that says what to do (may be empty)."""

    http_status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 125

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def within(self, context: str) -> SampanError:
        """Return the same error with `context: ` before its message."""
        return type(self)(f"{context}: {self.message}", self.hint)


class InvalidInput(SampanError):
    """What was given is malformed or out of range."""

    http_status = 400


class NotPermitted(SampanError):
    """The kernel or a policy refuses it to this user."""

    http_status = 403


class NotFound(SampanError):
    """There is no object of that name."""

    http_status = 404


class Conflict(SampanError):
    """The object's state, or another object, is in the way."""

    http_status = 409


class Unsupported(SampanError):
    """This host, or this version of sampan, can't do it."""

    http_status = 501


class CommandNotFound(SampanError):
    """The container's program does not exist in it."""

    http_status = 400
    exit_status = 127


class NotExecutable(SampanError):
    """The container's program is there and can't be executed."""

    http_status = 400
    exit_status = 126


class Failed(SampanError):
    """Something below failed, and no other class tells the caller more."""


CLASSES: dict[str, type[SampanError]] = {
    c.__name__: c
    for c in (
        InvalidInput,
        NotPermitted,
        NotFound,
        Conflict,
        Unsupported,
        CommandNotFound,
        NotExecutable,
        Failed,
    )
}
"""Every class by its name, which is how an error crosses a process border."""


class SyscallError(OSError):
    """A kernel call failed. `call` is its name; `filename` the path or object it was about, if any."""

    def __init__(self, error: int, call: str, path: str | None = None) -> None:
        import os

        super().__init__(error, os.strerror(error), path)
        self.call = call

    def __str__(self) -> str:
        what = f"{self.call} {self.filename}" if self.filename else self.call
        return f"{what}: {(self.strerror or '').lower()}"


_BY_ERRNO: dict[int, type[SampanError]] = {
    errno.EPERM: NotPermitted,
    errno.EACCES: NotPermitted,
    errno.ENOENT: NotFound,
    errno.EEXIST: Conflict,
    errno.EBUSY: Conflict,
    errno.EINVAL: InvalidInput,
    errno.ENOSYS: Unsupported,
    errno.EOPNOTSUPP: Unsupported,
}

_HINTS: dict[int, str] = {
    errno.EPERM: "run it as root, or as a user with the capabilities that it needs",
    errno.ENOSPC: "free some space: `sampan rmi` and `sampan rm` give back what images and containers hold",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EROFS: "choose a directory on a writable filesystem with --root or SAMPAN_ROOT",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}


def from_os_error(error: OSError) -> SampanError:
    """Turn an errno into the class and hint that fit it; the only place that does so."""
    cls = _BY_ERRNO.get(error.errno or 0, Failed)
    if isinstance(error, SyscallError):
        message = str(error)
    else:
        message = (error.strerror or str(error)).lower()
        if error.filename is not None:
            name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
            message = f"{message}: {name}"
    return cls(message, _hint(error))


def _hint(error: OSError) -> str:
    if error.errno in (errno.EROFS, errno.EACCES) and str(error.filename or "").startswith("/sys/fs/cgroup/"):
        return "sampan needs control groups that it may write to: in a container that takes --privileged (cgroups(7))"
    return _HINTS.get(error.errno or 0, "")


class doing:  # noqa: N801
    """Put `context: ` before any error raised inside, and turn an `OSError` into ours.

    `hint` is used where the error has none of its own.
    """

    __slots__ = ("context", "hint")

    def __init__(self, context: str, hint: str = "") -> None:
        self.context = context
        self.hint = hint

    def __enter__(self) -> None:
        """Nothing happens before the block."""

    def __exit__(self, cls: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error again in its context."""
        if isinstance(error, SampanError):
            raise type(error)(f"{self.context}: {error.message}", error.hint or self.hint) from error
        if isinstance(error, OSError):
            ours = from_os_error(error)
            raise type(ours)(f"{self.context}: {ours.message}", ours.hint or self.hint) from error
