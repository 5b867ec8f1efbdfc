"""The platform of this machine, and platforms as people write them on it."""

from __future__ import annotations

import os

from sampan.spec.distribution import Platform


def own() -> Platform:
    """Return this machine's."""
    return Platform.of_machine(os.uname().machine)


def parse(text: str) -> Platform:
    """Read `linux/arm64`, `arm64`, or `linux`: where the architecture is left out, this machine's is meant."""
    return Platform.parse(text, os.uname().machine)
