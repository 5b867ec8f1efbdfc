"""Health checks: what is run, when, and what its outcome makes of a container's health. Pure.

The rules and the defaults are Docker's: moby, daemon/health.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidInput
from sampan.spec.annotations import HEALTH_ON_FAILURE
from sampan.spec.docker.container import HealthConfig
from sampan.spec.state import Health, Probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.spec.docker import ContainerCreate
    from sampan.spec.image import HealthCheck

_S = 10**9
_LEAST_NS = 10**6
_KEPT = 5
ACTIONS = ("none", "kill", "restart", "stop")


class Check(NamedTuple):
    """A container's health check, with every default filled in. Times in nanoseconds."""

    command: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int
    on_failure: str


def completed(given: HealthConfig | None, image: HealthCheck | None) -> HealthConfig | None:
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
    shell = tuple(body.shell or ()) or ("/bin/sh", "-c")
    command = config.test[1:] if config.test[0] == "CMD" else (*shell, config.test[1])
    return Check(
        command=tuple(command),
        interval=config.interval or 30 * _S,
        timeout=config.timeout or 30 * _S,
        start_period=config.start_period,
        start_interval=config.start_interval or 5 * _S,
        retries=config.retries or 3,
        on_failure=(body.host_config.annotations or {}).get(HEALTH_ON_FAILURE, "none"),
    )


def wait_ns(check: Check, health: Health, age_ns: int) -> int:
    """Return how long to wait for the next probe of a container that runs since `age_ns`."""
    starting = health.status == "starting" and age_ns < check.start_period
    return check.start_interval if starting else check.interval


def after(check: Check, health: Health, probe: Probe, started_at_ns: int) -> Health:
    """Return the health after a probe."""
    log = (*health.log, probe)[-_KEPT:]
    if probe.exit_code == 0:
        return Health(status="healthy", log=log)
    if health.status == "starting" and probe.start_ns - started_at_ns < check.start_period:
        return Health(status="starting", failing_streak=health.failing_streak, log=log)
    streak = health.failing_streak + 1
    return Health(status="unhealthy" if streak >= check.retries else health.status, failing_streak=streak, log=log)


def action(annotations: Mapping[str, str]) -> str:
    """Return what is to be done to an unhealthy container. Raises InvalidInput."""
    text = annotations.get(HEALTH_ON_FAILURE, "none")
    if text not in ACTIONS:
        raise InvalidInput(f"invalid health-on-failure action: {text!r}", f"there are {', '.join(ACTIONS)}")
    return text
