"""Pulling from a registry that can be made to lie, and from Debian's docker-registry."""

import gzip
import json
import os
import random
import socket

import pytest
import zstandard

from sampan import dirs
from sampan.errors import Failed, InvalidInput, NotFound, NotPermitted, SampanError, Unsupported
from sampan.image.patience import Patience
from sampan.image.pull import Puller
from sampan.image.unpack import unpack_layer
from sampan.spec.distribution import AuthConfig, Platform
from sampan.spec.reference import Reference
from support.fake_registry import CONFIG, INDEX, MANIFEST, FakeRegistry, digest_of
from support.image_store import layers_of, opened, tarball, wait_until_synced
from support.repositories import Repository

NOISE = random.Random(1).randbytes(400_000)
LOWER, UPPER = tarball(a=b"lower", big=NOISE), tarball(b=b"upper")
ME = AuthConfig(username="me", password="secret")


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(Patience, "after_s", lambda *_: 0.01)
    return dirs.find(str(tmp_path / "root"))


@pytest.fixture
def images(where):
    store = opened(where)
    yield store
    wait_until_synced(where)
    store.close()
    assert os.listdir(where.tmp) == []


@pytest.fixture
def server():
    fake = FakeRegistry()
    yield fake
    fake.end()


def fetch(images, server, name="app:1", **options):
    said = []
    reference = Reference.parse(f"{server.address}/{name}")
    repository = Repository(reference, options.pop("auth", None))
    image = Puller(images, repository, unpack=unpack_layer, progress=said.append, **options).pull(reference)
    return image, said


def nothing_is_left(images, where):
    return layers_of(where) == set() and [image for image in images.list() if not image.host] == []


@pytest.mark.parametrize("compress", [gzip.compress, bytes, zstandard.ZstdCompressor().compress])
def test_an_image_is_pulled_whatever_its_layers_are_compressed_with(images, server, where, compress):
    described = server.put_image("app", "1", LOWER, UPPER, compress=compress)

    image, said = fetch(images, server)

    assert image.repo_tags == (f"{server.address}/app:1",)
    assert image.repo_digests == (f"{server.address}/app@{described['digest']}",)
    assert image.diff_ids == (digest_of(LOWER), digest_of(UPPER))
    with open(where.layer(image.diff_ids[0]) + "/diff/big", "rb") as file:
        assert file.read() == NOISE
    texts = [event.status for event in said]
    assert said[0].status == "Pulling from app"
    assert said[0].id == "1"
    assert texts.count("Pulling fs layer") == texts.count("Pull complete") == 2
    assert texts[-2:] == [
        f"Digest: {described['digest']}", f"Status: Downloaded newer image for {server.address}/app:1",
    ]  # fmt: skip


def test_what_is_here_already_is_not_fetched_again(images, server):
    server.put_image("app", "1", LOWER)
    server.put_image("app", "2", LOWER, UPPER)
    fetch(images, server)
    server.requests.clear()

    _, said = fetch(images, server, "app:2")
    _, again = fetch(images, server, "app:2")

    assert [event.status for event in said].count("Already exists") == 1
    assert again[-1].status == f"Status: Image is up to date for {server.address}/app:2"
    fetched = [path for _, path, _ in server.requests if path.endswith(digest_of(gzip.compress(LOWER, mtime=0)))]
    assert fetched == []


def index_of(server, *entries, repository="app", tag="1"):
    document = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    return server.put(repository, "manifests", INDEX, document, tag)


