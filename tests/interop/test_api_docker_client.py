"""The real docker client at sampan's socket: each verb it has for what is built."""

import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.peers import client
from support.sampan import Result, Sampan, wait_until

if not shutil.which("docker"):
    pytest.skip("the docker client is not installed", allow_module_level=True)

Docker = Callable[..., Result]


@pytest.fixture
def docker(sampan: Sampan) -> Docker:
    sampan("ps")  # starts the server
    return lambda *args, **how: client(sampan.socket, sampan.root, *args, **how)


@pytest.fixture
def web(docker: Docker) -> Iterator[str]:
    """Yield the name of a container that runs."""
    program = "echo one; echo two >&2; exec sleep 600"
    docker("run", "-d", "--name", "web", "--label", "a=b", "-e", "X=y", "busybox", "sh", "-c", program, check=True)
    wait_until(lambda: "sleep 600" in docker("top", "web", check=True).out)
    yield "web"
    docker("rm", "-f", "web")


def test_the_client_finds_a_version_to_speak(docker: Docker) -> None:
    said = docker("version", check=True).out

    assert "1.50 (minimum version 1.24)" in said
    assert docker("version", "--format", "{{.Server.APIVersion}}", check=True).line == "1.50"
    assert (
        docker("version", "--format", "{{.Server.Os}}", check=True, env={"DOCKER_API_VERSION": "1.24"}).line == "linux"
    )


@pytest.mark.parametrize("version", ["1.24", "1.30", "1.41", "1.43", "1.47"])
def test_older_clients_are_served(docker: Docker, version: str) -> None:
    old = {"DOCKER_API_VERSION": version}

    assert docker("run", "--rm", "busybox", "echo", "hi", env=old)[1:3] == (0, "hi\n")
    assert "busybox" in docker("images", env=old, check=True).out
    assert docker("ps", "-aq", env=old, check=True).out == ""


@pytest.mark.parametrize(
    ("program", "code", "out", "err"),
    [
        (("echo", "hi"), 0, "hi\n", ""),
        (("sh", "-c", "echo out; echo err >&2; exit 7"), 7, "out\n", "err\n"),
        (("nope",), 127, "", 'exec: "nope": executable file not found in $PATH'),
        (("/etc/passwd",), 126, "", "permission denied"),
        (("/etc",), 126, "", "is a directory"),
    ],
)
def test_run_ends_as_the_program_does(docker: Docker, program: tuple[str, ...], code: int, out: str, err: str) -> None:
    result = docker("run", "--rm", "busybox", *program)

    assert (result.code, result.out) == (code, out)
    assert err in result.err
    assert docker("ps", "-aq", check=True).out == ""


def test_run_passes_its_input(docker: Docker) -> None:
    text = "line\n" * 100_000

    assert docker("run", "--rm", "-i", "busybox", "cat", input=text).out == text


def test_what_the_filesystem_can_not_do_is_refused(docker: Docker) -> None:
    result = docker("run", "--storage-opt", "size=1g", "busybox", "true")

    assert result.code == 125
    assert "--storage-opt is supported only for" in result.err


def test_published_ports_are_told_as_docker_tells_them(docker: Docker) -> None:
    publishing = ("-p", "8080:80", "-p", "127.0.0.1:9000-9001:90-91/udp", "-P", "--expose", "99", "--network", "bridge")
    docker("run", "-d", "--name", "web", *publishing, "busybox", "sleep", "600", check=True)

    ports = docker("port", "web", check=True).lines

    random = ports.pop().rpartition(":")[2]
    assert ports == [
        "80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080", "90/udp -> 127.0.0.1:9000", "91/udp -> 127.0.0.1:9001",
        f"99/tcp -> 0.0.0.0:{random}",
    ]  # fmt: skip
    assert docker("ps", "--format", "{{.Ports}}", "--filter", "publish=8080", check=True).line == (
        "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:9000->90/udp, 127.0.0.1:9001->91/udp, "
        f"0.0.0.0:{random}->99/tcp, [::]:{random}->99/tcp"
    )
    refused = docker("run", "-d", "-p", "8080:80", "--network", "bridge", "busybox", "sleep", "600")
    assert (refused.code, "port is already allocated" in refused.err) == (125, True)
    docker("rm", "-f", *docker("ps", "-aq", check=True).lines, check=True)


def test_ps_shows_what_runs(docker: Docker, web: str) -> None:
    assert docker("ps", "--format", "{{.Names}} {{.Image}} {{.State}}", check=True).line == f"{web} busybox running"
    assert len(docker("ps", "-q", "--filter", "label=a=b", check=True).line) == 12
    assert docker("ps", "-q", "--filter", "label=a=c", check=True).out == ""
    assert docker("ps", "-q", "--filter", "nope=x").code == 1


def test_logs_are_two_streams(docker: Docker, web: str) -> None:
    assert docker("logs", web)[2:4] == ("one\n", "two\n")
    assert docker("logs", "--tail", "1", web)[2:4] == ("", "two\n")
    assert docker("logs", "-t", web, check=True).out.endswith("Z one\n")


