"""Causes that are signals: who sent the one that ended a container, or what the kernel refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.causes_told import Told
from sampan.engine.causes_ulimits import by_signal
from sampan.spec.annotations import TIMEOUT
from sampan.spec.docker.why import Cause
from sampan.units import signal_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.ending import Ending, Sent
    from sampan.spec.runtime import Spec

_FORCED = {
    4: "it executed an instruction that this processor does not have",
    5: "it ran into a breakpoint that nobody waited for",
    7: "it used memory that its file or device could not give",
    8: "it calculated what has no result, like a division by zero",
    11: "it used memory that is not its own (a segmentation fault)",
}
_SIGABRT, _SIGKILL, _SIGPIPE, _SIGTERM, _SIGXCPU, _SIGXFSZ, _SIGSYS = 6, 9, 13, 15, 24, 25, 31
_ASKS_TO_END = frozenset({1, 2, 3, _SIGTERM})
_LIKELY = "that record is of a child of its first process, as far as can be known"
_SOON_NS = 60 * 10**9


def found(body: ContainerCreate, ending: Ending, spec: Spec) -> Iterator[Cause]:
    """Yield the signal that ended the first process, or a child whose end it passed on as exit code 128 + N."""
    number = ending.signal or (ending.exit_code - 128 if 128 < ending.exit_code < 128 + 65 else 0)
    sent = _cause(ending, number)
    if number == _SIGKILL and not sent and was_out_of_memory(ending):
        return
    if sent:
        yield from _sent(body, ending, sent)
    elif number == _SIGSYS:
        yield _seccomp(body, ending)
    elif number in _FORCED:
        yield _crash(ending, number)
    elif limit := _limit(Told("", body, spec), number, passed_on=not ending.signal):
        yield limit
    elif ending.signal:
        yield _others(body, ending)
    elif number:
        yield Cause(
            kind="signal",
            said=f"its program says that {_name(number)} ended one of its children (exit code 128 + {number})",
        )


def was_out_of_memory(ending: Ending) -> bool:
    """Whether the kernel killed any of its processes for memory."""
    return bool(ending.out_of_memory or (ending.counts and ending.counts.oom_kills))


def was_asked(ending: Ending) -> bool:
    """Whether a signal ended it that came through sampan, and not the kernel's at the same time."""
    hit = any(victim.pid == ending.pid for victim in ending.out_of_memory)
    return bool(ending.sent) and ending.sent[-1].number == ending.signal and not hit


def _name(number: int) -> str:
    name = signal_name(number)
    return f"signal {name}" if name.isdigit() else name


# ------------------------------------------------------------------------------------------------------ through sampan


def _cause(ending: Ending, number: int) -> Sent | None:
    """Return what was sent through sampan and led to the end: the very signal, or one that asks for it, just before."""
    if not ending.sent:
        return None
    last = ending.sent[-1]
    if number == last.number:
        return last
    asked = last.sender.verb in ("stop", "restart") or last.number in _ASKS_TO_END
    asked = asked or (ending.unknown and last.number == _SIGKILL)
    return last if asked and not ending.signal and ending.at_ns - last.at_ns < _SOON_NS else None


def _sent(body: ContainerCreate, ending: Ending, last: Sent) -> Iterator[Cause]:
    sender = last.sender
    if sender.verb == "timeout":
        seconds = (body.host_config.annotations or {}).get(TIMEOUT, "")
        yield Cause(
            kind="timeout",
            said=f"its time was over: it may run for {seconds} s",
            fixes=("run it with a longer --timeout",),
        )
        return
    if sender.verb == "health check":
        yield Cause(kind="signal", said=f"{_name(last.number)} was sent since it was unhealthy: --health-on-failure")
        return
    if sender.verb == "startup check":
        said = (
            f"{_name(last.number)} was sent to restart it, since its startup check had failed: --health-startup-retries"
        )
        yield Cause(kind="signal", said=said)
        return
    first = next((s for s in ending.sent if s.sender == sender), last)
    patient = first is not last and last.number == _SIGKILL
    did = f"{_name(last.number)} ended it" if ending.signal == last.number else "it then ended by itself"
    if ending.unknown:
        did = "it has ended since"
    yield Cause(
        kind="stopped" if sender.verb in ("stop", "restart") else "signal",
        said=f"`{sender.verb}` was asked for by {sender.program or 'a process'} (pid {sender.pid}, uid {sender.uid}), "
        f"and {did}",
        facts=tuple(_history(ending)),
        fixes=(_deaf(body, first),) if patient else (),
    )


