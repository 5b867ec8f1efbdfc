"""Intent and fact, brought together."""

from __future__ import annotations

import msgspec
import pytest

from sampan.engine.reconcile import (
    UNBEGUN,
    Adopt,
    Discard,
    End,
    Fact,
    Facts,
    Forget,
    Intent,
    Record,
    Restart,
    SweepCgroup,
    SweepDirectory,
    diff,
)
from sampan.spec.docker import RestartPolicy
from sampan.spec.ending import Ending
from sampan.spec.state import State, Status
from sampan.supervise.messages import Exited

ALWAYS = RestartPolicy(name="always")
RUNNING = State(status=Status.RUNNING, pid=5, start_time=6, started_at_ns=7)
ALIVE = Fact(id="a", alive=True, pid=5, start_time=6, started_at_ns=7)
ENDED = Fact(id="a", ended=True, exited=Exited(exit_code=3, finished_at_ns=9), started_at_ns=7)


def found(*shims: Fact, directories: str = "a", cgroups: str = "") -> Facts:
    return Facts(shims=shims, directories=frozenset(directories), cgroups=frozenset(cgroups), now_ns=99)


def test_what_is_as_it_should_be_needs_nothing() -> None:
    assert diff([Intent(id="a", state=State())], found()) == ()
    assert diff([Intent(id="a", state=State(status=Status.EXITED))], found()) == ()


def test_a_running_container_is_adopted() -> None:
    assert diff([Intent(id="a", state=RUNNING)], found(ALIVE, cgroups="a")) == (Adopt("a", RUNNING),)


def test_a_start_that_was_not_written_down_is_believed() -> None:
    assert diff([Intent(id="a", state=State())], found(ALIVE)) == (Adopt("a", RUNNING),)


def test_an_exit_while_nobody_looked_is_recorded() -> None:
    (record,) = diff([Intent(id="a", state=RUNNING)], found(ENDED))

    assert isinstance(record, Record)
    assert record.shim
    assert (record.state.status, record.state.exit_code, record.state.finished_at_ns) == (Status.EXITED, 3, 9)
    assert not record.state.exit_unknown


def test_an_exit_that_nobody_saw_is_said_to_be_unknown() -> None:
    """Keeper and shim were killed, or the machine went down."""
    (record,) = diff([Intent(id="a", state=RUNNING)], found())

    assert isinstance(record, Record)
    assert (record.state.status, record.state.exit_code, record.state.exit_unknown) == (Status.EXITED, 255, True)
    assert record.state.finished_at_ns == 99
    assert record.state.pid == 0


@pytest.mark.parametrize("fact", [(), (Fact(id="a"),)])
def test_one_whose_start_was_cut_off_before_its_program_ran_is_as_if_it_was_not_started(fact: tuple[Fact, ...]) -> None:
    first, again = State(status=Status.RUNNING, started_at_ns=7), State(status=Status.RUNNING, finished_at_ns=5)

    (record,) = diff([Intent(id="a", state=first)], found(*fact))
    assert isinstance(record, Record)
    assert msgspec.structs.replace(record.state, ending=None) == State(error=UNBEGUN, exit_code=128)
    (record,) = diff([Intent(id="a", state=again)], found(*fact))
    assert isinstance(record, Record)
    assert (record.state.status, record.state.exit_code, record.state.exit_unknown) == (Status.EXITED, 128, False)
    record, restart = diff([Intent(id="a", state=first, policy=ALWAYS)], found(*fact))
    assert isinstance(record, Record)
    assert (record.state.restart_count, restart) == (0, Restart("a"))


def test_a_container_with_rm_is_removed_after_its_end() -> None:
    actions = diff([Intent(id="a", state=RUNNING, auto_remove=True)], found(ENDED))

    assert [type(action) for action in actions] == [Record, Discard]


def test_a_container_with_rm_is_removed_though_its_end_had_been_recorded_when_a_server_was_killed() -> None:
    exited = State(status=Status.EXITED)

    assert diff([Intent(id="a", state=exited, auto_remove=True)], found()) == (Discard("a"),)
    assert diff([Intent(id="a", state=exited)], found()) == ()
    assert diff([Intent(id="a", state=State(), auto_remove=True)], found()) == ()
    failed = State(ending=Ending(at_ns=1, error="no such program"))
    assert diff([Intent(id="a", state=failed, auto_remove=True)], found()) == (Discard("a"),)


