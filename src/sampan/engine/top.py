"""`top`: the processes of a container, in ps's columns."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import time
from typing import TYPE_CHECKING

from sampan.engine import top_descriptors
from sampan.engine.lifecycle import Verb
from sampan.engine.reaching import ask
from sampan.errors import Failed, InvalidInput, Unsupported
from sampan.runtime import control
from sampan.spec.docker import ContainerTopResponse
from sampan.supervise import messages

if TYPE_CHECKING:
    from sampan.engine.core import Core
    from sampan.engine.registry import Container

_TITLES = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_TICKS = os.sysconf("SC_CLK_TCK")


def top(core: Core, container: Container, ps_args: str | None) -> ContainerTopResponse:
    """Return the rows of `ps -ef`, or of Podman's descriptors, read from /proc; with other arguments what ps says."""
    status = ask(container, Verb.TOP, messages.Hello(), messages.Status)
    pids = control.processes(status.cgroups)
    if not ps_args or ps_args == "-ef":
        rows = [row for pid in sorted(pids) if (row := _row(pid))]
        core.tell(container, "top")
        return ContainerTopResponse(titles=_TITLES, processes=tuple(rows))
    words = _words(ps_args)
    if names := top_descriptors.descriptors(words):
        titles, processes = top_descriptors.table(names, sorted(pids))
        response = ContainerTopResponse(titles=titles, processes=processes)
    else:
        response = _ps(words, set(pids))
    core.tell(container, "top")
    return response


def _words(ps_args: str) -> list[str]:
    try:
        words = shlex.split(ps_args)
    except ValueError as e:
        raise InvalidInput(f"can't read the arguments of ps: {str(e).lower()}: {ps_args}") from e
    if "\0" in ps_args:
        raise InvalidInput("the arguments of ps hold a zero byte")
    return words


def _row(pid: int) -> tuple[str, ...] | None:
    """Return one process's row; None when it has ended. Source: proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    started = _boot_time() + int(fields[19]) / _TICKS
    elapsed = max(1.0, time.time() - started)
    return (
        _user(uid),
        str(pid),
        fields[1],
        str(min(99, int(ticks / _TICKS * 100 / elapsed))),
        _stime(started),
        top_descriptors.terminal(int(fields[4])),
        _hms(ticks // _TICKS),
        command or f"[{name}]",
    )


def _boot_time() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _stime(started: float) -> str:
    then, now = time.localtime(started), time.localtime()
    if (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday):
        return time.strftime("%H:%M", then)
    return time.strftime("%b%d" if then.tm_year == now.tm_year else "%Y", then)


def _hms(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _ps(args: list[str], pids: set[int]) -> ContainerTopResponse:
    """Run the host's ps and keep the container's rows: it needs a PID column, as Docker's does.

    By itself `ps -o pid` leaves out who has a terminal; but some options (f) can't be used together with -q, and it
    takes no more pids than an argument may be long.
    """
    try:
        output = _run(["ps", *args, f"-q{','.join(map(str, sorted(pids)))}"])
    except Failed:
        output = _run(["ps", *args])
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidInput("Couldn't find PID field in ps output", "let the arguments include the column pid")
    at = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) == len(titles) and fields[at].isdigit() and int(fields[at]) in pids:
            rows.append(tuple(fields))
    return ContainerTopResponse(titles=tuple(titles), processes=tuple(rows))


def _run(argv: list[str]) -> str:
    """Run a program of the host without forking this process (posix_spawn uses vfork), and return its output."""
    read, write = os.pipe2(os.O_CLOEXEC)
    errors_read, errors_write = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, errors_write, 2)]
        pid = os.posix_spawnp(argv[0], argv, dict(os.environ), file_actions=actions)
    except OSError as e:
        os.close(read)
        os.close(errors_read)
        if e.errno != errno.ENOENT:
            raise Failed(f"ps: {os.strerror(e.errno or errno.EIO).lower()}") from None
        raise Unsupported(
            f"can't run {argv[0]}: the host has none", "leave the arguments out: then /proc is read directly"
        ) from None
    finally:
        os.close(write)
        os.close(errors_write)
    with os.fdopen(read, errors="replace") as output, os.fdopen(errors_read, errors="replace") as errors:
        text = output.read()
        problem = errors.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        said = problem.strip().partition("\n")[0]  # the first line says why; the rest is its usage
        raise Failed(f"ps: {said or f'exit status {status}'}")
    return text
