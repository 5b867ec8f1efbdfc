"""Images leave the store: what keeps their digest, what changes it, and registries that break off, lie or refuse."""

import gzip
import json
import os
import random
import threading

import pytest

from sampan import dirs
from sampan.errors import Failed, InvalidInput, NotPermitted, SampanError
from sampan.image import incoming
from sampan.image.archive_write import ArchiveWriter
from sampan.image.compression import Compression
from sampan.image.files import pieces_of
from sampan.image.layout import Layout
from sampan.image.manifest import Format
from sampan.image.outgoing import Options, Outgoing, Ways
from sampan.image.pack import pack_layer
from sampan.image.patience import Patience
from sampan.image.remote import RemoteImage
from sampan.image.transfer import Mover, Words
from sampan.image.unpack import unpack_layer
from sampan.spec.distribution import AuthConfig, MediaType
from sampan.spec.reference import Reference
from support.fake_registry import FakeRegistry, digest_of
from support.image_store import add, opened, tarball, wait_until_synced
from support.layouts import HandMade, Out
from support.repositories import Repository

NOISE = random.Random(1).randbytes(3_000_000)
LOWER, UPPER = tarball(a=b"lower", big=NOISE), tarball(b=b"upper" * 1000)
NOBODY = AuthConfig()


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
def hub():
    fake = FakeRegistry()
    yield fake
    fake.end()


@pytest.fixture
def target():
    fake = FakeRegistry()
    yield fake
    fake.end()


def remote(reference):
    return RemoteImage(Repository(reference, NOBODY), reference)


class Sending:
    """Sends images of a store as the engine does, with workers' work done here, and notes what was said and packed."""

    def __init__(self, where, images):
        self.where, self.images = where, images
        self.said, self.packed = [], []
        self.lock = threading.Lock()

    def pack(self, layer, fd, *, compression):
        self.packed.append(os.path.basename(layer)[:12])
        return pack_layer(layer, fd, compression=compression)

    def kept(self, digest):
        file = self.images.open_blob(digest)
        if file is None:
            return None
        file.close()

        def pieces(offset):
            with self.images.open_blob(digest) as kept:
                yield from pieces_of(kept, offset)

        return pieces

    def to(self, image, sink, origin=None, **options):
        ways = Ways(
            pack=self.pack, kept=self.kept, layer=self.where.layer, origin=lambda name: remote(Reference.parse(name))
        )
        mover = Mover(sink, self.said.append, Words())
        return Outgoing(self.images, image, Options(**options), ways, mover).send(origin)

    def push(self, image, server, name="app:1", **options):
        reference = Reference.parse(f"{server.address}/{name}")
        return self.to(image, remote(reference), reference.name, **options)

    def statuses(self):
        return {event.status for event in self.said}


@pytest.fixture
def sending(where, images):
    return Sending(where, images)


def take(images, source, reference, unpack=unpack_layer):
    return incoming.take(images, source, source.document(), tags=(reference,), unpack=unpack, progress=lambda _: None)


def fetch(images, server, name="app:1"):
    reference = Reference.parse(f"{server.address}/{name}")
    return take(images, remote(reference), reference)


def manifest_at(server, name="app", tag="1"):
    return json.loads(server.documents[f"{name}/manifests/{tag}"][1])


# ----------------------------------------------------------------------------------------------------- the digest stays


def test_a_pulled_image_keeps_its_digest_where_its_blobs_are_fetched_again(images, hub, target, sending):
    digest = hub.put_image("app", "1", LOWER, UPPER)["digest"]
    image = fetch(images, hub)

    sent = sending.push(image, target)

    assert (sent.document.digest, sent.before) == (digest, None)
    assert sending.packed == []
    assert fetch(images, target).id == image.id


