"""`--preserve-fds`: files that the caller has open, for the program of a container or an exec."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from support.sampan import PROGRAM, Sampan, wait_until

ALONE = ("--network", "none")
LEND = b"POST /sampan/descriptors?count=%d HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
START = b"POST /containers/web/start?descriptors=x HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"
COPY = "cat <&3; echo written >&4; for fd in /proc/self/fd/*; do echo -n ${fd##*/}; done"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "in").write_text("read\n")
    return tmp_path


def with_files(sampan: Sampan, given: Path, *words: str) -> str:
    """Run it with `in` as descriptor 3 and `out` as 4."""
    line = ["sh", "-c", f'exec "$0" "$@" 3<{given}/in 4>{given}/out', PROGRAM, *words]
    return subprocess.run(line, env=sampan.env, check=True, capture_output=True, text=True, timeout=60).stdout


def taken(given: Path) -> str:
    text = (given / "out").read_text()
    (given / "out").unlink()
    return text


@pytest.mark.parametrize("more", [(), ("--init", "--userns", "remap"), ("--tty",)])
def test_a_program_has_open_files_of_who_runs_it_and_no_others(
    sampan: Sampan, given: Path, more: tuple[str, ...]
) -> None:
    if more == ("--tty",):  # whose own side is no terminal here
        with_files(
            sampan,
            given,
            "run",
            "-d",
            "--name",
            "web",
            *more,
            *ALONE,
            "--preserve-fds",
            "2",
            "busybox",
            "sh",
            "-c",
            COPY,
        )
        wait_until(lambda: "01234" in sampan("logs", "web").out)
        sampan("rm", "-f", "web")
    else:
        said = with_files(
            sampan, given, "run", "--rm", *more, *ALONE, "--preserve-fds", "2", "busybox", "sh", "-c", COPY
        )
        assert said.startswith("read\n01234")
    assert taken(given) == "written\n"


def test_a_later_start_and_who_did_not_ask_have_none(sampan: Sampan, given: Path) -> None:
    script = "(cat <&3) 2>/dev/null || echo none; sleep 1000"
    with_files(
        sampan, given, "run", "-d", "--name", "web", *ALONE, "--preserve-fds", "1", "busybox", "sh", "-c", script
    )
    wait_until(lambda: sampan("logs", "web").out == "read\n")

    assert with_files(sampan, given, "exec", "--preserve-fds", "2", "web", "sh", "-c", COPY).startswith("read\n01234")
    assert taken(given) == "written\n"
    with_files(sampan, given, "exec", "-d", "--preserve-fds", "2", "web", "sh", "-c", "echo later >&4")
    wait_until(lambda: (given / "out").read_text() == "later\n")
    assert with_files(sampan, given, "exec", "web", "sh", "-c", "ls /proc/self/fd").split() == ["0", "1", "2", "3"]
    sampan("restart", "-t", "0", "web")
    wait_until(lambda: sampan("logs", "web").out == "read\nnone\n")


@pytest.mark.parametrize(("more", "pid"), [((), "1"), (("--init",), "2")])
def test_sockets_that_systemd_listens_at_for_it_are_the_programs(
    sampan: Sampan, given: Path, more: tuple[str, ...], pid: str
) -> None:
    script = "cat <&3; env | grep LISTEN_ | sort; echo $$"
    line = f'LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PID=$$ exec "$0" "$@" 3<{given}/in'
    words = [PROGRAM, "run", "--name", "web", *more, *ALONE, "busybox", "sh", "-c", script]

    said = subprocess.run(["sh", "-c", line, *words], env=sampan.env, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["read", "LISTEN_FDNAMES=web", "LISTEN_FDS=1", f"LISTEN_PID={pid}", pid]
    assert sampan("start", "-a", "web").line == pid, "a later start has none, and says none"
    elsewhere = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    assert sampan("run", "--rm", *ALONE, "busybox", "sh", "-c", script, env=elsewhere).line == "1"


def test_what_is_not_open_can_not_be_given(sampan: Sampan, given: Path) -> None:
    unavailable = "sampan: file descriptor 3 is not available - the preserve-fds option requires that file descriptors"
    for words in (("run", "--preserve-fds", "1", "busybox", "true"), ("exec", "--preserve-fds", "1", "web", "true")):
        assert sampan.fails(125, *words).err.startswith(unavailable)
    assert (
        "--preserve-fds cannot be negative" in sampan.fails(125, "run", "--preserve-fds", "-1", "busybox", "true").err
    )
    assert sampan("ps", "-aq").out == ""


def test_what_nobody_takes_is_closed_when_the_client_hangs_up(sampan: Sampan) -> None:
    sampan("create", "--name", "web", "busybox", "true")
    for count, expected in ((1, True), (2, False)):
        reader, writer = os.pipe()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(sampan.socket))
            client.sendall(LEND % count)
            assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
            socket.send_fds(client, [b"d"], [writer])
            os.close(writer)
            assert bool(client.recv(100)) is expected, "as many as were told are taken, and no other number"
        assert os.read(reader, 1) == b"", "nobody has it open any more"
        os.close(reader)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sampan.socket))
        client.sendall(START)
        assert client.recv(1000).startswith(b"HTTP/1.1 409 ")