def test_the_platform_is_chosen_from_an_index_in_an_index(images, server):
    arm = server.put_image("app", None, UPPER, architecture="arm64")
    amd = server.put_image("app", None, LOWER)
    inner = index_of(server, {**amd, "platform": {"os": "linux", "architecture": "amd64"}}, tag=None)
    outer = index_of(
        server,
        {**arm, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {**inner, "platform": {"os": "linux", "architecture": "amd64"}},
    )

    image, _ = fetch(images, server, platform=Platform.parse("amd64"))
    other, _ = fetch(images, server, platform=Platform.parse("linux/arm64"))

    assert image.diff_ids == (digest_of(LOWER),)
    assert other.diff_ids == (digest_of(UPPER),)
    assert other.repo_digests == (f"{server.address}/app@{outer['digest']}",)
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        fetch(images, server, platform=Platform.parse("linux/s390x"))


def test_a_single_image_for_another_platform_is_kept_with_a_warning(images, server):
    server.put_image("app", "1", LOWER)

    image, said = fetch(images, server, platform=Platform.parse("linux/arm64"))
    assert image.architecture == "amd64"
    assert said[-1].status == (
        f"WARNING: image with reference {server.address}/app was found but does not match the specified platform: "
        "wanted linux/arm64, actual: linux/amd64"
    )


def test_a_digest_pins_the_image(images, server):
    described = server.put_image("app", "1", LOWER)

    image, _ = fetch(images, server, f"app:other@{described['digest']}")

    assert image.repo_tags == ()
    assert images.resolve(f"{server.address}/app@{described['digest']}").id == image.id
    server.documents[f"app/manifests/{described['digest']}"] = (MANIFEST, b'{"schemaVersion":2}')
    with pytest.raises(InvalidInput, match="digest does not match"):
        fetch(images, server, f"app@{described['digest']}")


def test_a_broken_connection_is_taken_up_where_it_broke(images, server):
    server.put_image("app", "1", LOWER, compress=bytes)
    server.break_after = [100_000, 150_000]

    image, _ = fetch(images, server)

    assert image.size == len(NOISE) + 5
    assert server.break_after == []


def test_a_registry_that_is_busy_is_asked_again(images, server):
    server.put_image("app", "1", LOWER)
    server.fail_next = [503, 429, 500]

    assert fetch(images, server)[0].size


def test_a_registry_that_stays_broken_is_named(images, server, where):
    server.put_image("app", "1", LOWER)
    server.fail_next = [500] * 20

    with pytest.raises(Failed, match="HTTP status: 500 Internal Server Error"):
        fetch(images, server)
    assert nothing_is_left(images, where)


@pytest.mark.parametrize("asks", ["basic", "token"])
def test_a_registry_learns_who_we_are(images, server, asks):
    server.put_image("app", "1", LOWER)
    server.asks = asks

    assert fetch(images, server, auth=ME)[0].size
    assert server.requests[0][2] is None
    with pytest.raises(NotPermitted, match=r"pull access denied for .*, repository does not exist or may require"):
        fetch(images, server, "app:2", auth=AuthConfig(username="me", password="wrong"))
    with pytest.raises(NotPermitted, match="unauthorized: "):
        fetch(images, server)


def test_a_token_may_be_for_anybody_or_for_an_identity(images, server):
    server.put_image("app", "1", LOWER)
    server.asks = "token"

    assert fetch(images, server, auth=AuthConfig(identity_token="identity"))[0].size
    server.anonymous = True
    assert fetch(images, server)[0].size


def test_the_configuration_file_says_who_we_are(images, server, tmp_path):
    server.put_image("app", "1", LOWER)
    server.asks = "basic"
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {server.address: {"auth": "bWU6c2VjcmV0"}}}))

    assert fetch(images, server)[0].size


def test_credentials_do_not_follow_a_redirect(images, server):
    elsewhere = FakeRegistry()
    try:
        server.put_image("app", "1", LOWER)
        elsewhere.documents = {f"v2/{path}": value for path, value in server.documents.items()}
        elsewhere.documents |= server.documents
        server.asks = "basic"
        server.redirect_to = f"http://{elsewhere.address}"

        assert fetch(images, server, auth=ME)[0].size
        assert elsewhere.requests
        assert {authorization for _, _, authorization in elsewhere.requests} == {None}
    finally:
        elsewhere.end()


def test_redirects_in_a_circle_end(images, server):
    server.put_image("app", "1", LOWER)
    server.redirect_to = f"http://{server.address}"

    with pytest.raises(Failed, match="too many redirects"):
        fetch(images, server)


@pytest.mark.parametrize("name", ["app:2", "nope:latest"])
def test_what_the_registry_has_not_is_named_as_docker_names_it(images, server, name):
    server.put_image("app", "1", LOWER)

    with pytest.raises(NotFound) as caught:
        fetch(images, server, name)
    assert caught.value.message == f"manifest for {server.address}/{name} not found: manifest unknown: manifest unknown"


