"""Asking a registry that is busy, lies, stalls, and names others."""

import json
import re
import socket
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from sampan.errors import Failed, InvalidInput, NotFound, NotPermitted, SampanError
from sampan.image import connections, patience, registry, tokens, transport
from sampan.image.address import leads_to
from sampan.image.transport import Transport
from sampan.spec.distribution import AuthConfig, Descriptor
from sampan.spec.pulling import Retries
from sampan.spec.reference import Reference
from sampan.spec.settings import Place, Registries
from support.fake_registry import INDEX, MANIFEST, FakeRegistry, digest_of
from support.repositories import Repository

ME = AuthConfig(username="me", password="secret")
QUICK = Registries(wait_s=0.001, timeout_s=5)
BLOB = Descriptor(media_type="x", digest=digest_of(b"blob" * 5000), size=20_000)
RAW = b'{"schemaVersion":2}'


@pytest.fixture
def server():
    fake = FakeRegistry()
    fake.put("app", "manifests", MANIFEST, RAW, "1")
    fake.put("app", "blobs", "x", b"blob" * 5000)
    yield fake
    fake.end()


def repository(server, auth=None, name="app", registries=QUICK):
    return Repository(Reference.parse(f"{server.address}/{name}"), auth or AuthConfig(), registries=registries)


# -------------------------------------------------------------------------------------------------- names


def test_a_name_is_resolved_without_fetching(server):
    assert repository(server).resolve("1") == Descriptor(media_type=MANIFEST, digest=digest_of(RAW), size=len(RAW))
    assert server.asked("GET") == []


def test_a_registry_without_head_is_asked_with_get(server):
    server.scripts["HEAD /v2/app/manifests/1"] = lambda handler: server.send(handler, 405)

    assert repository(server).resolve("1").digest == digest_of(RAW)


def test_a_digest_is_resolved_to_itself_or_to_nothing(server):
    server.documents[f"app/manifests/{digest_of(b'x')}"] = (MANIFEST, RAW)

    with pytest.raises(InvalidInput, match="digest does not match"):
        repository(server).resolve(digest_of(b"x"))


def test_what_is_not_there_is_named_in_dockers_words(server):
    with pytest.raises(NotFound) as caught:
        repository(server).resolve("2")
    assert (
        caught.value.message
        == f"manifest for {server.address}/app:latest not found: manifest unknown: manifest unknown"
    )


def test_tags_are_read_page_by_page(server):
    server.page = 2
    for tag in "abcde":
        server.put("app", "manifests", MANIFEST, RAW, tag)

    assert list(repository(server).tags()) == ["1", "a", "b", "c", "d", "e"]
    assert len(server.asked("GET")) == 3


def tags_page(server, link, tags='["a"]'):
    server.scripts["GET /v2/app/tags/list"] = lambda handler: server.send(
        handler, 200, f'{{"name":"app","tags":{tags}}}'.encode(), {"Link": link} if link else {}
    )


def test_a_repository_without_tags_has_none(server):
    tags_page(server, None, "null")

    assert list(repository(server).tags()) == []


def test_pages_without_end_are_not_collected(server, monkeypatch):
    monkeypatch.setattr(registry, "_MOST_TAGS", 30)
    monkeypatch.setattr(registry, "_MOST_REFERRERS", 30)
    pages = iter(range(1000))
    entry = {"mediaType": MANIFEST, "digest": digest_of(b"x"), "size": 1}

    def page(handler):
        number = next(pages)
        body = {
            "schemaVersion": 2, "tags": [f"{number}-{at}" for at in range(10)], "mediaType": INDEX,
            "manifests": [entry] * 10,
        }  # fmt: skip
        link = f'<{handler.path.partition("?")[0]}?last={number}>; rel="next"'
        server.send(handler, 200, json.dumps(body).encode(), {"Link": link})

    server.scripts["GET /v2/app/tags/list"] = page
    server.scripts[f"GET /v2/app/referrers/{digest_of(RAW)}"] = page

    with pytest.raises(Failed, match="the list of tags: it has more than 30"):
        list(repository(server).tags())
    with pytest.raises(Failed, match="the list of referrers: it has more than 30"):
        repository(server).referrers(digest_of(RAW))


def test_pages_in_a_circle_end(server):
    tags_page(server, '</v2/app/tags/list?last=a>; rel="next"')

    with pytest.raises(Failed, match="can't read the list of tags: its pages go in a circle"):
        list(repository(server).tags())


