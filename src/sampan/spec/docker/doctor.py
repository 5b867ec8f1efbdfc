"""Bodies of sampan's own about the host's fitness."""

from __future__ import annotations

from typing import Literal

from sampan.spec.docker.body import Body, always


class Finding(Body, frozen=True, kw_only=True):
    """One check of the host: what was found and, unless all is well, what to do."""

    check: str = always("")
    outcome: Literal["ok", "warning", "failed"] = always("ok")
    said: str = always("")
    fix: str = ""
