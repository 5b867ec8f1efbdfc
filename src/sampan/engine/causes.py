"""From the facts of a container's end to what caused it and what would help. Pure.

Each rule looks for one cause. The first that is found is what ended the container; the others had a part in it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from sampan.engine import causes_signals
from sampan.engine.causes_said import full_heap, no_memory, short_of_room
from sampan.engine.causes_told import NO_SPEC, Told
from sampan.engine.causes_ulimits import memory as ulimit_of_memory
from sampan.engine.causes_words import told_by
from sampan.engine.health_options import action
from sampan.engine.health_policy import check_of
from sampan.spec.docker.why import Cause
from sampan.spec.ending import Ending
from sampan.spec.state import Status
from sampan.units import format_bytes_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.spec.docker import ContainerCreate, RestartPolicy
    from sampan.spec.ending import Counts, OutOfMemory
    from sampan.spec.runtime import Spec
    from sampan.spec.state import Probe, State

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_KINDS = {_NOT_EXECUTABLE: "not-executable", _NOT_FOUND: "command-not-found"}
_LATEST = 10  # lines: what was said before may have been got over
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "python", "python3"})


class Facts(NamedTuple):
    """All that is known. `program`: what was found of one that the container's shell could not run: why, and a hint.

    `now`: what the control groups of a container that runs have counted.
    """

    name: str
    state: State
    body: ContainerCreate
    output: tuple[str, ...] = ()
    program: tuple[str, str] | None = None
    now: Counts | None = None
    spec: Spec = NO_SPEC
    removed: bool = False  # there is nothing any more that could be updated

    @property
    def ending(self) -> Ending:
        """The latest end."""
        return self.state.ending or Ending(at_ns=self.state.finished_at_ns, exit_code=self.state.exit_code)

    def update(self, flags: str) -> str:
        """Return how it gets what these flags say."""
        return f"run it with {flags}" if self.removed else f"sampan update {flags} {self.name}"

    @property
    def ended(self) -> bool:
        """Whether there was one that is of interest: it does not run since, or is to be started again."""
        if self.state.ending is None:
            return False
        return not self.state.alive or self.state.restart_count > 0 or self._ended_by_check

    @property
    def _ended_by_check(self) -> bool:
        """Whether a check of it has had it restarted."""
        verbs = {sent.sender.verb for sent in self.ending.sent}
        annotations = self.body.host_config.annotations or {}
        return "startup check" in verbs or ("health check" in verbs and action(annotations) == "restart")


def causes(facts: Facts) -> tuple[Cause, ...]:
    """Return what ended a container or ails it, the most telling first."""
    found: list[Cause] = [*_ailing(facts)]
    if facts.ended:
        found += _endings(facts)
    elif facts.state.status is Status.CREATED:
        found.append(
            Cause(
                kind="never-started",
                said="it has been created, and nobody has started it",
                fixes=(f"sampan start {facts.name}",),
            )
        )
    elif not facts.state.alive and not found:
        found.append(Cause(kind="exited", said=_exited(facts.ending.exit_code)))
    return (*found, *_restarting(facts))


def _endings(facts: Facts) -> Iterator[Cause]:
    """Yield what ended it; where only the program knows, that comes last."""
    ending = facts.ending
    if ending.error:
        yield Cause(
            kind=_KINDS.get(ending.exit_code, "start-failed"),
            said=f"it could not be started: {ending.error}",
            fixes=(ending.hint,) if ending.hint else (),
        )
        return
    signals = list(causes_signals.found(facts.body, ending, facts.spec))
    if causes_signals.was_asked(ending):
        yield from signals
        return
    certain = [*_unknown(facts), *_memory(facts, ending.counts, ending.out_of_memory), *signals]
    limits = [*_forks(facts, ending.counts), *short_of_room(facts.body, ending, facts.output[-_LATEST:])]
    if certain and all(cause.kind == "crash" for cause in certain):
        yield from _refused_memory(facts)  # what a program aborts for
    found = [*certain, *limits]
    if not certain and ending.exit_code:
        found += _said(facts, alone=not limits)
    yield from found or [_left(facts)]


def _said(facts: Facts, *, alone: bool) -> Iterator[Cause]:
    """Yield what its output tells. `alone`: nothing else is known, so that the last line which says anything counts."""
    found = list(_refused_memory(facts))
    if facts.program:
        said, hint = facts.program
        kind = _KINDS.get(facts.ending.exit_code, "not-executable")  # a shell has tried to read it as its script
        found.append(Cause(kind=kind, said=said, fixes=(hint,) if hint else ()))
    if alone and not found and (cause := told_by(facts.output[-_LATEST:], facts.body, facts.spec)):
        found.append(cause)
    yield from found


# ------------------------------------------------------------------------------------------------------- while it runs


def _ailing(facts: Facts) -> Iterator[Cause]:
    """Yield what its health check says, also of one that was ended for it, and which limits it has met."""
    if facts.now:
        yield from _memory(facts, facts.now, ())
        yield from _stalled(facts, facts.now)
        yield from _forks(facts, facts.now)
    health, check = facts.state.health, check_of(facts.body)
    if health is None or not health.log or health.log[-1].exit_code == 0:
        return
    starts = check is not None and check.starts(health)
    if failed := health.startup.failures if starts else health.failing_streak:
        run = check.startup if check and starts else check
        yield _failing(facts, shlex.join(run.command) if run else "", failed, starts=starts)


def _failing(facts: Facts, command: str, failed: int, *, starts: bool) -> Cause:
    assert facts.state.health is not None
    last, what = facts.state.health.log[-1], "startup check" if starts else "health check"
    times = "once" if failed == 1 else f"{failed} times" if starts else f"{failed} times in a row"
    return Cause(
        kind="unhealthy",
        said=f"its {what} has failed {times}: `{command}` {_probe_ended(last)}",
        facts=tuple(f"the check said: {line}" for line in last.output.splitlines()[-5:]),
        fixes=(_probe_fix(facts, command, last, "health-startup" if starts else "health"),),
    )


def _probe_ended(probe: Probe) -> str:
    return "took too long" if probe.exit_code < 0 else f"ended with exit code {probe.exit_code}"


def _probe_fix(facts: Facts, command: str, probe: Probe, flags: str) -> str:
    by_hand = f"sampan exec {facts.name} {command}"
    if not facts.state.alive:
        by_hand = f"sampan start {facts.name}, then {by_hand}"
    if probe.exit_code < 0:
        return f"give it more time with --{flags}-timeout, or find what it waits for: {by_hand}"
    if probe.exit_code in _KINDS:
        return f"what the check runs is not in the image: change --{flags}-cmd, or install it"
    return f"run the check by hand: {by_hand}"


def _restarting(facts: Facts) -> Iterator[Cause]:
    policy, state = facts.body.host_config.restart_policy, facts.state
    if state.status is Status.RESTARTING:
        yield Cause(
            kind="restarting",
            said=f"it is being started again, for the {_nth(state.restart_count)} time, by --restart {_policy(policy)}",
            fixes=(facts.update("--restart no"),),
        )
    elif not state.alive and 0 < policy.maximum_retry_count <= state.restart_count:
        yield Cause(
            kind="restarting",
            said=f"it has been started again {state.restart_count} times, which is all that {_policy(policy)} allows",
            fixes=(f"sampan start {facts.name}",),
        )


def _policy(policy: RestartPolicy) -> str:
    return f"{policy.name}:{policy.maximum_retry_count}" if policy.maximum_retry_count else policy.name


def _nth(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


# ------------------------------------------------------------------------------------------------------------- limits


def _unknown(facts: Facts) -> Iterator[Cause]:
    if facts.ending.unknown:
        yield Cause(
            kind="unknown",
            said="how it ended is not known: nobody was left to see it",
            facts=("its shim and the keeper were killed, or the machine went down",),
        )


def _memory(facts: Facts, counts: Counts | None, victims: tuple[OutOfMemory, ...]) -> Iterator[Cause]:
    """Tell whose memory it was that was too little. A parent group's limit looks like none of the container's."""
    if not victims and not (counts and counts.oom_kills):
        return
    limit = counts.memory_limit if counts else 0
    host = any(v.host for v in victims)
    who = f"its process {victims[-1].program} (pid {victims[-1].pid})" if victims else "one of its processes"
    if host:
        why, fix = (
            "this machine was out of memory",
            "free memory on this machine, or limit what its containers may take: --memory",
        )
    elif limit:
        why, fix = f"it was at its limit of {format_bytes_binary(limit)}", _more_memory(facts, limit)
    else:
        why, fix = (
            "a control group that it is in was at its limit",
            "find that limit: it is on a parent of the container's group",
        )
    yield Cause(
        kind="out-of-memory",
        said=f"out of memory: the kernel killed {who}, since {why}",
        facts=tuple(_memory_facts(victims, counts)),
        fixes=(fix,),
    )


def _stalled(facts: Facts, counts: Counts) -> Iterator[Cause]:
    if counts.stalled:
        yield Cause(
            kind="out-of-memory",
            said=f"it stands still: it is at its limit of {format_bytes_binary(counts.memory_limit)}, where "
            "--oom-kill-disable has it wait for memory",
            fixes=(_more_memory(facts, counts.memory_limit),),
        )


def _memory_facts(victims: tuple[OutOfMemory, ...], counts: Counts | None) -> Iterator[str]:
    if counts and counts.memory_peak:
        yield f"the most that it has used was {format_bytes_binary(counts.memory_peak)}"
    for victim in victims[-3:]:
        yield (
            f"the kernel's record: killed process {victim.pid} ({victim.program}), "
            f"{format_bytes_binary(victim.resident)} resident"
        )
    if counts and counts.oom_kills > 1:
        yield f"{counts.oom_kills} of its processes were killed so"


def _more_memory(facts: Facts, limit: int) -> str:
    larger, swap = 2 * limit, facts.body.host_config.memory_swap
    more = f" --memory-swap {_flag(2 * larger)}" if 0 < swap < larger else ""
    return facts.update(f"--memory {_flag(larger)}{more}")


def _refused_memory(facts: Facts) -> Iterator[Cause]:
    """Nothing was killed, but the program was told that there is no memory, and said so."""
    line, counts = no_memory(facts.output), facts.ending.counts
    if not line:
        return
    limit = counts.memory_limit if counts and counts.memory_refused else 0
    heap, ulimit = full_heap(line), ulimit_of_memory(Told(line, facts.body, facts.spec))
    if heap:
        what, fix = heap
        given = counts.memory_limit if counts else 0
        fact = f"the container may use {format_bytes_binary(given)}" if given else ""
    elif limit:
        what, fix = f"it was at its limit of {format_bytes_binary(limit)}", _more_memory(facts, limit)
        fact = f"its control group has refused it memory {counts.memory_refused} times" if counts else ""
    elif ulimit[0]:
        (fact, fix), what = ulimit, "a ulimit allows no more"
    else:
        what, fix, fact = "more than this machine allows", "", ""
    yield Cause(
        kind="out-of-memory",
        said=f"its last lines say that it got no memory: {what}",
        facts=(f"it said: {line}", *filter(None, [fact])),
        fixes=(fix,) if fix else (),
        from_output=True,
    )


def _flag(size: int) -> str:
    """Write bytes as flags have them."""
    for unit, name in ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def _forks(facts: Facts, counts: Counts | None) -> Iterator[Cause]:
    if not counts or not counts.pids_refused:
        return
    times = f" {counts.pids_refused} times" if counts.pids_refused > 1 else ""
    limit = f"its limit of {counts.pids_limit} processes" if counts.pids_limit else "the limit of a group that it is in"
    yield Cause(
        kind="pids-limit",
        said=f"too many processes: the kernel refused it another one{times}, since it was at {limit}",
        fixes=(facts.update(f"--pids-limit {2 * counts.pids_limit}"),) if counts.pids_limit else (),
    )


# ------------------------------------------------------------------------------------------------------ by itself


def _left(facts: Facts) -> Cause:
    """It ended by itself: what only its program knows."""
    code, words = facts.ending.exit_code, (*(facts.body.entrypoint or ()), *(facts.body.cmd or ()))
    shell = len(words) == 1 and words[0].rpartition("/")[2] in _SHELLS
    fixes: tuple[str, ...] = ()
    if code == 0 and shell and not facts.body.open_stdin:
        fixes = ("it is a shell without input, which ends at once: give it a terminal with -it, or a program to run",)
    if code and facts.body.host_config.log_config.type == "none":
        return Cause(
            kind="exited",
            said=f"its program has ended by itself with exit code {code}, and its output was not kept",
            fixes=("run it without --log-driver none, to see what it says",),
        )
    return Cause(kind="exited", said=_exited(code), fixes=fixes)


def _exited(code: int) -> str:
    if code == 0:
        return "its program has ended, and says that all went well"
    return f"its program has ended by itself with exit code {code}: what that means is its own, and in its output"
