"""Health checks: what is run, when, and what its outcome makes of a container's health. Pure.

The rules and the defaults are Docker's: moby, daemon/health.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from sampan.engine.health_options import SHELL, HealthLog, action, health_log, startup_check
from sampan.errors import InvalidInput
from sampan.spec.docker.container import HealthConfig

if TYPE_CHECKING:
    from sampan.engine.health_options import StartupCheck
    from sampan.spec.docker import ContainerCreate
    from sampan.spec.image import HealthCheck
    from sampan.spec.state import Health, Probe

_S = 10**9
_LEAST_NS = 10**6


class Check(NamedTuple):
    """A container's health check, with every default filled in. Times in nanoseconds."""

    command: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int
    on_failure: str
    startup: StartupCheck | None = None
    log: HealthLog = HealthLog()

    def starts(self, health: Health) -> bool:
        """Whether it is its startup check that is run."""
        return self.startup is not None and health.status == "starting"


def completed(given: HealthConfig | None, image: HealthCheck | HealthConfig | None) -> HealthConfig | None:
    """Return a container's check: what is given, and the image's where that says nothing. Raises InvalidInput."""
    first, second = given or HealthConfig(), image
    fields = ("test", "interval", "timeout", "start_period", "start_interval", "retries")
    _check(first)  # an image's is as it is
    found = {name: getattr(first, name) or (getattr(second, name) if second else None) for name in fields}
    if not any(found.values()):
        return None
    return HealthConfig(**{name: value for name, value in found.items() if value})


def _check(config: HealthConfig) -> None:
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value, word = getattr(config, name), "".join(part.capitalize() for part in name.split("_"))
        if 0 < value < _LEAST_NS or value < 0:
            raise InvalidInput(f"{word} in Healthcheck cannot be less than 1ms")
    if config.retries < 0:
        raise InvalidInput("Retries in Healthcheck cannot be negative")
    if config.test and config.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidInput(f"unknown type of health check {config.test[0]!r}", "it begins with CMD, CMD-SHELL or NONE")
    if config.test and config.test[0] != "NONE" and len(config.test) < 2:
        raise InvalidInput("a health check needs a command", "--health-cmd 'curl -f http://localhost/'")


def check_of(body: ContainerCreate) -> Check | None:
    """Return the check of a completed body; None where there is none."""
    config = body.healthcheck
    if config is None or not config.test or config.test[0] == "NONE" or len(config.test) < 2:
        return None
    shell, annotations = tuple(body.shell or ()) or SHELL, body.host_config.annotations or {}
    command = config.test[1:] if config.test[0] == "CMD" else (*shell, config.test[1])
    return Check(
        command=tuple(command),
        interval=config.interval or 30 * _S,
        timeout=config.timeout or 30 * _S,
        start_period=config.start_period,
        start_interval=config.start_interval or 5 * _S,
        retries=config.retries or 3,
        on_failure=action(annotations),
        startup=startup_check(annotations, shell),
        log=health_log(annotations),
    )


def wait_ns(check: Check, health: Health, age_ns: int) -> int:
    """Return how long to wait for the next probe of a container that runs since `age_ns`."""
    if check.startup and check.starts(health):
        return check.startup.interval if health.log else 0  # Podman's first is at once
    starting = health.status == "starting" and age_ns < check.start_period
    return check.start_interval if starting else check.interval


def after(check: Check, health: Health, probe: Probe, started_at_ns: int) -> Health:
    """Return the health after a probe."""
    health = replace(health, log=check.log.kept((*health.log, probe)))
    if check.startup and check.starts(health):
        return _started(health, probe, check.startup)
    if probe.exit_code == 0:
        return replace(health, status="healthy", failing_streak=0)
    if health.status == "starting" and probe.start_ns - started_at_ns < check.start_period:
        return health
    streak = health.failing_streak + 1
    return replace(health, status="unhealthy" if streak >= check.retries else health.status, failing_streak=streak)


def _started(health: Health, probe: Probe, check: StartupCheck) -> Health:
    """Return the health after a run of the startup check; as by Podman, they need not be successes in a row."""
    found = health.startup
    if probe.exit_code:
        return replace(health, startup=replace(found, failures=found.failures + 1))
    startup = replace(found, successes=found.successes + 1)
    return replace(health, status="healthy" if startup.successes >= check.successes else health.status, startup=startup)


def is_out_of_retries(check: Check, health: Health) -> bool:
    """Whether the container is to be restarted for its startup check."""
    startup = check.startup
    return startup is not None and check.starts(health) and 0 < startup.retries <= health.startup.failures