def test_a_registry_that_is_not_there_is_named(images):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        reference = Reference.parse(f"{address}/app")

        with pytest.raises(Failed, match=f"can't reach registry {address}: connection refused"):
            Puller(images, Repository(reference), unpack=unpack_layer, progress=print).pull(reference)


def replaced(server, kind, old, new):
    """Serve something else under the digest of what was there."""
    path = f"app/{kind}/{digest_of(old)}"
    server.documents[path] = (server.documents[path][0], new)


@pytest.mark.parametrize(
    "lie",
    [
        lambda data: data[:-10],
        lambda data: data + b"more",
        lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
        lambda data: gzip.compress(UPPER).ljust(len(data), b"\0"),
        lambda data: b"",
    ],
)
def test_a_layer_that_is_not_what_the_manifest_says_is_refused(images, server, where, lie):
    packed = gzip.compress(LOWER, mtime=0)
    server.put_image("app", "1", LOWER, UPPER, compress=lambda data: gzip.compress(data, mtime=0))
    replaced(server, "blobs", packed, lie(packed))

    with pytest.raises(SampanError, match="can't get layer"):
        fetch(images, server)
    assert nothing_is_left(images, where)


def test_a_configuration_that_names_other_layers_is_refused(images, server, where):
    server.put_image("app", "1", LOWER, rootfs={"type": "layers"})
    path, (media_type, data) = next((p, d) for p, d in server.documents.items() if p.endswith("/1"))
    manifest = json.loads(data)
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(b"")]}}
    )
    manifest["config"] = server.put("app", "blobs", CONFIG, config.encode())
    server.documents[path] = (media_type, json.dumps(manifest).encode())

    with pytest.raises(InvalidInput, match="diff id does not match"):
        fetch(images, server)
    assert nothing_is_left(images, where)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layers": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, Unsupported, "foreign"),
        ({"layers": "application/octet-stream"}, Unsupported, "unsupported media type"),
        ({"config": "application/vnd.oci.empty.v1+json"}, Unsupported, "no container image but an artifact"),
    ],
)
def test_what_is_no_image_is_refused(images, server, where, change, error, message):
    server.put_image("app", "1", LOWER)
    path, (media_type, data) = next((p, d) for p, d in server.documents.items() if p.endswith("/1"))
    manifest = json.loads(data)
    for place, wanted in change.items():
        (manifest[place][0] if place == "layers" else manifest[place])["mediaType"] = wanted
    server.documents[path] = (media_type, json.dumps(manifest).encode())

    with pytest.raises(error, match=message):
        fetch(images, server)
    assert nothing_is_left(images, where)


def described(server, change):
    """Serve app:1's manifest with something else in it."""
    path, (media_type, data) = next((p, d) for p, d in server.documents.items() if p.endswith("/1"))
    manifest = json.loads(data)
    change(manifest)
    server.documents[path] = (media_type, json.dumps(manifest).encode())


@pytest.mark.parametrize(
    ("size", "message"),
    [(-1, "its size is -1"), (0, "can't get layer"), (10, "longer than 10"), (1 << 40, "broke off")],
)
def test_a_layer_of_another_size_than_the_manifest_says_is_refused(images, server, where, size, message):
    server.put_image("app", "1", LOWER)
    described(server, lambda manifest: manifest["layers"][0].update(size=size))

    with pytest.raises(SampanError, match=message):
        fetch(images, server)
    assert nothing_is_left(images, where)


@pytest.mark.parametrize("size", [-1, 0, 10, 1 << 40])
def test_a_configuration_of_another_size_is_refused(images, server, where, size):
    server.put_image("app", "1", LOWER)
    described(server, lambda manifest: manifest["config"].update(size=size))

    with pytest.raises(SampanError):
        fetch(images, server)
    assert nothing_is_left(images, where)


def test_a_manifest_of_another_size_than_its_index_says_is_refused(images, server, where):
    entry = server.put_image("app", None, LOWER)
    index_of(server, {**entry, "size": entry["size"] + 1, "platform": {"os": "linux", "architecture": "amd64"}})

    with pytest.raises(InvalidInput, match="bytes and should have"):
        fetch(images, server, platform=Platform.parse("amd64"))
    assert nothing_is_left(images, where)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "sha256:short", "sha256:" + "Z" * 64, ""])
