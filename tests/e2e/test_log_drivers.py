"""--log-driver and --log-opt: each driver with somebody who gets what it sends, and `logs` of each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Authority
from support.receivers import Receiver
from support.sampan import PROGRAM, Sampan, new_root, wait_until

TEN = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; done"


def opts(*words: str) -> list[str]:
    return [part for word in words for part in ("--log-opt", word)]


def syslog(receiver: Receiver, *options: str) -> list[str]:
    return ["--log-driver", "syslog", *opts(f"syslog-address={receiver.address}", *options)]


def directory(sampan: Sampan, name: str) -> Path:
    return sampan.root / "containers" / sampan.inspect(name)["Id"]


def test_what_is_picked_of_a_container_stands_in_each_line_and_in_the_details(sampan: Sampan) -> None:
    picked = opts("labels=a", "labels-regex=^b", "env=X", "env-regex=Z$", "tag={{.ImageName}}/{{.Name}}/{{.Command}}")
    flags = ["--label", "a=b", "--label", "bb=c d", "--label", "c=d", "-e", "X=1", "-e", "YZ=2", "-e", "W=3"]
    sampan("run", "--name", "web", *picked, *flags, "busybox", "echo", "hi")

    line = json.loads((directory(sampan, "web") / f"{sampan.inspect('web')['Id']}-json.log").read_text())
    assert line["attrs"] == {"X": "1", "YZ": "2", "a": "b", "bb": "c d", "tag": "busybox/web/echo hi"}
    assert list(line) == ["log", "stream", "attrs", "time"]
    assert sampan("logs", "--details", "web").line == "X=1,YZ=2,a=b,bb=c+d,tag=busybox%2Fweb%2Fecho+hi hi"
    assert sampan("logs", "web").line == "hi"


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_rotated_files_are_compressed_and_read_again(sampan: Sampan, driver: str) -> None:
    limits = opts("max-size=15k", "max-file=4", "compress=true")
    flags = ["--log-driver", driver, *limits]
    sampan("run", "-d", "--name", "web", *flags, "busybox", "sh", "-c", "seq 1 20000; exec sleep 1000")
    wait_until(lambda: sampan("logs", "-n", "1", "web").line == "20000")

    there = directory(sampan, "web")
    wait_until(lambda: [path.suffix for path in there.glob("*.log.*")] == [".gz"] * 3, what="three are compressed")
    kept = sampan("logs", "web").lines
    assert kept == [str(n) for n in range(20001 - len(kept), 20001)]
    assert len(kept) > 500
    assert sampan("logs", "-n", "500", "web").lines == kept[-500:]
    assert sampan("logs", "--since", "1h", "web").lines == kept


def test_local_keeps_bytes_as_they_are_and_the_streams_apart(sampan: Sampan) -> None:
    flags = ["--log-driver", "local"]
    sampan(
        "run",
        "--name",
        "web",
        *flags,
        "busybox",
        "sh",
        "-c",
        r"printf 'a\377b\n\\n" '"' r"\n'; echo err >&2; printf end",
    )

    logged = subprocess.run([PROGRAM, "logs", "web"], env=sampan.env, capture_output=True, check=True, timeout=30)
    assert logged.stdout == b'a\xffb\n\\n"\nend'
    assert logged.stderr == b"err\n"
    assert re.fullmatch(r"\d{4}-.*Z  err\n", sampan("logs", "-t", "--details", "-n", "2", "web").err)
    assert sampan.inspect("web")["LogPath"] == ""
    assert sampan.inspect("web")["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {}}


def test_following_a_local_log_goes_on_over_rotations(sampan: Sampan) -> None:
    flags = ["--log-driver", "local", *opts("max-size=20k", "max-file=50")]
    sampan(
        "run", "-d", "--name", "web", *flags, "busybox", "sh", "-c", "sleep 1; for i in $(seq 1 3000); do echo $i; done"
    )

    assert sampan("logs", "-f", "web", timeout=30).lines == [str(n) for n in range(1, 3001)]


FORMS = {
    "": r"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d web\[\d+\]: out",
    "rfc3164": r"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ web\[\d+\]: out",
    "rfc5424": r"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \S+ web \d+ web - out",
    "rfc5424micro": r"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d) \S+ web \d+ web - out",
}


@pytest.mark.parametrize(
    ("scheme", "form"), [("udp", ""), ("tcp", "rfc3164"), ("unix", "rfc5424"), ("unixgram", "rfc5424micro")]
)
def test_syslog_gets_a_message_a_line_and_logs_reads_a_copy(
    sampan: Sampan, tmp_path: Path, scheme: str, form: str
) -> None:
    with Receiver(scheme, tmp_path / "log" if scheme.startswith("unix") else None) as receiver:
        flags = syslog(receiver, f"syslog-format={form}", "tag={{.Name}}")
        sampan("run", "--rm", "--name", "web", *flags, "busybox", "sh", "-c", "echo out; echo; echo err >&2")
        wait_until(lambda: len(receiver.lines) == 2, what="two messages")
        sampan("run", "--name", "other", *syslog(receiver, "syslog-facility=local3"), "busybox", "sh", "-c", TEN)
        wait_until(lambda: len(receiver.lines) == 12, what="ten more")

        out, err = sorted(receiver.lines[:2], key=lambda line: "err" in line)
        assert re.fullmatch(FORMS[form], out)
        assert re.fullmatch("<27>.*err", err)
        assert receiver.lines[2].startswith("<158>")
        assert f"{sampan.inspect('other')['Id'][:12]}[" in receiver.lines[2]
        assert sampan("logs", "-n", "3", "other").lines == ["8", "9", "10"]


def test_tls_is_checked_and_carries_counted_messages(sampan: Sampan, tmp_path: Path) -> None:
    authority, clients, others = (Authority(tmp_path / "tls", name) for name in ("ca", "clients", "others"))
    certificate, key = clients.issue("client")
    context = authority.server("IP:127.0.0.1", clients_of=clients)
    with Receiver("tcp+tls", context=context) as receiver:
        own = [f"syslog-tls-cert={certificate}", f"syslog-tls-key={key}", "syslog-format=rfc5424", "tag=x"]
        flags = syslog(receiver, f"syslog-tls-ca-cert={authority.certificate}", *own)
        sampan("run", "--rm", *flags, "busybox", "sh", "-c", TEN)
        wait_until(lambda: b"- 10\n" in receiver.received, what="the last line")
        found = sampan.fails(
            125, "run", *syslog(receiver, f"syslog-tls-ca-cert={others.certificate}", *own), "busybox", "true"
        )
        sampan("run", "--rm", *syslog(receiver, "syslog-tls-skip-verify=true", *own), "busybox", "echo", "trusting")
        wait_until(lambda: b"trusting" in receiver.received, what="the line of who does not look")

        rest = receiver.received
        for number in range(1, 11):
            size, _, rest = rest.partition(b" ")
            message, rest = rest[: int(size)], rest[int(size) :]
            assert message.endswith(f" x - {number}\n".encode())
        assert "failed to initialize logging driver: dial tcp 127.0.0.1:" in found.err
        assert "certificate verify failed" in found.err
        missing = sampan.fails(125, "run", *syslog(receiver, "syslog-tls-ca-cert=/nosuch"), "busybox", "true")
        assert 'could not read CA certificate "/nosuch": open /nosuch: no such file or directory' in missing.err


def test_a_slow_receiver_holds_the_container_up_unless_told_not_to(sampan: Sampan, tmp_path: Path) -> None:
    script = "seq 1 60000; touch /tmp/done; exec sleep 1000"
    with Receiver("unix", tmp_path / "log") as receiver:
        receiver.reading.clear()
        sampan("run", "-d", "--name", "slow", *syslog(receiver), "busybox", "sh", "-c", script)
        quick = syslog(receiver, "mode=non-blocking", "max-buffer-size=100k")
        sampan("run", "-d", "--name", "quick", *quick, "busybox", "sh", "-c", script)
        wait_until(lambda: sampan("exec", "quick", "test", "-e", "/tmp/done", check=False).code == 0, timeout=30)
        assert sampan("exec", "slow", "test", "-e", "/tmp/done", check=False).code == 1

        receiver.reading.set()
        wait_until(lambda: b"]: 60000\n" in receiver.received, timeout=30, what="the last line")
        slow = sampan.inspect("slow")["Id"][:12]
        got = [line.rpartition(" ")[2] for line in receiver.lines if f"{slow}[" in line]
        assert got == [str(n) for n in range(1, 60001)]
        wait_until(lambda: b"lines are missing here" in receiver.received, what="a word about what is missing")
        assert len(sampan("logs", "quick").lines) == 60000


def test_a_receiver_that_comes_back_gets_what_was_said_meanwhile(sampan: Sampan) -> None:
    with Receiver("tcp") as receiver:
        script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done"
        sampan("run", "-d", "--name", "web", *syslog(receiver, "cache-disabled=true"), "busybox", "sh", "-c", script)
        wait_until(lambda: b"line 3\n" in receiver.received)

        receiver.close()
        before = len(receiver.lines)
        time.sleep(0.3)
        os.kill(sampan.shim_pid("web"), signal.SIGKILL)
        receiver.open_again()

        wait_until(lambda: len(receiver.lines) > before + 10, what="more lines")
        numbers = [int(line.rpartition(" ")[2]) for line in receiver.lines]
        assert numbers == sorted(set(numbers))
        refused = sampan.fails(1, "logs", "web")
        assert "configured logging driver does not support reading" in refused.err


def test_a_start_fails_where_nobody_takes_what_is_logged(sampan: Sampan, tmp_path: Path) -> None:
    with Receiver("tcp") as receiver:
        address = receiver.address
    flags = ["--log-driver", "syslog", *opts(f"syslog-address={address}")]

    found = sampan.fails(125, "run", "--name", "web", *flags, "busybox", "true")

    host = address.removeprefix("tcp://")
    assert f"failed to initialize logging driver: dial tcp {host}: connection refused" in found.err
    assert sampan.inspect("web")["State"]["Status"] == "created"


@pytest.fixture
def journaled(busybox_tar: Path) -> Iterator[Sampan]:
    """Yield an instance whose processes have a journal: in a mount namespace of their own, all under a tmpfs."""
    sampan = Sampan(new_root())
    journald = "/lib/systemd/systemd-journald"
    covers = "for d in /run/systemd /run/log /var/log; do mkdir -p $d; mount -t tmpfs tmpfs $d; done"
    script = f"{covers}; mkdir /run/systemd/journal; {PROGRAM} system start >&2; exec {journald}"
    namespace = subprocess.Popen(["unshare", "-m", "sh", "-ec", script], env=sampan.env)
    try:
        inside = f"/proc/{namespace.pid}/root/run/systemd/journal/socket"
        wait_until(lambda: os.path.exists(inside) and sampan.socket.exists(), timeout=20, what="journald listens")
        sampan("import", busybox_tar, "busybox")
        yield sampan
    finally:
        sampan("ps", "-aq")
        sampan.remove_everything()
        sampan.end()
        namespace.kill()
        namespace.wait()


def test_the_journal_gets_fields_and_logs_asks_it(journaled: Sampan) -> None:
    sampan = journaled
    flags = ["--log-driver", "journald", *opts("tag={{.Name}}", "labels=my.app"), "--label", "my.app=a b"]
    script = "echo one; echo two >&2; printf '\\377 three\\n'; sleep 1; echo four; exec sleep 1000"
    sampan("run", "-d", "--name", "web", *flags, "busybox", "sh", "-c", script)

    following = sampan.start("logs", "-f", "web")
    wait_until(lambda: "four" in sampan("logs", "web").out, timeout=20)
    assert sampan("logs", "web").lines == ["one", "\ufffd three", "four"]
    assert sampan("logs", "web").err == "two\n"
    assert sampan("logs", "-n", "1", "web").lines == ["four"]
    assert sampan("logs", "--details", "-n", "1", "web").line == "MY_APP=a+b four"
    stamp = sampan("logs", "-t", "-n", "1", "web").line.split()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp)
    assert sampan("logs", "--since", stamp, "web").lines == ["four"]
    assert "four" not in sampan("logs", "--until", "2000-01-01T00:00:00Z", "web").out
    sampan("kill", "web")
    out, err = following.communicate(timeout=20)
    assert (out, err) == (b"one\n\xff three\nfour\n", b"two\n")
    assert not list(directory(sampan, "web").glob("*cached*"))
