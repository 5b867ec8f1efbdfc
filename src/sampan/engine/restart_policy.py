"""Restart policies: which ended container is started again, and when. Pure.

The wait doubles from 0.1 s to a minute, and begins anew after a run of ten seconds: moby, restartmanager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import InvalidInput
from sampan.spec.state import Status

if TYPE_CHECKING:
    from sampan.spec.docker import RestartPolicy
    from sampan.spec.state import State

_FIRST_S, _LONGEST_S, _GOOD_RUN_NS = 0.1, 60.0, 10 * 10**9
_POLICIES = ("", "no", "always", "on-failure", "unless-stopped")


def check(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Raise InvalidInput in Docker's words."""
    if policy.name not in _POLICIES:
        raise InvalidInput(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidInput("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidInput("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidInput("can't create 'AutoRemove' container with restart policy")


def wanted(policy: RestartPolicy, state: State) -> bool:
    """Tell whether a container that has just ended like this is to be started again."""
    if state.stopped_by_user:
        return False
    if policy.name == "on-failure":
        most = policy.maximum_retry_count
        return state.exit_code != 0 and (not most or state.restart_count < most)
    return policy.name in ("always", "unless-stopped")


def wanted_at_boot(policy: RestartPolicy, state: State) -> bool:
    """Tell whether one that does not run is to be started since the machine has booted.

    `always` starts also what was stopped by hand, as the start of Docker's daemon does.
    """
    if state.status not in (Status.EXITED, Status.RESTARTING):
        return False
    return policy.name == "always" or (policy.name == "unless-stopped" and not state.stopped_by_user)


def delay_s(before_s: float, ran_ns: int) -> float:
    """Return how long to wait, after `before_s` the time before and a run of `ran_ns`."""
    if before_s == 0 or ran_ns >= _GOOD_RUN_NS:
        return _FIRST_S
    return min(2 * before_s, _LONGEST_S)
