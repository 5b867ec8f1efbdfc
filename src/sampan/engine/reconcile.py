"""Start-up repair: what the store says should be, what disk and shims say is, and what follows. `diff` is pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.engine.endings import of_exit, of_failed_start
from sampan.engine.restart_policy import wanted, wanted_at_boot
from sampan.errors import Failed
from sampan.spec.docker import RestartPolicy
from sampan.spec.state import State, Status
from sampan.supervise.messages import Exited

if TYPE_CHECKING:
    from collections.abc import Iterable


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A container as the store has it."""

    id: str
    state: State
    auto_remove: bool = False
    policy: RestartPolicy = RestartPolicy()


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A shim's directory as it was found. Without `exited`, but `ended`: nobody saw it."""

    id: str
    alive: bool = False  # the container's first process exists: same pid, same start time, same boot
    ended: bool = False
    pid: int = 0
    start_time: int = 0
    started_at_ns: int = 0
    exited: Exited | None = None
    paused: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found at start-up."""

    shims: tuple[Fact, ...] = ()
    directories: frozenset[str] = frozenset()  # under containers/
    cgroups: frozenset[str] = frozenset()  # ids under this instance's control groups
    now_ns: int = 0
    booted: bool = False  # the machine has booted since a server of this instance was here


class Adopt(msgspec.Struct, frozen=True, tag=True):
    """It runs: reconnect to its shim; `state` is what it is in."""

    id: str
    state: State


class Record(msgspec.Struct, frozen=True, tag=True):
    """It has ended meanwhile, or never got to run: write `state` down; let the shim go if there is one."""

    id: str
    state: State
    shim: bool


class Restart(msgspec.Struct, frozen=True, tag=True):
    """It does not run, and its policy says that it should: start it."""

    id: str


class Discard(msgspec.Struct, frozen=True, tag=True):
    """Remove a container: one that was being removed, or that ended and has --rm."""

    id: str


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Remove a record that has no directory: its removal was cut off."""

    id: str


class End(msgspec.Struct, frozen=True, tag=True):
    """Kill what runs under a shim that no record names, and let the shim go."""

    id: str


class SweepDirectory(msgspec.Struct, frozen=True, tag=True):
    """Remove a container's directory that no record names: its creation was cut off."""

    id: str


class SweepCgroup(msgspec.Struct, frozen=True, tag=True):
    """Remove control groups that nothing running needs."""

    id: str


Action = Adopt | Record | Restart | Discard | Forget | End | SweepDirectory | SweepCgroup


def diff(intents: Iterable[Intent], facts: Facts) -> tuple[Action, ...]:
    """Return what brings the two together, in the order in which to do it."""
    actions: list[Action] = []
    shims = {fact.id: fact for fact in facts.shims}
    known = set()
    for intent in intents:
        known.add(intent.id)
        actions += _container(intent, shims.get(intent.id), facts)
    actions += [End(id) for id in shims if id not in known]
    actions += [SweepDirectory(id) for id in sorted(facts.directories - known)]
    needed = {id for id, fact in shims.items() if fact.alive and id in known}
    actions += [SweepCgroup(id) for id in sorted(facts.cgroups - needed)]
    return tuple(actions)


def _container(intent: Intent, fact: Fact | None, facts: Facts) -> list[Action]:
    state = intent.state
    if intent.id not in facts.directories:
        return [*([End(intent.id)] if fact else []), Forget(intent.id)]
    if state.status is Status.REMOVING:
        return [*([End(intent.id)] if fact else []), Discard(intent.id)]
    if fact is not None and fact.alive:
        return [Adopt(intent.id, _running(state, fact))]
    if state.alive and not state.pid and not facts.booted and not (fact and fact.ended):
        return _unbegun(intent, fact, facts)
    ended = None if _is_recorded(state, fact) else _ended(state, fact, facts)
    if ended is None:
        record = [Record(intent.id, state, shim=True)] if fact else []
        waits = state.status is Status.RESTARTING or state.again
        if waits or (facts.booted and wanted_at_boot(intent.policy, state)):
            return [*record, Restart(intent.id)]
        # What --rm removes is there after its end, or failed start, only where a server was killed before that.
        cut_off = intent.auto_remove and (state.status is Status.EXITED or state.ending is not None)
        return [*record, *([Discard(intent.id)] if cut_off else [])]
    if ended.again or wanted(intent.policy, ended) or (facts.booted and wanted_at_boot(intent.policy, ended)):
        count = ended.restart_count + (not facts.booted and not ended.again)
        waiting = msgspec.structs.replace(ended, status=Status.RESTARTING, restart_count=count)
        return [Record(intent.id, waiting, shim=fact is not None), Restart(intent.id)]
    last: Action = Discard(intent.id)
    return [Record(intent.id, ended, shim=fact is not None), *([last] if intent.auto_remove else [])]


def _unbegun(intent: Intent, fact: Fact | None, facts: Facts) -> list[Action]:
    """What was to start is as it was before: shims write down what they begin, and the record has no pid yet."""
    first = not intent.state.finished_at_ns
    again = intent.state.again or intent.policy.name not in ("", "no")
    status = Status.RESTARTING if again else Status.CREATED if first else Status.EXITED
    before = msgspec.structs.replace(
        intent.state,
        status=status,
        started_at_ns=0 if first else intent.state.started_at_ns,
        exit_code=128,
        error=UNBEGUN,
        endpoints=(),
        ports=(),
        ending=of_failed_start(Failed(UNBEGUN), 128, facts.now_ns),
    )
    actions: list[Action] = [Record(intent.id, before, shim=fact is not None)]
    if again:
        actions.append(Restart(intent.id))
    elif intent.auto_remove:
        actions.append(Discard(intent.id))
    return actions


def _running(state: State, fact: Fact) -> State:
    return msgspec.structs.replace(
        state,
        status=Status.PAUSED if fact.paused else Status.RUNNING,
        pid=fact.pid,
        start_time=fact.start_time,
        started_at_ns=fact.started_at_ns or state.started_at_ns,
        again=state.again and state.pid == fact.pid,  # else it is what was to be started
    )


def _is_recorded(state: State, fact: Fact | None) -> bool:
    """Tell whether a shim's end is the record's already, and counted there: who was to let the shim go was killed."""
    seen = fact.exited if fact else None
    return seen is not None and not state.alive and seen.finished_at_ns == state.finished_at_ns


def _ended(state: State, fact: Fact | None, facts: Facts) -> State | None:
    """Return the state of what is not running; None where the record is right already."""
    exited = fact.exited if fact else None
    if fact is not None and fact.ended:
        state = msgspec.structs.replace(
            state, started_at_ns=fact.started_at_ns or state.started_at_ns, pid=fact.pid or state.pid
        )
    elif not state.alive:
        return None
    exited = exited or Exited(exit_code=None, finished_at_ns=facts.now_ns)
    ending = of_exit(exited, state)
    return msgspec.structs.replace(
        state,
        status=Status.EXITED,
        pid=0,
        start_time=0,
        finished_at_ns=ending.at_ns,
        exit_code=ending.exit_code,
        exit_unknown=ending.unknown,
        oom_killed=exited.oom_killed,
        error=UNSEEN if ending.unknown else "",
        endpoints=(),
        ports=(),
        ending=ending,
    )


UNBEGUN = "it was not started: the server was killed before its program was executed"
UNSEEN = "how it ended is not known: nobody was left to see it"
