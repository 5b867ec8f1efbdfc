"""What the registry decides without a disk or a socket: paths, ranges, pages, manifests."""

import json

import pytest
from hypothesis import given, strategies as st

from sampan.registry import document, pages, ranges
from sampan.registry.refusal import Refusal
from sampan.registry.routes import Endpoint, Route, find

SHA256 = "sha256:" + "a" * 64
SHA512 = "sha512:" + "b" * 128
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": SHA256, "size": 2}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": SHA512, "size": 9}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2", Route(Endpoint.BASE)),
        ("/v2/", Route(Endpoint.BASE)),
        ("/v2/_catalog", Route(Endpoint.CATALOG)),
        ("/v2/a/tags/list", Route(Endpoint.TAGS, "a")),
        ("/v2/a/b-c/d__e/tags/list", Route(Endpoint.TAGS, "a/b-c/d__e")),
        ("/v2/a/manifests/v1", Route(Endpoint.MANIFEST, "a", "v1")),
        (f"/v2/a/manifests/{SHA256}", Route(Endpoint.MANIFEST, "a", SHA256)),
        (f"/v2/a/blobs/{SHA512}", Route(Endpoint.BLOB, "a", SHA512)),
        (f"/v2/a/blobs/{SHA256.replace(':', '%3A')}", Route(Endpoint.BLOB, "a", SHA256)),
        ("/v2/a/blobs/uploads/", Route(Endpoint.UPLOADS, "a")),
        ("/v2/a/blobs/uploads", Route(Endpoint.UPLOADS, "a")),
        ("/v2/a/blobs/uploads/x1", Route(Endpoint.UPLOAD, "a", "x1")),
        (f"/v2/a/referrers/{SHA256}", Route(Endpoint.REFERRERS, "a", SHA256)),
        # names may consist of the words that the endpoints consist of
        ("/v2/manifests/manifests/manifests", Route(Endpoint.MANIFEST, "manifests", "manifests")),
        ("/v2/blobs/uploads/blobs/uploads/", Route(Endpoint.UPLOADS, "blobs/uploads")),
        ("/v2/tags/list/tags/list", Route(Endpoint.TAGS, "tags/list")),
    ],
)
def test_a_path_leads_to_its_endpoint(path: str, route: Route) -> None:
    assert find(path) == route


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", "UNSUPPORTED"),
        ("/v1/", "UNSUPPORTED"),
        ("/v2/a", "UNSUPPORTED"),
        ("/v2/a/manifests", "UNSUPPORTED"),
        ("/v2/manifests/v1", "NAME_INVALID"),
        ("/v2//manifests/v1", "NAME_INVALID"),
        ("/v2/A/manifests/v1", "NAME_INVALID"),
        ("/v2/a//b/manifests/v1", "NAME_INVALID"),
        ("/v2/../a/manifests/v1", "NAME_INVALID"),
        ("/v2/a/../../etc/tags/list", "NAME_INVALID"),
        ("/v2/%2e%2e%2fa/tags/list", "NAME_INVALID"),
        ("/v2/a%00b/tags/list", "NAME_INVALID"),
        ("/v2/_a/tags/list", "NAME_INVALID"),
        ("/v2/a/_manifests/tags/list", "NAME_INVALID"),
        (f"/v2/{'a' * 256}/tags/list", "NAME_INVALID"),
        (f"/v2/{'a/' * 2000}tags/list", "NAME_INVALID"),
        ("/v2/a/blobs/sha256:../../../etc/passwd", "UNSUPPORTED"),
        ("/v2/a/blobs/sha256:..", "DIGEST_INVALID"),
        (f"/v2/a/blobs/{SHA256.upper()}", "DIGEST_INVALID"),
        ("/v2/a/blobs/md5:" + "a" * 32, "DIGEST_INVALID"),
        (f"/v2/a/referrers/{SHA256[:-1]}", "DIGEST_INVALID"),
    ],
)
def test_what_fails_the_grammar_gets_nowhere(path: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        find(path)

    assert refused.value.code == code


@given(st.text())
def test_any_path_is_routed_or_refused_and_nothing_routed_leaves_its_directory(path: str) -> None:
    try:
        route = find(f"/v2/{path}")
    except Refusal:
        return

    assert ".." not in f"{route.name}/".split("/")
    assert not route.name.startswith("/")


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=0-99", range(100)),
        ("bytes=10-", range(10, 100)),
        ("bytes=10-1000000", range(10, 100)),
        ("bytes=-1", range(99, 100)),
        ("bytes=-1000", range(100)),
        ("Bytes = 5 - 6", range(5, 7)),
        # ignored, so all is sent
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=--1", None),
        ("bytes=0-" + "9" * 5000, None),
        ("bytes=\u0660-\u0663", None),
    ],
)
def test_a_range_is_understood_or_ignored(header: str, wanted: range | None) -> None:
    assert ranges.wanted(header, 100) == wanted


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=5-4", 100)],
)
def test_a_range_behind_the_end_can_t_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(ranges.Unsatisfiable):
        ranges.wanted(header, size)


@given(st.text() | st.from_regex(r"bytes=[0-9]{0,20}-[0-9]{0,20}", fullmatch=True), st.integers(0, 1 << 62))
def test_any_range_lies_within_the_blob(header: str, size: int) -> None:
    try:
        span = ranges.wanted(header, size)
    except ranges.Unsatisfiable:
        return

    assert span is None or (0 <= span.start < span.stop <= size)


