"""Debian's podman, dockerd, containerd and buildah run their containers by `sampan-runtime`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.images import busybox_tar
from support.oci import OURS, unseal
from support.peers import Docker, podman_environment, remove_cgroups
from support.sampan import Result, wait_until

CGROUP = f"oci-engines-{os.getpid()}"
ALONE = ("--network", "none", "--cgroup-parent", f"/{CGROUP}")
CTR = ("--rootfs", "--runc-binary", OURS, "--cgroup", f"/{CGROUP}-ctr")


@pytest.fixture(scope="module", autouse=True)
def _sealed() -> Iterator[None]:
    yield
    unseal()


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    return busybox_tar(tmp_path_factory.mktemp("image") / "busybox.tar")


class Engine:
    """A program with fixed first words and an environment."""

    def __init__(self, *words: str | Path, env: dict[str, str]) -> None:
        self._words, self._env = list(map(str, words)), {**os.environ, **env}

    def __call__(self, *args: str | Path, check: bool = True) -> Result:
        words = [*self._words, *map(str, args)]
        done = subprocess.run(
            words, env=self._env, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.returncode}: {done.stderr}"
        return Result(tuple(words), done.returncode, done.stdout, done.stderr)


# ----------------------------------------------------------------------------------------------------------- podman


@pytest.fixture(scope="module")
def store(tmp_path_factory, image):
    directory = tmp_path_factory.mktemp("podman")
    env = podman_environment(directory)
    Engine("podman", env=env)("import", "-q", image, "busybox")
    yield env
    Engine("podman", env=env)("rm", "-af", "-t", "0", check=False)
    subprocess.run(["umount", "-R", directory / "root/overlay"], check=False, stderr=subprocess.DEVNULL)
    remove_cgroups(CGROUP)


@pytest.fixture(scope="module")
def podman(store):
    return Engine("podman", "--runtime", OURS, env=store)


@pytest.fixture(scope="module")
def podman_box(podman):
    podman("run", "-d", "--name", "c0", *ALONE, "busybox", "sh", "-c", "echo said; exec sleep 1000")
    return "c0"


def test_podman_run(podman):
    said = podman("run", "--rm", *ALONE, "busybox", "sh", "-c", "echo out; echo err >&2; exit 5", check=False)

    assert (said.code, said.out, said.err) == (5, "out\n", "err\n")


def test_podman_run_of_a_missing_program_is_127(podman):
    assert podman("run", "--rm", *ALONE, "busybox", "nonesuch", check=False).code == 127


def test_podman_run_with_a_terminal(podman):
    assert podman("run", "--rm", "-t", *ALONE, "busybox", "tty").out.strip() == "/dev/pts/0"


def test_podman_logs_and_exec(podman, podman_box):
    wait_until(lambda: podman("logs", podman_box).out == "said\n")

    assert podman("exec", "-w", "/tmp", podman_box, "sh", "-c", "pwd; exit 4", check=False).code == 4
    assert podman("exec", "-t", podman_box, "tty").out.startswith("/dev/pts/")


def test_podman_pause_and_stop(podman, podman_box):
    podman("pause", podman_box)
    paused = podman("inspect", "-f", "{{.State.Status}}", podman_box).line
    podman("unpause", podman_box)
    podman("stop", "-t", "0", podman_box)

    assert paused == "paused"
    assert podman("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", podman_box).line == "exited 137"


def test_podman_a_pod(podman):
    infra = ("--infra-image", "localhost/busybox", "--infra-command", "sleep 1000")
    podman("pod", "create", "--name", "p", "--network", "none", "--cgroup-parent", f"/{CGROUP}", *infra)
    podman("run", "-d", "--pod", "p", "--name", "c1", "busybox", "sleep", "1000")
    other = podman("run", "--rm", "--pod", "p", "busybox", "readlink", "/proc/self/ns/net").out
    own = podman("exec", "c1", "readlink", "/proc/self/ns/net").out
    podman("pod", "kill", "p")
    podman("pod", "rm", "-f", "p")

    assert own == other


# ---------------------------------------------------------------------------------------------------------- dockerd


@pytest.fixture(scope="module")
def docker(tmp_path_factory, image):
    directory = tmp_path_factory.mktemp("docker")
    more = ("--add-runtime", f"sampan={OURS}", "--default-runtime", "sampan")
    docker = Docker(directory, f"{CGROUP}-docker", more=more)
    docker("import", image, "busybox", check=True)
    yield docker
    docker.remove_everything()
    docker.end()


@pytest.fixture(scope="module")
def docker_box(docker):
    docker("run", "-d", "--name", "c0", "--network", "none", "-m", "64m", "busybox", "sleep", "1000", check=True)
    return "c0"


def test_dockerd_run(docker):
    said = docker("run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2; exit 5")

    assert (said.code, said.out, said.err) == (5, "out\n", "err\n")


@pytest.mark.parametrize(("program", "code"), [("nonesuch", 127), ("/etc/passwd", 126)])
def test_dockerd_run_of_what_is_no_program(docker, program, code):
    assert docker("run", "--rm", "--network", "none", "busybox", program).code == code


def test_dockerd_exec(docker, docker_box):
    said = docker("exec", "-e", "A=b", "-u", "33", "-w", "/tmp", docker_box, "sh", "-c", "echo $A; id -u; pwd; exit 4")

    assert (said.code, said.lines) == (4, ["b", "33", "/tmp"])


def test_dockerd_limits_are_changed_and_counted(docker, docker_box):
    docker("update", "--memory", "48m", "--memory-swap", "48m", docker_box, check=True)

    assert "48MiB" in docker("stats", "--no-stream", docker_box, check=True).out


def test_dockerd_pause_stop_start_and_kill(docker, docker_box):
    docker("pause", docker_box, check=True)
    paused = docker("inspect", "-f", "{{.State.Status}}", docker_box).line
    docker("unpause", docker_box, check=True)
    docker("stop", "-t", "0", docker_box, check=True)
    docker("start", docker_box, check=True)
    again = docker("inspect", "-f", "{{.State.Status}} {{.HostConfig.Runtime}}", docker_box).line
    docker("kill", docker_box, check=True)

    assert (paused, again) == ("paused", "running sampan")


def test_dockerd_a_container_that_was_out_of_memory_says_so(docker):
    words = ("busybox", "tail", "-c", "100m", "/dev/zero")
    docker("run", "--name", "oom", "--network", "none", "-m", "8m", "--memory-swap", "8m", *words)

    state = lambda: docker("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "oom").line
    wait_until(lambda: state() == "true 137", what="dockerd has heard of both: containerd tells them in any order")


# -------------------------------------------------------------------------------------------------------- containerd


@pytest.fixture(scope="module")
def ctr(tmp_path_factory):
    directory = tmp_path_factory.mktemp("c")
    configuration = directory / "config.toml"
    configuration.write_text(
        f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\naddress = "{directory}/s"\n'
    )
    with (directory / "log").open("w") as log:
        server = subprocess.Popen(["containerd", "-c", configuration], stdout=log, stderr=log)
    ctr = Engine("ctr", "-a", directory / "s", env={})
    wait_until(lambda: ctr("version", check=False).code == 0, timeout=60, what="containerd answers")
    yield ctr
    server.terminate()
    server.wait(30)
    remove_cgroups(f"{CGROUP}-ctr")


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory, image):
    directory = tmp_path_factory.mktemp("rootfs")
    subprocess.run(["tar", "-xf", image, "-C", directory], check=True)
    return directory


def test_containerd_run(ctr, rootfs):
    said = ctr("run", "--rm", *CTR, rootfs, "c1", "sh", "-c", "echo out; exit 5", check=False)

    assert (said.code, said.out) == (5, "out\n")


def test_containerd_run_of_a_missing_program_says_so(ctr, rootfs):
    said = ctr("run", "--rm", *CTR, rootfs, "c1", "nonesuch", check=False)

    assert 'exec: "nonesuch": executable file not found in $PATH' in said.err


def test_containerd_a_task_is_entered_paused_and_killed(ctr, rootfs):
    ctr("run", "-d", *CTR, rootfs, "c2", "sleep", "1000")
    entered = ctr("task", "exec", "--exec-id", "e", "c2", "sh", "-c", "echo in; exit 4", check=False)
    ctr("task", "pause", "c2")
    paused = ctr("task", "ls").out
    ctr("task", "resume", "c2")
    ctr("task", "kill", "-s", "KILL", "c2")
    wait_until(lambda: "STOPPED" in ctr("task", "ls").out)
    ctr("task", "rm", "c2", check=False)
    ctr("container", "rm", "c2")

    assert (entered.code, entered.out) == (4, "in\n")
    assert "PAUSED" in paused


# ----------------------------------------------------------------------------------------------------------- buildah


@pytest.fixture(scope="module")
def buildah(tmp_path_factory, image):
    env = podman_environment(tmp_path_factory.mktemp("buildah"))
    Engine("podman", env=env)("import", "-q", image, "busybox")
    yield Engine("buildah", env=env)
    Engine("buildah", env=env)("rm", "-a")


def test_buildah_run(buildah):
    name = buildah("from", "localhost/busybox").line
    words = ("run", "--runtime", OURS, "--isolation", "oci", "--network", "none", name)
    said = buildah(*words, "sh", "-c", "echo built > /made; cat /made; exit 3", check=False)

    assert (said.code, said.out) == (3, "built\n")


def test_buildah_build(buildah, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM localhost/busybox\nRUN echo x > /y\nRUN cat /y\n")

    said = buildah("bud", "--runtime", OURS, "--isolation", "oci", "--network", "none", "-t", "made", tmp_path)

    assert "\nx\n" in said.out + said.err
