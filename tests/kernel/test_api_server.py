"""The API as any client of Docker's meets it: raw HTTP at a running instance, also hostile."""

import base64
import hashlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http import server as http_server
from pathlib import Path

import pytest

from sampan.client.wire import Connection, quote
from support.registry import Registry
from support.sampan import Sampan, wait_until

JSON = b"Content-Type: application/json\r\n"
BIND_OF_NONE = {"type": "none", "o": "bind", "device": "/none"}


@pytest.fixture
def http(sampan: Sampan) -> Iterator[Connection]:
    sampan("ps")  # starts the server
    connection = Connection(str(sampan.socket), "a-test/1")
    yield connection
    connection.close()


def raw(sampan: Sampan, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes and return all that comes back until the server closes or has nothing to say for a while."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sampan.socket))
        client.settimeout(20)
        answer = b""
        try:
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
        return answer


def create(http: Connection, *command: str, **fields: object) -> str:
    body = {"Image": "busybox", "Cmd": list(command), **fields}
    answer = http.request("POST", "/v1.50/containers/create", json.dumps(body).encode())
    return answer.check().json()["Id"]


def message(answer: object) -> str:
    return answer.json()["message"]


def threads(pid: int) -> set[str]:
    return set(os.listdir(f"/proc/{pid}/task"))


# -------------------------------------------------------------------------------------------- negotiation


def test_ping_tells_the_version_to_speak(http: Connection) -> None:
    for method in ("GET", "HEAD"):
        answer = http.request(method, "/_ping")

        assert answer.status == 200
        assert answer.headers["api-version"] == "1.50"
        assert answer.headers["ostype"] == "linux"
        assert answer.headers["docker-experimental"] == "false"
        assert answer.headers["server"].startswith("Sampan/")
        assert answer.read() == (b"OK" if method == "GET" else b"")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1.20/version", 400, "client version 1.20 is too old. Minimum supported API version is 1.24"),
        ("/v1.99/version", 400, "client version 1.99 is too new. Maximum supported API version is 1.50"),
        ("/v1.24/nope", 404, "page not found"),
        ("/containers", 404, "page not found"),
        ("/v1.50/containers/none/json", 404, "No such container: none"),
        ("/v1.50/exec/none/json", 404, "No such exec instance: none"),
        ("/v1.50/images/none/json", 404, "No such image: none"),
        ("/v1.50/networks/none-such", 404, "network none-such not found"),
        ("/v1.50/images/search", 501, "unsupported"),
        ("/v1.50/containers/json?limit=x", 400, "limit"),
        ("/v1.50/containers/json?filters=x", 400, "invalid filter"),
        ("/v1.50/containers/json?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D", 400, "invalid filter"),
        ("/v1.50/events?since=x", 400, "since"),
        (f"/v1.50/images/{quote('../../etc/passwd')}/json", 400, "invalid name"),
        ("/v1.50/images/%00/json", 400, "invalid name"),
    ],
)
def test_an_error_is_dockers_json(http: Connection, path: str, status: int, said: str) -> None:
    answer = http.request("GET", path)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert said in message(answer)


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"", "application/json", "config cannot be empty"),
        (b"{}", "application/json", "config cannot be empty"),
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"{", "application/json", "invalid JSON"),
        (b"[]", "application/json", "invalid JSON"),
        (b'{"Image":1}', "application/json", "$.Image"),
        (b'{"Image":"busybox","HostConfig":{"Memory":"1g"}}', "application/json", "$.HostConfig.Memory"),
        (b"[" * 200_000, "application/json", "invalid JSON"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_its_place(
    http: Connection, body: bytes, content_type: str, said: str
) -> None:
    answer = http.request("POST", "/v1.50/containers/create", body, {"Content-Type": content_type})

    assert answer.status == 400
    assert said in message(answer)


def test_an_unknown_field_is_not_ignored(http: Connection) -> None:
    answer = http.request("POST", "/v1.50/containers/create", b'{"Image":"busybox","HostConfig":{"Gpus":"all"}}')

    assert answer.status == 501
    assert "HostConfig.Gpus" in message(answer)


# -------------------------------------------------------------------------------------------- a container's life


def test_a_container_lives_over_one_connection(http: Connection) -> None:
    id = create(http, "sh", "-c", "echo out; exit 3")

    assert http.request("POST", f"/v1.50/containers/{id}/start").status == 204
    assert http.request("POST", f"/v1.50/containers/{id}/wait").json() == {"StatusCode": 3}
    logs = http.request("GET", f"/v1.50/containers/{id}/logs?stdout=1&stderr=1")
    assert logs.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    assert logs.read() == struct.pack(">BxxxL", 1, 4) + b"out\n"
    older = http.request("GET", f"/v1.41/containers/{id}/logs?stdout=1&stderr=1")
    assert older.headers["content-type"] == "application/vnd.docker.raw-stream"
    older.read()
    assert http.request("DELETE", f"/v1.50/containers/{id}").status == 204
    assert http.request("GET", f"/v1.50/containers/{id}/json").status == 404


def test_starting_what_runs_and_stopping_what_does_not_is_304(http: Connection) -> None:
    id = create(http, "sleep", "100")

    statuses = [
        http.request("POST", f"/v1.50/containers/{id}/{verb}").status
        for verb in ("stop", "start", "start", "stop?t=0", "stop")
    ]

    assert statuses == [304, 204, 304, 204, 304]


def test_waiting_answers_its_head_at_once(http: Connection, sampan: Sampan) -> None:
    id = create(http, "sleep", "0.3")
    waiting = Connection(str(sampan.socket), "a-test/1")

    answer = waiting.request("POST", f"/v1.50/containers/{id}/wait?condition=next-exit")
    assert answer.status == 200  # here it is, and the container has not been started yet
    http.request("POST", f"/v1.50/containers/{id}/start").check()
    assert answer.json() == {"StatusCode": 0}
    waiting.close()


def test_waiting_for_what_can_not_be_is_refused(http: Connection) -> None:
    id = create(http, "true")

    assert message(http.request("POST", f"/v1.50/containers/{id}/wait?condition=foo")) == 'invalid condition: "foo"'
    assert http.request("POST", "/v1.50/containers/none/wait").status == 404


@pytest.mark.parametrize("upgrade", [True, False])
def test_an_execs_input_may_come_with_its_request(http: Connection, sampan: Sampan, upgrade: bool) -> None:
    id = create(http, "sleep", "100")
    http.request("POST", f"/v1.50/containers/{id}/start").check()
    body = b'{"AttachStdin":true,"AttachStdout":true,"Cmd":["cat"]}'
    exec_id = http.request("POST", f"/v1.50/containers/{id}/exec", body).check().json()["Id"]
    wanted = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
    head = f"POST /v1.50/exec/{exec_id}/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n".encode()

    answer = raw(sampan, head + JSON + wanted + b"\r\n{}hello\n", half_close=True)

    assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n" if upgrade else b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + struct.pack(">BxxxL", 1, 6) + b"hello\n")
    told = http.request("GET", f"/v1.50/exec/{exec_id}/json").json()
    assert (told["Running"], told["ExitCode"], told["ProcessConfig"]["entrypoint"]) == (False, 0, "cat")


def test_events_are_sent_as_they_happen(http: Connection, sampan: Sampan) -> None:
    watching = Connection(str(sampan.socket), "a-test/1")
    stream = watching.request("GET", f"/v1.50/events?filters={quote(json.dumps({'type': ['container']}))}")
    lines = stream.lines()

    id = create(http, "true")
    event = json.loads(next(lines))
    watching.close()

    assert (event["Type"], event["Action"], event["Actor"]["ID"]) == ("container", "create", id)
    assert (event["status"], event["id"], event["from"]) == ("create", id, "busybox")


@pytest.mark.parametrize(
    "host",
    [
        {"VolumesFrom": ["none"]},
        {"PidMode": "container:none"},
        {"Mounts": [{"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Options": BIND_OF_NONE}}}]},
    ],
)
def test_404_at_a_create_is_of_the_image_alone_because_docker_clients_pull_then(http: Connection, host: dict) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host}

    assert http.request("POST", "/v1.50/containers/create", json.dumps(body).encode()).status == 400


