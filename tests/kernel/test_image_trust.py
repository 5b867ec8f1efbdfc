"""TLS to registries: certs.d, client certificates, insecure ones; the certificates are made by openssl."""

import os
import shutil

import pytest

from sampan.errors import Failed, InvalidInput, NotPermitted
from sampan.spec.distribution import AuthConfig
from sampan.spec.reference import Reference
from sampan.spec.settings import Registries, Registry
from support.certificates import Authority
from support.connect_proxy import ConnectProxy
from support.fake_registry import MANIFEST, FakeRegistry, digest_of
from support.repositories import Repository

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")

RAW = b'{"schemaVersion":2}'
HERE = ("IP:127.0.0.1", "DNS:localhost")
OUTSIDE = "registry.test"  # a name that is none of the loopback's; `outside` has it resolved to there


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def serve():
    running = []

    def start(tls=None):
        server = FakeRegistry(tls)
        server.put("app", "manifests", MANIFEST, RAW, "1")
        running.append(server)
        return server

    yield start
    for server in running:
        server.end()


@pytest.fixture
def outside(monkeypatch):
    """Have names under .test lead to the loopback, so that they are treated as other machines."""
    import socket

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest: real("127.0.0.1" if str(host).endswith(".test") else host, *rest)
    )
    return lambda server: f"{OUTSIDE}:{server.address.rpartition(':')[2]}"


def repository(address, certificates=(), auth=None, **options):
    known = {address: Registry(**options)} if options else {}
    registries = Registries(known=known, certificates=tuple(map(str, certificates)), tries=1, timeout_s=5)
    return Repository(Reference.parse(f"{address}/app"), auth or AuthConfig(), registries=registries)


def trusting(tmp_path, address, *files):
    """Make certs.d for an address; `files` are (name, source)."""
    directory = tmp_path / "certs.d" / address
    directory.mkdir(parents=True)
    for name, source in files:
        shutil.copy(source, directory / name)
    return [tmp_path / "certs.d"]


def test_an_authority_in_certs_d_is_trusted(serve, authority, outside, tmp_path):
    address = outside(serve(authority.server(f"DNS:{OUTSIDE}")))

    with pytest.raises(Failed) as caught:
        repository(address).manifest("1")
    assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in caught.value.message
    assert f"/etc/sampan/certs.d/{address}/ca.crt" in caught.value.hint
    trusted = trusting(tmp_path, address, ("ca.crt", authority.certificate))
    assert repository(address, trusted).manifest("1")[0] == RAW


def test_a_certificate_for_another_name_is_refused(serve, authority, outside, tmp_path):
    address = outside(serve(authority.server("DNS:other.test")))

    with pytest.raises(Failed, match=r"x509: .*[Hh]ostname mismatch"):
        repository(address, trusting(tmp_path, address, ("ca.crt", authority.certificate))).manifest("1")


def test_only_an_insecure_registry_may_show_any_certificate(serve, stranger, outside):
    address = outside(serve(stranger.server("DNS:other.test")))

    assert repository(address, insecure=True).manifest("1")[0] == RAW


def test_only_an_insecure_registry_may_speak_plain_http(serve, outside):
    server = serve()
    address = outside(server)

    with pytest.raises(Failed, match="http: server gave HTTP response to HTTPS client") as caught:
        repository(address).manifest("1")
    assert f'write insecure = true below [registries."{address}"]' in caught.value.hint
    assert server.requests == []
    assert repository(address, insecure=True).manifest("1")[0] == RAW


def test_on_the_loopback_tls_is_spoken_where_it_answers(serve, stranger):
    assert repository(serve(stranger.server(*HERE)).address).manifest("1")[0] == RAW


def test_on_the_loopback_certs_d_means_tls_and_is_kept_to(serve, authority, stranger, tmp_path):
    plain, strange, right = serve(), serve(stranger.server(*HERE)), serve(authority.server(*HERE))
    for server in (plain, strange, right):
        trusted = trusting(tmp_path, server.address, ("ca.crt", authority.certificate))

    with pytest.raises(Failed, match="server gave HTTP response to HTTPS client"):
        repository(plain.address, trusted).manifest("1")
    with pytest.raises(Failed, match="certificate signed by unknown authority"):
        repository(strange.address, trusted).manifest("1")
    assert repository(right.address, trusted).manifest("1")[0] == RAW


def test_a_client_certificate_is_shown(serve, authority, stranger, tmp_path):
    server = serve(authority.server(*HERE, clients_of=stranger))
    certificate, key = stranger.issue("client")

    with pytest.raises(Failed, match=r"tls: .*certificate required|connection broken|reset|eof") as caught:
        repository(server.address).manifest("1")
    if "certificate required" in caught.value.message:  # the reset may come first
        assert caught.value.hint.endswith(f"put it into /etc/sampan/certs.d/{server.address}/client.cert, .key")
    trusted = trusting(
        tmp_path, server.address, ("ca.crt", authority.certificate), ("me.cert", certificate), ("me.key", key)
    )
    assert repository(server.address, trusted).manifest("1")[0] == RAW


