"""What the objects of the Python client have in common that are the caller's to remove."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from sampan.errors import NotFound


class Removable(ABC):
    """In a `with` it is removed at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.remove()
        except NotFound:
            pass  # somebody else was first

    @abstractmethod
    def remove(self) -> None:
        """Remove it."""
