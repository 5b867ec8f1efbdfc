"""Runs hooks: programs that a configuration names for points of a container's life, with its state on their stdin.

Imported only where a configuration has hooks, and before the fork: those of `startContainer` run when the root has
changed, so nothing here imports or looks up anything, and a fork and an execve do what `subprocess` would.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed, SampanError, doing
from sampan.kernel.fds import close_range
from sampan.runtime.becoming import default_signals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.runtime import ops
    from sampan.spec.runtime import ContainerState, Hook

STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}
"""What the container is while the hooks of a stage run; runtime.md, "Lifecycle"."""

_LONGEST_WORDS = 4096  # of what a failed hook printed, its end
_LOOK_EVERY_S = 0.02
_encoder = msgspec.json.Encoder()


def run_stage(op: ops.RunHooks, pid: int, root_fd: int) -> None:
    """Perform the step: `pid` is the container's first process as those who run see it.

    Those of createContainer start in the container's root directory, which is not `/` yet; the others in the bundle,
    where there is one.
    """
    if op.stage == "createContainer":
        os.fchdir(root_fd)
    directory = op.state.bundle if op.stage in {"prestart", "createRuntime"} else ""
    _in_order(op.hooks, op.stage, msgspec.structs.replace(op.state, pid=pid), directory)
    if op.stage == "createContainer":
        os.chdir("/")


def run(hooks: Iterable[Hook], stage: str, state: ContainerState, directory: str = "") -> None:
    """Run hooks in their order; the first that fails is raised, and the others are not run."""
    with doing(f"can't run the {stage} hooks"):
        _in_order(hooks, stage, state, directory)


def run_all(hooks: Iterable[Hook], stage: str, state: ContainerState, directory: str = "") -> list[SampanError]:
    """Run all hooks, whichever fail, and return what failed: the rule of poststop."""
    failed = []
    for hook in hooks:
        try:
            run((hook,), stage, state, directory)
        except SampanError as e:
            failed.append(e)
    return failed


def _in_order(hooks: Iterable[Hook], stage: str, state: ContainerState, directory: str) -> None:
    document = _encoder.encode(msgspec.structs.replace(state, status=STATUS[stage]))
    for number, hook in enumerate(hooks):
        _run(hook, f"hook {number}, {hook.path}", document, directory)


def _run(hook: Hook, what: str, document: bytes, directory: str) -> None:
    stdin, state_in = os.pipe2(os.O_CLOEXEC)
    words_out, stdout = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(hook, stdin, stdout, directory)
    os.close(stdin)
    os.close(stdout)
    status, words = _wait(pid, state_in, words_out, document, hook.timeout)
    if status is None:
        raise Failed(f"{what}: it was killed, for it took longer than its timeout of {hook.timeout} s")
    code = os.waitstatus_to_exitcode(status)
    if code:
        how = f"exit status {code}" if code > 0 else f"signal {-code}"
        raise Failed(f"{what}: {how}" + (f": {words}" if words else ""))


def _become(hook: Hook, stdin: int, stdout: int, directory: str) -> None:
    """Be the hook: in a session of its own, with nothing open but its three descriptors."""
    try:
        default_signals()
        os.setsid()
        for target, source in ((0, stdin), (1, stdout), (2, stdout)):
            os.dup2(source, target)
        close_range(3)
        if directory:
            os.chdir(directory)
        env = dict([pair.partition("=")[::2] for pair in hook.env])
        os.execve(hook.path, hook.args or (hook.path,), env)
    except OSError as e:
        os.write(2, (e.strerror or "it can't be executed").lower().encode())
    except BaseException:
        os.write(2, b"it can't be executed")
    os._exit(127)


def _wait(pid: int, state_in: int, words_out: int, document: bytes, timeout_s: int | None) -> tuple[int | None, str]:
    """Write the state, read what the hook prints, and wait for its end: (status, words); None: it took too long."""
    deadline = time.monotonic() + timeout_s if timeout_s else None
    os.set_blocking(state_in, False)
    watch = select.poll()
    watch.register(state_in, select.POLLOUT)
    watch.register(words_out, select.POLLIN)
    words = b""
    left = {state_in, words_out}
    try:
        while True:
            # A program that the hook left in the background may hold its output open: the hook's own end counts.
            for fd, _ in watch.poll(_LOOK_EVERY_S * 1000):
                if fd == state_in:
                    document = document[_write(fd, document) :]
                    done = not document
                else:
                    chunk = os.read(fd, 65536)
                    words = (words + chunk)[-_LONGEST_WORDS:]
                    done = not chunk
                if done:
                    watch.unregister(fd)
                    left.discard(fd)
                    os.close(fd)
            ended, status = os.waitpid(pid, 0 if not left and deadline is None else os.WNOHANG)
            if ended:
                return status, _text(words, words_out if words_out in left else -1)
            if deadline is not None and time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return None, ""
            if not left:
                time.sleep(_LOOK_EVERY_S)
    finally:
        for fd in left:
            os.close(fd)


def _write(fd: int, document: bytes) -> int:
    try:
        return os.write(fd, document)
    except BrokenPipeError:  # a hook need not read its state
        return len(document)


def _text(words: bytes, fd: int) -> str:
    """Read what is there already, and make one line of all."""
    if fd >= 0:
        os.set_blocking(fd, False)
        try:
            words += os.read(fd, _LONGEST_WORDS)
        except BlockingIOError:
            pass
    return "; ".join(words.decode("utf-8", "replace").split("\n")).strip("; ")