def test_the_next_page_is_not_sought_elsewhere(server):
    tags_page(server, '<http://127.0.0.2:1/v2/app/tags/list>; rel="next"')

    with pytest.raises(Failed, match="its next page is at another server"):
        list(repository(server).tags())


def artifact(server, kind, push=None):
    subject = {"mediaType": MANIFEST, "digest": digest_of(RAW), "size": len(RAW)}
    raw = json.dumps({"schemaVersion": 2, "artifactType": kind, "subject": subject}).encode()
    repository(server).put_manifest(digest_of(raw), raw, MANIFEST)
    return digest_of(raw)


def test_referrers_are_kept_under_a_tag_by_a_registry_that_lists_none(server):
    digests = [artifact(server, "a/signature"), artifact(server, "a/sbom"), artifact(server, "a/sbom")]

    found = repository(server).referrers(digest_of(RAW))

    assert [(entry.digest, entry.artifact_type) for entry in found] == [
        (digests[0], "a/signature"), (digests[1], "a/sbom"),
    ]  # fmt: skip
    assert [entry.digest for entry in repository(server).referrers(digest_of(RAW), "a/sbom")] == [digests[1]]
    assert repository(server).referrers(digest_of(b"")) == ()


def test_an_artifact_that_is_deleted_is_listed_no_more(server):
    kept, gone = artifact(server, "a/signature"), artifact(server, "a/sbom")
    server.requests.clear()

    repository(server).delete(gone)

    assert [entry.digest for entry in repository(server).referrers(digest_of(RAW))] == [kept]
    repository(server).delete(kept)
    assert repository(server).referrers(digest_of(RAW)) == ()


def test_a_registry_that_lists_referrers_itself_is_not_told_of_a_deletion(server):
    gone = artifact(server, "a/sbom")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    server.scripts[f"GET /v2/app/referrers/{digest_of(RAW)}"] = lambda handler: server.send(handler, 200, index)
    server.requests.clear()

    repository(server).delete(gone)

    assert server.asked("PUT") == []


def test_what_can_not_be_read_can_be_deleted(server):
    digest = digest_of(RAW)
    server.documents[f"app/manifests/{digest}"] = (MANIFEST, b"something else")

    repository(server).delete(digest)

    assert f"app/manifests/{digest}" not in server.documents


def test_a_registrys_own_list_of_referrers_is_read(server):
    entry = {"mediaType": MANIFEST, "digest": digest_of(b"x"), "size": 1, "artifactType": "a/b"}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    server.scripts[f"GET /v2/app/referrers/{digest_of(RAW)}"] = lambda handler: server.send(handler, 200, index)

    (found,) = repository(server).referrers(digest_of(RAW))

    assert (found.digest, found.artifact_type) == (digest_of(b"x"), "a/b")


def test_a_tag_is_deleted(server):
    repository(server).delete("1")

    with pytest.raises(NotFound, match="not found"):
        repository(server).delete("1")


# -------------------------------------------------------------------------------------------------- patience


@pytest.mark.parametrize("retry_after", ["0", "", "soon", formatdate(time.time() - 5, usegmt=True)])
def test_a_busy_registry_is_asked_again(server, retry_after):
    server.fail_next = [429, 503, 500]
    server.retry_after = retry_after

    assert repository(server).manifest("1")[0] == RAW
    assert len(server.requests) == 4


@pytest.mark.parametrize("as_date", [False, True])
def test_a_registry_that_wants_an_hour_is_not_waited_for(server, as_date):
    server.fail_next = [429]
    server.retry_after = formatdate(time.time() + 3600, usegmt=True) if as_date else "3600"

    with pytest.raises(Failed, match="toomanyrequests: ") as caught:
        repository(server).manifest("1")
    assert re.fullmatch(r"try again in 3[0-6]\d\d s: so the registry asks", caught.value.hint)
    assert len(server.requests) == 1


def test_who_asks_says_how_often_and_when(server):
    server.fail_next = [503] * 3
    server.retry_after = ""
    hasty = Registries(wait_s=60, tries=1)

    def target(**retries):
        reference = Reference.parse(f"{server.address}/app")
        return Repository(reference, AuthConfig(), registries=hasty, retries=Retries(**retries))

    assert target(count=3, delay_ns=1000).manifest("1")[0] == RAW
    server.fail_next = [503]
    with pytest.raises(Failed):
        target(count=0).manifest("1")
    for wrong in ({"count": -1}, {"count": 100}, {"delay_ns": -1}, {"delay_ns": 1 << 62}):
        with pytest.raises(InvalidInput, match="invalid"):
            patience.check(Retries(**wrong))


