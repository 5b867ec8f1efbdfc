"""Mistakes: one message with cause and hint, the right exit code, and nothing left behind."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from support.sampan import PROGRAM, Sampan, new_root, wait_until

COMMANDS = [
    # what the user types, exit code, what the first line must contain
    (["busybox", "nosuchprogram"], 127, 'exec: "nosuchprogram": executable file not found in $PATH'),
    (["busybox", ""], 127, 'exec: "": executable file not found in $PATH'),
    (["busybox", "/no/such/program"], 127, "no such file or directory"),
    (["busybox", "/etc"], 126, "is a directory"),
    (["busybox", "/etc/passwd"], 126, "permission denied"),
    (["nosuchimage:1"], 125, ""),
    (["Bad_Reference:x"], 125, "invalid reference format: repository name"),
    (["busybox@sha256:123", "true"], 125, "invalid reference format"),
    (["--memory", "1k", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
    (["--memory", "lots", "busybox", "true"], 125, "invalid size: 'lots'"),
    (["--cpus", "-1", "busybox", "true"], 125, "cpu"),
    (["--cpus", "100000", "busybox", "true"], 125, "ange of CPUs is from 0.01 to"),
    (["--cpu-shares", "x", "busybox", "true"], 125, "invalid"),
    (["--pids-limit", "x", "busybox", "true"], 125, "invalid"),
    (["--cpuset-cpus", "999", "busybox", "true"], 125, "999"),
    (["--name", "-bad-", "busybox", "true"], 125, "Invalid container name"),
    (["--nosuchflag", "busybox", "true"], 125, "unknown flag: --nosuchflag"),
    (["-u", "nosuchuser", "busybox", "true"], 125, "unable to find user nosuchuser"),
    (["-u", "0:nosuchgroup", "busybox", "true"], 125, "unable to find group nosuchgroup"),
    (["--mount", "type=bind,src=/no/such/source,dst=/x", "busybox", "true"], 125, "/no/such/source"),
    (["--mount", "type=bind,dst=/x", "busybox", "true"], 125, ""),
    (["-v", "relative/path:/x", "busybox", "true"], 125, "relative/path"),
    (["-v", "/tmp:notabsolute", "busybox", "true"], 125, "notabsolute"),
    (["--workdir", "relative", "busybox", "true"], 125, "relative"),
    (["-e", "=x", "busybox", "true"], 125, "invalid environment variable: =x"),
    (["--ulimit", "nosuch=1", "busybox", "true"], 125, "nosuch"),
    (["--ulimit", "nofile=9:1", "busybox", "true"], 125, "nofile"),
    (["--cap-add", "NOSUCH", "busybox", "true"], 125, "NOSUCH"),
    (["--sysctl", "kernel.nosuch=1", "busybox", "true"], 125, "kernel.nosuch"),
    (["--security-opt", "nosuch=1", "busybox", "true"], 125, "nosuch"),
    (["--security-opt", "seccomp=/no/such.json", "busybox", "true"], 125, "/no/such.json"),
    (["--network", "container:nosuch", "busybox", "true"], 125, "nosuch"),
    (["--pid", "container:nosuch", "busybox", "true"], 125, "nosuch"),
    (["--stop-signal", "NOSUCH", "busybox", "true"], 125, "NOSUCH"),
    (["--platform", "linux/nosuch", "busybox", "true"], 125, "busybox"),
    (["--env-file", "/no/such/file", "busybox", "true"], 125, "/no/such/file"),
    (["--tmpfs", "relative", "busybox", "true"], 125, "relative"),
    (["--device-cgroup-rule", "nonsense", "busybox", "true"], 125, "nonsense"),
    ([], 1, "requires at least 1 argument"),
]


@pytest.mark.parametrize(("words", "code", "message"), COMMANDS, ids=[" ".join(row[0]) or "-" for row in COMMANDS])
def test_a_mistake_in_run_is_one_message_and_leaves_nothing(
    sampan: Sampan, words: list[str], code: int, message: str
) -> None:
    said = sampan.fails(code, "run", *words)

    assert message.lower() in said.err.lower()
    assert said.out == ""
    sampan.remove_everything()
    assert sampan.leftovers() == []


OTHERS = [
    (["start", "nosuch"], 1, "No such container: nosuch"),
    (["stop", "nosuch"], 1, "No such container: nosuch"),
    (["exec", "nosuch", "true"], 1, "No such container: nosuch"),
    (["logs", "nosuch"], 1, "No such container: nosuch"),
    (["rm", "nosuch"], 1, "No such container: nosuch"),
    (["wait", "nosuch"], 1, "No such container: nosuch"),
    (["attach", "nosuch"], 1, "No such container: nosuch"),
    (["inspect", "nosuch"], 1, "No such object: nosuch"),
    (["rmi", "nosuch"], 1, "No such image: nosuch:latest"),
    (["tag", "nosuch", "x:1"], 1, "No such image: nosuch:latest"),
    (["import", "/no/such/file", "x"], 1, "/no/such/file"),
    (["load", "-i", "/no/such/file"], 1, "/no/such/file"),
    (["pull", "127.0.0.1:1/nothing:1"], 1, "127.0.0.1:1"),
    (["ps", "--filter", "nosuch=1"], 1, "invalid filter 'nosuch'"),
    (["images", "--format", "{{.Nosuch}}"], 1, "Nosuch"),
    (["ps", "--format", "{{"], 1, "template"),
    (["events", "--since", "2030-01-01", "--until", "2020-01-01"], 1, "cannot be after `until` time (1577836800.0"),
    (["kill", "nosuch"], 1, "No such container: nosuch"),
    (["nosuchverb"], 1, "nosuchverb"),
]


@pytest.mark.parametrize(("words", "code", "message"), OTHERS, ids=[" ".join(row[0]) for row in OTHERS])
def test_a_mistake_in_another_verb(sampan: Sampan, words: list[str], code: int, message: str) -> None:
    said = sampan.fails(code, *words)

    assert message in said.err


def test_when_nobody_reads_any_more_a_command_ends_as_by_sigpipe(sampan: Sampan) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [PROGRAM, "images"], env=sampan.env, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(("words", "code"), [(("ps",), 1), (("export", "web"), 1), (("run", "busybox"), 125)])
def test_an_answer_that_breaks_off_is_an_error_of_the_verb(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/socket")
        listening.listen()
        called = [PROGRAM, "-H", f"unix://{tmp_path}/socket", *words]
        client = subprocess.Popen(called, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while client.poll() is None:
            if select.select([listening], [], [], 0.1)[0]:
                connection, _ = listening.accept()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Length: 9\r\n\r\n[")
                connection.close()
        _, err = client.communicate(timeout=10)

    assert b"lost the connection" in err
    assert client.returncode == code


def test_a_name_in_use(sampan: Sampan) -> None:
    id = sampan("create", "--name", "web", "busybox", "true").line

    said = sampan.fails(125, "run", "--name", "web", "busybox", "true")

    assert f'Conflict. The container name "/web" is already in use by container "{id}"' in said.err
    assert "You have to remove (or rename) that container to be able to reuse that name." in said.err


PROGRAMS = [
    ("shebang of a missing interpreter", b"#!/no/interpreter\n", 127, "/no/interpreter"),
    ("shebang with a carriage return", b"#!/bin/sh\r\necho hi\r\n", 127, "carriage return"),
    ("no program at all", b"\0\1\2\3 nothing that runs\n", 126, "exec format error"),
    ("empty", b"", 126, "exec format error"),
]


@pytest.mark.parametrize(("name", "content", "code", "message"), PROGRAMS, ids=[row[0] for row in PROGRAMS])
def test_a_program_that_can_not_be_executed_is_diagnosed(
    sampan: Sampan, tmp_path: Path, name: str, content: bytes, code: int, message: str
) -> None:
    (tmp_path / "program").write_bytes(content)
    (tmp_path / "program").chmod(0o755)

    said = sampan.fails(code, "run", "--rm", "-v", f"{tmp_path}:/p", "busybox", "/p/program")

    assert message in said.err.lower()


def elf(machine: int, interpreter: bytes = b"") -> bytes:
    """Return the least of an ELF executable for a machine, with the loader it asks for."""
    import struct

    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = 1 if interpreter else 0
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, count, 0, 0, 0)
    if interpreter:
        size = len(interpreter) + 1
        head += struct.pack("<IIQQQQQQ", 3, 4, 64 + 56, 0x400078, 0x400078, size, size, 1) + interpreter + b"\0"
    return head + bytes(64)


def test_a_program_of_another_architecture(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(elf(243))  # EM_RISCV
    (tmp_path / "program").chmod(0o755)

    said = sampan.fails(126, "run", "--rm", "-v", f"{tmp_path}:/p", "busybox", "/p/program")

    assert "exec format error" in said.err
    assert "riscv" in said.err.lower()


def test_a_program_whose_loader_is_missing(sampan: Sampan, tmp_path: Path) -> None:
    machine = {"x86_64": 62, "aarch64": 183}[os.uname().machine]
    (tmp_path / "program").write_bytes(elf(machine, b"/lib64/ld-nosuch.so.2"))
    (tmp_path / "program").chmod(0o755)

    said = sampan.fails(127, "run", "--rm", "-v", f"{tmp_path}:/p", "busybox", "/p/program")

    assert "/lib64/ld-nosuch.so.2" in said.err


FAILED = "OCI runtime exec failed: exec failed: unable to start container process: "
EXECS = [
    # exit code and first line of docker's client with Docker's daemon, what is behind `unknown: ` is ours
    (("web", "nosuchprogram"), 127, f'{FAILED}exec: "nosuchprogram": executable file not found in $PATH: unknown'),
    (("web", ""), 127, f'{FAILED}exec: "": executable file not found in $PATH: unknown'),
    (("web", "/nope"), 127, f'{FAILED}exec: "/nope": stat /nope: no such file or directory: unknown'),
    (("web", "/etc/passwd"), 126, f'{FAILED}exec: "/etc/passwd": permission denied: unknown: its mode has no x'),
    (("-w", "tmp", "web", "true"), 126, "OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown"),
    (
        ("-w", "/nope", "web", "true"),
        126,
        f'{FAILED}chdir to cwd ("/nope") set in config.json failed: no such file or directory: unknown',
    ),
    (("-u", "nosuch", "web", "true"), 126, "unable to find user nosuch: no matching entries in passwd file"),
]


def test_exec_has_the_same_codes_and_words(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "100")

    for words, code, said in EXECS:
        assert sampan.fails(code, "exec", *words).err.splitlines()[0] == said
    said = sampan.fails(1, "exec", "-d", "web", "nosuchprogram").err.splitlines()[0]
    assert said == f"Error response from daemon: {EXECS[0][2]}"
    sampan("stop", "-t", "0", "web")
    assert "is not running" in sampan.fails(1, "exec", "web", "true").err


def test_a_full_disk_is_one_message_and_leaves_nothing(busybox_tar: Path) -> None:
    disk = new_root()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
    sampan = Sampan(disk)
    try:
        sampan("ps")
        said = sampan.fails(1, "import", busybox_tar, "busybox")

        assert "no space left on device" in said.err.lower()
        assert not list((disk / "tmp").iterdir())
        assert not list((disk / "layers").rglob("diff"))
    finally:
        sampan.end()
        subprocess.run(["umount", "-l", disk], check=True)
        disk.rmdir()


def test_without_the_rights_there_is_one_clear_error() -> None:
    root = new_root()
    # Still user 0, who may reach the interpreter wherever it is, but without a capability.
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", PROGRAM, "--root", f"{root}/r", "run", "host", "true"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    sampan = Sampan(root / "r")
    left = not wait_until(lambda: not sampan.ours(), fail=False)  # who has said it is just leaving
    sampan.end()
    shutil.rmtree(root)

    assert said.returncode == 125, said
    assert "Traceback" not in said.stderr
    assert "root" in said.stderr.replace(str(root), "")
    assert not left


EACH = "for m in $(findmnt -rno TARGET | grep ^/sys/fs/cgroup | sort -r); do"


@pytest.mark.parametrize(
    ("prepare", "cause", "hint"),
    [
        ("mount -o remount,bind,ro", "read-only file system", "needs control groups that it may write to"),
        ("umount --lazy", "no control group for devices is mounted", "mount control groups at /sys/fs/cgroup"),
    ],
)
def test_without_access_to_control_groups_there_is_one_clear_error_and_nothing_is_left(
    prepare: str, cause: str, hint: str
) -> None:
    root = new_root()
    sampan = Sampan(root / "r")
    script = f'{EACH} {prepare} $m; done; exec "$@"'
    words = ["unshare", "--mount", "sh", "-ec", script, "sh", PROGRAM, "run", "--rm", "host", "true"]
    said = subprocess.run(words, env=sampan.env, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    containers = list((root / "r/containers").iterdir())
    sampan.end()
    shutil.rmtree(root)

    assert said.returncode == 125, said
    assert cause in said.stderr
    assert hint in said.stderr
    assert containers == []
