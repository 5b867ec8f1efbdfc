"""The Python client at a running instance."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan import __version__, errors
from sampan.client import Client, ProgramFailed, endpoint, wire
from sampan.spec.docker import HealthConfig
from support.registry import Registry
from support.sampan import Sampan, wait_until


@pytest.fixture
def client(sampan: Sampan) -> Iterator[Client]:
    with Client(str(sampan.root)) as client:
        yield client


def test_a_program_is_run_and_what_it_did_is_returned(client: Client) -> None:
    result = client.containers.run("busybox", "sh -c 'echo out; echo err >&2'")

    assert result == (0, b"out\n", b"err\n")
    assert client.containers.list(all=True) == []


def test_a_program_that_fails_is_an_error_with_its_output(client: Client) -> None:
    with pytest.raises(ProgramFailed, match="it ended with 3: oh no") as e:
        client.containers.run("busybox", ["sh", "-c", "echo out; echo oh no >&2; exit 3"])

    assert e.value.result == (3, b"out\n", b"oh no\n")
    assert client.containers.run("busybox", ["false"], check=False).exit_code == 1
    assert client.containers.list(all=True) == []


@pytest.mark.parametrize(("command", "kind"), [("nope", errors.CommandNotFound), ("/etc/passwd", errors.NotExecutable)])
def test_a_program_that_can_not_be_run_is_its_own_error(
    client: Client, command: str, kind: type[errors.SampanError]
) -> None:
    with pytest.raises(kind):
        client.containers.run("busybox", [command])

    assert client.containers.list(all=True) == []


def test_a_detached_container_is_removed_at_the_end_of_its_with(client: Client) -> None:
    with client.containers.run("busybox", ["sleep", "100"], detach=True, name="web", labels={"a": "b"}) as web:
        assert web.status == "running"
        assert web.name == "web"
        assert web.command == ("sleep", "100")
        assert [c.names for c in client.containers.list(filters={"label": "a=b"})] == [("/web",)]
        assert client.containers.get("web").id == web.id

    with pytest.raises(errors.NotFound, match="No such container: web"):
        client.containers.get("web")


def test_a_container_is_removed_when_its_with_fails(client: Client) -> None:
    with pytest.raises(ZeroDivisionError), client.containers.run("busybox", ["sleep", "100"], detach=True):
        _ = 1 / 0

    assert client.containers.list(all=True) == []


def test_a_container_is_led_through_its_life(client: Client) -> None:
    with client.containers.create("busybox", ["sleep", "100"], name="one") as box:
        seen = [box.status]
        for step in (box.start, box.pause, box.unpause, box.kill, box.start, lambda: box.stop(0)):
            step()
            seen.append(box.status)
        box.rename("two")

        assert seen == ["created", "running", "paused", "running", "exited", "running", "exited"]
        assert client.containers.get("two").id == box.id
        assert box.exit_code == 137
        box.update_health(HealthConfig(test=("CMD", "true")), {"sampan.health-on-failure": "kill"})
        assert box.attributes.config.healthcheck == HealthConfig(test=("CMD", "true"))
        assert box.attributes.host_config.annotations == {"sampan.health-on-failure": "kill"}


def test_another_program_is_executed_in_a_container(client: Client) -> None:
    with client.containers.run("busybox", ["sleep", "100"], detach=True) as box:
        assert box.exec_run("sh -c 'echo $A; pwd; exit 5'", environment={"A": "b"}, working_dir="/bin") == (
            5,
            b"b\n/bin\n",
            b"",
        )
        assert box.exec_run(["wc", "-c"], stdin=b"x" * 3_000_000).stdout == b"3000000\n"
        assert box.exec_run(["cat"], stdin=b"y" * 3_000_000).stdout == b"y" * 3_000_000
        assert box.exec_run("nope").exit_code == 127
        assert [row[-1] for row in box.top().processes] == ["sleep 100"]


def test_input_and_output_go_over_an_attached_stream(client: Client) -> None:
    with client.containers.create("busybox", ["cat"], stdin_open=True) as box, box.attach(stdin=True) as stream:
        box.start()
        stream.write(b"hello\n")
        stream.close_stdin()

        assert stream.read() == (b"hello\n", b"")
        assert box.wait() == 0


def test_logs_are_read_and_followed(client: Client) -> None:
    word = "while [ ! -e /{0} ]; do sleep 0.01; done; echo {0}".format  # two streams have no order but that of time
    command = ["sh", "-c", f"echo one; {word('two')} >&2; {word('three')}"]
    with client.containers.run("busybox", command, detach=True) as box:
        following = box.follow_logs()

        assert next(following) == ("stdout", b"one\n")
        for stream, name in (("stderr", "two"), ("stdout", "three")):
            box.exec_run(["touch", f"/{name}"])
            assert next(following) == (stream, f"{name}\n".encode())
        assert list(following) == []
        assert box.logs() == b"one\ntwo\nthree\n"
        assert box.logs(stderr=False, tail=1) == b"three\n"
        assert box.logs(since=time.time() + 10) == b""


def test_a_log_driver_is_chosen(client: Client) -> None:
    command = ["sh", "-c", "printf 'a\\377\\n'; sleep 1000"]
    with client.containers.run(
        "busybox", command, detach=True, log_driver="local", log_options={"max-file": "2"}
    ) as box:
        wait_until(box.logs)
        assert box.logs() == b"a\xff\n"
        assert box.attributes.host_config.log_config.config == {"max-file": "2"}


def test_why_one_has_ended_is_told(client: Client) -> None:
    with client.containers.run("busybox", ["sh", "-c", "echo oh; sleep 100"], detach=True) as box:
        assert (box.why().status, box.why().causes) == ("running", ())
        wait_until(box.logs)
        box.kill()
        box.wait()
        found = box.why()

        assert [cause.kind for cause in found.causes] == ["signal"]
        assert found.ending is not None
        assert (found.ending.signal, found.ending.sent[-1].sender.pid) == (9, os.getpid())
        assert found.output == ("oh",)


def test_waiting_outlives_the_server(client: Client, sampan: Sampan) -> None:
    with client.containers.run("busybox", ["sh", "-c", "sleep 1; exit 6"], detach=True) as box:
        codes: list[int] = []
        waiting = threading.Thread(target=lambda: codes.append(box.wait()))
        waiting.start()
        time.sleep(0.2)
        os.kill(sampan.info("ServerPid"), signal.SIGKILL)
        waiting.join(20)

        assert codes == [6]


def test_limits_and_mounts_reach_the_container(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shared\n")
    tmp_path.chmod(0o755)
    with client.containers.run(
        "busybox",
        ["sleep", "100"],
        detach=True,
        memory="64m",
        cpus=0.5,
        pids_limit=20,
        volumes=[f"{tmp_path}:/data:ro"],
        tmpfs={"/scratch": "size=1m"},
        user="1000:1000",
        hostname="box",
    ) as box:
        host_config = box.attributes.host_config
        assert (host_config.memory, host_config.nano_cpus, host_config.pids_limit) == (64 << 20, 500_000_000, 20)
        assert box.exec_run("cat /data/file").stdout == b"shared\n"
        assert box.exec_run("touch /data/x").exit_code != 0
        assert box.exec_run("id -u").stdout == b"1000\n"
        assert box.exec_run("hostname").stdout == b"box\n"


def test_images_are_imported_named_and_removed(client: Client, busybox_tar: Path) -> None:
    image = client.images.import_(busybox_tar, "mine:v1", changes=["CMD echo hi"], message="made by a test")

    image.tag("mine:v2")

    assert set(client.images.get("mine:v2").tags) == {"mine:v1", "mine:v2"}
    assert image.history()[0].comment == "made by a test"
    assert client.containers.run("mine:v1").stdout == b"hi\n"
    client.images.remove("mine:v1")
    client.images.remove("mine:v2")
    with pytest.raises(errors.NotFound, match="No such image: mine:v2"):
        client.images.get("mine:v2")


def test_a_directory_is_imported_where_it_is(client: Client, tmp_path: Path, busybox_tar: Path) -> None:
    import tarfile

    with tarfile.open(busybox_tar) as tar:
        tar.extractall(tmp_path, filter="fully_trusted")

    image = client.images.import_(tmp_path, "fromdir")

    assert client.containers.run("fromdir", ["echo", "hi"]).stdout == b"hi\n"
    client.images.remove(image.id, force=True)


def test_images_are_pushed_saved_and_copied(client: Client, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.address}/sdk"
    image = client.images.get("busybox")
    image.tag(f"{name}:1")
    seen: list[str] = []

    digest = client.images.push(f"{name}:1", progress=lambda line: seen.append(line.status))
    assert seen[0] == f"The push refers to repository [{name}]"
    assert client.images.copy(f"docker://{name}:1", f"oci:{tmp_path}/layout:x") == digest
    assert client.images.copy(f"oci:{tmp_path}/layout:x", "store:sdk:1") == image.id
    (tmp_path / "a.tar").write_bytes(b"".join(client.images.save(f"{name}:1", "sdk:1")))
    loaded = client.images.load(tmp_path / "a.tar")
    assert [one.id for one in loaded] == [image.id, image.id]
    assert b"".join(image.save()) != b""
    with pytest.raises(errors.SampanError, match="tag does not exist"):
        client.images.push(f"{name}:nope")
    with pytest.raises(errors.NotFound):
        next(client.images.save("nope"))
    for one in (f"{name}:1", "sdk:1"):
        client.images.remove(one)


def test_an_image_that_can_not_be_had_is_said(client: Client) -> None:
    with pytest.raises(errors.SampanError, match=r"127\.0\.0\.1:1"):
        client.containers.run("127.0.0.1:1/none", ["true"])


def test_events_and_figures_are_typed(client: Client) -> None:
    started = time.time() - 1
    client.containers.run("busybox", ["true"])

    actions = [event.action for event in client.events(since=started, until=time.time() + 0.1)]

    assert {"create", "start", "die", "destroy"} <= set(actions)
    assert client.ping() == "1.50"
    assert client.version().version == __version__
    assert client.info().containers == 0
    assert client.disk_usage().layers_size > 0


def test_a_client_may_be_shared_by_threads(client: Client) -> None:
    results: list[bytes] = []
    crowd = [
        threading.Thread(target=lambda n=n: results.append(client.containers.run("busybox", ["echo", str(n)]).stdout))
        for n in range(6)
    ]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)

    assert sorted(results) == [f"{n}\n".encode() for n in range(6)]


def test_the_server_is_started_by_the_first_call(instance: Sampan) -> None:
    assert not instance.socket.exists()
    with Client(str(instance.root)) as client:
        assert client.ping() == "1.50"
    wait_until(instance.socket.exists)


def test_a_crowd_of_first_calls_starts_one_server(instance: Sampan) -> None:
    pids: list[int] = []

    def ask() -> None:
        with Client(str(instance.root)) as client:
            pids.append(client.info().keeper_pid)

    crowd = [threading.Thread(target=ask) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)

    assert len(pids) == 8
    assert len(set(pids)) == 1


def test_a_root_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(errors.SampanError, match="can't start") as e,
        Client(str(tmp_path / "file/x")) as c,
    ):
        c.ping()

    assert "Traceback" not in e.value.message


def test_a_socket_may_be_named_instead(sampan: Sampan) -> None:
    sampan("ps")
    with Client(base_url=f"unix://{sampan.socket}") as client:
        assert client.ping() == "1.50"
    with pytest.raises(errors.InvalidInput, match="only unix://"):
        Client(base_url="tcp://1.2.3.4:2375")
    with Client(base_url="unix:///nonexistent") as client, pytest.raises(errors.Failed, match="can't connect"):
        client.ping()


def test_without_the_right_to_make_containers_it_is_said(instance: Sampan) -> None:
    script = "import sys, sampan; sampan.Client(sys.argv[1]).ping()"

    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script, instance.root],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert "can't start sampan here" in done.stderr.splitlines()[-1]
    assert "operation not permitted" in done.stderr.splitlines()[-1]


def test_an_engine_that_can_not_open_says_why(instance: Sampan) -> None:
    (instance.root / "state.db").mkdir(parents=True)

    with Client(str(instance.root)) as client, pytest.raises(errors.SampanError) as e:
        client.info()

    assert "can't start the engine" in e.value.message
    assert "Traceback" not in instance.log()
    (instance.root / "state.db").rmdir()
    with Client(str(instance.root)) as client:
        wait_until(lambda: _answers(client), timeout=20)


def _answers(client: Client) -> bool:
    try:
        return client.info().containers == 0
    except errors.SampanError:
        return False


def test_a_container_is_told_committed_and_exported(client: Client) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "echo new > /new; rm /etc/group"])
    with container:
        container.start()
        container.wait()

        assert [(change.path, change.kind) for change in container.changes()] == [
            *(("/etc", 0), ("/etc/group", 2), ("/new", 1))
        ]
        image = container.commit("mine:1", message="m", author="a", changes=["CMD cat /new"], epoch_s=1_700_000_000)
        with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
            names = archive.getnames()

    assert image.tags == ("mine:1",)
    assert (image.attributes.author, image.attributes.created) == ("a", "2023-11-14T22:13:20Z")
    assert client.containers.run("mine:1").stdout == b"new\n"
    assert "new" in names
    assert "etc/group" not in names
    image.remove(force=True)


def test_a_commit_by_the_api_completes_the_configuration_it_is_given(client: Client, sampan: Sampan) -> None:
    sampan("create", "--name", "one", "-e", "A=own", "-e", "B=own", "busybox", "sh")
    connection = wire.Connection(str(sampan.socket))

    def post(target: str, body: bytes = b"", type: str = "application/json") -> tuple[int, dict[str, object]]:
        answer = connection.request("POST", target, body, {"Content-Type": type} if body else {})
        return answer.status, answer.json()

    status, made = post("/commit?container=one&repo=mine&tag=2&changes=LABEL+a%3Db", b'{"Env": ["A=given"]}')
    nothing, _ = post("/commit?container=one&pause=0", b"null")
    refused, said = post("/sampan/commit?container=one&epoch=-1")
    absent, _ = post("/commit?container=nosuch")
    connection.close()

    assert (status, nothing, refused, absent) == (201, 201, 400, 404)
    config = client.images.get("mine:2").attributes.config
    assert config.env == ("A=given", "B=own")
    assert config.labels == {"a": "b"}
    assert client.images.get("mine:2").id == made["Id"]
    assert "epoch" in str(said["message"])


def test_containers_on_a_network_know_one_another_by_name(client: Client) -> None:
    serve = ["httpd", "-f", "-p", "80", "-h", "/etc"]

    with client.networks.create("back", subnets=["10.214.0.0/24"], options={"com.docker.network.driver.mtu": "1400"}):
        settings = {"back": endpoint(ipv4_address="10.214.0.9", aliases=["alias"])}
        with client.containers.run("busybox", serve, detach=True, name="web", networks=settings) as web:
            wait_until(lambda: web.exec_run("wget -q -O - http://127.0.0.1/passwd").exit_code == 0, what="it serves")
            for name in ("web", "alias", "10.214.0.9"):
                read = client.containers.run(
                    "busybox", ["wget", "-q", "-O", "-", f"http://{name}/passwd"], network="back"
                )
                assert read.stdout.startswith(b"root:")
    assert client.networks.list(filters={"name": "back"}) == []


def test_a_network_is_asked_for_by_name_and_tells_who_is_on_it(client: Client) -> None:
    with client.networks.create("back", labels={"a": "b"}) as back, client.networks.create("front") as front:
        with client.containers.run("busybox", ["sleep", "100"], detach=True, networks=["back", "front"]) as container:
            assert client.networks.get("back").id == back.id
            assert [*back.containers] == [container.id]
            assert [*container.attributes.network_settings.networks] == ["back", "front"]
            with pytest.raises(errors.NotPermitted, match="has active endpoints"):
                back.remove()

            front.disconnect(container)
            assert not front.containers
            front.connect(container.id)
            assert [*front.containers] == [container.id]
        assert client.networks.prune(filters={"label": "a=b"}).networks_deleted == ("back",)
    with pytest.raises(errors.NotFound, match="network back not found"):
        client.networks.get("back")


def test_a_network_that_can_not_be_is_an_error_and_leaves_nothing(client: Client) -> None:
    with client.networks.create("back", subnets=["10.214.0.0/24"]):
        for arguments in ({"subnets": ["10.214"]}, {"subnets": ["10.214.0.0/25"]}, {"driver": "nosuch"}):
            with pytest.raises(errors.SampanError):
                client.networks.create("other", **arguments)
        with pytest.raises(errors.Conflict, match="network with name back already exists"):
            client.networks.create("back")
    assert [network.name for network in client.networks.list(filters={"type": "custom"})] == []


def test_a_container_renamed_while_it_ends_is_on_no_network_afterwards(client: Client) -> None:
    with client.networks.create("back"):
        for number in range(10):
            with client.containers.run("busybox", ["sleep", "100"], detach=True, network="back") as container:
                container.kill()
                container.rename(f"renamed-{number}")
