"""Giving a tree away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.engine.owning import chown_tree
from sampan.errors import InvalidInput


def test_a_hostile_depth_takes_no_descriptors(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "/".join("d" * 300))

    with pytest.raises(InvalidInput, match="nested too deeply"):
        chown_tree(str(tmp_path), os.getuid(), os.getgid())
