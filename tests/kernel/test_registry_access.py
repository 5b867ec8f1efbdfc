"""Passwords, TLS, what is said when a registry can't start, and how it ends."""

import base64
import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sampan.spec.distribution import AuthConfig
from sampan.spec.reference import Reference
from support.own_registry import Answer, OwnRegistry, digest_of, fails, serving, wait_for_log
from support.repositories import Repository
from support.sampan import PROGRAM, wait_until


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


ALICE = basic("alice", "secret")


def write_htpasswd(path: Path, *logins: str) -> Path:
    """Write the file as apache2's own program does."""
    path.write_text("")
    for login in logins:
        user, _, password = login.partition(":")
        subprocess.run(["htpasswd", "-Bb", "-C", "5", path, user, password], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    base = tmp_path_factory.mktemp("guarded")
    write_htpasswd(base / "htpasswd", "alice:secret", "böb:ünïcode", "long:" + "x" * 100)
    with serving(base / "data", base / "log", "--htpasswd", str(base / "htpasswd")) as registry:
        yield registry


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("nobody", "secret"),
        basic("", ""),
        basic("alice", "sec\0ret"),
        "Basic",
        "Basic !!!",
        "Basic " + "QQ" * 5000,
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Bearer abc",
    ],
)
@pytest.mark.parametrize("path", ["/v2/", "/v2/a/tags/list", "/v2/_catalog", "/no/such/path"])
def test_who_is_not_known_is_asked_who_it_is(guarded: OwnRegistry, path: str, authorization: str) -> None:
    answer = guarded.ask("GET", path, **({"Authorization": authorization} if authorization else {}))

    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    assert answer.headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(("user", "password"), [("alice", "secret"), ("böb", "ünïcode"), ("long", "x" * 100)])
def test_who_is_known_comes_in(guarded: OwnRegistry, user: str, password: str) -> None:
    assert guarded.ask("GET", "/v2/", Authorization=basic(user, password)).status == 200


def test_users_change_while_it_runs(tmp_path: Path) -> None:
    file = write_htpasswd(tmp_path / "htpasswd", "alice:secret")

    with serving(tmp_path / "data", tmp_path / "log", "--htpasswd", str(file)) as registry:
        assert registry.ask("GET", "/v2/", Authorization=ALICE).status == 200
        write_htpasswd(tmp_path / "new", "alice:changed", "carol:x").rename(file)
        assert registry.ask("GET", "/v2/", Authorization=ALICE).status == 401
        assert registry.ask("GET", "/v2/", Authorization=basic("carol", "x")).status == 200
        file.write_text("nonsense\n")
        assert registry.ask("GET", "/v2/", Authorization=basic("carol", "x")).status == 200
        assert "of no use" in registry.log()


