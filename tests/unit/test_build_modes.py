"""`--chmod`, octal and symbolic."""

from __future__ import annotations

import pytest

from sampan.build.modes import Mode
from sampan.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("644", 0o755, 0o644),
        ("04755", 0o644, 0o4755),
        ("u=rwX,go=rX", 0o640, 0o644),
        ("u=rwX,go=rX", 0o700, 0o755),
        ("+x", 0o644, 0o755),
        ("a-w", 0o666, 0o444),
        ("go=", 0o777, 0o700),
        ("g=u", 0o640, 0o660),
        ("u+s,g+s,+t", 0o755, 0o7755),
        ("u-s", 0o4755, 0o755),
        ("u+x-w", 0o644, 0o544),
        ("=", 0o777, 0),
    ],
)
def test_a_mode_is_changed_as_chmod_would_without_a_umask(text: str, before: int, after: int) -> None:
    assert Mode(text).apply(before, directory=False) == after


def test_a_capital_x_is_for_directories_and_what_can_be_run_already() -> None:
    assert Mode("a+X").apply(0o644, directory=True) == 0o755
    assert Mode("a+X").apply(0o644, directory=False) == 0o644


@pytest.mark.parametrize("text", ["8", "10000", "u", "x=q", "rw", "u=rw;g=r", "0x1ff", "-1"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid chmod parameter"):
        Mode(text)
