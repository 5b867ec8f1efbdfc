"""Docker's pattern rules: the table of moby/patternmatcher's own tests, and more."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, reject, settings, strategies as st

from sampan.build.ignore import Matcher, component, escaped, has_wildcards, parse
from sampan.errors import InvalidInput


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "file", True),
        ("**", "file/", True),
        ("**/", "file", True),
        ("**", "dir/file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("dir", "dir/file", True),
        ("dir/**", "dir", False),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/*", "dir/dir2/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir2/file", True),
        ("**file", "file", True),
        ("**file", "dir/file", True),
        ("**/file", "dir/file", True),
        ("**file", "dir/dir/xfile", True),
        ("**/file", "dir/xfile", False),
        ("**/file*", "dir/dir/file.txt", True),
        ("**/**/*.txt", "dir/dir/file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("**/*.txt", "file.txt", True),
        ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt", "a/file.txt", True),
        ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ae", False),
        ("a[b-d]e", "ace", True),
        ("a[^b-d]e", "aze", True),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcdef", False),
        ("abc?def", "abcZdef", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        ("**/foo/bar", "dir/foo/bar", True),
        ("abc/**", "abc/def/ghi", True),
        ("**/.foo", ".foo", True),
        ("**/.foo", "bar.foo", False),
        ("./bar.*", "bar.go", True),
        ("dir/*", "dir/a/b", True),
        ("a(b)c/def", "a(b)c/def", True),
        ("$x", "$x", True),
    ],
)
def test_a_pattern_matches_as_dockers_does(pattern: str, path: str, matches: bool) -> None:
    assert Matcher((pattern,)).match(path.rstrip("/"))[0] is matches


@pytest.mark.parametrize("pattern", ["[", "[^", "[^]", "[^bc", "[]a]", "[-]", "[x-]", "[a-]", "\\", "!", "a[", "[\\"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        Matcher((pattern,))


def test_the_last_pattern_that_matches_wins() -> None:
    matcher = Matcher(("*.md", "!README*.md", "README-secret.md"))

    assert [matcher.match(name)[0] for name in ("a.md", "README.md", "README-secret.md")] == [True, False, True]


def test_what_is_in_a_directory_that_matches_matches_unless_it_is_taken_in_again() -> None:
    matcher = Matcher(("node_modules", "!node_modules/keep"))
    _, inside = matcher.match("node_modules")

    assert matcher.match("node_modules/x", inside)[0]
    assert not matcher.match("node_modules/keep", inside)[0]
    assert not matcher.match("node_modules/keep/below")[0]
    assert matcher.may_take_in_again("node_modules")


def test_nobody_looks_into_a_directory_that_no_exception_reaches() -> None:
    matcher = Matcher(("*", "!src/**/*.py"))

    assert not matcher.may_take_in_again("node_modules")
    assert matcher.may_take_in_again("src")
    assert matcher.may_take_in_again("src/deep")


def test_an_ignore_file_is_read_as_docker_reads_it() -> None:
    text = "\ufeff# a comment\n\n  /abs/./path/  \n!  /again \n a#b\n #no comment\n/\n"

    assert parse(text) == ("abs/path", "!again", "a#b", "#no comment", "/")


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [("*", ".hidden", True), ("a?c", "abc", True), ("[[]x", "[x", True), ("[^a]", "a", False), (r"\*", "*", True)],
)
def test_a_component_of_a_wildcard_matches_as_gos_does(pattern: str, name: str, matches: bool) -> None:
    assert (component(pattern).match(name) is not None) is matches


def test_a_backslash_takes_the_meaning_from_a_wildcard() -> None:
    assert [has_wildcards(t) for t in ("a*", r"a\*", r"a\\*", "a", "[b]")] == [True, False, True, False, True]


NAMES = st.text("ab.*", min_size=1, max_size=3)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", ".a", "a.b"]), min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(
    st.builds(
        lambda sign, parts: sign + "/".join(parts),
        st.sampled_from(["", "", "!"]),
        st.lists(st.one_of(NAMES, st.sampled_from(["**", "*", "?", "[ab]", "a", "b"])), min_size=1, max_size=3),
    ),
    max_size=4,
)


def matcher_of(patterns: list[str]) -> Matcher:
    try:
        return Matcher(patterns)
    except InvalidInput:
        reject()


def down(matcher: Matcher, path: str) -> tuple[bool, list[tuple[str, bool]]]:
    """Walk down to a path; return whether it matches, and the directories on the way with the same."""
    above: tuple[bool, ...] = ()
    parts = path.split("/")
    walked = []
    for count in range(1, len(parts) + 1):
        name = "/".join(parts[:count])
        matched, above = matcher.match(name, above)
        walked.append((name, matched))
    return walked[-1][1], walked[:-1]


@settings(deadline=None)
@given(PATTERNS, PATHS)
def test_a_directory_that_nobody_looks_into_has_nothing_that_is_taken_in_again(patterns: list[str], path: str) -> None:
    matcher = matcher_of(patterns)
    matched, above = down(matcher, path)

    for directory, left_out in above:
        if left_out and not matched:
            assert matcher.may_take_in_again(directory)
        if matched and not left_out:
            assert matcher.may_match_below(directory)


@settings(deadline=None)
@given(PATTERNS, PATHS)
def test_walking_down_and_asking_at_once_agree_for_patterns_without_exceptions(patterns: list[str], path: str) -> None:
    matcher = matcher_of([pattern for pattern in patterns if not pattern.startswith("!")])

    assert down(matcher, path)[0] == matcher.match(path)[0]


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_a_pattern_or_refused(pattern: str, path: str) -> None:
    for read in (lambda: Matcher(parse(pattern)).match(path), lambda: component(pattern).match(path)):
        with contextlib.suppress(InvalidInput):
            read()


@settings(deadline=None)
@given(st.text("a*?[]\\^-!b", max_size=6))
def test_an_escaped_path_is_matched_by_itself(path: str) -> None:
    if path and not path.startswith("!"):
        assert Matcher((escaped(path),)).match(path)[0]
