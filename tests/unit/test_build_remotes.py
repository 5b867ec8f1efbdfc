"""What the addresses of repositories and files say."""

from __future__ import annotations

import pytest

from sampan.build.remotes import GitReference, file_name, parse_git, shown
from sampan.errors import InvalidInput

COMMIT = "0123456789012345678901234567890123456789"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/r.git", GitReference("https://h/r.git")),
        ("https://h/r.git#main", GitReference("https://h/r.git", "main")),
        ("https://h/r.git#main:a/b/", GitReference("https://h/r.git", "main", "a/b")),
        ("https://h/r.git#:../../a", GitReference("https://h/r.git", "", "a")),
        ("git@h:me/r.git#v1", GitReference("git@h:me/r.git", "v1")),
        ("ssh://git@h:22/r#v1", GitReference("ssh://git@h:22/r", "v1")),
        ("github.com/me/r", GitReference("https://github.com/me/r")),
        ("https://h/r.git?tag=v1&subdir=x", GitReference("https://h/r.git", "refs/tags/v1", "x")),
        ("https://h/r.git?branch=b&keep-git-dir=1", GitReference("https://h/r.git", "refs/heads/b", keep_git_dir=True)),
        ("https://h/r?ref=x&submodules=false", GitReference("https://h/r", "x", submodules=False)),
        (f"https://h/r?checksum={COMMIT}", GitReference("https://h/r", checksum=COMMIT)),
    ],
)
def test_a_repositorys_address_is_read_as_buildkit_reads_it(text, expected) -> None:
    assert parse_git(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc", "/srv/r.git", "ext::sh -c x", "--upload-pack=x", "-h:x", "https://h/r#--upload-pack=x",
        "ssh://-oProxyCommand=x/r", "https://h/r?what=x", "https://h/r?keep-git-dir=maybe", "",
    ],
)  # fmt: skip
def test_what_is_no_address_or_would_be_an_option_is_refused(text) -> None:
    with pytest.raises(InvalidInput):
        parse_git(text)


def test_a_commit_is_known_by_its_form() -> None:
    assert parse_git(f"https://h/r#{COMMIT}").commit == COMMIT
    assert not parse_git("https://h/r#0123456").commit


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.txt?x=/y", "b.txt"),
        ("http://h/", "__unnamed__"),
        ("http://h", "__unnamed__"),
        ("http://h/a/../..", "__unnamed__"),
        ("http://h/a%2Fb", "b"),
        ("http://h/%2e%2e", "__unnamed__"),
        ("http://h/a/", "a"),
    ],
)
def test_a_download_is_called_what_its_address_ends_in(url, name) -> None:
    assert file_name(url) == name


def test_passwords_are_not_shown() -> None:
    assert shown("https://me:secret@h/r") == "https://h/r"
