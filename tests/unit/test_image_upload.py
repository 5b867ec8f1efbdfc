"""Writing into a registry that breaks off, forgets, redirects and lies."""

import json
import random

import pytest

from sampan.errors import Failed, InvalidInput, NotPermitted
from sampan.spec.distribution import AuthConfig
from sampan.spec.reference import Reference
from sampan.spec.settings import Registries
from support.fake_registry import MANIFEST, FakeRegistry, digest_of, read_body
from support.repositories import Repository

SMALL, LARGE = b"small", random.Random(1).randbytes(3_000_000)
ME = AuthConfig(username="me", password="secret")
QUICK = Registries(wait_s=0.001, timeout_s=5)


@pytest.fixture
def server():
    fake = FakeRegistry()
    try:
        yield fake
        assert fake.sessions == {}, "an upload was left open"
    finally:
        fake.end()


def repository(server, name="app", auth=None):
    return Repository(Reference.parse(f"{server.address}/{name}"), auth or AuthConfig(), registries=QUICK)


class Bytes:
    """What an upload reads; remembers from where."""

    def __init__(self, data):
        self.data = data
        self.opened = []

    def __call__(self, offset):
        self.opened.append(offset)
        return (self.data[at : at + 70_000] for at in range(offset, len(self.data), 70_000))


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("known", [True, False])
def test_a_blob_is_written_whether_its_digest_and_size_are_known_or_not(server, data, known):
    facts = {"digest": digest_of(data), "size": len(data)} if known else {}

    descriptor = repository(server).upload_blob(Bytes(data), **facts)

    assert (descriptor.digest, descriptor.size) == (digest_of(data), len(data))
    assert server.documents[f"app/blobs/{digest_of(data)}"][1] == data


def test_a_small_blob_takes_two_requests(server):
    repository(server).upload_blob(Bytes(SMALL), size=len(SMALL))

    assert [method for method, _, _ in server.requests] == ["POST", "PUT"]


@pytest.mark.parametrize("known", [True, False])
def test_an_upload_goes_on_where_it_broke_off(server, known):
    server.break_upload_after = [1_000_000, 1_500_000]
    source = Bytes(LARGE)

    repository(server).upload_blob(source, size=len(LARGE) if known else None)

    assert server.documents[f"app/blobs/{digest_of(LARGE)}"][1] == LARGE
    assert len(source.opened) == 3
    assert source.opened[0] == 0 < source.opened[1] < source.opened[2] < len(LARGE)


def test_an_upload_that_the_registry_forgot_begins_anew(server):
    server.break_upload_after = [1_000_000]
    server.forgets_broken_uploads = True
    source = Bytes(LARGE)

    descriptor = repository(server).upload_blob(source)

    assert descriptor.digest == digest_of(LARGE)
    assert source.opened == [0, 0]


def test_an_upload_that_never_gets_further_ends(server):
    server.break_upload_after = [10] * 50

    with pytest.raises(Failed, match=f"can't reach registry {server.address}"):
        repository(server).upload_blob(Bytes(LARGE))
    assert len(server.asked("PATCH")) == QUICK.tries
    server.sessions.clear()


def test_a_registry_that_wants_another_offset_is_asked_for_it(server):
    def disagree(handler):
        del server.scripts[f"PATCH {handler.path.partition('?')[0]}"]
        session = server.sessions[handler.path.rpartition("/")[2].partition("?")[0]]
        session += LARGE[:2_000_000]
        server.send(handler, 416)

    server.scripts["PATCH /v2/app/blobs/uploads/session1"] = disagree
    source = Bytes(LARGE)

    repository(server).upload_blob(source, digest=digest_of(LARGE), size=len(LARGE))

    assert source.opened == [0, 2_000_000]


def test_a_registry_without_streams_gets_chunks(server):
    server.takes_no_streams = True
    data = LARGE * 6

    descriptor = repository(server).upload_blob(Bytes(data))

    assert descriptor.digest == digest_of(data)
    assert len(server.asked("PATCH")) == 4


def test_chunks_are_as_long_as_the_registry_wants_them(server):
    server.takes_no_streams, server.least_chunk = True, 17_000_000
    data = LARGE * 6

    repository(server).upload_blob(Bytes(data))

    assert server.documents[f"app/blobs/{digest_of(data)}"][1] == data
    assert len(server.asked("PATCH")) == 3  # the refused stream, 17 MB, and the rest


def test_a_registry_that_says_it_has_less_gets_the_rest(server):
    def lose(handler):
        del server.scripts["PATCH /v2/app/blobs/uploads/session1"]
        server.sessions["session1"] += b"".join(read_body(handler))[:2_000_000]
        server.send(handler, 202, b"", server._session("app", "session1"))

    server.scripts["PATCH /v2/app/blobs/uploads/session1"] = lose
    source = Bytes(LARGE)

    repository(server).upload_blob(source)

    assert source.opened == [0, 2_000_000]


@pytest.mark.parametrize("absolute", [True, False])
def test_locations_may_be_relative_or_absolute(server, absolute):
    server.location_at = f"http://{server.address}" if absolute else None

    assert repository(server).upload_blob(Bytes(LARGE)).size == len(LARGE)


