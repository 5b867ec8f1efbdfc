"""Process 1 of `--init`: passes signals on to the program, reaps what is orphaned, and ends as the program ends.

There is no binary to put into a container, so the process that was to become the program stays, and the program is its
child. This runs after everything was given up: it has the program's own user, capabilities and filter, no descriptors,
can't be traced or dumped, and imports, opens and looks up nothing any more. What remains of the interpreter is memory
that only CAP_SYS_PTRACE, which containers don't have, could read; `hide_arguments` wipes what /proc/1/cmdline would
show to everybody.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

NAME = "sampan-init"

# Kept from being passed on: what the program's own faults and this process's children raise.
_OWN = frozenset({
    signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
    signal.SIGTTIN, signal.SIGTTOU,
})  # fmt: skip
# One that waits is not lost: a process 1 drops a signal without handler, but not a blocked one; pid_namespaces(7).
_WAITED = signal.valid_signals() - _OWN - {signal.SIGKILL, signal.SIGSTOP}


def arguments_of(stat: bytes) -> tuple[int, int]:
    """Find where this process's arguments begin and end, by /proc/self/stat (fields 48 and 49), read on the host."""
    fields = stat[stat.rindex(b")") + 2 :].split()
    return int(fields[45]), int(fields[46])


def hide_arguments(start: int, end: int) -> None:
    """Overwrite the host's command line, which names directories of the host."""
    name = NAME.encode("ascii")[: end - start - 1]
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, name, len(name))


def block() -> None:
    """Before the fork: from here on signals wait for `stay`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)


def foreground() -> None:
    """In the child: take the terminal, if there is one, so that a shell's job control works; undo `block`."""
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # a background process that takes the terminal gets it
    with contextlib.suppress(OSError):
        os.tcsetpgrp(0, os.getpgrp())
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def stay(child: int) -> int:
    """Pass signals on and reap until `child` ends; return its exit code, 128 + n where signal n killed it."""
    while True:
        number = signal.sigwaitinfo(_WAITED).si_signo
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        status = _reap(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _reap(child: int) -> int | None:
    ended = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        if pid == child:
            ended = status