def test_a_registry_that_is_about_to_start_is_waited_for_by_who_says_so():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        reference = Reference.parse(f"127.0.0.1:{nobody.getsockname()[1]}/app")
        began = time.monotonic()
        with pytest.raises(Failed, match="connection refused"):
            Repository(reference, AuthConfig(), retries=Retries(count=2, delay_ns=10**7)).manifest("1")

    assert time.monotonic() - began >= 0.02


@pytest.mark.parametrize("status", [400, 404, 501])
def test_a_refusal_is_not_asked_again(server, status):
    server.fail_next = [status]

    with pytest.raises(SampanError):
        repository(server).manifest("1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 307])
def test_what_drips_is_not_waited_for_byte_by_byte(server, monkeypatch, status):
    monkeypatch.setattr(transport, "_LONGEST_DOCUMENT_S", 0.1)
    monkeypatch.setattr(transport, "_LONGEST_DISCARDED_S", 0.1)
    left = threading.Event()

    def drip(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", "200")
        if status == 307:
            handler.send_header("Location", "/v2/app/manifests/1")
        handler.end_headers()
        handler.close_connection = True
        with suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b"x")
                time.sleep(0.05)
            return
        left.set()

    server.scripts["GET /v2/app/manifests/slow"] = drip
    if status == 200:
        with pytest.raises(Failed, match=r"it took more than 0\.1 s"):
            repository(server).manifest("slow")
    else:
        assert repository(server).manifest("slow")[0] == RAW
    assert left.wait(5)


def test_the_head_of_an_answer_may_not_drip_either(server, monkeypatch):
    monkeypatch.setattr(connections, "_LONGEST_HEAD_S", 0.1)
    left = threading.Event()

    def drip(handler):
        handler.close_connection = True
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(200):
                handler.wfile.write(b"x")
                time.sleep(0.05)
            return
        left.set()

    server.scripts["GET /v2/app/manifests/slow"] = drip
    with pytest.raises(Failed, match="can't reach registry"):
        repository(server, registries=Registries(tries=1, timeout_s=0.3)).manifest("slow")
    assert left.wait(5)


def stall(handler):
    handler.rfile.read()  # until the client gives up
    handler.close_connection = True


def test_a_registry_that_stalls_is_left(server):
    server.scripts["GET /v2/app/manifests/1"] = stall

    with pytest.raises(Failed, match=f"can't reach registry {server.address}: .*timed out"):
        repository(server, registries=Registries(wait_s=0.001, timeout_s=0.05, tries=2)).manifest("1")


def test_a_blob_that_stalls_is_taken_up_again(server):
    def half(handler):
        del server.scripts[f"GET /v2/app/blobs/{BLOB.digest}"]
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"blob" * 2500)
        stall(handler)

    server.scripts[f"GET /v2/app/blobs/{BLOB.digest}"] = half

    found = repository(server, registries=Registries(wait_s=0.001, timeout_s=0.05)).blob(BLOB)

    assert b"".join(found) == b"blob" * 5000


@pytest.mark.parametrize("waits_for", ["a stalled blob", "a busy registry"])
def test_what_waits_is_stopped_from_another_thread(server, waits_for):
    target = repository(server, registries=Registries(wait_s=60, timeout_s=60))

    def half(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"blob")
        threading.Timer(0.05, target.stop).start()
        stall(handler)

    def busy(handler):
        server.send(handler, 503)
        threading.Timer(0.05, target.stop).start()

    server.scripts[f"GET /v2/app/blobs/{BLOB.digest}"] = half if waits_for == "a stalled blob" else busy

    with pytest.raises(Failed, match="it was stopped"):
        b"".join(target.blob(BLOB))


# -------------------------------------------------------------------------------------------------- lies


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\ntoo little",
        b"\0\1\2",
        b"",
    ],
    ids=["headers", "long header", "two lengths", "no chunks", "cut", "no http", "nothing"],
)
def test_an_answer_that_is_no_http_is_a_failure(server, answer):
    def say(handler):
        handler.wfile.write(answer)
        handler.close_connection = True

    server.scripts["GET /v2/app/manifests/1"] = say

    with pytest.raises(Failed, match=r"can't reach registry|the connection broke off"):
        repository(server).manifest("1")


def endless(status, headers=""):
    def say(handler):
        handler.wfile.write(f"HTTP/1.1 {status} X\r\n{headers}Connection: close\r\n\r\n".encode())
        try:
            while True:
                handler.wfile.write(b" " * 100_000)
        except OSError:
            handler.close_connection = True

    return say


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_without_end_is_not_read_to_its_end(server, status):
    server.scripts["GET /v2/app/manifests/1"] = endless(status)

    with pytest.raises(SampanError, match=r"longer than|not found|HTTP status: 500"):
        repository(server).manifest("1")