def test_blobs_at_the_target_are_not_sent_and_those_of_its_other_repositories_are_mounted(images, hub, sending):
    digest = hub.put_image("app", "1", LOWER, UPPER)["digest"]
    image = fetch(images, hub)
    sending.push(image, hub, "other/app:1")
    sending.push(image, hub, "other/app:2")

    assert {"Mounted from app", "Layer already exists"} <= sending.statuses()
    assert manifest_at(hub, "other/app", "2") == manifest_at(hub)
    assert digest_of(hub.documents["other/app/manifests/1"][1]) == digest
    blobs = [path for path in hub.asked("PATCH") + hub.asked("PUT") if "/blobs/" in path]
    assert len(blobs) == 1  # the configuration, which nothing says where to mount from
    assert sending.packed == []


def test_kept_blobs_are_sent_though_the_registry_that_they_came_from_is_gone(images, hub, target, sending):
    digest = hub.put_image("app", "1", LOWER, UPPER)["digest"]
    reference = Reference.parse(f"{hub.address}/app:1")

    def keeping(fd, where, **known):
        return unpack_layer(fd, where, keep_blob=True, **known)

    take(images, remote(reference), reference, keeping)
    hub.documents.clear()

    assert sending.push(images.resolve(str(reference)), target).document.digest == digest
    assert sending.packed == []


def test_a_layer_that_is_in_an_image_twice_is_sent_once(images, hub, target, sending):
    hub.put_image("app", "1", UPPER, LOWER, UPPER)
    image = fetch(images, hub)

    sending.push(image, target)

    assert len(manifest_at(target)["layers"]) == 3
    assert len([path for path in target.documents if "/blobs/" in path]) == 3


def test_what_was_packed_here_and_pushed_keeps_its_digest_without_the_registry(images, where, hub, target, sending):
    image = add(images, "made:1", a=NOISE)
    first = sending.push(image, hub)
    images.add(image.raw_config, manifest=first.document.raw)
    hub.documents.clear()

    sent = sending.push(images.resolve("made:1"), target)

    assert (sent.document.digest, sent.before) == (first.document.digest, None)


def test_an_image_whose_layers_were_here_before_keeps_its_digest_but_its_blobs_are_not_believed(
    images, hub, target, sending
):
    add(images, "made:1", a=NOISE)
    (diff_id,) = images.resolve("made:1").diff_ids
    plain = tarball(a=NOISE)
    digest = hub.put_image("app", "1", plain, compress=lambda data: gzip.compress(data, 9))["digest"]
    image = fetch(images, hub)
    reference = Reference.parse(f"{hub.address}/app").with_digest(digest)
    images.add(image.raw_config, digests=(reference,))

    sent = sending.push(images.resolve(image.id), target)

    assert sent.document.digest == digest
    assert sending.packed == []
    assert manifest_at(hub)["layers"][0]["digest"] not in {fact.digest for fact in images.blobs_of(diff_id)}


# ----------------------------------------------------------------------------------------------------- it changes


def test_where_a_blob_can_not_be_had_layers_are_packed_and_it_is_said_why(images, hub, target, sending):
    digest = hub.put_image("app", "1", LOWER, UPPER, compress=lambda data: gzip.compress(data, 9))["digest"]
    image = fetch(images, hub)
    gone = manifest_at(hub)["layers"][0]["digest"]
    del hub.documents[f"app/blobs/{gone}"]

    sent = sending.push(image, target)

    assert sent.before == digest
    assert f"{hub.address}/app has it no more" in sent.why
    assert manifest_at(target)["config"]["digest"] == image.id
    assert len(sending.packed) == 2
    assert fetch(images, target).id == image.id


def test_what_was_packed_and_pushed_is_found_at_the_next_push(images, target, sending):
    image = add(images, "made:1", a=NOISE)

    first = sending.push(image, target)
    sending.said.clear()
    second = sending.push(image, target, "app:2")

    assert second.document == first.document
    assert "Layer already exists" in sending.statuses()
    assert len(sending.packed) == 1


def test_an_origin_that_breaks_off_for_good_has_the_layer_packed(images, hub, target, sending):
    hub.put_image("app", "1", LOWER, compress=lambda data: gzip.compress(data, 9))
    image = fetch(images, hub)
    hub.break_after = [0] * 50

    sent = sending.push(image, target)

    assert "can't be fetched" in sent.why
    assert len(sending.packed) == 1
    hub.break_after = []
    assert fetch(images, target).id == image.id