def test_exec_runs_in_the_container(docker: Docker, web: str) -> None:
    assert docker("exec", web, "hostname", check=True).line == docker("ps", "-q", check=True).line
    assert docker("exec", "-e", "A=b", "-w", "/bin", web, "sh", "-c", "echo $A; pwd; exit 5")[1:3] == (5, "b\n/bin\n")
    assert docker("exec", "-i", web, "cat", input="in\n").out == "in\n"
    assert docker("exec", "-d", web, "touch", "/tmp/mark").code == 0
    assert docker("exec", web, "nope").code == 127
    assert docker("exec", "none", "true").err.startswith("Error response from daemon: No such container: none")


def test_a_container_is_led_through_its_life(docker: Docker, web: str) -> None:
    def state() -> str:
        return docker("inspect", "-f", "{{.State.Status}}", web, check=True).line

    seen = []
    for verb in (("pause",), ("unpause",), ("stop", "-t", "0"), ("start",), ("restart", "-t", "0"), ("kill",)):
        assert docker(*verb, web, check=True).line == web
        seen.append(state())

    assert seen == ["paused", "running", "exited", "running", "running", "exited"]
    assert docker("wait", web, check=True).line == "137"
    docker("rename", web, "other", check=True)
    assert docker("rm", "other", check=True).line == "other"
    assert docker("rm", "other").err.strip() == "Error response from daemon: No such container: other"


def test_top_and_inspect_tell_of_it(docker: Docker, web: str) -> None:
    assert "sleep 600" in docker("top", web, check=True).out
    assert docker("inspect", "-f", "{{.Config.Env}} {{json .HostConfig.Binds}}", web, check=True).line == "[X=y] null"
    assert docker("inspect", "-s", "-f", "{{.SizeRw}}", web, check=True).line.isdigit()
    assert docker("port", web, check=True).out == ""


def test_attach_ends_with_the_container(docker: Docker, sampan: Sampan, web: str) -> None:
    command = ["docker", "-H", f"unix://{sampan.socket}", "attach", "--no-stdin", web]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as attached:

        def is_told() -> list[object]:
            docker("exec", web, "sh", "-c", "echo said > /proc/1/fd/1", check=True)
            return select.select([attached.stdout], [], [], 0)[0]

        wait_until(is_told, what="it is attached")
        docker("kill", web, check=True)

        assert attached.wait(20) == 137


def test_start_attached_gives_output_and_status(docker: Docker) -> None:
    docker("create", "--name", "once", "busybox", "sh", "-c", "echo hi; exit 4", check=True)

    assert docker("start", "-a", "once")[1:3] == (4, "hi\n")
    docker("rm", "once", check=True)


def test_images_are_imported_tagged_and_removed(docker: Docker, busybox_tar: Path) -> None:
    id = docker("import", "-c", "CMD echo from-cmd", busybox_tar, "mine:v1", check=True).line
    docker("tag", "mine:v1", "mine:v2", check=True)

    assert docker("images", "-q", "--no-trunc", "mine", check=True).lines == [id, id]
    assert docker("run", "--rm", "mine:v2", check=True).line == "from-cmd"
    assert "Imported from" in docker("history", "mine:v1", check=True).out
    assert docker("rmi", "mine:v1", "mine:v2", check=True).lines[0] == "Untagged: mine:v1"
    assert docker("rmi", "mine:v1").err.strip() == "Error response from daemon: No such image: mine:v1"


def test_what_the_engine_says_of_itself_is_understood(docker: Docker) -> None:
    assert docker("info", "--format", "{{.Driver}} {{.CgroupDriver}} {{.ServerErrors}}", check=True).line == (
        "overlay2 cgroupfs []"
    )
    for verb in (("system", "df"), ("network", "ls"), ("volume", "ls")):
        docker(*verb, check=True)


def test_secrets_need_no_swarm(docker: Docker, sampan: Sampan) -> None:
    made = docker("secret", "create", "-l", "a=b", "token", "-", input="1", check=True).line

    columns = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Labels}}"  # the others are of a clock that goes on
    for words in (
        ("ls", "--format", columns),
        ("inspect", "token"),
        ("inspect", "--pretty", "token"),
        ("rm", "none"),
        ("create", "a"),
    ):
        ours, theirs = sampan("secret", *words, check=False), docker("secret", *words)
        assert (ours.code, ours.out) == (theirs.code, theirs.out), words
        assert ours.err.partition("\n")[0] == theirs.err.partition("\n")[0]
    assert docker("secret", "ls", "-q", "--filter", "label=a", check=True).line == made
    assert "secret token already exists" in docker("secret", "create", "token", "-", input="2").err
    assert docker("secret", "rm", made, check=True).line == made


def test_events_are_followed(docker: Docker, sampan: Sampan, web: str) -> None:
    since = str(time.time())
    docker("kill", web, check=True)

    until = str(time.time() + 0.2)
    lines = docker("events", "--since", since, "--until", until, "--filter", "type=container", check=True).lines

    assert [line.split()[2] for line in lines] == ["kill", "die"]


def test_a_terminal_is_given(docker: Docker, sampan: Sampan) -> None:
    script = f"docker -H unix://{sampan.socket} run --rm -it busybox sh -c 'tty; stty size'"

    done = subprocess.run(
        ["script", "-qec", f"stty rows 33 cols 77; {script}", "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    # script(1) shows the end of its own input as ^@
    assert done.stdout.replace("^@", "").split() == ["/dev/pts/0", "33", "77"]
