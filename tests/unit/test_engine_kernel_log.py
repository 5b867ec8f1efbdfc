"""What is read out of the kernel's log, of lines as kernels write them."""

from __future__ import annotations

import os
import socket
import time

import pytest
from hypothesis import example, given, strategies as st

from sampan.engine.endings import with_kernel_records
from sampan.engine.kernel_log import (
    KernelLog,
    Killed,
    Record,
    Refused,
    Victim,
    crashes,
    forbidden,
    out_of_memory,
    parse,
)
from sampan.spec.ending import Counts, Crash, Ending, OutOfMemory

ID = "9c77303b3a902746250734222628980197426c3f67dfc2c07be199915ba48099"
VICTIM = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=engine,mems_allowed=0,oom_memcg=/sampan-0fd9e27a/{id},"
    "task_memcg=/sampan-0fd9e27a/{id}/below,task=tail,pid=7896,uid=0"
)
KILLED = (
    "Memory cgroup out of memory: Killed process 7896 (tail) total-vm:22416kB, anon-rss:20224kB, file-rss:1328kB, "
    "shmem-rss:0kB, UID:0 pgtables:80kB oom_score_adj:0"
)
REFUSED = (
    "audit: type=1326 audit(1795705202.366:39): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7200 comm={comm} "
    'exe="/usr/bin/x" sig=31 arch=c000003e syscall=110 compat=0 ip=0x7eff8fcc7829 code=0x80000000'
)
SEGFAULT = "python3[7202]: segfault at 0 ip 00007eff8fd2dad8 sp 00007ffdcb99f588 error 4 in libc.so.6[167ad8,7eff8fbec000+156000] likely on CPU 1 (core 1, socket 0)"  # noqa: E501
TRAP = "traps: a b[1][77] trap invalid opcode ip:401000 sp:7ffe error:0 in a[401000+1000]"


def record(text: str, priority: int = 6, at_us: int = 5) -> bytes:
    return f"{priority},1,{at_us},-;{text}\n SUBSYSTEM=x\n".encode()


def read(text: str) -> Record | None:
    found = parse(record(text))
    return found[1] if found else None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (VICTIM.format(id=ID), Victim(7896, "tail", f"/sampan-0fd9e27a/{ID}/below", False)),
        (VICTIM.replace("_MEMCG", "_NONE").format(id=ID), Victim(7896, "tail", f"/sampan-0fd9e27a/{ID}/below", True)),
        (KILLED, Killed(7896, "tail", (20224 + 1328) << 10, False)),
        (KILLED.replace("Memory cgroup out", "Out"), Killed(7896, "tail", (20224 + 1328) << 10, True)),
        (REFUSED.format(comm='"python3"'), Refused(7200, "python3", 110, 0xC000003E)),
        (REFUSED.format(comm="612062"), Refused(7200, "a b", 110, 0xC000003E)),
        (
            SEGFAULT,
            Crash(
                pid=7202,
                program="python3",
                said=SEGFAULT.removeprefix("python3[7202]: ").partition(" likely")[0],
            ),
        ),
        (TRAP, Crash(pid=77, program="a b[1]", said=TRAP.partition("[77] ")[2])),
        ("eth0: link is up", None),
        ("oom-kill:constraint=", None),
    ],
)
def test_a_record_is_read(text: str, wanted: Record | None) -> None:
    assert read(text) == wanted


@pytest.mark.parametrize("raw", [b"", b"6", b"6,1", b";", b"x,1,2,-;y", b"6,1,x,-;y", b"6,1,2,-;\xff\xfe"])
def test_what_is_no_record_is_passed_over(raw: bytes) -> None:
    assert parse(raw) is None


@given(st.binary(max_size=300))
@example(record(REFUSED.format(comm="61206")))
def test_no_record_breaks_the_reader(raw: bytes) -> None:
    parse(raw)
    parse(b"6,1,2,-;" + raw)
    parse(record(VICTIM.format(id=ID) + raw.decode("latin-1")))


def test_a_line_that_a_user_wrote_into_the_log_is_not_believed() -> None:
    assert parse(record(KILLED, priority=12)) is None  # facility 1


def test_the_victims_of_a_container_are_known_by_its_control_group() -> None:
    victims: list[Record] = [
        Victim(7, "x", f"/sampan-a/{ID}", False),
        Killed(7, "x", 4096, False),
        Victim(8, "y", "/sampan-a/other", False),
        Killed(8, "y", 4096, False),
    ]

    assert out_of_memory(victims, ID, 1) == (OutOfMemory(pid=7, program="x", resident=4096),)


def test_a_first_process_is_known_by_its_pid_where_the_kernel_said_only_that() -> None:
    assert out_of_memory([Killed(7, "x", 4096, True)], ID, 7) == (
        OutOfMemory(pid=7, program="x", resident=4096, host=True),
    )


def test_the_victims_of_earlier_runs_are_not_the_last_ones() -> None:
    kernel, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader.setblocking(False)
    log = KernelLog(reader.detach)
    began = time.time_ns()
    for pid in (1, 2, 3):
        text = VICTIM.format(id=ID).replace("pid=7896", f"pid={pid}")
        kernel.send(record(text, at_us=time.monotonic_ns() // 1000))
    ending = Ending(at_ns=time.time_ns(), started_at_ns=began, exit_code=137, counts=Counts(oom_kills=1))

    found = with_kernel_records(ending, ID, True, log)
    assert [victim.pid for victim in found.out_of_memory] == [3]
    kernel.close()
    log.close()


def test_the_refused_call_and_the_crash_are_those_of_the_process() -> None:
    records: list[Record] = [Refused(7, "x", 83, 0xC000003E), Refused(8, "y", 99999, 0xC000003E)]
    crash = Crash(pid=7, program="x", said="segfault at 0")

    assert [(f.pid, f.syscall) for f in forbidden(records, 7)] == [(7, "mkdir")]
    assert [(f.pid, f.syscall) for f in forbidden(records, 0)] == [(8, "#99999")]
    assert crashes([crash], 7) == (crash,)
    assert crashes([crash], 8) == ()


def test_a_record_of_before_is_another_process_of_the_same_number(tmp_path) -> None:
    now_ns, now_us = time.time_ns(), time.monotonic_ns() // 1000
    path = tmp_path / "kmsg"
    path.write_bytes(record(KILLED, at_us=now_us))
    log = KernelLog(lambda: os.open(path, os.O_RDONLY))

    assert log.records(now_ns - 10**9) == (read(KILLED),)
    assert log.records(now_ns + 60 * 10**9) == ()
    log.close()


def test_a_host_whose_log_may_not_be_read_has_no_records(tmp_path) -> None:
    assert KernelLog(lambda: os.open(tmp_path / "none", os.O_RDONLY)).records(0) == ()
