"""The cases of the OCI distribution specification's conformance suite, at the running program."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.own_registry import (
    INDEX,
    MANIFEST,
    OwnRegistry,
    descriptor,
    digest_of,
    encode,
    image,
    make_layout,
    serving,
)

NONE = "sha256:" + "0" * 64
OCTETS = "application/octet-stream"


@pytest.fixture(scope="module", params=["directory", "layout"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    base = tmp_path_factory.mktemp("registry")
    if request.param == "layout":
        make_layout(base / "data")
    with serving(base / "data", base / "log") as registry:
        yield registry


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    """Yield one whose repositories have each their own blobs, as those of a layout have not."""
    base = tmp_path_factory.mktemp("separate")
    with serving(base / "data", base / "log") as registry:
        yield registry


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return "t/" + digest_of(request.node.name.encode())[7:23]


def start(registry: OwnRegistry, name: str) -> str:
    answer = registry.ask("POST", f"/v2/{name}/blobs/uploads/")
    assert answer.status == 202
    return answer.headers["location"]


# ---------------------------------------------------------------------------------------------------- pull


def test_the_base_says_that_it_is_a_registry(registry: OwnRegistry) -> None:
    answer = registry.ask("GET", "/v2/")

    assert answer.status == 200
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_that_is_not_there_is_404(registry: OwnRegistry, name: str, method: str) -> None:
    answer = registry.ask(method, f"/v2/{name}/blobs/{NONE}")

    assert answer.status == 404
    assert method == "HEAD" or answer.codes == ["BLOB_UNKNOWN"]


@pytest.mark.parametrize("reference", ["no-such-tag", NONE, ".INVALID_MANIFEST_NAME"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_that_is_not_there_is_404(registry: OwnRegistry, name: str, method: str, reference: str) -> None:
    answer = registry.ask(method, f"/v2/{name}/manifests/{reference}")

    assert answer.status == 404
    assert method == "HEAD" or answer.codes == ["MANIFEST_UNKNOWN"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_pulled_as_it_was_pushed(registry: OwnRegistry, name: str, algorithm: str) -> None:
    data = os.urandom(100_000)
    blob = registry.push_blob(name, data, algorithm)

    got = registry.ask("GET", f"/v2/{name}/blobs/{blob['digest']}")
    head = registry.ask("HEAD", f"/v2/{name}/blobs/{blob['digest']}")

    assert (got.status, got.body) == (200, data)
    assert (head.status, head.body) == (200, b"")
    for answer in (got, head):
        assert answer.headers["docker-content-digest"] == blob["digest"]
        assert answer.headers["content-length"] == "100000"
        assert answer.headers["content-type"] == OCTETS


def test_a_manifest_is_pulled_by_tag_and_by_digest(registry: OwnRegistry, name: str) -> None:
    document = image(registry.push_blob(name, b"{}"), [registry.push_blob(name, b"layer")])
    pushed = registry.push_manifest(name, "v1", document)

    digest = digest_of(encode(document))
    assert pushed.status == 201
    assert pushed.headers["location"] == f"/v2/{name}/manifests/{digest}"
    assert pushed.headers["docker-content-digest"] == digest
    for reference in ("v1", digest):
        got = registry.ask("GET", f"/v2/{name}/manifests/{reference}")
        head = registry.ask("HEAD", f"/v2/{name}/manifests/{reference}")
        assert (got.status, got.body) == (200, encode(document))
        assert (head.status, head.body) == (200, b"")
        for answer in (got, head):
            assert answer.headers["docker-content-digest"] == digest
            assert answer.headers["content-type"] == MANIFEST
            assert answer.headers["content-length"] == str(len(got.body))


def test_a_manifest_may_be_named_by_a_sha512_digest(registry: OwnRegistry, name: str) -> None:
    document = image(registry.push_blob(name, b"{}", "sha512"), [])
    digest = digest_of(encode(document), "sha512")

    pushed = registry.push_manifest(name, digest, document)

    assert (pushed.status, pushed.headers["docker-content-digest"]) == (201, digest)
    assert registry.ask("GET", f"/v2/{name}/manifests/{digest}").body == encode(document)


@pytest.mark.parametrize(
    ("range", "status", "content_range", "body"),
    [
        ("bytes=0-3", 206, "bytes 0-3/10", b"0123"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=-2", 206, "bytes 8-9/10", b"89"),
        ("bytes=5-500", 206, "bytes 5-9/10", b"56789"),
        ("bytes=10-", 416, "bytes */10", None),
        ("bytes=5-0", 416, "bytes */10", None),
        ("bytes=0-1,3-4", 200, None, b"0123456789"),
        ("nonsense", 200, None, b"0123456789"),
    ],
)
def test_a_part_of_a_blob_is_sent(
    registry: OwnRegistry, name: str, range: str, status: int, content_range: str | None, body: bytes | None
) -> None:
    digest = registry.push_blob(name, b"0123456789")["digest"]

    answer = registry.ask("GET", f"/v2/{name}/blobs/{digest}", Range=range)

    assert (answer.status, answer.headers.get("content-range")) == (status, content_range)
    assert body is None or answer.body == body


def test_a_part_is_sent_only_of_what_the_client_has_the_rest_of(registry: OwnRegistry, name: str) -> None:
    digest = registry.push_blob(name, b"0123456789")["digest"]
    path = f"/v2/{name}/blobs/{digest}"

    assert registry.ask("GET", path, Range="bytes=1-2", If_Range=f'"{digest}"').body == b"12"
    assert registry.ask("GET", path, Range="bytes=1-2", If_Range='"other"').body == b"0123456789"


def test_what_the_client_has_is_not_sent_again(registry: OwnRegistry, name: str) -> None:
    digest = registry.push_image(name, "v1", b"layer")
    blob = digest_of(b"layer")

    for path, tag in ((f"blobs/{blob}", blob), (f"manifests/{digest}", digest), ("manifests/v1", digest)):
        first = registry.ask("GET", f"/v2/{name}/{path}")
        again = registry.ask("GET", f"/v2/{name}/{path}", If_None_Match=first.headers["etag"])
        assert first.headers["etag"] == f'"{tag}"'
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]


# ---------------------------------------------------------------------------------------------------- push


def test_a_blob_is_streamed_and_then_closed(registry: OwnRegistry, name: str) -> None:
    patched = registry.ask("PATCH", start(registry, name), b"streamed", Content_Type=OCTETS)
    closed = registry.ask("PUT", f"{patched.headers['location']}?digest={digest_of(b'streamed')}")

    assert (patched.status, patched.headers["range"]) == (202, "0-7")
    assert closed.status == 201
    assert closed.headers["location"] == f"/v2/{name}/blobs/{digest_of(b'streamed')}"
    assert registry.ask("GET", closed.headers["location"]).body == b"streamed"


def test_a_blob_is_pushed_in_one_request(registry: OwnRegistry, name: str) -> None:
    data = os.urandom(5000)

    answer = registry.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", data, Content_Type=OCTETS)

    assert (answer.status, answer.headers["docker-content-digest"]) == (201, digest_of(data))
    assert registry.ask("GET", answer.headers["location"]).body == data


def test_a_blob_is_pushed_in_two_requests(registry: OwnRegistry, name: str) -> None:
    answer = registry.ask("PUT", f"{start(registry, name)}?digest={digest_of(b'two')}", b"two", Content_Type=OCTETS)

    assert answer.status == 201
    assert registry.ask("GET", answer.headers["location"]).body == b"two"


def test_chunks_come_in_order_or_not_at_all(registry: OwnRegistry, name: str) -> None:
    first, second = b"first chunk ", b"second"
    location = start(registry, name)

    def patch(data: bytes, begin: int) -> tuple[int, str]:
        answer = registry.ask("PATCH", location, data, Content_Range=f"{begin}-{begin + len(data) - 1}")
        return answer.status, answer.headers["range"]

    assert patch(second, len(first)) == (416, "0-0")
    assert patch(first, 0) == (202, "0-11")
    assert patch(first, 0) == (416, "0-11")
    status = registry.ask("GET", location)
    assert (status.status, status.headers["range"], status.headers["location"]) == (204, "0-11", location)
    assert registry.ask("HEAD", location).status == 204
    assert patch(second, len(first)) == (202, "0-17")
    assert registry.ask("PUT", f"{location}?digest={digest_of(first + second)}").status == 201
    assert registry.ask("GET", f"/v2/{name}/blobs/{digest_of(first + second)}").body == first + second
    assert registry.ask("GET", location).codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_the_last_chunk_comes_with_the_closing_request(registry: OwnRegistry, name: str) -> None:
    location = start(registry, name)
    registry.ask("PATCH", location, b"abc", Content_Range="0-2")

    late = registry.ask("PUT", f"{location}?digest={digest_of(b'abcdef')}", b"def", Content_Range="4-6")
    closed = registry.ask("PUT", f"{location}?digest={digest_of(b'abcdef')}", b"def", Content_Range="3-5")

    assert (late.status, late.codes, late.headers["range"]) == (416, ["BLOB_UPLOAD_INVALID"], "0-2")
    assert closed.status == 201


@pytest.mark.parametrize("range", ["0-9", "0-1"])
def test_a_chunk_is_as_long_as_it_says(registry: OwnRegistry, name: str, range: str) -> None:
    location = start(registry, name)

    answer = registry.ask("PATCH", location, b"abc", Content_Range=range)

    assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
    assert registry.ask("GET", location).headers["range"] == "0-0"
    assert registry.ask("PATCH", location, b"abc", Content_Range="0-2").status == 202


def test_a_blob_may_be_empty(registry: OwnRegistry, name: str) -> None:
    assert registry.ask("PUT", f"{start(registry, name)}?digest={digest_of(b'')}").status == 201
    assert registry.ask("GET", f"/v2/{name}/blobs/{digest_of(b'')}").body == b""


@pytest.mark.parametrize("digest", [NONE, "", "sha256:x", "md5:" + "0" * 32, digest_of(b"x", "sha512")])
def test_a_blob_under_a_wrong_digest_is_refused(registry: OwnRegistry, name: str, digest: str) -> None:
    location = start(registry, name)

    two = registry.ask("PUT", f"{location}?digest={digest}", b"data", Content_Type=OCTETS)
    one = registry.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest or 'x'}", b"data", Content_Type=OCTETS)

    assert (two.status, two.codes) == (one.status, one.codes) == (400, ["DIGEST_INVALID"])
    assert registry.ask("GET", f"/v2/{name}/blobs/{digest_of(b'data')}").status == 404


def test_an_upload_is_cancelled(registry: OwnRegistry, name: str) -> None:
    location = start(registry, name)
    registry.ask("PATCH", location, b"abc")

    assert registry.ask("DELETE", location).status == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert registry.ask(method, f"{location}?digest={NONE}").codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_an_upload_belongs_to_its_repository(registry: OwnRegistry, name: str) -> None:
    location = start(registry, name)

    assert registry.ask("GET", location.replace(name, f"{name}/other")).codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_a_blob_is_mounted_from_another_repository(separate: OwnRegistry, name: str) -> None:
    digest = separate.push_blob(f"{name}/a", name.encode())["digest"]
    assert separate.ask("GET", f"/v2/{name}/b/blobs/{digest}").status == 404

    answer = separate.ask("POST", f"/v2/{name}/b/blobs/uploads/?mount={digest}&from={name}/a")

    assert (answer.status, answer.headers["location"]) == (201, f"/v2/{name}/b/blobs/{digest}")
    assert separate.ask("GET", answer.headers["location"]).body == name.encode()


def test_a_blob_is_mounted_from_wherever_it_is(registry: OwnRegistry, name: str) -> None:
    digest = registry.push_blob(f"{name}/a", name.encode())["digest"]

    assert registry.ask("POST", f"/v2/{name}/b/blobs/uploads/?mount={digest}").status == 201
    assert registry.ask("GET", f"/v2/{name}/b/blobs/{digest}").body == name.encode()


@pytest.mark.parametrize("query", [f"mount={NONE}&from=t/a", f"mount={NONE}", "mount=x&from=../..", "mount={}&from=no"])
def test_what_can_t_be_mounted_is_uploaded(separate: OwnRegistry, name: str, query: str) -> None:
    digest = separate.push_blob(f"{name}/a", name.encode())["digest"]

    answer = separate.ask("POST", f"/v2/{name}/b/blobs/uploads/?{query.replace('{}', digest)}")

    assert answer.status == 202
    assert answer.headers["location"].startswith(f"/v2/{name}/b/blobs/uploads/")


def test_a_manifest_needs_its_blobs_in_its_repository(separate: OwnRegistry, name: str) -> None:
    config, layer = separate.push_blob(name, b"{}"), separate.push_blob(f"{name}/other", name.encode())

    answer = separate.push_manifest(name, "v1", image(config, [layer]))

    assert (answer.status, answer.codes) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    assert answer.json()["errors"][0]["detail"] == {"digest": layer["digest"]}
    assert separate.ask("GET", f"/v2/{name}/manifests/v1").status == 404


def test_a_manifest_says_its_blobs_sizes_truly(registry: OwnRegistry, name: str) -> None:
    layer = {**registry.push_blob(name, b"layer"), "size": 4}

    answer = registry.push_manifest(name, "v1", image(registry.push_blob(name, b"{}"), [layer]))

    assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])


def test_a_manifest_may_have_no_layers(registry: OwnRegistry, name: str) -> None:
    assert registry.push_manifest(name, "v1", image(registry.push_blob(name, b"{}"), [])).status == 201


def test_a_manifest_under_a_wrong_digest_is_refused(registry: OwnRegistry, name: str) -> None:
    document = image(registry.push_blob(name, b"{}"), [])

    answer = registry.push_manifest(name, NONE, document)

    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


def test_a_manifest_s_type_is_what_it_calls_itself(registry: OwnRegistry, name: str) -> None:
    document = image(registry.push_blob(name, b"{}"), [])

    answer = registry.push_manifest(name, "v1", document, Content_Type=INDEX)

    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("tag", [".x", "a" * 129, "-x", "a%20b"])
def test_a_tag_is_pushed_only_by_the_grammar(registry: OwnRegistry, name: str, tag: str) -> None:
    answer = registry.push_manifest(name, tag, image(registry.push_blob(name, b"{}"), []))

    assert (answer.status, answer.codes) == (400, ["TAG_INVALID"])


def test_a_manifest_of_4_mib_is_taken_and_a_longer_one_is_not(registry: OwnRegistry, name: str) -> None:
    document = image(registry.push_blob(name, b"{}"), [])
    pad = (4 << 20) - len(encode({**document, "annotations": {"pad": ""}}))

    fits = registry.push_manifest(name, "v1", {**document, "annotations": {"pad": "x" * pad}})
    longer = registry.push_manifest(name, "v2", {**document, "annotations": {"pad": "x" * (pad + 1)}})

    assert fits.status == 201
    assert (longer.status, longer.codes) == (413, ["MANIFEST_INVALID"])


def test_an_index_needs_its_manifests(registry: OwnRegistry, name: str) -> None:
    document = image(registry.push_blob(name, b"{}"), [], annotations={"for": name})
    child = descriptor(encode(document), MANIFEST)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}

    early = registry.push_manifest(name, "all", index)
    registry.push_manifest(name, child["digest"], document)
    pushed = registry.push_manifest(name, "all", index)

    assert (early.status, early.codes) == (400, ["MANIFEST_BLOB_UNKNOWN"])
    assert pushed.status == 201
    assert registry.ask("GET", f"/v2/{name}/manifests/all").headers["content-type"] == INDEX
    assert registry.ask("GET", f"/v2/{name}/tags/list").json()["tags"] == ["all"]


def test_an_index_may_be_sparse_where_that_is_permitted(tmp_path: Path) -> None:
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(b"elsewhere", MANIFEST)]}

    with serving(tmp_path / "data", tmp_path / "log", "--sparse-indexes") as registry:
        assert registry.push_manifest("a", "all", index).status == 201


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_tags_may_come_beside_the_digest(registry: OwnRegistry, name: str, algorithm: str) -> None:
    document = image(registry.push_blob(name, b"{}"), [], annotations={"for": name})
    digest = digest_of(encode(document), algorithm)

    pushed = registry.push_manifest(name, f"{digest}?tag=one&tag=two", document)
    refused = registry.push_manifest(name, f"{digest}?tag=.three", document)

    assert (pushed.status, pushed.headers["oci-tag"]) == (201, "two")  # the last of two lines
    assert refused.codes == ["TAG_INVALID"]
    for tag in ("one", "two"):
        assert registry.ask("GET", f"/v2/{name}/manifests/{tag}").headers["docker-content-digest"] == digest


def test_a_tag_moves_to_the_manifest_that_was_pushed_last(registry: OwnRegistry, name: str) -> None:
    first = registry.push_image(name, "latest", b"one")
    second = registry.push_image(name, "latest", b"two")

    assert registry.ask("HEAD", f"/v2/{name}/manifests/latest").headers["docker-content-digest"] == second
    assert registry.ask("HEAD", f"/v2/{name}/manifests/{first}").status == 200


# ---------------------------------------------------------------------------------------------------- discovery


def test_tags_are_listed_in_pages(registry: OwnRegistry, name: str) -> None:
    for tag in ("test3", "test0", "test2", "test1", "TEST"):
        registry.push_image(name, tag, b"x")

    whole = registry.ask("GET", f"/v2/{name}/tags/list")
    first = registry.ask("GET", f"/v2/{name}/tags/list?n=3")
    second = registry.ask("GET", first.headers["link"].removeprefix("<").partition(">")[0])

    assert whole.json() == {"name": name, "tags": ["TEST", "test0", "test1", "test2", "test3"]}
    assert "link" not in whole.headers
    assert first.json()["tags"] == ["TEST", "test0", "test1"]
    assert first.headers["link"] == f'</v2/{name}/tags/list?n=3&last=test1>; rel="next"'
    assert second.json()["tags"] == ["test2", "test3"]
    assert "link" not in second.headers
    assert registry.ask("GET", f"/v2/{name}/tags/list?last=test1").json()["tags"] == ["test2", "test3"]
    assert registry.ask("GET", f"/v2/{name}/tags/list?n=0").json()["tags"] == []
    assert registry.ask("GET", f"/v2/{name}/tags/list?n=x").codes == ["PAGINATION_NUMBER_INVALID"]


def test_tags_of_an_unknown_repository_are_404(registry: OwnRegistry, name: str) -> None:
    answer = registry.ask("GET", f"/v2/{name}/tags/list")

    assert (answer.status, answer.codes) == (404, ["NAME_UNKNOWN"])


def test_repositories_are_listed_in_pages(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log") as registry:
        for name in ("b", "a/b/c", "a", "a-b"):
            registry.push_image(name, "v1", b"x")
        registry.push_blob("only-a-blob", b"x")

        whole = registry.ask("GET", "/v2/_catalog")
        first = registry.ask("GET", "/v2/_catalog?n=2")
        second = registry.ask("GET", first.headers["link"].removeprefix("<").partition(">")[0])

        assert whole.json() == {"repositories": ["a", "a-b", "a/b/c", "b"]}
        assert first.json()["repositories"] + second.json()["repositories"] == whole.json()["repositories"]


def test_referrers_are_found_by_what_they_are_attached_to(registry: OwnRegistry, name: str) -> None:
    subject = registry.push_image(name, "v1", b"x")
    target = {"mediaType": MANIFEST, "digest": subject, "size": 1}
    empty = registry.push_blob(name, b"{}")

    assert registry.ask("GET", f"/v2/{name}/referrers/{subject}").json()["manifests"] == []
    by_config = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**empty, "mediaType": "application/vnd.sig"}, "layers": [empty], "subject": target}  # fmt: skip  # noqa: E501
    by_type = image(empty, [empty], artifactType="application/vnd.sbom", subject=target, annotations={"a": "b"})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "artifactType": "application/vnd.many", "subject": target}  # fmt: skip  # noqa: E501
    for document in (by_config, by_type, index):
        answer = registry.push_manifest(name, digest_of(encode(document)), document)
        assert (answer.status, answer.headers["oci-subject"]) == (201, subject)

    whole = registry.ask("GET", f"/v2/{name}/referrers/{subject}")
    one = registry.ask("GET", f"/v2/{name}/referrers/{subject}?artifactType=application/vnd.sbom")

    assert whole.headers["content-type"] == INDEX
    assert "oci-filters-applied" not in whole.headers
    listed = {entry["artifactType"]: entry for entry in whole.json()["manifests"]}
    assert set(listed) == {"application/vnd.sig", "application/vnd.sbom", "application/vnd.many"}
    assert listed["application/vnd.many"]["mediaType"] == INDEX
    assert one.headers["oci-filters-applied"] == "artifactType"
    assert one.json() == {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {
                "mediaType": MANIFEST,
                "digest": digest_of(encode(by_type)),
                "size": len(encode(by_type)),
                "artifactType": "application/vnd.sbom",
                "annotations": {"a": "b"},
            }
        ],
    }
    assert registry.ask("DELETE", f"/v2/{name}/manifests/{digest_of(encode(by_type))}").status == 202
    assert len(registry.ask("GET", f"/v2/{name}/referrers/{subject}").json()["manifests"]) == 2


def test_something_may_be_attached_to_a_manifest_that_is_not_there(registry: OwnRegistry, name: str) -> None:
    document = image(registry.push_blob(name, b"{}"), [], subject={"mediaType": MANIFEST, "digest": NONE, "size": 1})

    assert registry.push_manifest(name, "attached", document).headers["oci-subject"] == NONE
    assert len(registry.ask("GET", f"/v2/{name}/referrers/{NONE}").json()["manifests"]) == 1


def test_referrers_come_in_pages(registry: OwnRegistry, name: str) -> None:
    subject = {"mediaType": MANIFEST, "digest": NONE, "size": 1}
    config = registry.push_blob(name, b"{}")
    pushed = set()
    for number in range(3):
        document = image(config, [], subject=subject, annotations={"number": str(number)})
        pushed.add(registry.push_manifest(name, f"v{number}", document).headers["docker-content-digest"])

    first = registry.ask("GET", f"/v2/{name}/referrers/{NONE}?n=2")
    second = registry.ask("GET", first.headers["link"].removeprefix("<").partition(">")[0])

    assert "link" not in second.headers
    assert {one["digest"] for answer in (first, second) for one in answer.json()["manifests"]} == pushed


# ---------------------------------------------------------------------------------------------------- management


def test_a_tag_is_deleted_and_its_manifest_stays(registry: OwnRegistry, name: str) -> None:
    digest = registry.push_image(name, "v1", b"x")

    assert registry.ask("DELETE", f"/v2/{name}/manifests/v1").status == 202
    assert registry.ask("GET", f"/v2/{name}/manifests/v1").status == 404
    assert registry.ask("DELETE", f"/v2/{name}/manifests/v1").codes == ["MANIFEST_UNKNOWN"]
    assert registry.ask("GET", f"/v2/{name}/manifests/{digest}").status == 200


def test_a_manifest_is_deleted_with_its_tags(registry: OwnRegistry, name: str) -> None:
    digest = registry.push_image(name, "v1", b"x")
    registry.push_image(name, "v2", b"x")
    registry.push_image(name, "v3", b"y")

    assert registry.ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    for reference in ("v1", "v2", digest):
        assert registry.ask("GET", f"/v2/{name}/manifests/{reference}").status == 404
    assert registry.ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 404
    assert registry.ask("GET", f"/v2/{name}/tags/list").json()["tags"] == ["v3"]


def test_a_blob_is_deleted_from_one_repository(separate: OwnRegistry, name: str) -> None:
    digest = separate.push_blob(name, name.encode())["digest"]
    separate.ask("POST", f"/v2/{name}/other/blobs/uploads/?mount={digest}&from={name}")

    assert separate.ask("DELETE", f"/v2/{name}/blobs/{digest}").status == 202
    assert separate.ask("DELETE", f"/v2/{name}/blobs/{digest}").codes == ["BLOB_UNKNOWN"]
    assert separate.ask("GET", f"/v2/{name}/blobs/{digest}").status == 404
    assert separate.ask("GET", f"/v2/{name}/other/blobs/{digest}").status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", "GET"),
        ("PUT", f"/v2/a/blobs/{NONE}", "GET, DELETE"),
        ("POST", "/v2/a/manifests/v1", "GET, PUT, DELETE"),
        ("BREW", "/v2/a/tags/list", "GET"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
    ],
)
def test_a_method_that_means_nothing_is_refused(registry: OwnRegistry, method: str, path: str, allowed: str) -> None:
    answer = registry.ask(method, path)

    assert (answer.status, answer.codes, answer.headers["allow"]) == (405, ["UNSUPPORTED"], allowed)


def test_a_registry_may_be_read_only(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log") as registry:
        digest = registry.push_image("a", "v1", b"x")
    before = sorted((tmp_path / "data").rglob("*"))

    with serving(tmp_path / "data", tmp_path / "log", "--read-only") as registry:
        assert registry.ask("GET", "/v2/a/manifests/v1").status == 200
        assert registry.ask("HEAD", f"/v2/a/blobs/{digest_of(b'x')}").status == 200
        for method, path in (
            ("POST", "/v2/a/blobs/uploads/"),
            ("PUT", "/v2/a/manifests/v2"),
            ("DELETE", f"/v2/a/manifests/{digest}"),
            ("DELETE", f"/v2/a/blobs/{NONE}"),
        ):
            answer = registry.ask(method, path, b"x")
            assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"])
    assert sorted((tmp_path / "data").rglob("*")) == before


def test_a_registry_may_keep_everything(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log", "--no-delete") as registry:
        digest = registry.push_image("a", "v1", b"x")

        for path in ("manifests/v1", f"manifests/{digest}", f"blobs/{digest_of(b'x')}"):
            assert registry.ask("DELETE", f"/v2/a/{path}").codes == ["UNSUPPORTED"]
        assert registry.ask("DELETE", start(registry, "a")).status == 204


def test_every_get_has_its_head(registry: OwnRegistry, name: str) -> None:
    digest = registry.push_image(name, "v1", b"x")

    for path in ("/v2/", "/v2/_catalog", f"/v2/{name}/tags/list", f"/v2/{name}/referrers/{digest}"):
        got, head = registry.ask("GET", path), registry.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(got.body))
        assert head.headers["content-type"] == got.headers["content-type"]


def test_an_artifact_of_any_kind_is_kept_as_it_is(registry: OwnRegistry, name: str) -> None:
    subject = registry.push_image(name, "v1", b"x")
    kind = "application/vnd.oci.artifact.manifest.v1+json"
    document = {
        "mediaType": kind,
        "artifactType": "application/vnd.example.chart",
        "blobs": [{**registry.push_blob(name, b"chart"), "mediaType": "text/x-chart"}],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
        "annotations": {"org.example": "ü"},
        "unknown": [1, {"a": None}],
    }

    assert registry.push_manifest(name, "chart", document).status == 201

    got = registry.ask("GET", f"/v2/{name}/manifests/chart")
    assert (got.headers["content-type"], got.body) == (kind, encode(document))
    (listed,) = registry.ask("GET", f"/v2/{name}/referrers/{subject}").json()["manifests"]
    assert (listed["mediaType"], listed["artifactType"]) == (kind, "application/vnd.example.chart")
