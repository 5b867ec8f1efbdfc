"""What of health checks Docker's API has no field for: the startup check, and where and how much is kept. Pure.

The flags, their defaults and most rules are Podman's: podman-run(1), libpod/healthcheck.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.errors import InvalidInput
from sampan.spec import annotations as names
from sampan.spec.decoding import decode_json
from sampan.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.spec.state import Probe

_S = 10**9
_LEAST_NS = 10**6
_OUTPUT_BYTES = 4096  # Docker's; Podman keeps 500
_PROBES = 5
_MOST_BYTES = 1 << 20
"""What is kept of one container's checks where nothing else limits it: the engine outlives what a container says."""
_PROBE_BYTES = 100  # of a probe without its output, about
_LOCAL, _EVENTS = "local", "events_logger"
ACTIONS = ("none", "kill", "restart", "stop")
SHELL = ("/bin/sh", "-c")

STARTUP = (
    names.HEALTH_STARTUP_INTERVAL,
    names.HEALTH_STARTUP_RETRIES,
    names.HEALTH_STARTUP_SUCCESS,
    names.HEALTH_STARTUP_TIMEOUT,
)
"""What means nothing without a startup check's command."""
LOG = (names.HEALTH_LOG_DESTINATION, names.HEALTH_MAX_LOG_COUNT, names.HEALTH_MAX_LOG_SIZE)
ALL = frozenset((names.HEALTH_ON_FAILURE, names.HEALTH_STARTUP_CMD, *STARTUP, *LOG))
"""All annotations about health."""


class StartupCheck(NamedTuple):
    """What must succeed so often before the health check begins. Times in nanoseconds; no `retries`: no restart."""

    command: tuple[str, ...]
    interval: int
    timeout: int
    retries: int
    successes: int


class HealthLog(NamedTuple):
    """What is kept of the checks' runs, and where they are noted, too."""

    probes: int = _PROBES  # 0: as many as there is room for
    output_bytes: int = _OUTPUT_BYTES
    directory: str = ""
    events: bool = False

    def kept(self, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
        """Return the latest of them, for which there is room."""
        latest = probes[-self.probes :] if self.probes else probes
        room = _MOST_BYTES
        for number, probe in enumerate(reversed(latest)):
            room -= _PROBE_BYTES + len(probe.output)
            if room < 0:
                return latest[-number:] if number else latest[-1:]
        return latest


def action(annotations: Mapping[str, str]) -> str:
    """Return what is to be done to an unhealthy container. Raises InvalidInput."""
    text = annotations.get(names.HEALTH_ON_FAILURE, "none")
    if text not in ACTIONS:
        raise InvalidInput(f"invalid health-on-failure action: {text!r}", f"there are {', '.join(ACTIONS)}")
    return text


def startup_check(annotations: Mapping[str, str], shell: tuple[str, ...] = SHELL) -> StartupCheck | None:
    """Return the startup check that is asked for. Raises InvalidInput."""
    command = _command(annotations.get(names.HEALTH_STARTUP_CMD, ""), shell)
    interval = _time(annotations, names.HEALTH_STARTUP_INTERVAL)
    timeout = _time(annotations, names.HEALTH_STARTUP_TIMEOUT)
    retries = _number(annotations, names.HEALTH_STARTUP_RETRIES, 0)
    successes = _number(annotations, names.HEALTH_STARTUP_SUCCESS, 1) or 1
    return StartupCheck(command, interval, timeout, retries, successes) if command else None


def health_log(annotations: Mapping[str, str]) -> HealthLog:
    """Return what is to be kept. Raises InvalidInput."""
    where = annotations.get(names.HEALTH_LOG_DESTINATION, _LOCAL)
    if where not in (_LOCAL, _EVENTS) and (not where.startswith("/") or "\0" in where):
        raise InvalidInput(
            f"HealthCheck Log '{where[:200]}' destination must be directory", f"or {_LOCAL}, or {_EVENTS}"
        )
    size = _number(annotations, names.HEALTH_MAX_LOG_SIZE, _OUTPUT_BYTES)
    return HealthLog(
        probes=_number(annotations, names.HEALTH_MAX_LOG_COUNT, _PROBES),
        output_bytes=min(size or _MOST_BYTES, _MOST_BYTES),
        directory="" if where in (_LOCAL, _EVENTS) else where,
        events=where == _EVENTS,
    )


def _command(text: str, shell: tuple[str, ...]) -> tuple[str, ...]:
    """Read a text for the shell, or Podman's JSON array: a command, or one after CMD or CMD-SHELL; none: nothing."""
    words = _array(text)
    if words is None:
        return (*shell, text) if text.strip() and text.lower() != "none" else ()
    match words:
        case () | ("NONE", *_):
            return ()
        case ("CMD-SHELL", *rest):
            return (*shell, " ".join(rest)) if rest else ()
        case ("CMD", *rest):
            return tuple(rest)
        case _:
            return words


def _array(text: str) -> tuple[str, ...] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        return decode_json(text, tuple[str, ...])
    except msgspec.DecodeError:  # `[ -e /run/ready ]` is for the shell
        return None


def _time(annotations: Mapping[str, str], name: str) -> int:
    text = annotations.get(name, "30s")
    try:
        found = parse_duration(text)
    except InvalidInput as e:
        raise InvalidInput(f"invalid {_flag(name)}: {e.message}", e.hint) from None
    if found < _LEAST_NS:
        raise InvalidInput(f"{_flag(name)} cannot be less than 1ms: {text}")
    return found


def _number(annotations: Mapping[str, str], name: str, default: int) -> int:
    text = annotations.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(f"invalid {_flag(name)}: {text[:80]!r}", "it is a number from 0")
    return int(text)


def _flag(name: str) -> str:
    return "--" + name.removeprefix("sampan.")