def test_a_redirect_with_an_endless_body_is_followed(server):
    server.scripts["GET /v2/app/manifests/2"] = endless(307, "Location: /v2/app/manifests/1\r\n")

    assert repository(server).manifest("2")[0] == RAW


def test_another_part_than_was_asked_for_is_refused(server):
    server.scripts[f"GET /v2/app/blobs/{BLOB.digest}"] = lambda handler: server.send(
        handler, 206, b"blob", {"Content-Range": "bytes 0-3/20000"}
    )

    with pytest.raises(Failed, match="another part"):
        b"".join(repository(server).blob(BLOB, 100))


def test_a_registry_without_ranges_is_read_from_the_beginning(server):
    server.scripts[f"GET /v2/app/blobs/{BLOB.digest}"] = lambda handler: server.send(handler, 200, b"blob" * 5000)

    assert b"".join(repository(server).blob(BLOB, 19_997)) == b"lob"


# -------------------------------------------------------------------------------------------------- who is there


def test_a_token_serves_until_more_is_wanted(server):
    server.asks = "token"
    target = repository(server, ME)

    target.manifest("1")
    target.resolve("1")
    b"".join(target.blob(BLOB))
    target.put_manifest("2", RAW, MANIFEST)
    target.manifest("2")

    assert server.asked_for == [["repository:app:pull"], ["repository:app:pull,push"]]


def test_a_token_is_replaced_before_it_expires(server, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(tokens, "time", SimpleNamespace(monotonic=lambda: now))
    server.asks, server.expires_in = "token", 300
    target = repository(server, ME)
    target.manifest("1")

    now += 280
    target.manifest("1")
    assert len(server.asked_for) == 1
    now += 11
    target.manifest("1")
    assert len(server.asked_for) == 2


def test_a_token_that_is_not_taken_any_more_is_replaced(server):
    server.asks = "token"
    target = repository(server, ME)
    target.manifest("1")
    server.tokens.clear()

    assert target.manifest("1")[0] == RAW


def test_a_token_server_that_refuses_more_is_said_with_what_was_wanted(server):
    server.asks, server.anonymous = "token", True
    target = repository(server)
    target.manifest("1")
    server.anonymous = False

    with pytest.raises(NotPermitted, match=rf"^push access denied for {server.address}/app: unauthorized: incorrect"):
        target.put_manifest("2", RAW, MANIFEST)


def test_a_token_server_may_be_named_by_its_path(server):
    server.asks, server.realm = "token", "/token"

    assert repository(server, ME).manifest("1")[0] == RAW


def test_an_identity_token_is_exchanged_by_post(server):
    server.asks = "token"

    assert repository(server, AuthConfig(identity_token="identity")).manifest("1")[0] == RAW
    assert server.asked("POST") == ["/token"]


def test_a_registrys_token_is_sent_as_it_is(server):
    server.asks, server.tokens["given"] = "token", ["repository:app:pull"]

    assert repository(server, AuthConfig(registry_token="given")).manifest("1")[0] == RAW
    assert server.asked_for == []


@pytest.mark.parametrize(
    ("asks", "auth", "message"),
    [
        ("basic", None, "unauthorized: no basic auth credentials"),
        ("basic", AuthConfig(username="me", password="wrong"), "unauthorized: authentication required"),
        ("token", AuthConfig(username="me", password="wrong"), "unauthorized: incorrect username or password"),
        ("token", AuthConfig(identity_token="wrong"), "unauthorized: incorrect username or password"),
    ],
)
def test_who_may_not_is_told_so(server, asks, auth, message):
    server.asks = asks

    with pytest.raises(NotPermitted, match=rf"^pull access denied for {server.address}/app, repository .*: {message}$"):
        repository(server, auth).manifest("1")


@pytest.mark.parametrize(
    "told", [b'{"token":"a\\r\\nX: y"}', b"{}", b'{"token":7}', b"[", b" " * (2 << 20), b'{"token":""}']
)
def test_a_token_that_is_none_is_refused(server, told):
    server.asks, server.token_answer = "token", told

    with pytest.raises(SampanError, match=r"can't authenticate|can't read the token"):
        repository(server, ME).manifest("1")


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("registry.example", "http://registry.example/token"),
        ("registry.example", "http://127.0.0.1:8080/admin"),
        ("registry.example", "https://localhost/token"),
        ("registry.example", "https://[::1]/token"),
        ("registry.example", "file:///etc/passwd"),
        ("registry.example", "https://user:password@elsewhere.example/token"),
        ("registry.example", "https://[/token"),
        ("127.0.0.1:5000", "http://elsewhere.example/token"),
        ("127.0.0.1:5000", "http://127.0.0.1.elsewhere.example/token"),
    ],
)
def test_a_token_server_that_is_not_to_be_trusted_learns_nothing(registry, realm):
    who = tokens.Authorizer(Transport(Place(host=registry, repository="app"), QUICK), ME)

    with pytest.raises(Failed, match=r"unsafe token server|can't follow"):
        who.answer(f'Bearer realm="{realm}",service="x"', frozenset(), None)


