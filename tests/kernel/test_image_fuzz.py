"""Some of what `make fuzz` does with layers on a disk, the same each time."""

import random

import pytest

from fuzz.run import changed, check
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.root])
def test_changed_layers_are_unpacked_or_refused_and_nothing_is_left(name):
    for seed in range(300):
        data = changed(TARGETS[name], random.Random(f"{name} {seed}"))

        assert check(TARGETS[name], data) is None, f"seed {seed}: {data!r}"