def test_an_archive_of_what_an_origin_breaks_off_is_given_up(images, hub, sending, tmp_path):
    hub.put_image("app", "1", LOWER)
    image = fetch(images, hub)
    hub.break_after = [1000, 1000] + [0] * 50
    out = Out()
    writer = ArchiveWriter(out, docker=False, scratch=str(tmp_path))

    with pytest.raises(Failed, match="broke off after"):
        sending.to(image, writer.image(), compression=Compression("none"))
    assert sending.packed == []
    out.getvalue()


def test_an_origin_that_lies_is_found_out(images, hub, target, sending):
    hub.put_image("app", "1", LOWER, compress=lambda data: gzip.compress(data, 9))
    image = fetch(images, hub)
    path = f"app/blobs/{manifest_at(hub)['layers'][0]['digest']}"
    kind, data = hub.documents[path]
    hub.documents[path] = (kind, data[:-1] + bytes([data[-1] ^ 1]))

    sent = sending.push(image, target)

    assert "digest does not match" in sent.why
    assert fetch(images, target).id == image.id
    assert all(digest_of(data) in name for name, (_, data) in target.documents.items() if "/blobs/" in name)


# ----------------------------------------------------------------------------------------------------- its form


@pytest.mark.parametrize(
    ("options", "manifest", "layer"),
    [
        ({}, MediaType.OCI_MANIFEST, MediaType.OCI_LAYER_GZIP),
        ({"format": Format.DOCKER}, MediaType.DOCKER_MANIFEST, MediaType.DOCKER_LAYER_GZIP),
        ({"compression": Compression("zstd")}, MediaType.OCI_MANIFEST, MediaType.OCI_LAYER_ZSTD),
        ({"compression": Compression("none")}, MediaType.OCI_MANIFEST, MediaType.OCI_LAYER),
    ],
)
def test_an_image_without_a_manifest_gets_the_one_that_is_asked_for(images, target, sending, options, manifest, layer):
    image = add(images, "made:1", a=NOISE)

    sending.push(image, target, **options)

    found = manifest_at(target)
    assert (found["mediaType"], found["layers"][0]["mediaType"]) == (manifest, layer)
    assert fetch(images, target).id == image.id


def test_what_a_manifest_can_not_name_is_not_sent(images, target, sending):
    image = add(images, "made:1", a=NOISE)

    with pytest.raises(InvalidInput, match="can't make a docker manifest of layers compressed by zstd"):
        sending.push(image, target, format=Format.DOCKER, compression=Compression("zstd"))
    assert sending.packed == []
    assert target.documents == {}


def test_annotations_and_formats_change_the_manifest_alone(images, hub, target, sending):
    digest = hub.put_image("app", "1", LOWER)["digest"]
    image = fetch(images, hub)
    sending.push(image, target)

    annotated = sending.push(image, target, "app:a", annotations={"k": "v"})
    docker = sending.push(image, target, "app:d", format=Format.DOCKER)

    assert (annotated.before, docker.before) == (digest, digest)
    assert manifest_at(target, tag="a")["annotations"] == {"k": "v"}
    assert manifest_at(target, tag="a")["layers"] == manifest_at(hub)["layers"]
    assert manifest_at(target, tag="d")["layers"][0]["digest"] == manifest_at(hub)["layers"][0]["digest"]
    assert sending.packed == []


def test_a_forced_compression_is_every_layers(images, hub, target, sending):
    hub.put_image("app", "1", LOWER, UPPER)
    image = fetch(images, hub)

    sent = sending.push(image, target, compression=Compression("zstd"), force=True)

    assert {layer["mediaType"] for layer in manifest_at(target)["layers"]} == {MediaType.OCI_LAYER_ZSTD}
    assert "zstd" in sent.why


