"""Nothing grows with the number of containers that have come and gone. `make bench BENCH=soak` is the long form."""

from __future__ import annotations

from support.conflicts import ask
from support.faults import roles
from support.footprint import footprint, leaked
from support.lives import at_once, leave, live
from support.sampan import Sampan, last_seen, wait_until

SHIMS_AT_REST = 3  # who forks them, and the next container's, with the launcher that will make it


def at_rest(sampan: Sampan) -> dict[str, int]:
    """Return the footprint once the next container's shim is there: it is made behind the last one's answer."""
    wait_until(lambda: len(roles(sampan).get("shim", ())) == SHIMS_AT_REST)
    return footprint(sampan)


def test_lives_that_are_over_leave_nothing(sampan: Sampan) -> None:
    at_once(4, 4, lambda number: live(sampan, f"first-{number}"))
    assert not sampan.leftovers()
    before = at_rest(sampan)

    at_once(4, 8, lambda number: live(sampan, f"life-{number}"))

    assert not last_seen(lambda: leaked(before, footprint(sampan)))
    assert "Traceback" not in sampan.log()


def test_clients_that_leave_before_the_start_they_wait_for_are_let_go_of(sampan: Sampan) -> None:
    sampan("create", "--name", "web", "busybox", "true")
    before = at_rest(sampan)

    for _ in range(20):
        leave(sampan, "POST", "/containers/web/attach?stream=1&stdout=1")

    assert not last_seen(lambda: leaked(before, footprint(sampan)))


def test_execs_that_nobody_starts_are_forgotten_with_the_run(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    _, said = ask(sampan, "POST", "/containers/web/exec", {"Cmd": ["true"]})
    id = said.split('"')[3]
    assert ask(sampan, "GET", f"/exec/{id}/json")[0] == 200

    sampan("restart", "-t", "0", "web")

    assert ask(sampan, "GET", f"/exec/{id}/json")[0] == 404