def test_a_token_is_not_fetched_along_a_redirect_with_secrets(server):
    server.asks = "token"
    server.scripts["POST /token"] = lambda handler: server.send(handler, 307, b"", {"Location": "http://127.0.0.2:1/"})

    with pytest.raises(Failed, match="it is redirected"):
        repository(server, AuthConfig(identity_token="identity")).manifest("1")


def test_a_password_does_not_follow_the_token_servers_redirect(server):
    elsewhere = FakeRegistry()
    try:
        elsewhere.asks = server.asks = "token"
        elsewhere.anonymous, elsewhere.tokens = True, server.tokens
        server.scripts["GET /token"] = lambda handler: server.send(
            handler, 307, b"", {"Location": f"http://{elsewhere.address}{handler.path}"}
        )

        repository(server, ME).manifest("1")
        assert [authorization for _, _, authorization in elsewhere.requests] == [None]
    finally:
        elsewhere.end()


@pytest.mark.parametrize("asks", ["basic", "token"])
def test_a_redirects_target_that_asks_who_we_are_learns_nothing(server, asks):
    elsewhere = FakeRegistry()
    try:
        elsewhere.asks = asks
        server.redirect_to = f"http://{elsewhere.address}"

        with pytest.raises(NotPermitted):
            b"".join(repository(server, ME).blob(BLOB))
        assert {authorization for _, _, authorization in elsewhere.requests} == {None}
        assert elsewhere.asked_for == []
    finally:
        elsewhere.end()


@pytest.mark.parametrize(
    ("source", "location", "target"),
    [
        ("https://a.example/v2/", "/x", "https://a.example/x"),
        ("https://a.example/v2/", "https://b.example/x", "https://b.example/x"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:6000/", "http://127.0.0.1:6000/"),
        ("http://127.0.0.1:5000/", "https://b.example/", "https://b.example/"),
        ("https://a.example/", "http://a.example/", None),
        ("https://a.example/", "https://127.0.0.1/", None),
        ("https://a.example/", "https://127.1/", None),
        ("https://a.example/", "https://2130706433/", None),
        ("https://a.example/", "https://0.0.0.0/", None),
        ("https://a.example/", "https://[::]/", None),
        ("https://a.example/", "https://[::1]/", None),
        ("https://a.example/", "https://[::ffff:127.0.0.1]/", None),
        ("https://a.example/", "https://[::ffff:0:0]/", None),
        ("https://a.example/", "https://localhost./", None),
        ("https://a.example/", "https://a.localhost/", None),
        ("https://a.example/", "https://[2001:db8::1]/", "https://[2001:db8::1]/"),
        ("https://a.example/", "https://a.example:99999/", None),
        ("http://127.0.0.1/", "file:///etc/passwd", None),
        ("http://127.0.0.1/", "unix:///run/docker.sock", None),
        ("http://127.0.0.1/", "http://a@127.0.0.1/", None),
        ("http://127.0.0.1/", "http://[", None),
    ],
)
def test_it_is_not_followed_to_where_it_is_less_safe(source, location, target):
    if target is None:
        with pytest.raises(Failed, match="can't follow"):
            leads_to(source, location)
    else:
        assert leads_to(source, location) == target


def test_a_secret_of_an_address_is_not_in_a_message():
    with pytest.raises(Failed) as caught:
        leads_to("https://a.example/", "http://b.example/blob?signature=secret")
    assert "signature" not in caught.value.message


def test_what_would_end_a_header_is_not_sent(server):
    with pytest.raises(InvalidInput, match="Invalid header value"):
        repository(server).put_manifest("1", RAW, "a/b\r\nX: y")
    with pytest.raises(InvalidInput, match="Invalid header value"):
        repository(server, AuthConfig(registry_token="a\r\nX: y")).manifest("1")
    assert server.requests == []