# ----------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("forgets", [False, True])
def test_a_push_that_is_broken_off_in_a_blob_goes_on(images, target, sending, forgets):
    image = add(images, "made:1", a=NOISE)
    target.break_upload_after = [500_000, 1_000_000]
    target.forgets_broken_uploads = forgets

    sending.push(image, target)

    assert fetch(images, target).id == image.id
    assert target.break_upload_after == []


def test_a_registry_that_is_full_is_named_and_nothing_has_the_name(images, target, sending):
    image = add(images, "made:1", a=NOISE)

    def full(handler):
        target.send(handler, 507, b'{"errors":[{"code":"UNKNOWN","message":"no space left on device"}]}')

    target.scripts["POST /v2/app/blobs/uploads/"] = full
    with pytest.raises(Failed, match="no space left on device"):
        sending.push(image, target)
    assert [path for path in target.documents if "manifests" in path] == []


def test_a_registry_that_denies_says_so(images, target, sending):
    image = add(images, "made:1", a=NOISE)

    def denied(handler):
        target.send(handler, 403, b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}')

    target.scripts["POST /v2/app/blobs/uploads/"] = denied
    with pytest.raises(NotPermitted, match="denied"):
        sending.push(image, target)


def test_a_damaged_layer_is_never_pushed(images, where, target, sending):
    image = add(images, "made:1", a=b"content" * 1000)
    with open(f"{where.layer(image.diff_ids[0])}/diff/a", "r+b") as file:
        file.write(b"X")

    with pytest.raises(SampanError):
        sending.push(image, target)
    assert [path for path in target.documents if "manifests" in path] == []


def test_the_first_failure_stops_the_other_layers(images, target, sending, tmp_path):
    layout = HandMade(tmp_path / "l")
    layout.name(layout.image(*(tarball(**{f"f{number}": NOISE}) for number in range(8)), compress=bytes))
    image = take(images, Layout.opened(f"{tmp_path}/l"), Reference.parse("made:1"))
    count = []

    def refuse(handler):
        count.append(1)
        target.send(handler, 403, b"{}")

    target.scripts["POST /v2/app/blobs/uploads/"] = refuse
    with pytest.raises(NotPermitted):
        sending.push(image, target)
    assert len(count) < 8


# ----------------------------------------------------------------------------------------------------- in and out


def test_an_archive_of_a_pulled_image_keeps_its_digest_and_a_plain_one_its_id(images, where, hub, sending, tmp_path):
    digest = hub.put_image("app", "1", LOWER, UPPER)["digest"]
    image = fetch(images, hub)
    oci, plain = Out(), Out()

    for out, options in ((oci, {"lengths": True}), (plain, {"lengths": False})):
        writer = ArchiveWriter(out, docker=True, scratch=str(tmp_path))
        sent = sending.to(image, writer.image([Reference.parse("app:1")]), compression=Compression("none"), **options)
        writer.close()
        assert (sent.document.digest == digest) == options["lengths"]
    oci.getvalue()
    assert len(plain.getvalue()) > len(LOWER) + len(UPPER)


def test_an_image_goes_out_to_a_layout_and_comes_back(images, where, hub, sending, tmp_path):
    digest = hub.put_image("app", "1", LOWER, UPPER)["digest"]
    image = fetch(images, hub)
    sending.to(image, Layout.made(f"{tmp_path}/l", "x"))
    images.remove(image.repo_tags[0], lambda _: ())

    back = take(images, Layout.opened(f"{tmp_path}/l", "x"), Reference.parse("b:1"))

    assert back.id == image.id
    assert back.manifest_digest == digest


def test_a_layout_that_lies_about_a_layer_leaves_nothing_in_the_store(images, where, tmp_path):
    layout = HandMade(tmp_path / "l")
    layout.name(layout.image(UPPER))
    manifest = Layout.opened(f"{tmp_path}/l").document().view()
    (layout.path / "blobs" / manifest.layers[0].digest.replace(":", "/")).write_bytes(gzip.compress(LOWER))

    with pytest.raises(SampanError):
        take(images, Layout.opened(f"{tmp_path}/l"), Reference.parse("b:1"))
    assert os.listdir(f"{where.layers}/sha256") == []
