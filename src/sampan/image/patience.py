"""How often a registry is asked that does not answer as it should, and when."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.pulling import AS_CONFIGURED

if TYPE_CHECKING:
    from sampan.spec.pulling import Retries
    from sampan.spec.settings import Registries

_LONGEST_WAIT_S = 60.0
_LONGEST_DELAY_NS = 3600 * 10**9
_MOST = 99


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """What is done after a failure."""

    tries: int  # of one request, the first included
    wait_s: float  # after the first failure; then twice as long each time
    delay_s: float | None = None  # always so long instead
    is_asked: bool = False  # by who waits for the registry: also where nobody listens yet

    def after_s(self, failures: int) -> float:
        """Return how long to wait: unless it is asked for, somewhat at random, lest all come again at once."""
        if self.delay_s is not None:
            return self.delay_s
        return min(self.wait_s * 2.0 ** (failures - 1), _LONGEST_WAIT_S) * random.uniform(0.5, 1)


def check(retries: Retries) -> Retries:
    """Return them. Raises InvalidInput for what can't be."""
    if retries.count is not None and not 0 <= retries.count <= _MOST:
        raise InvalidInput(f"invalid number of retries: {retries.count}", f"from 0 to {_MOST}")
    if retries.delay_ns is not None and not 0 <= retries.delay_ns <= _LONGEST_DELAY_NS:
        raise InvalidInput(f"invalid delay between retries: {retries.delay_ns / 10**9:g} s", "from 0 to 1h")
    return retries


def patience(registries: Registries, retries: Retries) -> Patience:
    """Return what is configured, or asked for otherwise."""
    return Patience(
        tries=registries.tries if retries.count is None else retries.count + 1,
        wait_s=registries.wait_s,
        delay_s=None if retries.delay_ns is None else retries.delay_ns / 10**9,
        is_asked=retries != AS_CONFIGURED,
    )