@pytest.mark.parametrize(
    ("name", "missing"), [("me.cert", "missing key me.key"), ("me.key", "missing client certificate")]
)
def test_half_a_client_certificate_is_named(serve, authority, tmp_path, name, missing):
    server = serve(authority.server(*HERE))

    with pytest.raises(InvalidInput, match=missing):
        repository(server.address, trusting(tmp_path, server.address, (name, authority.certificate))).manifest("1")


def test_what_is_no_certificate_is_named(serve, authority, tmp_path):
    server = serve(authority.server(*HERE))
    (tmp_path / "junk").write_text("junk")

    with pytest.raises(Failed, match=r"can't use certificate .*/ca\.crt"):
        repository(server.address, trusting(tmp_path, server.address, ("ca.crt", tmp_path / "junk"))).manifest("1")


def test_the_token_servers_certificate_may_be_of_the_registrys_authority(serve, authority, outside, tmp_path):
    tokens, server = serve(authority.server("DNS:tokens.test")), serve(authority.server(f"DNS:{OUTSIDE}"))
    server.asks = tokens.asks = "token"
    server.tokens = tokens.tokens
    server.realm = f"https://tokens.test:{tokens.address.rpartition(':')[2]}/token"
    address = outside(server)
    trusted = trusting(tmp_path, address, ("ca.crt", authority.certificate))

    assert repository(address, trusted, AuthConfig(username="me", password="secret")).manifest("1")[0] == RAW


def test_an_insecure_registrys_token_server_is_not_insecure_itself(serve, stranger, outside):
    tokens, server = serve(stranger.server("DNS:tokens.test")), serve()
    server.asks = tokens.asks = "token"
    server.realm = f"https://tokens.test:{tokens.address.rpartition(':')[2]}/token"

    with pytest.raises(Failed, match="certificate signed by unknown authority"):
        repository(outside(server), auth=AuthConfig(username="me", password="secret"), insecure=True).manifest("1")
    assert tokens.requests == []


@pytest.mark.parametrize("host", ["tokens.test", OUTSIDE])
def test_a_password_goes_in_plain_http_to_an_insecure_host_only(serve, outside, host):
    server = serve()
    server.asks = "token"
    server.realm = f"http://{host}:{server.address.rpartition(':')[2]}/token"
    target = repository(outside(server), auth=AuthConfig(username="me", password="secret"), insecure=True)

    if host == OUTSIDE:
        assert target.manifest("1")[0] == RAW
    else:
        with pytest.raises(Failed, match="names an unsafe token server"):
            target.manifest("1")
        assert server.asked_for == []


def test_a_client_certificate_is_not_shown_to_others(serve, authority, stranger, outside, tmp_path):
    elsewhere, server = (
        serve(authority.server("DNS:elsewhere.test", clients_of=stranger)),
        serve(authority.server(f"DNS:{OUTSIDE}")),
    )
    server.redirect_to = f"https://elsewhere.test:{elsewhere.address.rpartition(':')[2]}"
    server.put("app", "blobs", "x", RAW)
    address = outside(server)
    certificate, key = stranger.issue("client")
    trusted = trusting(tmp_path, address, ("ca.crt", authority.certificate), ("me.cert", certificate), ("me.key", key))

    with pytest.raises(Failed, match="can't reach registry"):
        repository(address, trusted).has_blob(digest_of(RAW))
    assert elsewhere.requests == []


def test_a_key_that_wants_a_password_asks_nobody(serve, authority, tmp_path):
    server = serve(authority.server(*HERE))
    certificate, key = authority.issue("locked")
    os.system(f"openssl ec -in {key} -aes128 -passout pass:secret -out {tmp_path}/locked.key 2>/dev/null")
    trusted = trusting(tmp_path, server.address, ("me.cert", certificate), ("me.key", tmp_path / "locked.key"))

    with pytest.raises((Failed, NotPermitted), match="can't use client certificate"):
        repository(server.address, trusted).manifest("1")


def test_a_proxy_leads_to_a_registry_that_is_verified_all_the_same(serve, authority, stranger, tmp_path, monkeypatch):
    server = serve(authority.server(f"DNS:{OUTSIDE}"))  # a name that only the proxy can resolve
    proxy = ConnectProxy(server.address)
    monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.address}")
    try:
        with pytest.raises(Failed, match="certificate signed by unknown authority"):
            repository(OUTSIDE).manifest("1")
        trusted = trusting(tmp_path, OUTSIDE, ("ca.crt", authority.certificate))

        assert repository(OUTSIDE, trusted).manifest("1")[0] == RAW
        assert proxy.asked[-1].startswith(f"CONNECT {OUTSIDE}:443 HTTP/1")
        assert "proxy-authorization: basic bwu6c2vjcmv0" in proxy.asked[-1].lower()
        assert "secret" not in str(server.requests)
    finally:
        proxy.end()
