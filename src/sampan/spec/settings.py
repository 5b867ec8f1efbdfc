"""What a user may set: registries, and how patient to be with them. Pure structs with Docker's behaviour as default."""

from __future__ import annotations

import msgspec


class Registries(msgspec.Struct, frozen=True, kw_only=True):
    """How registries are reached."""

    tries: int = 5  # of one request, the first included
    wait_s: float = 0.5  # before the second try; then twice as long each time
    timeout_s: float = 60  # of silence on a connection


DEFAULT_REGISTRIES = Registries()
