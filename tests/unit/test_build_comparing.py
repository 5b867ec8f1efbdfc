"""The first difference between two layers is named."""

import os

import pytest

from sampan.build.comparing import difference


def make(root):
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_text("content")
    os.symlink("f", root / "d" / "link")
    for path in (root / "d" / "f", root / "d", root):
        os.utime(path, (1, 1))
    os.utime(root / "d" / "link", (1, 1), follow_symlinks=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: None, ""),
        (lambda d: os.utime(d / "f", (1, 2)), "/d/f: its time differs"),
        (lambda d: os.chmod(d / "f", 0o600), "/d/f: its mode is 644, then 600"),
        (lambda d: (d / "f").write_text("contents"), "/d/f: its content differs from byte 7"),
        (lambda d: (d / "f").write_text("Content"), "/d/f: its content differs from byte 0"),
        (lambda d: (d / "g").touch(), "/d/g is in the second one only"),
        (lambda d: (d / "f").unlink(), "/d/f is in the first one only"),
        (lambda d: ((d / "link").unlink(), os.symlink("x", d / "link")), "/d/link: it leads to f, then to x"),
        (lambda d: ((d / "f").unlink(), (d / "f").mkdir()), "/d/f: a file, then a directory"),
    ],
)
def test_what_differs_is_named(tmp_path, change, said):
    os.umask(0o022)
    make(tmp_path / "one")
    make(tmp_path / "two")
    change(tmp_path / "two" / "d")
    for root in ("one", "two"):
        os.utime(tmp_path / root / "d", (1, 1))

    assert difference(str(tmp_path / "one"), str(tmp_path / "two")) == said