@pytest.mark.parametrize("place", ["config", "layers"])
def test_what_is_no_digest_is_refused(images, server, where, place, name):
    server.put_image("app", "1", LOWER)
    described(server, lambda m: (m["layers"][0] if place == "layers" else m["config"]).update(digest=name))

    with pytest.raises(InvalidInput):
        fetch(images, server)
    assert nothing_is_left(images, where)


def test_a_manifest_of_schema_1_is_named(images, server):
    document = json.dumps({"schemaVersion": 1, "name": "app", "fsLayers": []}).encode()
    server.put("app", "manifests", "application/vnd.docker.distribution.manifest.v1+prettyjws", document, "1")

    with pytest.raises(Unsupported, match="schema 1"):
        fetch(images, server)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"schemaVersion":2}',
        b"[" * 2_000_000,
        b'{"a":' * 500_000,
        b'"' + b"x" * 3_000_000 + b'"',
    ],
)
def test_what_is_no_manifest_is_refused(images, server, where, document):
    server.put("app", "manifests", MANIFEST, document, "1")

    with pytest.raises(InvalidInput):
        fetch(images, server)
    assert nothing_is_left(images, where)


def test_a_manifest_of_a_million_layers_ends(images, server, where):
    server.put_image("app", "1", LOWER)
    described(server, lambda manifest: manifest.update(layers=manifest["layers"] * 15_000))

    with pytest.raises(InvalidInput, match="15000 layers, 1 diff ids"):
        fetch(images, server)
    assert nothing_is_left(images, where)


def test_all_tags_are_pulled(images, server):
    server.put_image("app", "1", LOWER)
    server.put_image("app", "2", LOWER, UPPER)
    said = []
    reference = Reference.parse(f"{server.address}/app")

    pulled = Puller(images, Repository(reference), unpack=unpack_layer, progress=said.append).pull_all(reference)
    assert [image.repo_tags for image in pulled] == [(f"{server.address}/app:1",), (f"{server.address}/app:2",)]
    assert said[-1].status == f"Status: Downloaded newer image for {server.address}/app"


def test_a_hostile_layer_stops_the_pull_and_leaves_nothing(images, server, where):
    server.put_image("app", "1", LOWER, tarball(**{"../../evil": b"x"}))

    with pytest.raises(InvalidInput, match="leads out of the image's root"):
        fetch(images, server)
    assert nothing_is_left(images, where)


def test_a_worker_that_dies_leaves_nothing(images, server, where):
    server.put_image("app", "1", LOWER)
    reference = Reference.parse(f"{server.address}/app:1")

    def die(fd, target, **what):
        os.mkdir(target)
        raise Failed("the worker was killed")

    with pytest.raises(Failed, match="the worker was killed"):
        Puller(images, Repository(reference), unpack=die, progress=lambda _: None).pull(reference)
    assert nothing_is_left(images, where)


def test_a_manifest_without_an_end_is_not_read_to_its_end(images, server):
    server.documents["app/manifests/1"] = (MANIFEST, b" " * (5 << 20))

    with pytest.raises(InvalidInput, match="longer than"):
        fetch(images, server)


def test_many_layers_are_pulled(images, server):
    server.put_image("app", "1", *(tarball(**{f"f{number}": b"x" * number}) for number in range(1, 31)))

    assert fetch(images, server)[0].size == sum(range(1, 31))


def test_indexes_in_indexes_have_an_end(images, server):
    inner = server.put_image("app", None, LOWER)
    for _ in range(5):
        inner = index_of(server, {**inner, "platform": {"os": "linux", "architecture": "amd64"}})

    with pytest.raises(InvalidInput, match="indexes in indexes"):
        fetch(images, server, platform=Platform.parse("amd64"))


def test_layers_named_twice_are_pulled_once(images, server):
    server.put_image("app", "1", LOWER, UPPER, LOWER)

    image, said = fetch(images, server)

    assert image.diff_ids == (digest_of(LOWER), digest_of(UPPER), digest_of(LOWER))
    assert [event.status for event in said].count("Pull complete") == 2