def test_a_removal_that_was_cut_off_is_finished() -> None:
    removing = State(status=Status.REMOVING)

    assert diff([Intent(id="a", state=removing)], found()) == (Discard("a"),)
    assert diff([Intent(id="a", state=State(status=Status.EXITED))], found(directories="")) == (Forget("a"),)


def test_what_no_record_names_is_removed() -> None:
    facts = found(Fact(id="b", alive=True), directories="abc", cgroups="abd")

    assert diff([Intent(id="a", state=State())], facts) == (
        End("b"), SweepDirectory("b"), SweepDirectory("c"), SweepCgroup("a"), SweepCgroup("b"), SweepCgroup("d"),
    )  # fmt: skip


def test_a_shim_that_never_began_is_let_go() -> None:
    (record,) = diff([Intent(id="a", state=State())], found(Fact(id="a")))

    assert record == Record("a", State(), shim=True)


@pytest.mark.parametrize("state", [State(), RUNNING, State(status=Status.EXITED), State(status=Status.REMOVING)])
@pytest.mark.parametrize("fact", [None, ALIVE, ENDED, Fact(id="a")])
@pytest.mark.parametrize("directory", ["", "a"])
def test_every_combination_has_a_plan(state: State, fact: Fact | None, directory: str) -> None:
    facts = found(*([fact] if fact else []), directories=directory)

    for action in diff([Intent(id="a", state=state, auto_remove=True)], facts):
        assert action.id == "a"


def test_an_end_that_was_recorded_before_a_server_was_killed_is_not_counted_twice() -> None:
    once = RestartPolicy(name="on-failure", maximum_retry_count=1)
    facts = found(ENDED)
    record, _ = diff([Intent(id="a", state=RUNNING, policy=once)], facts)
    assert isinstance(record, Record)

    assert diff([Intent(id="a", state=record.state, policy=once)], facts) == (record, Restart("a"))


STOPPED = State(status=Status.EXITED, stopped_by_user=True)


def test_one_that_ended_while_nobody_looked_is_started_again_as_its_policy_says() -> None:
    record, restart = diff([Intent(id="a", state=RUNNING, policy=ALWAYS)], found(ENDED))

    assert isinstance(record, Record)
    assert (record.state.exit_code, record.state.restart_count) == (3, 1)
    assert restart == Restart("a")
    (record,) = diff([Intent(id="a", state=RUNNING)], found(ENDED))


def test_one_that_waited_to_be_started_again_goes_on_waiting_no_longer() -> None:
    waiting = State(status=Status.RESTARTING, restart_count=3)

    assert diff([Intent(id="a", state=waiting, policy=ALWAYS)], found()) == (Restart("a"),)


def test_what_was_stopped_stays_so_until_the_machine_boots() -> None:
    intent = Intent(id="a", state=STOPPED, policy=ALWAYS)

    assert diff([intent], found()) == ()
    assert diff([intent], msgspec.structs.replace(found(), booted=True)) == (Restart("a"),)


def test_after_a_boot_what_ran_is_started_and_the_count_is_the_same() -> None:
    ran = msgspec.structs.replace(RUNNING, restart_count=2)
    booted = msgspec.structs.replace(found(), booted=True)

    record, restart = diff([Intent(id="a", state=ran, policy=RestartPolicy(name="unless-stopped"))], booted)

    assert isinstance(record, Record)
    assert record.state.restart_count == 2
    assert restart == Restart("a")


AGAIN = msgspec.structs.replace(RUNNING, again=True)


def test_one_that_sampan_was_about_to_restart_is_started_again_wherever_that_was_cut_off() -> None:
    record, start = diff([Intent(id="a", state=AGAIN)], found(ENDED))
    exited = msgspec.structs.replace(AGAIN, status=Status.EXITED, pid=0)
    unbegun = msgspec.structs.replace(AGAIN, pid=0)

    assert isinstance(record, Record)
    assert (record.state.status, record.state.restart_count, start) == (Status.RESTARTING, 0, Restart("a"))
    assert diff([Intent(id="a", state=exited, auto_remove=True)], found()) == (Restart("a"),)
    assert diff([Intent(id="a", state=unbegun)], found(Fact(id="a")))[-1] == Restart("a")


def test_one_that_still_runs_is_restarted_and_one_that_runs_again_is_not() -> None:
    unwritten = msgspec.structs.replace(AGAIN, pid=0, start_time=0)

    assert diff([Intent(id="a", state=AGAIN)], found(ALIVE)) == (Adopt("a", AGAIN),)
    assert diff([Intent(id="a", state=unwritten)], found(ALIVE)) == (Adopt("a", RUNNING),)
