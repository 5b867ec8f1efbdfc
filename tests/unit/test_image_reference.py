import re

import pytest
from hypothesis import given, strategies as st

from sampan.errors import InvalidInput
from sampan.spec.reference import Reference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("debian", "docker.io", "library/debian", "latest", None),
        ("debian:bookworm", "docker.io", "library/debian", "bookworm", None),
        ("user/app", "docker.io", "user/app", "latest", None),
        ("docker.io/debian", "docker.io", "library/debian", "latest", None),
        ("index.docker.io/debian:1", "docker.io", "library/debian", "1", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("localhost:5000/app", "localhost:5000", "app", "latest", None),
        ("LOCAL/app", "LOCAL", "app", "latest", None),
        ("127.0.0.1:5000/a/b/c:1.2_3-4", "127.0.0.1:5000", "a/b/c", "1.2_3-4", None),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest", None),
        ("registry.example.com/app", "registry.example.com", "app", "latest", None),
        (f"debian@{DIGEST}", "docker.io", "library/debian", None, DIGEST),
        (f"host:1/a:tag@{DIGEST}", "host:1", "a", "tag", DIGEST),
        ("x/a__b.c-d--e/f:T", "docker.io", "x/a__b.c-d--e/f", "T", None),
    ],
)
def test_names_are_read_as_docker_reads_them(text, registry, repository, tag, digest):
    assert Reference.parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "/", "a:", ":tag", "a@", "a@sha256:", "a@sha256:abc", f"a@{DIGEST}0", f"a@md5:{'0' * 32}",
        "a:b:c/d:e:f",
        "a//b", "/a", "a/", "-a", "a-", "a..b", "a___b", "a:-b", "a:" + "t" * 129, "x" * 300, "a b", "a\n", "ä", "a:ä",
        "../a", "a/../b", "http://a/b", "[::1/app", "-host.example/a", "a@" + DIGEST.upper(), "0" * 64,
    ],
)  # fmt: skip
def test_bad_names_are_refused_in_dockers_words(text):
    with pytest.raises(InvalidInput, match=r"invalid reference format|invalid repository name"):
        Reference.parse(text)


def test_an_upper_case_repository_is_named():
    with pytest.raises(InvalidInput, match=re.escape("repository name (library/Debian) must be lowercase")):
        Reference.parse("Debian")


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/debian", "debian:latest"),
        ("docker.io/user/app:1", "user/app:1"),
        ("quay.io/user/app:1", "quay.io/user/app:1"),
        ("docker.io/library/a/b", "library/a/b:latest"),
        (f"debian@{DIGEST}", f"debian@{DIGEST}"),
    ],
)
def test_the_familiar_form_leaves_out_what_is_understood(text, familiar):
    assert Reference.parse(text).familiar() == familiar


label = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", fullmatch=True)
registries = st.one_of(
    st.just("localhost"),
    st.builds(lambda parts, port: ".".join(parts) + f":{port}", st.lists(label, min_size=1), st.integers(1, 65535)),
    st.builds(".".join, st.lists(label, min_size=2, max_size=4)),
)
components = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)


@given(registries, st.lists(components, min_size=1, max_size=4), st.none() | tags, st.none() | digests)
def test_what_is_put_together_is_taken_apart(registry, parts, tag, digest):
    text = f"{registry}/{'/'.join(parts)}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")

    reference = Reference.parse(text)

    assert reference.digest == digest
    assert reference.tag == (tag or (None if digest else "latest"))
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        reference = Reference.parse(text)
    except InvalidInput:
        return
    assert Reference.parse(str(reference)) == reference
    assert ".." not in reference.repository.split("/")


@pytest.mark.parametrize("text", ["docker.io/localhost/app:latest", "docker.io/quay.io/app:1"])
def test_a_familiar_name_means_the_same_image(text):
    assert Reference.parse(text).familiar() == text
