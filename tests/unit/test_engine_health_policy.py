"""What probes make of a container's health."""

from __future__ import annotations

import pytest

from sampan.engine.health_options import HealthLog, StartupCheck, health_log, startup_check
from sampan.engine.health_policy import Check, after, check_of, completed, is_out_of_retries, wait_ns
from sampan.errors import InvalidInput
from sampan.spec.docker import ContainerCreate, HealthConfig, HostConfig
from sampan.spec.image import HealthCheck
from sampan.spec.state import Health, Probe, Startup

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


# ------------------------------------------------------------------------------------------------------- startup check

STARTING = CHECK._replace(startup=StartupCheck(("up",), 7 * S, 3 * S, retries=2, successes=2))


def starting(*codes: int, check: Check = STARTING) -> Health:
    health = Health()
    for code in codes:
        health = after(check, health, probe(code), 0)
    return health


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ((1,), ("starting", Startup(failures=1))),
        ((0,), ("starting", Startup(successes=1))),
        ((0, 1, 0), ("healthy", Startup(successes=2, failures=1))),
        ((1, 1, 1, 1), ("starting", Startup(failures=4))),
    ],
)
def test_it_has_started_once_its_startup_check_has_succeeded_so_often(
    codes: tuple[int, ...], found: tuple[str, Startup]
) -> None:
    health = starting(*codes)

    assert (health.status, health.startup) == found
    assert health.failing_streak == 0
    assert [p.exit_code for p in health.log] == list(codes)


def test_then_the_health_check_goes_on_as_without() -> None:
    health = starting(0, 0, 1, 1, 1)

    assert (health.status, health.failing_streak, health.startup) == ("unhealthy", 3, Startup(successes=2))


def test_a_startup_check_that_comes_when_it_has_started_waits_for_the_next_start() -> None:
    assert not STARTING.starts(Health(status="healthy"))
    assert after(STARTING, Health(status="healthy"), probe(1), 0).failing_streak == 1


def test_it_is_restarted_once_it_has_failed_to_start_so_often() -> None:
    assert [is_out_of_retries(STARTING, starting(*codes)) for codes in ((1,), (1, 0, 1), (0, 0))] == [
        False,
        True,
        False,
    ]
    patient = CHECK._replace(startup=StartupCheck(("up",), S, S, retries=0, successes=1))
    assert not is_out_of_retries(patient, starting(1, 1, 1, 1, check=patient))
    assert not is_out_of_retries(CHECK, starting(1, 1, 1, check=CHECK))


def test_a_startup_check_runs_at_once_and_then_at_its_own_pace() -> None:
    assert wait_ns(STARTING, Health(), 0) == 0
    assert wait_ns(STARTING, starting(1), 3 * S) == 7 * S
    assert wait_ns(STARTING, starting(0, 0), 3 * S) == 30 * S


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("test -e /run/up", ("/bin/sh", "-c", "test -e /run/up")),
        ("[ -e /run/up ]", ("/bin/sh", "-c", "[ -e /run/up ]")),
        ('["up", "--now"]', ("up", "--now")),
        ('["CMD", "up"]', ("up",)),
        ('["CMD-SHELL", "up", "now"]', ("/bin/sh", "-c", "up now")),
        ("none", None),
        ('["NONE"]', None),
        ("[]", None),
        ("", None),
    ],
)
def test_a_startup_check_is_a_text_or_podmans_array(text: str, command: tuple[str, ...] | None) -> None:
    found = startup_check({"sampan.health-startup-cmd": text})

    assert (found and found.command) == command


def test_a_startup_check_has_podmans_defaults() -> None:
    assert startup_check({"sampan.health-startup-cmd": "up"}) == StartupCheck(
        ("/bin/sh", "-c", "up"), 30 * S, 30 * S, retries=0, successes=1
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("health-startup-interval", "soon", "invalid --health-startup-interval: invalid duration: 'soon'"),
        ("health-startup-timeout", "1us", "--health-startup-timeout cannot be less than 1ms: 1us"),
        ("health-startup-interval", "-1s", "--health-startup-interval cannot be less than 1ms: -1s"),
        ("health-startup-retries", "-1", "invalid --health-startup-retries: '-1'"),
        ("health-startup-success", "1" * 20, "invalid --health-startup-success: '11111111111111111111'"),
        ("health-max-log-count", "many", "invalid --health-max-log-count: 'many'"),
        ("health-max-log-size", "٣", "invalid --health-max-log-size: '٣'"),
        ("health-log-destination", "here", "HealthCheck Log 'here' destination must be directory"),
        ("health-on-failure", "cry", "invalid health-on-failure action: 'cry'"),
    ],
)
def test_what_no_check_can_have_is_refused(name: str, text: str, message: str) -> None:
    body = ContainerCreate(
        healthcheck=HealthConfig(test=("CMD", "a")), host_config=HostConfig(annotations={f"sampan.{name}": text})
    )

    with pytest.raises(InvalidInput) as caught:
        check_of(body)
    assert caught.value.message == message


# ------------------------------------------------------------------------------------------------------------ its log


def test_so_many_runs_and_so_much_of_each_is_kept() -> None:
    log = health_log({"sampan.health-max-log-count": "2", "sampan.health-max-log-size": "10"})
    probes = tuple(Probe(start_ns=n) for n in range(4))

    assert log == HealthLog(probes=2, output_bytes=10)
    assert log.kept(probes) == probes[2:]
    assert HealthLog().kept(probes * 2) == (probes * 2)[-5:]


def test_all_are_kept_as_long_as_they_do_not_fill_the_engine() -> None:
    log = health_log({"sampan.health-max-log-count": "0", "sampan.health-max-log-size": "0"})
    probes = tuple(Probe(start_ns=n, output="x" * 1000) for n in range(2000))

    kept = log.kept(probes)

    assert log.output_bytes == 1 << 20
    assert 900 < len(kept) < 1000
    assert kept == probes[-len(kept) :]
    assert log.kept((Probe(output="x" * (1 << 20)),)) != ()


@pytest.mark.parametrize(
    ("where", "found"),
    [("local", HealthLog()), ("events_logger", HealthLog(events=True)), ("/srv", HealthLog(directory="/srv"))],
)
def test_runs_are_noted_in_events_or_a_directory(where: str, found: HealthLog) -> None:
    assert health_log({"sampan.health-log-destination": where}) == found
