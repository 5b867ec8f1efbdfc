"""Mirrors, other locations, and proxies."""

import socket

import pytest

from sampan.errors import Failed, InvalidInput, NotFound
from sampan.image import mirrors
from sampan.image.proxies import proxy_for
from sampan.spec.distribution import AuthConfig, Descriptor
from sampan.spec.reference import Reference
from sampan.spec.settings import Registries, Registry
from support.fake_registry import MANIFEST, FakeRegistry, digest_of
from support.repositories import Repository

DATA = b"blob" * 5000
BLOB = Descriptor(media_type="x", digest=digest_of(DATA), size=len(DATA))
RAW = b'{"schemaVersion":2}'


@pytest.fixture
def servers(monkeypatch, tmp_path):
    """Two mirrors and the registry; all have the same image."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    mirrors.forget()
    found = [FakeRegistry() for _ in range(3)]
    for server in found:
        server.put("app", "manifests", MANIFEST, RAW, "1")
        server.put("app", "blobs", "x", DATA)
    yield found
    mirrors.forget()
    for server in found:
        server.end()


def repository(servers, auth=None, mirrors=None, **options):
    *others, own = servers
    known = {own.address: Registry(mirrors=tuple(mirrors or (server.address for server in others)), **options)}
    registries = Registries(known=known, wait_s=0.001, timeout_s=5)
    return Repository(Reference.parse(f"{own.address}/app"), auth or AuthConfig(), registries=registries)


def asked(servers):
    return [len(server.requests) for server in servers]


def test_the_first_mirror_is_read(servers):
    target = repository(servers)

    assert target.manifest("1")[0] == RAW
    assert target.resolve("1").digest == digest_of(RAW)
    assert target.document(BLOB) == b"".join(target.blob(BLOB)) == DATA
    assert asked(servers) == [4, 0, 0]


def test_what_a_mirror_has_not_is_sought_at_the_next(servers):
    servers[0].documents.clear()

    assert repository(servers).manifest("1")[0] == RAW
    assert repository(servers).manifest("1")[0] == RAW
    assert asked(servers) == [2, 2, 0]


@pytest.mark.parametrize("status", [500, 502, 429])
def test_a_mirror_that_is_broken_is_left_alone_for_a_while(servers, status):
    servers[0].fail_next = [status] * 10

    for _ in range(3):
        assert repository(servers).manifest("1")[0] == RAW
    assert asked(servers) == [2, 3, 0]


def test_a_mirror_that_is_not_there_is_left_alone_for_a_while(servers):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{probe.getsockname()[1]}"

        target = repository(servers, mirrors=(gone, servers[1].address))

        assert target.manifest("1")[0] == RAW
        assert mirrors.is_resting(gone)
        assert target.manifest("1")[0] == RAW
        assert asked(servers) == [0, 2, 0]


def test_a_mirror_that_lies_is_passed_over(servers):
    servers[0].documents[f"app/manifests/{digest_of(RAW)}"] = (MANIFEST, b"{}")
    servers[0].documents[f"app/blobs/{BLOB.digest}"] = ("x", DATA + b"more")
    target = repository(servers)

    assert target.manifest(digest_of(RAW))[0] == RAW
    assert target.document(BLOB) == DATA


def test_a_blob_goes_on_at_the_next_place_where_a_mirror_broke(servers):
    servers[0].break_after = [5_000]
    servers[0].scripts[f"GET /v2/app/blobs/{BLOB.digest}"] = lambda handler: (
        servers[0]._document(handler, f"app/blobs/{BLOB.digest}")
        if servers[0].break_after
        else servers[0].send(handler, 500)
    )

    assert b"".join(repository(servers).blob(BLOB)) == DATA
    assert servers[1].asked("GET") == [f"/v2/app/blobs/{BLOB.digest}"]


def test_the_registry_has_the_last_word(servers):
    for server in servers:
        server.documents.clear()

    with pytest.raises(NotFound, match="manifest unknown: manifest unknown"):
        repository(servers).manifest("1")
    assert asked(servers) == [1, 1, 1]


def test_writing_goes_to_the_registry(servers):
    target = repository(servers)

    target.put_manifest("2", RAW, MANIFEST)
    target.upload_blob(lambda offset: iter([DATA[offset:]]), size=len(DATA))

    assert target.has_blob(BLOB.digest) == len(DATA)
    assert list(target.tags()) == ["1", "2"]
    assert asked(servers)[:2] == [0, 0]


def test_a_mirror_does_not_learn_the_registrys_password(servers):
    servers[0].asks = servers[2].asks = "basic"
    del servers[1].documents["app/manifests/1"]

    assert repository(servers, AuthConfig(username="me", password="secret")).manifest("1")[0] == RAW
    assert [authorization for _, _, authorization in servers[0].requests] == [None]


def test_a_mirror_has_a_password_of_its_own(servers, tmp_path):
    servers[0].asks = "basic"
    (tmp_path / "config.json").write_text(f'{{"auths":{{"{servers[0].address}":{{"auth":"bWU6c2VjcmV0"}}}}}}')

    assert repository(servers).manifest("1")[0] == RAW
    assert asked(servers) == [2, 0, 0]


def test_a_registry_may_be_somewhere_else(servers):
    _, own, elsewhere = servers
    elsewhere.documents = {f"group/{path}": value for path, value in elsewhere.documents.items()}
    elsewhere.asks = "basic"
    known = {own.address: Registry(location=f"{elsewhere.address}/group")}

    with pytest.raises(Exception, match="no basic auth credentials"):  # they are the other registry's
        Repository(
            Reference.parse(f"{own.address}/app"),
            AuthConfig(username="me", password="secret"),
            registries=Registries(known=known),
        ).manifest("1")
    assert len(own.requests) == 0
    assert len(elsewhere.requests) == 1


def test_a_blocked_registry_is_not_asked(servers):
    with pytest.raises(InvalidInput, match="is blocked in the configuration"):
        repository(servers, blocked=True)


def test_a_stopped_pull_does_not_go_on_at_the_next_mirror(servers):
    target = repository(servers)
    target.stop()

    with pytest.raises(Failed, match="it was stopped"):
        b"".join(target.blob(BLOB))


ENVIRONMENT = {
    "https_proxy": "proxy.example:3128",
    "HTTP_PROXY": "http://me:secret@plain.example",
    "NO_PROXY": "corp.example, .internal,10.0.0.0/8,*.wild.example,one.example:5000,[fd00::1]:443",
}


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://registry.example/v2/", "http://proxy.example:3128"),
        ("http://registry.example/v2/", "http://me:secret@plain.example"),
        ("https://corp.example/", None),
        ("https://a.corp.example/", None),
        ("https://acorp.example/", "http://proxy.example:3128"),
        ("https://internal/", "http://proxy.example:3128"),
        ("https://a.internal/", None),
        ("https://a.wild.example/", None),
        ("https://10.1.2.3:5000/", None),
        ("https://11.1.2.3:5000/", "http://proxy.example:3128"),
        ("https://one.example:5000/", None),
        ("https://one.example/", "http://proxy.example:3128"),
        ("https://[fd00::1]/", None),
        ("http://localhost:5000/", None),
        ("http://127.0.0.1:5000/", None),
        ("https://[::1]:5000/", None),
    ],
)
def test_the_environment_says_which_proxy(url, proxy):
    assert proxy_for(url, ENVIRONMENT) == proxy


def test_no_proxy_at_all():
    assert proxy_for("https://a.example/", {}) is None
    assert proxy_for("https://a.example/", {**ENVIRONMENT, "no_proxy": "*"}) is None