def test_two_forms_of_filters_mean_the_same(http: Connection) -> None:
    id = create(http, "true", Labels={"a": "b"})

    for form in ({"label": ["a=b"]}, {"label": {"a=b": True}}):
        found = http.request("GET", f"/v1.24/containers/json?all=1&filters={quote(json.dumps(form))}").json()
        assert [container["Id"] for container in found] == [id]


# -------------------------------------------------------------------------------------------- an archive


def test_a_tar_is_imported_from_a_body_of_any_framing(http: Connection, busybox_tar: Path) -> None:
    data = busybox_tar.read_bytes()

    for body in (data, iter([data[:5], data[5:100_000], data[100_000:]])):
        answer = http.request(
            "POST", "/v1.50/images/create?fromSrc=-&repo=other&tag=v1", body, {"Content-Type": "application/x-tar"}
        )
        last = json.loads(list(answer.lines())[-1])
        assert last["status"].startswith("sha256:")
    assert http.request("DELETE", "/v1.50/images/other:v1").status == 200


def test_an_archive_cut_short_leaves_nothing(http: Connection, sampan: Sampan, busybox_tar: Path) -> None:
    data = busybox_tar.read_bytes()
    head = b"POST /v1.50/images/create?fromSrc=-&repo=short HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(
        data
    )

    raw(sampan, head + b"%d\r\n\r\n" % len(data) + data[: len(data) // 2], half_close=True)

    assert http.request("GET", "/v1.50/images/short/json").status == 404
    wait_until(lambda: not list((sampan.root / "tmp").iterdir()))


# -------------------------------------------------------------------------------------------- registries


class _Guarded(http_server.BaseHTTPRequestHandler):
    """A registry that lets `me` with the password `secret` in."""

    def do_GET(self) -> None:
        right = self.headers["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
        self.send_response(200 if right else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("user", "password", "status", "said"),
    [
        ("me", "secret", 200, "Login Succeeded"),
        ("me", "wrong", 401, "failed with status: 401 Unauthorized"),
        ("", "", 400, "no user name"),
    ],
)
def test_credentials_are_checked_at_their_registry(
    http: Connection, user: str, password: str, status: int, said: str
) -> None:
    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as registry:
        threading.Thread(target=registry.serve_forever, daemon=True).start()
        given = {"username": user, "password": password, "serveraddress": f"127.0.0.1:{registry.server_port}"}

        answer = http.request("POST", "/v1.50/auth", json.dumps(given).encode())
        registry.shutdown()

    assert answer.status == status
    assert said in answer.read().decode()


def archive_of_one_layer(path: Path) -> Path:
    """Write a docker-archive whose layer nobody has seen before."""

    def tarred(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    layer = tarred({"file": os.urandom(100_000)})
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {"architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = [{"Config": "config.json", "RepoTags": ["small:v1"], "Layers": ["layer.tar"]}]
    members = {"config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    path.write_bytes(tarred({"layer.tar": layer, **{name: text.encode() for name, text in members.items()}}))
    return path


def test_a_pull_answers_in_lines_of_progress(http: Connection, registry: Registry, tmp_path: Path) -> None:
    archive = archive_of_one_layer(tmp_path / "image.tar")
    name = registry.push(f"docker-archive:{archive}", "small:v1").removesuffix(":v1")

    answer = http.request("POST", f"/v1.50/images/create?fromImage={quote(name)}&tag=v1")
    lines = [json.loads(line) for line in answer.lines()]

    assert lines[0] == {"status": "Pulling from small", "id": "v1"}
    assert {"Pulling fs layer", "Downloading", "Pull complete"} <= {line["status"] for line in lines}
    assert lines[-1]["status"].startswith("Status: Downloaded newer image for")
    missing = http.request("POST", f"/v1.50/images/create?fromImage={quote(name)}&tag=none")
    assert "not found" in missing.read().decode()
    http.request("DELETE", f"/v1.50/images/{name}:v1").check().read()


# -------------------------------------------------------------------------------------------- upgrades


def test_a_newer_client_gets_a_new_server_and_containers_run_on(http: Connection, sampan: Sampan) -> None:
    id = create(http, "sleep", "100")
    http.request("POST", f"/v1.50/containers/{id}/start").check()
    pid = http.request("GET", f"/v1.50/containers/{id}/json").json()["State"]["Pid"]
    server = sampan.info("ServerPid")
    newer = Connection(str(sampan.socket), "sampan/99.1")

    state = newer.request("GET", f"/v1.50/containers/{id}/json").json()["State"]

    assert (state["Running"], state["Pid"]) == (True, pid)
    assert newer.request("GET", "/info").json()["ServerPid"] != server
    newer.close()


# -------------------------------------------------------------------------------------------- hostile clients


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /v1.50/containers/json?" + b"&".join(b"a=%d" % i for i in range(5000)) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff\xfe/../.. HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://169.254.169.254/containers/json HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 1000,
    ],
)
def test_a_hostile_request_is_refused_and_hurts_nobody(http: Connection, sampan: Sampan, data: bytes) -> None:
    answer = raw(sampan, data, half_close=True)

    assert b"Traceback" not in answer
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:300]
    assert http.request("GET", "/_ping").read() == b"OK"
    assert "Traceback" not in sampan.log()


def test_a_body_beyond_the_limit_is_refused(http: Connection, sampan: Sampan) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"Image":"'
        while True:
            yield b"x" * 65536

    answer = http.request("POST", "/v1.50/containers/create", endless(), {"Content-Type": "application/json"})

    assert answer.status == 413
    assert "Traceback" not in sampan.log()


@pytest.mark.parametrize("path", ["logs?stdout=1&follow=1", "wait", "events"])
def test_a_client_that_vanishes_frees_its_thread(http: Connection, sampan: Sampan, path: str) -> None:
    id = create(http, "sleep", "100")
    http.request("POST", f"/v1.50/containers/{id}/start").check()
    server = sampan.info("ServerPid")
    target = "/v1.50/events" if path == "events" else f"/v1.50/containers/{id}/{path}"
    waiting = [Connection(str(sampan.socket), "a-test/1") for _ in range(20)]

    for connection in waiting:
        connection.request("POST" if path == "wait" else "GET", target)
    serving = len(threads(server))
    for connection in waiting:
        connection.close()

    wait_until(lambda: len(threads(server)) <= serving - 10)  # eight wait for a next, two may have come to stay


def test_many_clients_at_once_are_all_answered(http: Connection, sampan: Sampan) -> None:
    answers: list[bytes] = []

    def ask() -> None:
        connection = Connection(str(sampan.socket), "a-test/1")
        answers.extend(connection.request("GET", "/v1.50/containers/json?all=1").read() for _ in range(20))
        connection.close()

    crowd = [threading.Thread(target=ask) for _ in range(30)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)

    assert answers == [b"[]\n"] * 600


def test_a_client_that_never_reads_or_never_sends_its_body_stops_nobody(http: Connection, sampan: Sampan) -> None:
    id = create(http, "sh", "-c", "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | head -c 3000000")
    http.request("POST", f"/v1.50/containers/{id}/start").check()
    http.request("POST", f"/v1.50/containers/{id}/wait").check().read()
    lazy = socket.socket(socket.AF_UNIX)
    lazy.connect(str(sampan.socket))
    lazy.sendall(f"GET /v1.50/containers/{id}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(sampan.socket))
    silent.sendall(f"POST /containers/{id}/attach?stream=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n".encode())

    time.sleep(0.3)
    assert http.request("DELETE", f"/v1.50/containers/{id}?force=1").status == 204
    assert http.request("GET", "/_ping").read() == b"OK"
    lazy.close()
    silent.close()


def test_a_user_without_the_right_gets_one_clear_error(sampan: Sampan) -> None:
    sampan("ps")
    script = (
        "import os, sys; from sampan.client.wire import Connection; os.setgid(65534); os.setuid(65534); "
        "Connection(sys.argv[1]).request('GET', '/_ping')"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, sampan.socket], capture_output=True, text=True, check=False, timeout=30
    )

    assert "NotPermitted: permission denied while trying to connect" in done.stderr


def test_a_start_is_explained_step_by_step(http: Connection) -> None:
    id = create(http, "true", HostConfig={"NetworkMode": "none"})

    plan = http.request("POST", f"/sampan/containers/{id}/explain").check().json()
    answer = http.request("POST", f"/sampan/containers/{id}/start?explain=1").check()
    steps = [json.loads(line) for line in answer.lines() if line.strip()]

    assert [step["sentence"] for step in steps] == [step["sentence"] for step in plan["steps"]]
    assert all(step["man"] and step["who"] in {"outside", "inside"} for step in steps)
    assert plan["script"].startswith("#!")
    assert http.request("POST", f"/v1.50/containers/{id}/wait").json() == {"StatusCode": 0}


def test_what_is_explained_and_fails_is_said(http: Connection) -> None:
    id = create(http, "nope")

    answer = http.request("POST", f"/sampan/containers/{id}/start?explain=1")
    last = json.loads([line for line in answer.lines() if line.strip()][-1])

    assert last["kind"] == "CommandNotFound"
    assert "executable file not found" in last["message"]
