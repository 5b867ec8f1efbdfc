"""Which ended container is started again, and when."""

from __future__ import annotations

import pytest

from sampan.engine.restart_policy import check, delay_s, wanted, wanted_at_boot
from sampan.errors import InvalidInput
from sampan.spec.docker import RestartPolicy
from sampan.spec.state import State, Status

S = 10**9


def ended(code: int = 1, **fields: object) -> State:
    return State(status=Status.EXITED, exit_code=code, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "state", "answer"),
    [
        (("no", 0), ended(), False),
        (("", 0), ended(), False),
        (("always", 0), ended(0), True),
        (("always", 0), ended(0, stopped_by_user=True), False),
        (("unless-stopped", 0), ended(0), True),
        (("unless-stopped", 0), ended(1, stopped_by_user=True), False),
        (("on-failure", 0), ended(0), False),
        (("on-failure", 0), ended(1, restart_count=1000), True),
        (("on-failure", 2), ended(1, restart_count=1), True),
        (("on-failure", 2), ended(1, restart_count=2), False),
        (("on-failure", 2), ended(137, stopped_by_user=True), False),
    ],
)
def test_an_ended_container_is_started_again_as_its_policy_says(
    policy: tuple[str, int], state: State, answer: bool
) -> None:
    assert wanted(RestartPolicy(name=policy[0], maximum_retry_count=policy[1]), state) is answer


@pytest.mark.parametrize(
    ("name", "state", "answer"),
    [
        ("always", ended(0, stopped_by_user=True), True),
        ("unless-stopped", ended(0, stopped_by_user=True), False),
        ("unless-stopped", ended(0), True),
        ("on-failure", ended(1), False),
        ("always", State(status=Status.CREATED), False),
        ("no", ended(1), False),
    ],
)
def test_the_machines_boot_starts_what_docker_starts_then(name: str, state: State, answer: bool) -> None:
    assert wanted_at_boot(RestartPolicy(name=name), state) is answer


def test_the_wait_doubles_up_to_a_minute_and_begins_anew_after_a_good_run() -> None:
    waits = [delay_s(0, 0)]
    while len(waits) < 12:
        waits.append(delay_s(waits[-1], 9 * S))

    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-2:] == [60, 60]
    assert delay_s(60, 10 * S) == 0.1


@pytest.mark.parametrize(
    ("policy", "auto_remove", "message"),
    [
        (RestartPolicy(name="sometimes"), False, "unknown policy 'sometimes'"),
        (RestartPolicy(name="always", maximum_retry_count=3), False, "maximum retry count can only be used with"),
        (RestartPolicy(name="on-failure", maximum_retry_count=-1), False, "cannot be negative"),
        (RestartPolicy(name="always"), True, "can't create 'AutoRemove' container with restart policy"),
    ],
)
def test_what_makes_no_policy_is_refused(policy: RestartPolicy, auto_remove: bool, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check(policy, auto_remove=auto_remove)
