"""The flags of health checks in the API's bodies: those of Docker's as its fields, Podman's as annotations of ours."""

from __future__ import annotations

import os

from sampan.cli.failure import Failure
from sampan.spec import annotations as names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.flags import Options

    Json = dict[str, Any]

_TIMES = {
    "health-interval": "Interval",
    "health-timeout": "Timeout",
    "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
}
_ANNOTATIONS = {
    "health-on-failure": names.HEALTH_ON_FAILURE,
    "health-startup-cmd": names.HEALTH_STARTUP_CMD,
    "health-startup-interval": names.HEALTH_STARTUP_INTERVAL,
    "health-startup-retries": names.HEALTH_STARTUP_RETRIES,
    "health-startup-success": names.HEALTH_STARTUP_SUCCESS,
    "health-startup-timeout": names.HEALTH_STARTUP_TIMEOUT,
    "health-log-destination": names.HEALTH_LOG_DESTINATION,
    "health-max-log-count": names.HEALTH_MAX_LOG_COUNT,
    "health-max-log-size": names.HEALTH_MAX_LOG_SIZE,
}
_NOWHERE = ("local", "events_logger")
_UNITS = (("s", 10**9), ("ms", 10**6), ("us", 10**3))


def fill(options: Options, body: Json, host: Json) -> None:
    """Put them into a create body and its HostConfig."""
    check = checked(options)
    if check:
        body["Healthcheck"] = check
    if given := annotated(options):
        host.setdefault("Annotations", {}).update(given)


def checked(options: Options) -> Json:
    """Return what of the health check was given, as the API has it."""
    check: Json = {field: _positive(options, flag) for flag, field in _TIMES.items() if options[flag]}
    if retries := _positive(options, "health-retries"):
        check["Retries"] = retries
    if options["health-cmd"]:
        check["Test"] = ["CMD-SHELL", options["health-cmd"]]
    if options["no-healthcheck"]:
        if check or options["health-startup-cmd"]:
            raise _refused("--no-healthcheck conflicts with --health-* options")
        check["Test"] = ["NONE"]
    return check


def annotated(options: Options) -> dict[str, str]:
    """Return what was given that the API has no field for."""
    return {name: _text(options, flag) for flag, name in _ANNOTATIONS.items() if flag in options}


def _text(options: Options, flag: str) -> str:
    value = options[flag]
    if flag == "health-log-destination":
        return str(value if value in _NOWHERE else os.path.abspath(value))
    if flag in ("health-startup-interval", "health-startup-timeout"):
        return _duration(_positive(options, flag))
    return value if isinstance(value, str) else str(_positive(options, flag))


def _duration(value: int) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if value % size == 0), ("ns", 1))
    return f"{value // size}{unit}"


def _positive(options: Options, flag: str) -> int:
    value: int = options[flag] or 0
    if value < 0:
        raise _refused(f"--{flag} cannot be negative")
    return value


def _refused(message: str) -> Failure:
    return Failure(f"sampan: {message}", "", 125)
