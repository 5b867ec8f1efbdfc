"""Conflicting verbs from sixteen clients at once: a legal state at the end, and to each caller a true answer."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import pytest

from support.conflicts import ALONE, CONNECTED, NAMES, REMOVING, VERBS, quarrel, settled, turmoil
from support.sampan import Sampan

SEED = os.environ.get("SAMPAN_SEED") or f"{random.SystemRandom().getrandbits(32):x}"
EACH = 12


@pytest.mark.parametrize("host", [ALONE, CONNECTED], ids=["alone", "on a network, started again"])
@pytest.mark.parametrize("verbs", [VERBS, REMOVING], ids=["two that stay", "removed and made again"])
def test_conflicting_verbs_end_in_a_legal_state_with_true_answers(sampan: Sampan, verbs: Any, host: Any) -> None:
    print(f"SAMPAN_SEED={SEED} gives the same verbs")

    quarrel(sampan, SEED, verbs, host, each=EACH)

    before = {name: settled(sampan, name) for name in NAMES}
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)
    assert {name: settled(sampan, name) for name in NAMES} == before


def test_conflicting_verbs_end_so_too_where_our_processes_are_killed_meanwhile(sampan: Sampan) -> None:
    print(f"SAMPAN_SEED={SEED} gives the same verbs")

    turmoil(sampan, SEED, REMOVING, CONNECTED, each=8)
