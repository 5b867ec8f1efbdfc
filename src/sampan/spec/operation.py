"""What all steps of all plans have: the three ways to say themselves."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Operation(msgspec.Struct, frozen=True, tag_field="op", omit_defaults=True):
    """One step: frozen data without flag bits, descriptors or kernel objects."""

    man: ClassVar[str] = ""
    """The manual page that explains it."""

    def say(self) -> str:
        """Say what it does: a clause that begins with a verb."""
        raise NotImplementedError

    def shell(self) -> str:
        """Say it as lines of shell; `$root` is the container's root directory, `$pid` its first process."""
        raise NotImplementedError
