"""Secrets are found wherever a build could leave them."""

import base64
import os
from urllib.parse import quote

import pytest

from sampan.build.leaks import Searcher

VALUE = b"s3cr3t/+value="
SEARCHER = Searcher({"token": VALUE + b"\n", "other": b"another one"})


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (VALUE, ""),
        (b"x=" + VALUE + b";", ""),
        (base64.b64encode(VALUE), "base64"),
        (base64.b64encode(b"user:" + VALUE), "base64"),
        (base64.b64encode(b"me:" + VALUE + b" and more"), "base64"),
        (base64.urlsafe_b64encode(b"1234" + VALUE), "base64"),
        (quote(VALUE, safe="").encode(), "URL encoding"),
        (quote(VALUE).encode(), "URL encoding"),
    ],
)
def test_a_secret_is_found_in_a_file_however_it_is_written(tmp_path, content, form):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"\0" * 100 + content + b"\0" * 100)
    (tmp_path / "empty").touch()

    assert SEARCHER.in_directory(str(tmp_path)) == ("token", form, "/d/f")


def test_a_secret_is_found_in_names_and_links(tmp_path):
    (tmp_path / "a").symlink_to("/x/another one")

    assert SEARCHER.in_directory(str(tmp_path)) == ("other", "", "the link /a")

    (tmp_path / "a").unlink()
    (tmp_path / "not another one").touch()
    assert SEARCHER.in_directory(str(tmp_path)) == ("other", "", "the name /not another one")


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/zero")

    assert SEARCHER.in_directory(str(tmp_path)) is None


def test_half_a_secret_is_none(tmp_path):
    (tmp_path / "f").write_bytes(VALUE[:-1])

    assert SEARCHER.in_directory(str(tmp_path)) is None


def test_what_is_too_short_is_not_looked_for():
    assert not Searcher({"short": b"abc\n"})
