"""A configuration's own filter: its actions, arguments, flags, and the agent that answers for some calls."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import SampanError
from sampan.kernel.libc import ioctl_number
from sampan.spec.runtime import Seccomp, Syscall, SyscallArg
from support.containers import Box, facts, left_behind, remove_parents, with_linux, with_process

NOTIFICATION_BYTES, RESPONSE_BYTES = 80, 24  # struct seccomp_notif, seccomp_notif_resp; linux/seccomp.h
RECEIVE = ioctl_number("rw", ord("!"), 0, NOTIFICATION_BYTES)
SEND = ioctl_number("rw", ord("!"), 1, RESPONSE_BYTES)
CONTINUE = 1
MKDIR, MKDIRAT = (83, 258) if os.uname().machine == "x86_64" else (-1, 34)
SIGSYS = 31


pytestmark = pytest.mark.timeout(40)


@pytest.fixture(scope="module")
def module_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    yield Box(tmp_path_factory.mktemp("box"))
    remove_parents()


@pytest.fixture
def box(module_box: Box) -> Iterator[Box]:
    before = facts(module_box.directory)
    yield module_box
    assert not left_behind(before, module_box.directory)


class Agent:
    """A process that answers every call it is asked about: EROFS for a new directory, all else goes on.

    Not a thread: a container is forked by a process that has one only.
    """

    def __init__(self, path: Path) -> None:
        self.said: dict[str, Any] = {}
        self._heard = Path(tempfile.mkdtemp(dir=path.parent)) / "heard"
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()

    def start(self) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._run()
            finally:
                os._exit(0)
        self._listening.close()

    def join(self) -> None:
        os.waitpid(self._pid, 0)
        self.said = json.loads(self._heard.read_text())

    def _run(self) -> None:
        self._listening.settimeout(10)
        connection, _ = self._listening.accept()
        connection.settimeout(10)
        message, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        while chunk := connection.recv(65536):
            message += chunk
        connection.close()
        if len(fds) == 1:
            self._heard.write_bytes(message)
        while True:
            self._answer(fds[0])  # ends with ENOENT when the last process under the filter has

    def _answer(self, fd: int) -> None:
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        if not dict(ready.poll(10_000)).get(fd, 0) & select.POLLIN:
            raise OSError
        asked = array.array("B", bytes(NOTIFICATION_BYTES))
        fcntl.ioctl(fd, RECEIVE, asked)
        id, _, _, number = struct.unpack_from("=QIIi", asked)
        answer = (-errno.EROFS, 0) if number in {MKDIR, MKDIRAT} else (0, CONTINUE)
        fcntl.ioctl(fd, SEND, struct.pack("=QqiI", id, 0, *answer))


def rule(*names: str, action: str, **fields: Any) -> Syscall:
    return Syscall(names=names, action=action, **fields)


def filtered(box: Box, *rules: Syscall, args: tuple[str, ...], default: str = "SCMP_ACT_ALLOW", **fields: Any):
    return with_linux(box.spec(*args), seccomp=Seccomp(default_action=default, syscalls=rules, **fields))


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_an_agent_answers_for_the_calls_that_are_asked_about(box: Box, tmp_path: Path, no_new_privileges: bool) -> None:
    agent = Agent(tmp_path / "agent")
    agent.start()
    asks = rule("mkdir", "mkdirat", "sendmsg", "close", "wait4", "execve", action="SCMP_ACT_NOTIFY")
    spec = filtered(
        box, asks, args=("mkdir", "/tmp/x"), listener_path=str(tmp_path / "agent"), listener_metadata="for you"
    )

    said = box.run(with_process(spec, no_new_privileges=no_new_privileges))
    agent.join()

    assert "Read-only file system" in said.err
    assert agent.said["fds"] == ["seccompFd"]
    assert agent.said["metadata"] == "for you"
    assert agent.said["state"]["status"] == "creating"
    assert agent.said["pid"] == agent.said["state"]["pid"] > 1


def test_an_exec_has_an_agent_too(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    first = Agent(path)
    first.start()
    asks = rule("mkdir", "mkdirat", action="SCMP_ACT_NOTIFY")
    spec = filtered(box, asks, args=("sleep", "100"), listener_path=str(path))
    with box.running(spec) as (running, _):
        path.unlink()
        second = Agent(path)
        second.start()
        said = box.exec(spec, running, "mkdir", "/tmp/x")
        second.join()
        pid = running.pid
    first.join()

    assert "Read-only file system" in said.err
    assert second.said["state"]["status"] == "running"
    assert second.said["state"]["pid"] == first.said["pid"] == pid != second.said["pid"]


def test_without_an_agent_that_listens_there_is_no_container(box: Box, tmp_path: Path) -> None:
    spec = filtered(box, rule("mkdir", action="SCMP_ACT_NOTIFY"), args=("true",), listener_path=str(tmp_path / "none"))

    with pytest.raises(SampanError, match="connect to the seccomp agent"):
        box.run(spec)


def test_a_listener_that_nothing_is_asked_of_is_ignored(box: Box, tmp_path: Path) -> None:
    assert box.run(filtered(box, args=("true",), listener_path=str(tmp_path / "none"))).code == 0


@pytest.mark.parametrize(
    ("action", "errno_ret", "code", "words"),
    [
        ("SCMP_ACT_ERRNO", None, 1, "Operation not permitted"),
        ("SCMP_ACT_ERRNO", errno.EXDEV, 1, "Invalid cross-device link"),
        ("SCMP_ACT_KILL", None, 128 + SIGSYS, ""),
        ("SCMP_ACT_KILL_PROCESS", None, 128 + SIGSYS, ""),
        ("SCMP_ACT_TRAP", None, 128 + SIGSYS, ""),
        ("SCMP_ACT_TRACE", None, 1, "not implemented"),
        ("SCMP_ACT_LOG", None, 0, ""),
        ("SCMP_ACT_ALLOW", None, 0, ""),
    ],
)
def test_actions(box: Box, action: str, errno_ret: int | None, code: int, words: str) -> None:
    denied = rule("mkdir", "mkdirat", action=action, errno_ret=errno_ret)

    said = box.run(filtered(box, denied, args=("mkdir", "/tmp/x")))

    assert said.code == code
    assert words in said.err


def test_a_rule_looks_at_arguments(box: Box) -> None:
    mode = SyscallArg(index=1, value=0o777, value_two=0o777, op="SCMP_CMP_MASKED_EQ")
    spec = filtered(
        box, rule("mkdir", action="SCMP_ACT_ERRNO", errno_ret=errno.EXDEV, args=(mode,)),
        args=("sh", "-c", "mkdir -m 700 /tmp/a && echo made; mkdir /tmp/b"),
    )  # fmt: skip

    said = box.run(spec)

    assert "cross-device" in said.err


def test_a_filter_may_leave_speculation_alone(box: Box) -> None:
    flags = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC")

    said = box.run(filtered(box, args=("grep", "Seccomp:", "/proc/self/status"), flags=flags))

    assert said.out.split()[1] == "2"


def test_architectures_are_those_that_are_named(box: Box) -> None:
    names = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64")

    assert box.run(filtered(box, args=("true",), architectures=names)).code == 0
    with pytest.raises(SampanError, match="SCMP_ARCH_VAX"):
        box.run(filtered(box, args=("true",), architectures=("SCMP_ARCH_VAX",)))