@pytest.mark.parametrize(
    ("header", "chunk"),
    [
        ("0-9", range(10)),
        ("bytes 10-19/200", range(10, 20)),
        ("bytes 10-19/*", range(10, 20)),
        ("bytes=10-19", range(10, 20)),
        ("9-0", None),
        ("0", None),
        ("-5", None),
        ("0-1-2", None),
        ("0-" + "9" * 30, None),
    ],
)
def test_a_chunk_says_which_bytes_it_is(header: str, chunk: range | None) -> None:
    assert ranges.chunk(header) == chunk


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ("*", True),
        (f'"{SHA256}"', True),
        (f'W/"{SHA256}"', True),
        (f'"x", "{SHA256}"', True),
        (SHA256, False),
        ("", False),
    ],
)
def test_an_entity_tag_is_the_quoted_digest(header: str, matches: bool) -> None:
    assert ranges.matches(header, SHA256) is matches


def test_pages_follow_one_another_to_the_end() -> None:
    names = ["b", "a", "C", "d", "e"]
    seen, last, more = [], "", True

    while more:
        found, more = pages.page(names, 2, last)
        seen += found
        last = found[-1]

    assert seen == ["C", "a", "b", "d", "e"]


def test_a_page_of_nothing_is_empty_and_the_last() -> None:
    assert pages.page(["a", "b"], 0, "") == ([], False)


def test_a_page_begins_behind_a_name_that_need_not_exist() -> None:
    assert pages.page(["a", "c"], 5, "b") == (["c"], False)


def test_the_link_to_the_next_page_keeps_what_was_asked() -> None:
    link = pages.link("/v2/a/referrers/x", 2, "sha256:1", {"artifactType": "a/b+c"})

    assert link == '</v2/a/referrers/x?n=2&last=sha256%3A1&artifactType=a%2Fb%2Bc>; rel="next"'


@pytest.mark.parametrize("n", ["-1", "x", "1.5", " ", "\u0663", "9" * 50])
def test_a_page_s_size_must_be_a_number(n: str) -> None:
    with pytest.raises(Refusal) as refused:
        pages.size(n)

    assert refused.value.code == "PAGINATION_NUMBER_INVALID"


def test_a_page_is_never_longer_than_what_memory_is_meant_for() -> None:
    assert pages.size("1000000000") == pages.size("") == pages.MOST


def read(content: object, content_type: str = MANIFEST) -> document.Manifest:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return document.read(data, content_type, SHA256)


def test_an_image_needs_its_configuration_and_its_layers() -> None:
    manifest = read({"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]})

    assert [blob.digest for blob in manifest.blobs] == [SHA256, SHA512]
    assert manifest.listed.artifact_type == CONFIG["mediaType"]


def test_a_foreign_layer_is_somewhere_else() -> None:
    foreign = {**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "urls": ["https://x"]}

    assert len(read({"schemaVersion": 2, "config": CONFIG, "layers": [foreign]}).blobs) == 1


def test_an_index_needs_its_manifests() -> None:
    manifest = read({"schemaVersion": 2, "manifests": [{**CONFIG, "mediaType": MANIFEST}]}, INDEX)

    assert [child.digest for child in manifest.manifests] == [SHA256]
    assert manifest.listed.artifact_type is None


def test_an_artifact_of_any_type_is_listed_by_its_type() -> None:
    manifest = read(
        {
            "artifactType": "application/vnd.x",
            "blobs": [LAYER],
            "subject": {**CONFIG, "mediaType": MANIFEST},
            "annotations": {"a": "b"},
        },
        "application/vnd.example.thing.v1+json",
    )

    assert manifest.subject == SHA256
    assert manifest.listed.artifact_type == "application/vnd.x"
    assert manifest.listed.annotations == {"a": "b"}
    assert [blob.digest for blob in manifest.blobs] == [SHA512]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", MANIFEST),
        (b"[]", MANIFEST),
        (b"\xff\xfe", MANIFEST),
        (b'{"a":' * 100_000, MANIFEST),
        ({"schemaVersion": 2, "layers": []}, MANIFEST),
        ({"schemaVersion": 3, "config": CONFIG, "layers": []}, MANIFEST),
        ({"config": CONFIG, "layers": []}, MANIFEST),
        ({"schemaVersion": 2, "mediaType": INDEX, "config": CONFIG, "layers": []}, MANIFEST),
        ({"schemaVersion": 2, "config": CONFIG, "layers": [], "manifests": []}, MANIFEST),
        ({"schemaVersion": 2, "config": CONFIG, "layers": []}, INDEX),
        ({"schemaVersion": 2, "config": CONFIG, "layers": [{"mediaType": "a"}]}, MANIFEST),
        ({"schemaVersion": 2, "config": CONFIG, "layers": []}, "text/html"),
        ({"schemaVersion": 2, "config": CONFIG, "layers": []}, ""),
        ({"schemaVersion": 2, "config": CONFIG, "layers": []}, "application/x\r\nX: y"),
        ({"schemaVersion": 1, "name": "a"}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ],
)
def test_a_manifest_that_is_none_is_refused(content: object, content_type: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(content, content_type)

    assert refused.value.code == "MANIFEST_INVALID"


@pytest.mark.parametrize(
    ("change", "code"),
    [({"digest": "sha256:.."}, "DIGEST_INVALID"), ({"digest": "x"}, "DIGEST_INVALID"), ({"size": -1}, "SIZE_INVALID")],
)
def test_a_descriptor_that_can_t_be_is_refused(change: dict, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        read({"schemaVersion": 2, "config": CONFIG, "layers": [{**LAYER, **change}]})

    assert refused.value.code == code


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
        lambda v: json.dumps(v).encode()
    )
)
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        document.read(data, MANIFEST, SHA256)
    except Refusal:
        pass
