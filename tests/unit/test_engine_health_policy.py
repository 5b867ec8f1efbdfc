"""What probes make of a container's health."""

from __future__ import annotations

import pytest

from sampan.engine.health_policy import Check, after, check_of, completed, wait_ns
from sampan.errors import InvalidInput
from sampan.spec.docker import ContainerCreate, HealthConfig
from sampan.spec.image import HealthCheck
from sampan.spec.state import Health, Probe

S = 10**9
CHECK = Check(("true",), 30 * S, 30 * S, start_period=10 * S, start_interval=5 * S, retries=3, on_failure="none")


def probe(code: int, at_s: int = 100) -> Probe:
    return Probe(start_ns=at_s * S, exit_code=code)


def outcome(*codes: int, at_s: int = 100, first: Health | None = None) -> tuple[str, int]:
    health = first or Health()
    for code in codes:
        health = after(CHECK, health, probe(code, at_s), 0)
    return health.status, health.failing_streak


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ((0,), ("healthy", 0)),
        ((1,), ("starting", 1)),
        ((1, 1, 1), ("unhealthy", 3)),
        ((1, 1, 0, 1), ("healthy", 1)),
        ((1, 1, 1, 0), ("healthy", 0)),
        ((0, 2, -1, 126), ("unhealthy", 3)),
    ],
)
def test_failures_in_a_row_make_it_unhealthy_and_one_success_healthy(
    codes: tuple[int, ...], found: tuple[str, int]
) -> None:
    assert outcome(*codes) == found


def test_failures_while_it_starts_do_not_count_and_a_success_ends_the_start() -> None:
    assert outcome(1, 1, 1, 1, at_s=5) == ("starting", 0)
    assert outcome(0, 1, at_s=5) == ("healthy", 1)


def test_the_last_five_probes_are_kept() -> None:
    health = Health()
    for code in range(7):
        health = after(CHECK, health, probe(code), 0)

    assert [p.exit_code for p in health.log] == [2, 3, 4, 5, 6]


def test_it_is_looked_at_more_often_while_it_starts() -> None:
    assert wait_ns(CHECK, Health(), 3 * S) == 5 * S
    assert wait_ns(CHECK, Health(), 11 * S) == 30 * S
    assert wait_ns(CHECK, Health(status="healthy"), 3 * S) == 30 * S


def test_what_the_image_says_holds_where_nothing_else_is_given() -> None:
    image = HealthCheck(test=("CMD", "a"), interval=7 * S, retries=9)

    assert completed(HealthConfig(interval=S), image) == HealthConfig(test=("CMD", "a"), interval=S, retries=9)
    assert completed(None, None) is None
    none = completed(HealthConfig(test=("NONE",)), image)
    assert check_of(ContainerCreate(healthcheck=none)) is None


def test_a_command_line_is_run_by_the_images_shell() -> None:
    check = check_of(ContainerCreate(healthcheck=HealthConfig(test=("CMD-SHELL", "a b")), shell=("/bin/bash", "-ec")))

    assert check is not None
    assert check.command == ("/bin/bash", "-ec", "a b")
    assert (check.interval, check.timeout, check.start_interval, check.retries) == (30 * S, 30 * S, 5 * S, 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (HealthConfig(interval=5), "Interval in Healthcheck cannot be less than 1ms"),
        (HealthConfig(start_period=-1), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (HealthConfig(retries=-1), "Retries in Healthcheck cannot be negative"),
        (HealthConfig(test=("CMD",)), "a health check needs a command"),
        (HealthConfig(test=("echo", "x")), "unknown type of health check 'echo'"),
    ],
)
def test_what_is_no_check_is_refused(config: HealthConfig, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        completed(config, None)