def _history(ending: Ending) -> Iterator[str]:
    for sent in ending.sent:
        before_s = max(0, ending.at_ns - sent.at_ns) / 1e9
        yield f"{_name(sent.number)} was sent by `{sent.sender.verb}` {before_s:.1f} s before the end"


def _deaf(body: ContainerCreate, first: Sent) -> str:
    init = "" if body.host_config.init else "--init, or "
    return (
        f"run it with {init}--stop-signal, or --stop-timeout for more time; or have it handle {_name(first.number)}, "
        "which a first process does not notice otherwise"
    )


# ---------------------------------------------------------------------------------------------------------- otherwise


def _seccomp(body: ContainerCreate, ending: Ending) -> Cause:
    own = any(o.startswith(("seccomp=", "seccomp:")) for o in body.host_config.security_opt or ())
    whose = "the profile of --security-opt seccomp" if own else "a filter that its program has set itself"
    refused = ending.forbidden[-1] if ending.forbidden else None
    call = f"the system call {refused.syscall}" if refused else "a system call"
    who = f"{refused.program} (pid {refused.pid})" if refused else "its process"
    fix = f"allow {refused.syscall if refused else 'it'} in that profile, or run with --security-opt seccomp=unconfined"
    if refused is None:
        facts = ["the kernel's log has no record of the call"]
    else:
        facts = [] if refused.pid == ending.pid else [_LIKELY]
    return Cause(
        kind="seccomp",
        said=f"SIGSYS: {who} made {call}, which {whose} kills for",
        facts=tuple(facts),
        fixes=(fix,) if own else (),
    )


def _crash(ending: Ending, number: int) -> Cause:
    facts = [f"the kernel's record: {c.program}[{c.pid}] {c.said}" for c in ending.crashes]
    if any(crash.pid != ending.pid for crash in ending.crashes):
        facts.append(_LIKELY)
    if ending.core_dumped:
        facts.append("its memory was dumped, to where kernel.core_pattern says")
    fix = "look for the fault in the program: a core dump and a debugger show the place"
    if number == 4:
        fix = "the program was built for another processor: use an image for this one, or build it anew"
    if number == 7:
        fix = "a mapped file was cut short, or /dev/shm is too small: try --shm-size"
    return Cause(kind="crash", said=f"{_name(number)}: {_FORCED[number]}", facts=tuple(facts), fixes=(fix,))


def _limit(told: Told, number: int, *, passed_on: bool) -> Cause | None:
    """Return the limit that the kernel sends this signal at: of time SIGXCPU at the soft and SIGKILL at the hard one.

    A container's first process gets no SIGXCPU or SIGXFSZ that it has no handler for, pid_namespaces(7).
    """
    if number == _SIGXFSZ:
        return by_signal(told, "fsize", _name(number))
    _, hard = told.ulimit("cpu") or (-1, -1)
    if number == _SIGXCPU or (number == _SIGKILL and not passed_on and hard >= 0):
        return by_signal(told, "cpu", _name(number))
    return None


def _others(body: ContainerCreate, ending: Ending) -> Cause:
    """A signal that neither sampan sent nor the kernel for a fault: from its own program, a limit, or from outside."""
    number = ending.signal
    if number == _SIGABRT:
        return Cause(
            kind="crash",
            said="SIGABRT: its program gave up by itself, with abort(): it says why in its output",
            facts=("its memory was dumped, to where kernel.core_pattern says",) if ending.core_dumped else (),
        )
    if number == _SIGPIPE:
        return Cause(kind="signal", said="SIGPIPE: it wrote to a pipe or a socket that nobody reads any more")
    private = not body.host_config.pid_mode
    where = (
        "a process outside of the container: those in it can't send it to their first one"
        if private and number == _SIGKILL
        else "a process of this host or of the container, or a terminal"
    )
    return Cause(
        kind="signal",
        said=f"{_name(number)} ended it, which was not sent through sampan",
        facts=(f"it came from {where}",),
        fixes=("find who sends it: a supervisor, systemd-oomd or an earlyoom of this host, an administrator",)
        if number == _SIGKILL
        else (),
    )
