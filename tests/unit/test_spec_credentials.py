import pytest
from hypothesis import given, strategies as st

from sampan.spec.credentials import HUB, auth_files, helper_of, hostname_of, kept_for, server_of

ME, YOU = {"auth": "bWU6c2VjcmV0"}, {"auth": "eW91OnNlY3JldA=="}
MINE, YOURS = ({"username": name, "password": "secret"} for name in ("me", "you"))


@pytest.mark.parametrize(
    ("auths", "registry", "repository", "found"),
    [
        ({"r.example:5000": ME}, "r.example:5000", "", MINE),
        ({"r.example:5000": ME}, "r.example", "", None),
        ({"https://r.example/v2/": ME}, "r.example", "a/b", MINE),
        ({"r.example/v1/": ME}, "r.example", "a/b", MINE),
        ({HUB: ME}, "docker.io", "library/debian", MINE),
        ({"docker.io": ME}, "docker.io", "library/debian", MINE),
        ({"https://index.docker.io/v1/": ME}, "index.example", "", None),
        ({"quay.io/team": ME}, "quay.io", "team/app", MINE),
        ({"quay.io/team": ME}, "quay.io", "teams/app", None),
        ({"quay.io/team": ME}, "quay.io", "", None),
        ({"quay.io": ME, "quay.io/team": YOU}, "quay.io", "team/app", YOURS),
        ({"quay.io": ME, "quay.io/team/app": YOU}, "quay.io", "team/other", MINE),
        ({"a.example": {}}, "a.example", "", None),
        ({"a.example": {"auth": "!"}}, "a.example", "", None),
        ({"a.example": {"auth": "bWU="}}, "a.example", "", None),
        ({"a.example": 7}, "a.example", "", None),
        ({"a.example": {"username": "me", "password": "secret"}}, "a.example", "", MINE),
        ({"a.example": {"auth": "bWU6", "identitytoken": "t"}}, "a.example", "", {"identitytoken": "t"}),
        ({"a.example": {"auth": "bWU6c2VjcmV0AAA="}}, "a.example", "", MINE),
        (7, "a.example", "", None),
    ],
)
def test_the_longest_key_that_fits_is_found(auths, registry, repository, found):
    assert kept_for({"auths": auths}, registry, repository) == found


@pytest.mark.parametrize(
    ("config", "registry", "repository", "asked"),
    [
        ({}, "a.example", "", None),
        ({"credsStore": "pass"}, "a.example", "x", ("pass", "a.example")),
        ({"credsStore": "pass"}, "docker.io", "x", ("pass", HUB)),
        ({"credsStore": "pass", "credHelpers": {"a.example": "other"}}, "a.example", "x", ("other", "a.example")),
        ({"credHelpers": {"docker.io": "hub"}}, "docker.io", "x", ("hub", HUB)),
        ({"credHelpers": {"a.example/team": "team"}}, "a.example", "team/x", ("team", "a.example/team")),
        ({"credHelpers": {"a.example": ""}, "credsStore": ""}, "a.example", "", None),
        ({"credHelpers": 1, "credsStore": 2}, "a.example", "", None),
    ],
)
def test_a_helper_for_the_registry_comes_before_the_one_for_all(config, registry, repository, asked):
    assert helper_of(config, registry, repository) == asked


@pytest.mark.parametrize(
    ("typed", "host"),
    [
        ("r.example", "r.example"),
        ("https://r.example:5000/v2/", "r.example:5000"),
        ("r.example/team", "r.example"),
        (HUB, "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_a_registry_is_known_by_its_host(typed, host):
    assert hostname_of(typed) == host


@given(st.dictionaries(st.text(max_size=30), st.dictionaries(st.sampled_from(["auth", "username"]), st.text())))
def test_any_file_is_read(auths):
    assert kept_for({"auths": auths}, server_of("a.example")) is None or auths


def test_podmans_files_are_where_podman_has_them():
    assert auth_files({"REGISTRY_AUTH_FILE": "/f", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/h") == ("/f",)
    assert auth_files({"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/h") == (
        "/run/user/7/containers/auth.json", "/h/.config/containers/auth.json",
    )  # fmt: skip
    assert auth_files({"XDG_CONFIG_HOME": "/c"}, 0, "/h") == ("/run/containers/0/auth.json", "/c/containers/auth.json")
