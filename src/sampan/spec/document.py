"""JSON that comes from outside."""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON that is none, is not in UTF-8, or is nested too deeply."""