def test_a_password_is_checked_slowly_once_only(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    subprocess.run(["htpasswd", "-cBb", "-C", "11", file, "alice", "secret"], check=True, capture_output=True)

    with serving(tmp_path / "data", tmp_path / "log", "--htpasswd", str(file)) as registry:

        def cpu_of(asks: int) -> float:
            before = cpu_seconds(registry.process.pid)
            for _ in range(asks):
                assert registry.ask("GET", "/v2/", Authorization=ALICE).status == 200
            return cpu_seconds(registry.process.pid) - before

        assert cpu_of(20) < 5 * cpu_of_a_wrong_login(registry)


def cpu_of_a_wrong_login(registry: OwnRegistry) -> float:
    before = cpu_seconds(registry.process.pid)
    assert registry.ask("GET", "/v2/", Authorization=basic("alice", "wrong")).status == 401
    return cpu_seconds(registry.process.pid) - before


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------------------------------------------- anonymous pull


@pytest.fixture(scope="module")
def half_open(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    base = tmp_path_factory.mktemp("half-open")
    file = write_htpasswd(base / "htpasswd", "alice:secret")
    with serving(base / "data", base / "log", "--htpasswd", str(file), "--anonymous-pull") as registry:
        yield registry


def token(registry: OwnRegistry, authorization: str = "") -> Answer:
    return registry.ask("GET", "/v2/token?service=x", **({"Authorization": authorization} if authorization else {}))


def test_everybody_pulls_and_only_users_push(half_open: OwnRegistry) -> None:
    upload = "/v2/a/blobs/uploads/"

    assert half_open.ask("GET", "/v2/_catalog").status == 200
    assert half_open.ask("HEAD", f"/v2/a/blobs/{digest_of(b'')}").status == 404
    refused = half_open.ask("POST", upload)
    assert refused.status == 401
    assert 'scope="repository:a:pull,push"' in refused.headers["www-authenticate"]
    assert half_open.ask("POST", upload, Authorization=ALICE).status == 202
    assert half_open.ask("POST", upload, Authorization=basic("alice", "x")).status == 401
    assert half_open.ask("GET", "/v2/_catalog", Authorization=basic("alice", "x")).status == 401


def test_a_token_is_had_with_a_password_or_without(half_open: OwnRegistry) -> None:
    challenge = half_open.ask("GET", "/v2/")
    assert challenge.status == 401
    assert challenge.headers["www-authenticate"].startswith(f'Bearer realm="http://{half_open.address}/v2/token"')

    nobody = "Bearer " + token(half_open).json()["token"]
    alice = "Bearer " + token(half_open, ALICE).json()["token"]

    assert token(half_open, basic("alice", "wrong")).status == 401
    for bearer, push in ((nobody, 401), (alice, 202)):
        assert half_open.ask("GET", "/v2/", Authorization=bearer).status == 200
        assert half_open.ask("GET", "/v2/_catalog", Authorization=bearer).status == 200
        assert half_open.ask("POST", "/v2/a/blobs/uploads/", Authorization=bearer).status == push


@pytest.mark.parametrize(
    "change", [lambda t: t[:-8], lambda t: "A" * len(t), lambda t: "\xfc", lambda t: "", lambda t: "="]
)
def test_a_token_that_was_tampered_with_is_none(half_open: OwnRegistry, change: Any) -> None:
    changed = change(token(half_open, ALICE).json()["token"])

    assert half_open.ask("GET", "/v2/_catalog", Authorization=f"Bearer {changed}").status == 401


def test_a_challenge_says_nothing_that_the_client_made_up(half_open: OwnRegistry) -> None:
    answer = half_open.ask("GET", "/v2/", Host='x",evil="y')

    assert answer.status == 400
    assert "www-authenticate" not in answer.headers


# ---------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An authority, a server's certificate and a client's."""
    base = tmp_path_factory.mktemp("pki")

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=base)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
    for name in ("server", "client"):
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip  # noqa: E501
        (base / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext", "-out", f"{name}.crt")  # fmt: skip  # noqa: E501
    run("rsa", "-aes128", "-passout", "pass:x1234", "-in", "server.key", "-out", "locked.key")
    return SimpleNamespace(
        base=base, ca=f"{base}/ca.crt", cert=f"{base}/server.crt", key=f"{base}/server.key",
        client_cert=f"{base}/client.crt", client_key=f"{base}/client.key", locked=f"{base}/locked.key",
    )  # fmt: skip


def ask_tls(registry: OwnRegistry, ca: str, method: str, path: str, body: bytes | None = None, **chain: str) -> Answer:
    context = ssl.create_default_context(cafile=ca)
    if chain:
        context.load_cert_chain(chain["cert"], chain["key"])
    connection = http.client.HTTPSConnection("127.0.0.1", registry.port, timeout=30, context=context)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def test_it_serves_over_tls(tmp_path: Path, pki: SimpleNamespace) -> None:
    data = os.urandom(3_000_000)

    with serving(tmp_path / "data", tmp_path / "log", "--tls-cert", pki.cert, "--tls-key", pki.key) as registry:
        assert registry.said.split(" at ")[1].startswith("https://127.0.0.1:")
        pushed = ask_tls(registry, pki.ca, "POST", f"/v2/a/blobs/uploads/?digest={digest_of(data)}", data)
        pulled = ask_tls(registry, pki.ca, "GET", pushed.headers["location"])
        assert (pushed.status, pulled.status, pulled.body) == (201, 200, data)
        with registry.connect() as client:
            client.sendall(b"GET /v2/ HTTP/1.1\r\n")
            assert b"to an HTTPS server" in client.recv(4096)


def test_our_client_that_tries_plain_http_on_the_loopback_comes_to_tls(tmp_path: Path, pki: SimpleNamespace) -> None:
    """And its connection, which stays open, does not keep the registry from ending."""
    with serving(tmp_path / "data", tmp_path / "log", "--tls-cert", pki.cert, "--tls-key", pki.key) as registry:
        pushed = ask_tls(registry, pki.ca, "POST", f"/v2/a/blobs/uploads/?digest={digest_of(b'1')}", b"1")

        assert pushed.status == 201
        repository = Repository(Reference.parse(f"{registry.address}/a"), AuthConfig())
        assert repository.has_blob(digest_of(b"1")) == 1


def test_only_clients_with_a_certificate_come_in_where_that_is_asked(tmp_path: Path, pki: SimpleNamespace) -> None:
    options = ("--tls-cert", pki.cert, "--tls-key", pki.key, "--client-ca", pki.ca)

    with serving(tmp_path / "data", tmp_path / "log", *options) as registry:
        assert ask_tls(registry, pki.ca, "GET", "/v2/", cert=pki.client_cert, key=pki.client_key).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask_tls(registry, pki.ca, "GET", "/v2/")
        wait_for_log(registry, "TLS handshake failed")


def test_a_new_certificate_is_taken_without_a_restart(tmp_path: Path, pki: SimpleNamespace) -> None:
    cert, key = tmp_path / "crt", tmp_path / "key"
    cert.write_bytes(Path(pki.client_cert).read_bytes())
    key.write_bytes(Path(pki.client_key).read_bytes())

    with serving(tmp_path / "data", tmp_path / "log", "--tls-cert", str(cert), "--tls-key", str(key)) as registry:
        first = ssl.get_server_certificate(("127.0.0.1", registry.port))
        cert.write_bytes(b"nonsense")
        assert ssl.get_server_certificate(("127.0.0.1", registry.port)) == first
        key.write_bytes(Path(pki.key).read_bytes())
        cert.write_bytes(Path(pki.cert).read_bytes())
        assert ssl.get_server_certificate(("127.0.0.1", registry.port)) != first


# ---------------------------------------------------------------------------------------------------- start and end


def test_a_registry_that_can_t_start_says_why(tmp_path: Path, pki: SimpleNamespace) -> None:
    data = str(tmp_path / "data")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/something").touch()
    (tmp_path / "file").touch()
    (tmp_path / "md5").write_text("alice:$apr1$abc$def\n")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = fails("serve", data, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert "can't listen on 127.0.0.1:" in said
        assert "address already in use" in said
        assert not (tmp_path / "data").exists()
    for words, message in (
        ((data, "--listen", "5000"), "it reads HOST:PORT"),
        ((data, "--listen", "no.such.host.invalid:5000"), "no address of this machine"),
        ((data, "--listen", "192.0.2.1:5000"), "cannot assign requested address"),
        ((str(tmp_path / "full"),), "not empty"),
        ((str(tmp_path / "file"),), "file"),
        ((str(tmp_path / "none"), "--read-only"), "there is no registry in it"),
        ((data, "--name", "x"), "no OCI layout"),
        ((data, "--tls-cert", pki.cert), "belong together"),
        ((data, "--client-ca", pki.ca), "only beside --tls-cert"),
        ((data, "--tls-cert", pki.cert, "--tls-key", pki.client_key), "does not belong to the certificate"),
        ((data, "--tls-cert", pki.cert, "--tls-key", pki.locked), "passphrase"),
        ((data, "--tls-cert", str(tmp_path / "md5"), "--tls-key", pki.key), "can't use"),
        ((data, "--tls-cert", "/no/such", "--tls-key", pki.key), "no such file or directory: /no/such"),
        ((data, "--tls-cert", pki.cert, "--tls-key", pki.key, "--client-ca", str(tmp_path / "md5")), "can't use"),
        ((data, "--htpasswd", "/no/such"), "no such file or directory: /no/such"),
        ((data, "--htpasswd", str(tmp_path / "md5")), "not bcrypt's"),
        ((data, "--max-connections", "0"), "must be 1 or more"),
        ((data, "--max-connections", "1000000"), "they need 3000050 open files"),
        ((data, "--anonymous-pull"), "only beside --htpasswd"),
    ):
        assert message in fails("serve", "--listen", "127.0.0.1:0", *words)


def test_a_directory_is_served_for_writing_by_one_only(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log") as registry:
        assert "another registry serves it" in fails("serve", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
        assert "it reads HOST:PORT" in fails("serve", str(tmp_path / "data"), "--listen", "5000")
        registry.push_image("a", "v1", b"x")
        with serving(tmp_path / "data", tmp_path / "log2", "--read-only") as second:
            assert second.ask("GET", "/v2/a/manifests/v1").status == 200


def test_without_bcrypt_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "bcrypt.py").write_text("raise ImportError\n")
    file = write_htpasswd(tmp_path / "htpasswd", "alice:x")

    done = subprocess.run(
        [PROGRAM, "registry", "serve", str(tmp_path / "data"), "--htpasswd", str(file)],
        capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip

    assert done.returncode == 125
    assert "pip install 'sampan[registry]'" in done.stderr


def test_the_default_directory_is_the_instance_s(tmp_path: Path) -> None:
    with serving(None, tmp_path / "log", env={"SAMPAN_ROOT": str(tmp_path / "root")}) as registry:
        registry.push_image("a", "v1", b"x")

    assert (tmp_path / "root/registry/registry.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_has_begun_is_finished_when_it_is_told_to_end(tmp_path: Path, number: int) -> None:
    registry = OwnRegistry(tmp_path / "data", tmp_path / "log")
    data = os.urandom(100_000)
    with registry.connect() as client:
        path = f"/v2/a/blobs/uploads/?digest={digest_of(data)}"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data[:1000])
        wait_until(lambda: list((tmp_path / "data/uploads").iterdir()), what="the upload has begun")

        registry.process.send_signal(number)
        wait_for_log(registry, "finishing 1 request")
        with pytest.raises(ConnectionRefusedError):
            registry.connect().close()
        client.sendall(data[1000:])
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"Connection: close" in answer
        assert client.recv(65536) == b""
    registry.process.wait(30)
    registry.end()


def test_a_download_is_finished_when_it_is_told_to_end(tmp_path: Path) -> None:
    registry = OwnRegistry(tmp_path / "data", tmp_path / "log")
    data = os.urandom(30_000_000)
    digest = registry.push_blob("a", data)["digest"]
    with registry.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # else it may grow to hold all of it: tcp(7)
        client.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = client.recv(1000)
        registry.process.send_signal(signal.SIGTERM)
        wait_for_log(registry, "finishing ")  # it may count the upload, whose thread is not done yet

        while piece := client.recv(1 << 20):
            received += piece
    assert received.endswith(data)
    registry.process.wait(30)
    registry.end()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    registry = OwnRegistry(tmp_path / "data", tmp_path / "log")
    with registry.connect() as client:
        path = f"/v2/a/blobs/uploads/?digest={digest_of(b'')}"
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
        wait_until(lambda: list((tmp_path / "data/uploads").iterdir()), what="the upload has begun")
        registry.process.send_signal(signal.SIGTERM)
        wait_for_log(registry, "finishing 1 request")
        registry.process.send_signal(signal.SIGTERM)
        assert registry.process.wait(30) == 128 + signal.SIGTERM
    assert registry.process.stdout
    registry.process.stdout.close()


def test_a_quiet_registry_writes_no_line_for_a_request(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log", "--quiet") as registry:
        registry.ask("GET", "/v2/")

        assert registry.log() == ""


def test_a_line_of_the_log_says_who_asked_what_and_what_came_of_it(tmp_path: Path) -> None:
    file = write_htpasswd(tmp_path / "htpasswd", "alice:secret")

    with serving(tmp_path / "data", tmp_path / "log", "--htpasswd", str(file)) as registry:
        registry.ask("GET", "/v2/?x=1", Authorization=ALICE, User_Agent='evil"\x1b[31m')
        wait_for_log(registry, "evil")

        assert ' 127.0.0.1 "alice" "GET /v2/?x=1" 200 2 0.' in registry.log()
        assert registry.log().endswith('s "evil\\x22\\x1b[31m"\n')
        assert "secret" not in registry.log()


def test_an_idle_connection_makes_room_when_there_are_too_many(tmp_path: Path) -> None:
    options = ("--max-connections", "3")
    with serving(tmp_path / "data", tmp_path / "log", *options) as registry, ExitStack() as clients:
        idle = [clients.enter_context(registry.connect()) for _ in range(3)]
        for client in idle:
            client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")

        wait_until(registry.has_room)
        ended, _, _ = select.select(idle, [], [], 10)
        assert [client.recv(10) for client in ended] == [b""]


def test_it_serves_many_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log") as registry:
        blobs = [os.urandom(200_000) for _ in range(12)]
        threads = [threading.Thread(target=registry.push_image, args=(f"r{i % 3}", f"v{i}", blob)) for i, blob in enumerate(blobs)]  # fmt: skip  # noqa: E501
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        for i, blob in enumerate(blobs):
            assert registry.ask("GET", f"/v2/r{i % 3}/blobs/{digest_of(blob)}").body == blob