def test_credentials_do_not_follow_a_location_to_another_host(server):
    elsewhere = FakeRegistry()
    try:
        elsewhere.sessions = server.sessions
        server.asks = "basic"
        server.location_at = f"http://{elsewhere.address}"

        repository(server, auth=ME).upload_blob(Bytes(LARGE))

        assert [method for method, _, _ in elsewhere.requests] == ["PATCH", "PUT"]
        assert {authorization for _, _, authorization in elsewhere.requests} == {None}
    finally:
        elsewhere.end()


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "http://me:secret@127.0.0.1/x", "http://[::1/x"])
def test_a_location_that_is_no_address_is_refused(server, location):
    server.scripts["POST /v2/app/blobs/uploads/"] = lambda handler: server.send(
        handler, 202, b"", {"Location": location}
    )

    with pytest.raises(Failed, match="can't follow"):
        repository(server).upload_blob(Bytes(LARGE))


def test_an_upload_is_redirected_with_its_bytes(server):
    server.scripts["PATCH /v2/app/blobs/uploads/session1"] = lambda handler: server.send(
        handler, 307, b"", {"Location": f"/elsewhere{handler.path}"}
    )
    server.scripts["PATCH /elsewhere/v2/app/blobs/uploads/session1"] = lambda handler: server._patch(
        handler, "app", "session1"
    )

    assert repository(server).upload_blob(Bytes(LARGE)).digest == digest_of(LARGE)


def test_a_redirect_that_would_lose_the_bytes_is_refused(server):
    server.scripts["PATCH /v2/app/blobs/uploads/session1"] = lambda handler: server.send(
        handler, 302, b"", {"Location": "/x"}
    )

    with pytest.raises(Failed, match="it is redirected, with HTTP status 302"):
        repository(server).upload_blob(Bytes(LARGE))


def test_a_blob_that_is_complete_although_the_answer_was_lost_is_not_sent_again(server):
    def keep_silent(handler):
        server.put("app", "blobs", "x", bytes(server.sessions.pop("session1")))
        handler.close_connection = True

    server.scripts["PUT /v2/app/blobs/uploads/session1"] = keep_silent
    source = Bytes(LARGE)

    assert repository(server).upload_blob(source).digest == digest_of(LARGE)
    assert source.opened == [0]


def test_a_blob_that_is_not_its_digest_is_refused(server):
    with pytest.raises(InvalidInput, match="digest invalid: provided digest did not match uploaded content"):
        repository(server).upload_blob(Bytes(LARGE), digest=digest_of(SMALL))


@pytest.mark.parametrize("size", [len(LARGE) - 1, len(LARGE) + 1])
def test_a_source_of_another_size_is_refused_and_the_upload_cancelled(server, size):
    with pytest.raises(Failed, match=f"and should have {size}"):
        repository(server).upload_blob(Bytes(LARGE), size=size)
    server.sessions.clear()


def test_a_source_that_fails_cancels_the_upload(server):
    def broken(offset):
        yield LARGE
        raise OSError(5, "Input/output error", "/layer")

    with pytest.raises(Failed, match="can't read a blob: input/output error: /layer"):
        repository(server).upload_blob(broken)
    assert len(server.asked("DELETE")) == 1


def test_a_blob_is_mounted_from_where_it_is(server):
    server.put("other", "blobs", "x", SMALL)
    target = repository(server)

    assert target.mount_blob(digest_of(SMALL), "other")
    assert target.has_blob(digest_of(SMALL)) == len(SMALL)


def test_a_mount_that_fails_is_the_beginning_of_an_upload(server):
    target = repository(server)

    assert not target.mount_blob(digest_of(SMALL), "other")
    target.upload_blob(Bytes(SMALL), size=len(SMALL))

    assert len(server.asked("POST")) == 1


def test_a_mount_asks_for_both_repositories_in_one_token(server):
    server.asks = "token"
    server.put("other", "blobs", "x", SMALL)

    assert repository(server, auth=ME).mount_blob(digest_of(SMALL), "other")
    assert server.asked_for == [["repository:app:pull,push", "repository:other:pull"]]


def test_an_expired_token_is_replaced_in_the_middle_of_an_upload(server):
    server.asks = "token"

    def expire(handler):
        del server.scripts[f"PATCH {handler.path.partition('?')[0]}"]
        server.tokens.clear()
        server.answer(handler)

    server.scripts["PATCH /v2/app/blobs/uploads/session3"] = expire
    source = Bytes(LARGE)

    assert repository(server, auth=ME).upload_blob(source).digest == digest_of(LARGE)
    assert source.opened == [0, 0]


def test_a_manifest_is_written_as_it_is(server):
    raw = json.dumps({"schemaVersion": 2}).encode()
    target = repository(server)

    assert target.put_manifest("1", raw, MANIFEST) == digest_of(raw)
    assert target.manifest("1") == (raw, MANIFEST)
    assert target.resolve("1").digest == digest_of(raw)
    with pytest.raises(InvalidInput, match="its digest is"):
        target.put_manifest(digest_of(b""), raw, MANIFEST)


def test_who_may_not_push_is_told_so(server):
    server.asks = "token"
    server.anonymous = True
    server.scripts["POST /v2/app/blobs/uploads/"] = lambda handler: server._refuse(
        handler, 403, "DENIED", "requested access to the resource is denied"
    )

    with pytest.raises(
        NotPermitted, match=r"push access denied for .*/app: denied: requested access to the resource is"
    ):
        repository(server).upload_blob(Bytes(SMALL))
