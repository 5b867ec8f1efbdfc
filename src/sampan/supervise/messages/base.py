"""What every message is, and the answers that any request may get."""

from __future__ import annotations

import msgspec

VERSION = 3
"""Of the protocol; see the package."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Anything that travels on a channel."""


class Done(Message, frozen=True, kw_only=True, tag="done"):
    """It is done."""


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """It failed: an error class of `sampan.errors` by name, with its message and hint."""

    error: str
    message: str
    hint: str = ""


Messages = Done | Refused
