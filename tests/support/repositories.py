"""Repositories that are closed when their test has ended: an answer that it left in the middle holds a socket open."""

from __future__ import annotations

from typing import Any

from sampan.image.registry import Repository as _Repository

_open: list[_Repository] = []


class Repository(_Repository):
    """The same, and remembered."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _open.append(self)


def close_all() -> None:
    while _open:
        _open.pop().close()
