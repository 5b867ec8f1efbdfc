"""Debian's docker-registry as a repository: written, read, listed, deleted."""

import json
import random
import shutil

import pytest

from sampan.errors import NotFound, Unsupported
from sampan.spec.distribution import AuthConfig, Descriptor
from sampan.spec.reference import Reference
from sampan.spec.settings import Registries
from support.cutting_proxy import CuttingProxy
from support.fake_registry import CONFIG, LAYER, MANIFEST, digest_of
from support.own_registry import serving
from support.registry import Registry
from support.repositories import Repository

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")

LARGE = random.Random(1).randbytes(20_000_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Registry(tmp_path_factory.mktemp("registry"))
    yield found
    found.end()


def repository(server, name):
    return Repository(Reference.parse(f"{server.address}/{name}"), AuthConfig())


def source(data):
    return lambda offset: (data[at : at + 300_000] for at in range(offset, len(data), 300_000))


def put_image(target, tag, layer=LARGE):
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    blobs = [target.upload_blob(source(config), size=len(config)), target.upload_blob(source(layer))]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": blobs[0].digest, "size": blobs[0].size},
        "layers": [{"mediaType": LAYER, "digest": blobs[1].digest, "size": blobs[1].size}],
    }
    return target.put_manifest(tag, json.dumps(document).encode(), MANIFEST)


def test_what_is_written_is_read_again(server):
    target = repository(server, "group/app")

    digest = put_image(target, "1")

    assert target.resolve("1").digest == digest == target.resolve(digest).digest
    assert target.has_blob(digest_of(LARGE)) == len(LARGE)
    assert target.has_blob(digest_of(b"nope")) is None
    layer = Descriptor(media_type=LAYER, digest=digest_of(LARGE), size=len(LARGE))
    assert b"".join(target.blob(layer)) == LARGE
    assert b"".join(target.blob(layer, 19_000_000)) == LARGE[19_000_000:]


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("known", [True, False])
def test_blobs_of_any_size_are_written(server, data, known):
    target = repository(server, f"blobs/{len(data)}/{known}".lower())

    target.upload_blob(source(data), size=len(data) if known else None)

    assert target.has_blob(digest_of(data)) == len(data)


def test_a_blob_is_mounted_across_repositories(server):
    put_image(repository(server, "from"), "1")
    target = repository(server, "to")

    assert target.mount_blob(digest_of(LARGE), "from")
    assert target.has_blob(digest_of(LARGE)) == len(LARGE)
    assert not target.mount_blob(digest_of(b"nope"), "from")


def test_tags_are_listed_page_by_page(server):
    target = repository(server, "tags")
    put_image(target, "t0000", b"layer")
    wanted = [f"t{number:04}" for number in range(1050)]
    for tag in wanted[1:]:
        server.copy_tag("tags", "t0000", tag)

    assert sorted(target.tags()) == wanted
    with pytest.raises(NotFound, match=r"repository .*/nope not found: name unknown"):
        list(repository(server, "nope").tags())


def test_a_registry_that_deletes_nothing_says_so(server):
    target = repository(server, "kept")
    digest = put_image(target, "1", b"layer")

    with pytest.raises(
        Unsupported, match="the registry does not support it: unsupported: The operation is unsupported"
    ):
        target.delete(digest)


CUTS = (6_000_000, 5_000_000)


def push_through(proxy, name):
    target = Repository(Reference.parse(f"{proxy.address}/{name}"), AuthConfig(), registries=Registries(wait_s=0.01))
    return target.upload_blob(source(LARGE))


def test_an_upload_to_our_own_registry_goes_on_where_it_broke(tmp_path):
    with serving(tmp_path / "data", tmp_path / "log") as registry:
        proxy = CuttingProxy(registry.address, *CUTS)
        try:
            assert push_through(proxy, "app").digest == digest_of(LARGE)
            assert repository(registry, "app").has_blob(digest_of(LARGE)) == len(LARGE)
            assert proxy.sent < len(LARGE) * 1.3
        finally:
            proxy.end()


def test_an_upload_that_docker_registry_does_not_take_up_again_begins_anew(server):
    proxy = CuttingProxy(server.address, *CUTS)
    try:
        assert push_through(proxy, "broken").digest == digest_of(LARGE)
        assert repository(server, "broken").has_blob(digest_of(LARGE)) == len(LARGE)
    finally:
        proxy.end()


def test_a_blob_is_read_on_where_it_broke(server):
    put_image(repository(server, "read"), "1")
    proxy = CuttingProxy(server.address, 1)  # the request gets through, and no more
    try:
        target = Repository(Reference.parse(f"{proxy.address}/read"), AuthConfig(), registries=Registries(wait_s=0.01))
        layer = Descriptor(media_type=LAYER, digest=digest_of(LARGE), size=len(LARGE))

        assert b"".join(target.blob(layer)) == LARGE
    finally:
        proxy.end()
