"""Copying what an image has at a volume's place: layers read as overlayfs would merge them, without mounting."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sampan.engine.volumes import copy_up
from sampan.errors import InvalidInput


def layer(path: Path, files: dict[str, str]) -> str:
    """Make a layer's directory: a text is a file, "@x" a link to x, "!" a whiteout, "/" a directory."""
    for name, text in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if text == "/":
            target.mkdir(exist_ok=True)
        elif text == "!":
            os.mknod(target, stat.S_IFCHR, os.makedev(0, 0))
        elif text.startswith("@"):
            target.symlink_to(text[1:])
        else:
            target.write_text(text)
    path.mkdir(exist_ok=True)
    return str(path)


def opaque(path: str) -> None:
    os.setxattr(path, "trusted.overlay.opaque", b"y")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    found = tmp_path / "volume"
    found.mkdir()
    return found


def found(target: Path) -> dict[str, str]:
    result = {}
    for path in sorted(target.rglob("*")):
        name = str(path.relative_to(target))
        result[name] = f"@{path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
    return result


def test_upper_files_hide_lower_ones_and_directories_merge(tmp_path: Path, target: Path) -> None:
    base = layer(tmp_path / "base", {"data/a": "old", "data/sub/b": "b", "data/gone": "x", "other": "o"})
    top = layer(tmp_path / "top", {"data/a": "new", "data/sub/c": "c", "data/gone": "!", "data/l": "@a"})

    copy_up([top, base], "/data", str(target))

    assert found(target) == {"a": "new", "l": "@a", "sub": "/", "sub/b": "b", "sub/c": "c"}


def test_an_opaque_directory_hides_what_is_below(tmp_path: Path, target: Path) -> None:
    base = layer(tmp_path / "base", {"data/sub/b": "b", "data/a": "a"})
    top = layer(tmp_path / "top", {"data/sub/c": "c"})
    opaque(f"{top}/data/sub")

    copy_up([top, base], "/data", str(target))

    assert found(target) == {"a": "a", "sub": "/", "sub/c": "c"}


def test_a_file_over_a_directory_and_a_directory_over_a_file(tmp_path: Path, target: Path) -> None:
    base = layer(tmp_path / "base", {"data/a/x": "x", "data/b": "file"})
    top = layer(tmp_path / "top", {"data/a": "now a file", "data/b/y": "y"})

    copy_up([top, base], "/data", str(target))

    assert found(target) == {"a": "now a file", "b": "/", "b/y": "y"}


def test_a_removed_directory_is_not_there(tmp_path: Path, target: Path) -> None:
    base = layer(tmp_path / "base", {"data/a": "a"})
    top = layer(tmp_path / "top", {"data": "!"})

    copy_up([top, base], "/data", str(target))

    assert found(target) == {}


def test_links_on_the_way_stay_inside_the_image(tmp_path: Path, target: Path) -> None:
    base = layer(tmp_path / "base", {"run/lock/f": "f", "var/run": "@/run", "up": "@../../../../run/lock"})

    copy_up([base], "/var/run/lock", str(target))

    assert found(target) == {"f": "f"}
    other = tmp_path / "other"
    other.mkdir()
    copy_up([base], "/up", str(other))
    assert found(other) == {"f": "f"}


def test_links_that_go_in_circles_are_refused(tmp_path: Path, target: Path) -> None:
    base = layer(tmp_path / "base", {"a": "@b", "b": "@a"})

    with pytest.raises(InvalidInput, match="too many levels of symbolic links"):
        copy_up([base], "/a", str(target))


@pytest.mark.parametrize("path", ["/none", "/file", "/file/below"])
def test_nothing_is_copied_where_there_is_no_directory(tmp_path: Path, target: Path, path: str) -> None:
    copy_up([layer(tmp_path / "base", {"file": "f"})], path, str(target))

    assert found(target) == {}


def test_owner_mode_times_links_and_attributes_are_kept(tmp_path: Path, target: Path) -> None:
    base = Path(layer(tmp_path / "base", {"data/a": "a", "data/s": "@a"}))
    data = base / "data"
    os.link(data / "a", data / "b")
    os.mkfifo(data / "fifo", 0o600)
    os.setxattr(data / "a", "user.note", b"kept")
    os.chown(data / "a", 5, 6)
    os.chmod(data / "a", 0o4755)
    os.chown(data, 7, 8)
    os.chmod(data, 0o1770)
    os.utime(data / "a", ns=(1, 2))

    copy_up([str(base)], "/data", str(target))

    a, directory = os.lstat(target / "a"), os.lstat(target)
    assert (a.st_uid, a.st_gid, stat.S_IMODE(a.st_mode), a.st_mtime_ns) == (5, 6, 0o4755, 2)
    assert (directory.st_uid, directory.st_gid, stat.S_IMODE(directory.st_mode)) == (7, 8, 0o1770)
    assert os.path.samefile(target / "a", target / "b")
    assert stat.S_ISFIFO(os.lstat(target / "fifo").st_mode)
    assert os.getxattr(target / "a", "user.note") == b"kept"
