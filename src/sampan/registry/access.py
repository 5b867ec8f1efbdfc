"""Who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sampan.http11.channel import Request


class Access(Protocol):
    """Decides about a request before anything of it is looked at."""

    def check(self, request: Request, *, writes: bool) -> str:
        """Return the user's name, "" for nobody. Raises Refusal."""


class Open:
    """Everybody may do everything."""

    def check(self, request: Request, *, writes: bool) -> str:  # noqa: ARG002
        return ""
