"""`why`: each cause provoked for real, and told with the fix that helps."""

from __future__ import annotations

import json
import os
import shlex
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.faults import small_disk
from support.sampan import Sampan, new_root, wait_until

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
KILLS_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
}
ILLEGAL = {"x86_64": b"\x0f\x0b", "aarch64": bytes(4)}  # ud2, udf
MACHINES = {"x86_64": 62, "aarch64": 183}


def why(sampan: Sampan, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sampan("why", name, "--format", "json").out)
    return found


def run(sampan: Sampan, *flags: str | Path) -> dict[str, Any]:
    """Run a container `web` to its end, without a network unless flags say otherwise, and return why it ended."""
    network = () if "--network" in flags else ("--network", "none")
    sampan("run", "--name", "web", *network, *flags, check=False)
    wait_until(lambda: sampan.inspect("web")["State"]["Status"] == "exited")
    return why(sampan, "web")


def first(found: dict[str, Any]) -> tuple[str, str]:
    """Return the first cause's kind, and all that is said of it."""
    cause = found["Causes"][0]
    return cause["Kind"], "\n".join((cause["Said"], *cause["Facts"], *cause["Fixes"]))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def event(sampan: Sampan, action: str) -> dict[str, str]:
    """Return the attributes of the last event of `web`."""
    query = ("--since", "5m", "--until", "0s", "--filter", f"event={action}", "--filter", "container=web")
    attributes: dict[str, str] = json.loads(sampan("events", *query, "--format", "json").lines[-1])["Actor"][
        "Attributes"
    ]
    return attributes


def elf(code: bytes, *, machine: int | None = None, loader: bytes = b"") -> bytes:
    """Return a program of this machine that executes `code`, or one that asks for a loader."""
    number = MACHINES[os.uname().machine] if machine is None else machine
    headers = 64 + 56 * (2 if loader else 1)
    base = 0x400000
    body = loader + b"\0" if loader else code
    segments = [struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, headers + len(body), headers + len(body), 4096)]
    if loader:
        at = (headers, base + headers, base + headers)
        segments.insert(0, struct.pack("<IIQQQQQQ", 3, 4, *at, len(body), len(body), 1))
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, base + headers, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    )
    return head + b"".join(segments) + body


# ------------------------------------------------------------------------------------------------------------- memory


def test_out_of_memory_names_the_process_the_limit_and_a_command_that_helps(sampan: Sampan) -> None:
    found = run(sampan, "--memory", "12m", "busybox", "sh", "-c", "tail /dev/zero; echo it was $?; exit 4")

    kind, said = first(found)
    assert kind == "out-of-memory"
    assert "killed its process tail (pid " in said
    assert "since it was at its limit of 12MiB" in said
    assert found["Said"].startswith("web ended with exit code 4 ")
    assert found["Output"][-1] == "it was 137"
    ending = sampan.inspect("web")["State"]["Ending"]
    assert ending == found["Ending"]
    assert (ending["Counts"]["MemoryLimit"], ending["OutOfMemory"][0]["Program"]) == (12 << 20, "tail")
    told = event(sampan, "oom")
    assert (told["oomProcess"], told["memoryLimit"]) == ("tail", str(12 << 20))
    (fix,) = found["Causes"][0]["Fixes"]
    sampan(*shlex.split(fix)[1:])
    assert sampan.inspect("web")["HostConfig"]["Memory"] == 24 << 20


def test_a_child_out_of_memory_is_told_of_a_container_that_runs_on(sampan: Sampan) -> None:
    script = "tail /dev/zero; echo done; sleep 100"
    sampan("run", "-d", "--name", "web", "--network", "none", "--memory", "12m", "busybox", "sh", "-c", script)
    wait_until(lambda: sampan("logs", "web").lines[-1:] == ["done"])  # an exec would be the kernel's victim, too

    found = why(sampan, "web")
    assert found["Said"].startswith("web runs, started ")
    assert first(found)[0] == "out-of-memory"
    assert "Ending" not in found
    query = ("--since", "5m", "--until", "0s", "--filter", "event=oom", "--filter", f"container={found['Id']}")
    wait_until(lambda: sampan("events", *query).lines)
    told = event(sampan, "oom")
    assert (told["oomProcess"], told["memoryLimit"]) == ("tail", str(12 << 20))
    sampan("kill", "web")
    sampan("wait", "web")
    assert len(sampan("events", *query).lines) == 1


@pytest.mark.skipif(UNIFIED, reason="kernel: cgroup v2 can't keep the kernel from killing")
def test_one_that_waits_for_memory_is_told_to_stand_still_and_goes_on_with_more(sampan: Sampan) -> None:
    grow = 'BEGIN { while (length(s) < 40000000) s = s s "0123456789"; print length(s) > "/done" }'
    flags = ("--network", "none", "--oom-kill-disable", "--memory", "12m", "--memory-swap", "12m")
    sampan("run", "-d", "--name", "web", *flags, "busybox", "sh", "-c", f"awk '{grow}'; sleep 100")
    wait_until(lambda: why(sampan, "web")["Causes"])

    kind, said = first(why(sampan, "web"))
    assert (kind, "it stands still: it is at its limit of 12MiB" in said) == ("out-of-memory", True)
    sampan("update", "--memory", "500m", "--memory-swap", "500m", "web")
    wait_until(lambda: sampan("exec", "web", "ls", "/done", check=False).code == 0)


def test_one_that_has_removed_itself_is_still_told_of(sampan: Sampan) -> None:
    words = ("--network", "none", "--memory", "12m", "busybox", "tail", "/dev/zero")
    sampan("run", "--rm", "--name", "web", *words, check=False)
    wait_until(lambda: not sampan("ps", "-aq").out)

    found = why(sampan, "web")
    assert found["Status"] == "removed"
    assert found["Said"].endswith(", and has been removed since: --rm")
    assert first(found)[0] == "out-of-memory"
    assert found["Causes"][0]["Fixes"] == ["run it with --memory 24m"]
    assert why(sampan, found["Id"][:12])["Ending"] == found["Ending"]


# ------------------------------------------------------------------------------------------------------------ signals


def test_a_stop_names_who_asked_and_what_the_program_did_not_do(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "100")
    client = sampan.start("stop", "-t", "0", "web")
    client.communicate()

    kind, said = first(why(sampan, "web"))
    assert kind == "stopped"
    assert f"`stop` was asked for by sampan (pid {client.pid}, uid {os.geteuid()}), and SIGKILL ended it" in said
    assert "SIGTERM was sent by `stop`" in said
    assert "run it with --init, or --stop-signal" in said
    assert event(sampan, "die")["signalledBy"] == "stop"
    sampan("start", "web")
    assert why(sampan, "web")["Causes"] == []


def test_a_kill_by_another_process_of_the_host_is_told_from_one_through_sampan(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "100")
    os.kill(sampan.inspect("web")["State"]["Pid"], signal.SIGKILL)
    sampan("wait", "web")

    kind, said = first(why(sampan, "web"))
    assert kind == "signal"
    assert "SIGKILL ended it, which was not sent through sampan" in said
    assert "a process outside of the container" in said
    sampan("start", "web")
    sampan("kill", "web")
    assert "`kill` was asked for by sampan" in first(why(sampan, "web"))[1]


def test_a_program_that_ends_when_it_is_asked_to_is_told_so(sampan: Sampan) -> None:
    script = "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.05; done"
    sampan("run", "-d", "--name", "web", "--network", "none", "busybox", "sh", "-c", script)
    wait_until(lambda: sampan("exec", "web", "ls", "/ready", check=False).code == 0)
    sampan("stop", "web")

    found = why(sampan, "web")
    assert found["Said"].startswith("web ended with exit code 7")
    assert first(found)[0] == "stopped"
    assert "and it then ended by itself" in first(found)[1]
    assert found["Causes"][0]["Fixes"] == []


def test_its_time_was_over(sampan: Sampan) -> None:
    kind, said = first(run(sampan, "--timeout", "1", "busybox", "sleep", "100"))

    assert (kind, "it may run for 1 s" in said) == ("timeout", True)


def test_an_end_while_there_was_no_server_is_recorded_by_the_next(sampan: Sampan, tmp_path: Path) -> None:
    script = "until [ -e /x/go ]; do usleep 10000; done; exec tail /dev/zero"
    flags = ("--network", "none", "--memory", "12m", "-v", f"{tmp_path}:/x")
    sampan("run", "-d", "--name", "web", *flags, "busybox", "sh", "-c", script)
    pid, server = sampan.inspect("web")["State"]["Pid"], sampan.info("ServerPid")
    os.kill(server, signal.SIGSTOP)
    (tmp_path / "go").touch()
    wait_until(lambda: not lives(pid))
    os.kill(server, signal.SIGKILL)

    assert first(why(sampan, "web"))[0] == "out-of-memory"
    assert sampan.inspect("web")["State"]["Ending"]["OutOfMemory"][0]["Pid"] == pid


# --------------------------------------------------------------------------------------------- what the kernel refused


def test_a_system_call_that_the_profile_kills_for_is_named(sampan: Sampan, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(KILLS_MKDIR))

    kind, said = first(run(sampan, "--security-opt", f"seccomp={profile}", "busybox", "mkdir", "/x"))
    assert kind == "seccomp"
    assert "SIGSYS: mkdir (pid " in said
    assert "made the system call mkdir" in said
    assert "allow mkdir in that profile" in said
    assert event(sampan, "die")["signal"] == str(int(signal.SIGSYS))
    sampan("rm", "web")
    kind, said = first(run(sampan, "--security-opt", f"seccomp={profile}", "busybox", "sh", "-c", "mkdir /x; exit $?"))
    assert (kind, "made the system call mkdir" in said) == ("seccomp", True)


@pytest.mark.skipif(os.uname().machine not in ILLEGAL, reason="kernel: no such program was written for this machine")
def test_a_crash_is_told_in_the_kernels_words(sampan: Sampan, tmp_path: Path) -> None:
    program = tmp_path / "illegal"
    program.write_bytes(elf(ILLEGAL[os.uname().machine]))
    program.chmod(0o755)

    kind, said = first(run(sampan, "-v", f"{program}:/illegal", "busybox", "/illegal"))
    assert kind == "crash"
    assert "SIGILL: it executed an instruction that this processor does not have" in said
    assert "the kernel's record: illegal[" in said or os.uname().machine != "x86_64"


# ---------------------------------------------------------------------------------- programs that could not be executed

FILES: dict[str, tuple[bytes, int, str, str]] = {
    "nox": (b"#!/bin/sh\n", 0o644, "not-executable", "its mode has no x"),
    "crlf": (b"#!/bin/sh\r\necho x\r\n", 0o755, "command-not-found", "it has Windows line endings"),
    "bash": (b"#!/bin/bash\n", 0o755, "command-not-found", "its interpreter /bin/bash is missing in the container"),
    "text": (b"hello\n", 0o755, "not-executable", "begin it with #!/bin/sh"),
    "arch": (elf(b"", machine=21), 0o755, "not-executable", "it is a program for ppc64"),
    "glibc": (elf(b"", loader=b"/lib/ld-none.so"), 0o755, "command-not-found", "its loader /lib/ld-none.so is missing"),
}


@pytest.fixture(scope="module")
def programs(shared: Sampan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampan]:
    """An instance with an image that has all of these programs in /p."""
    directory = tmp_path_factory.mktemp("programs")
    for name, (content, mode, _, _) in FILES.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(mode)
    shared("create", "--name", "made", "busybox", "true")
    shared("cp", f"{directory}/.", "made:/p")
    shared("commit", "made", "programs")
    shared("rm", "made")
    yield shared
    shared("rmi", "programs")


@pytest.mark.parametrize("name", FILES)
def test_a_program_that_can_not_be_executed_is_told_with_what_is_wrong(
    programs: Sampan, sampan: Sampan, name: str
) -> None:
    _, _, kind, wanted = FILES[name]
    programs("create", "--name", "web", "--network", "none", "programs", f"/p/{name}")
    programs("start", "web", check=False)

    found = why(programs, "web")
    assert first(found)[0] == kind
    assert wanted in first(found)[1]
    assert ", and failed to start " in found["Said"]


@pytest.mark.parametrize(
    ("script", "kind", "wanted"),
    [
        ("nosuch -x", "command-not-found", "there is no program nosuch in the container's PATH"),
        ("/no/such", "command-not-found", "there is no file /no/such in the container"),
        ("cd /p; ./nox", "not-executable", "/p/nox is there, and its mode has no x"),
        ("/p/crlf", "command-not-found", "its #! line ends in a carriage return"),
        ("/p/arch", "command-not-found", "/p/arch is there, but it is a program for ppc64"),
        ("exec /p/nox", "not-executable", "/p/nox is there, and its mode has no x"),
        ("mknod /pipe p; chmod +x /pipe; /pipe", "not-executable", "/pipe is no regular file"),
        ("ln -s /p/glibc /bin/server; server", "command-not-found", "its loader /lib/ld-none.so is missing"),
        ("cp /bin/busybox /t/busybox; /t/busybox", "not-executable", "run it with --tmpfs /t:exec"),
    ],
)
def test_a_program_that_its_shell_could_not_run_is_looked_at(
    programs: Sampan, sampan: Sampan, script: str, kind: str, wanted: str
) -> None:
    found = run(programs, "--tmpfs", "/t", "-w", "/p", "programs", "sh", "-c", script)

    assert first(found)[0] == kind
    assert wanted in first(found)[1]


def test_a_link_of_the_containers_is_not_followed_on_the_host(programs: Sampan, sampan: Sampan, tmp_path: Path) -> None:
    """What it leads to is looked for in the container, where it is not."""
    secret = tmp_path / "secret"
    secret.write_text("#!/host/only\n")
    secret.chmod(0o755)

    said = first(run(programs, "programs", "sh", "-c", f"ln -s ../../../..{secret} /entry; /entry"))[1]
    assert "there is no file /entry in the container" in said
    assert "/host/only" not in said


# -------------------------------------------------------------------------------------------------------------- limits


def test_a_limit_of_processes_is_named_with_a_command_that_helps(sampan: Sampan) -> None:
    script = "for i in 1 2 3 4 5; do sleep 100 & done; exit 2"
    found = run(sampan, "--pids-limit", "3", "busybox", "sh", "-c", script)

    kind, said = first(found)
    assert (kind, "its limit of 3 processes" in said) == ("pids-limit", True)
    sampan(*shlex.split(found["Causes"][0]["Fixes"][0])[1:])
    assert sampan.inspect("web")["HostConfig"]["PidsLimit"] == 6


def test_a_full_shm_and_a_read_only_root_are_told_with_the_flag_that_helps(sampan: Sampan) -> None:
    found = run(sampan, "--shm-size", "1m", "busybox", "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=2")
    assert found["Causes"][0]["Fixes"] == ["run it with --shm-size 2m (it has 1MiB)"]
    sampan("rm", "web")

    found = run(sampan, "--read-only", "busybox", "touch", "/etc/x")
    assert first(found)[0] == "read-only"
    assert found["Causes"][0]["Fixes"] == ["give it room to write there: --tmpfs /etc, or -v NAME:/etc"]


def test_a_full_disk_is_measured_when_the_container_ends(busybox_tar: Path) -> None:
    with small_disk(new_root() / "disk", "24m") as directory:
        (directory / "root").mkdir()
        small = Sampan(directory / "root")
        try:
            small("import", busybox_tar, "busybox")
            found = run(small, "busybox", "sh", "-c", "cat /dev/zero >/x || exit 9")

            kind, said = first(found)
            assert kind == "disk-full"
            assert "(its files) had 0B left of " in said
            assert "sampan system df" in said
        finally:
            small.end()
    directory.parent.rmdir()


# -------------------------------------------------------------------------------------------- what its last lines say

NOBODY = ("-u", "1000")
SPINS = 'sh -c "while :; do :; done"; exit $?'
LISTENS = "nc -l -p 8123 & until grep -q :1FBB /proc/net/tcp*; do :; done; nc -l -p 8123"
GROWS = 'BEGIN { while (length(s) < 90000000) s = s s "0123456789" }'
TOLD: list[tuple[tuple[str, ...], tuple[str, ...], str, str]] = [
    (("--ulimit", "nofile=3:9"), ("cat", "/etc/passwd"), "ulimit", "run it with --ulimit nofile=6:9"),
    (
        ("--ulimit", "fsize=1000"),
        ("dd", "if=/dev/zero", "of=/x", "count=9"),
        "ulimit",
        "run it with --ulimit fsize=2000",
    ),
    (("--ulimit", "fsize=1000"), ("sh", "-c", "dd if=/dev/zero of=/x count=9; exit $?"), "ulimit", "SIGXFSZ: it wrote"),
    (("--ulimit", "cpu=1:3"), ("sh", "-c", SPINS), "ulimit", "SIGXCPU: it has used all the processor time"),
    (("--ulimit", "nproc=1", "-u", "54321"), ("sh", "-c", "ls; ls"), "ulimit", "run it with --ulimit nproc=2:2"),
    (("--ulimit", "data=20000000"), ("awk", GROWS), "out-of-memory", "run it with --ulimit data=40000000:40000000"),
    ((), ("sh", "-c", LISTENS), "address-in-use", "it is one of its own processes that listens there"),
    ((), ("wget", "http://db/"), "no-network", "the name db was not found"),
    (
        ("--network", "bridge", "--dns", "127.0.0.1"),
        ("wget", "http://db/"),
        "name-resolution",
        "sampan network create NET",
    ),
    ((), ("wget", "http://1.2.3.4/"), "no-network", "leave out --network none"),
    ((), ("wget", "http://127.0.0.1:81/"), "connection-refused", "in a container is the container itself"),
    ((), ("ip", "link", "set", "lo", "down"), "not-permitted", "run it with --cap-add NET_ADMIN"),
    ((), ("mount", "-t", "tmpfs", "x", "/mnt"), "not-permitted", "run it with --cap-add SYS_ADMIN"),
    (("--cap-drop", "CHOWN"), ("chown", "5", "/etc"), "not-permitted", "run it without --cap-drop CHOWN"),
    (NOBODY, ("chown", "5", "/etc"), "not-permitted", "it runs as user 1000, who has no capabilities"),
    ((), ("sh", "-c", "mknod /dev/x b 8 0; cat /dev/x"), "not-permitted", "run it with --device /dev/x"),
    (NOBODY, ("touch", "/etc/x"), "access-denied", "it has no access to /etc/x"),
    (
        (*NOBODY, "--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"),
        ("nc", "-l", "-p", "80"),
        "access-denied",
        "run it with --sysctl net.ipv4.ip_unprivileged_port_start=0",
    ),
    (("-v", "vol:/data:ro"), ("touch", "/data/x"), "read-only", "leave out `ro` where /data is mounted"),
    ((), ("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"), "read-only", "--sysctl net.ipv4.ip_forward=…"),
]


@pytest.mark.parametrize(
    ("flags", "words", "kind", "wanted"), TOLD, ids=[" ".join(row[0] + row[1][-1:]) for row in TOLD]
)
def test_what_its_last_lines_say_is_told_with_the_limit_or_right_and_the_flag(
    sampan: Sampan, flags: tuple[str, ...], words: tuple[str, ...], kind: str, wanted: str
) -> None:
    found = run(sampan, *flags, "busybox", *words)

    assert first(found)[0] == kind, found
    assert wanted in first(found)[1]
    assert found["Causes"][0]["FromOutput"] == (not wanted.startswith("SIG"))
    assert found["Causes"][0]["FromOutput"] == found["Causes"][0]["Said"].startswith("its last lines say that ")


def test_a_program_that_no_shell_has_started_is_looked_at_too(programs: Sampan, sampan: Sampan) -> None:
    """As Go says it; and what stands before a stack trace is seen."""
    found = run(programs, "programs", "sh", "-c", "echo 'fork/exec /p/arch: exec format error'; exit 1")
    assert "/p/arch is there, but it is a program for ppc64" in first(found)[1]
    assert not found["Causes"][0]["FromOutput"]
    programs("rm", "web")

    script = "echo 'java.lang.OutOfMemoryError: Java heap space'; seq 50; exit 1"
    kind, said = first(run(programs, "busybox", "sh", "-c", script))
    assert kind == "out-of-memory"
    assert "run it with -e JAVA_TOOL_OPTIONS=" in said


# ------------------------------------------------------------------------------------------------------ while it runs


def test_an_unhealthy_container_is_told_with_what_its_check_said(sampan: Sampan) -> None:
    check = ("--health-cmd", "echo no answer; exit 3", "--health-interval", "100ms", "--health-retries", "1")
    sampan("run", "-d", "--name", "web", "--network", "none", *check, "busybox", "sleep", "100")
    wait_until(lambda: sampan.inspect("web")["State"]["Health"]["Status"] == "unhealthy")

    found = why(sampan, "web")
    assert "web runs and is unhealthy" in found["Said"]
    assert first(found)[0] == "unhealthy"
    assert "the check said: no answer" in first(found)[1]
    fix = found["Causes"][0]["Fixes"][0].partition(": ")[2]
    assert sampan(*shlex.split(fix)[1:], check=False).line == "no answer"


def test_one_that_was_killed_since_it_was_unhealthy_is_told_so(sampan: Sampan) -> None:
    check = ("--health-cmd", "echo no answer; exit 3", "--health-interval", "100ms", "--health-retries", "1")
    found = run(sampan, *check, "--health-on-failure", "kill", "busybox", "sleep", "100")

    assert [cause["Kind"] for cause in found["Causes"]] == ["unhealthy", "signal"]
    assert "SIGKILL was sent since it was unhealthy: --health-on-failure" in found["Causes"][1]["Said"]


def test_one_that_its_policy_starts_again_is_told_why_it_ends(sampan: Sampan) -> None:
    policy = ("--restart", "always", "--network", "none")
    sampan("run", "-d", "--name", "web", *policy, "busybox", "sh", "-c", "echo broken; exit 4")
    wait_until(lambda: why(sampan, "web")["Status"] == "restarting", timeout=60)

    said = sampan("why", "web").out
    assert "exit code 4" in said
    assert "by --restart always" in said or "runs" in said
    assert "broken" in said
    sampan("update", "--restart", "no", "web")
    wait_until(lambda: sampan.inspect("web")["State"]["Status"] == "exited")
    assert [cause["Kind"] for cause in why(sampan, "web")["Causes"]] == ["exited"]


def test_text_shows_causes_with_facts_fixes_and_output_that_does_nothing_to_a_terminal(sampan: Sampan) -> None:
    run(sampan, "busybox", "sh", "-c", r"printf 'a\033[31mb\033]0;title\007c\rd\n'; touch /none/x; exit 3")

    lines = sampan("why", "web").lines
    assert lines[0].startswith("web ended with exit code 3 ")
    assert lines[1] == (
        "  its program has ended by itself with exit code 3: what that means is its own, and in its output"
    )
    assert lines[2:] == [
        "its last output:",
        "  abc\N{REPLACEMENT CHARACTER}d",
        "  touch: /none/x: No such file or directory",
    ]


def test_one_that_never_ran_and_one_that_is_not_there_are_told_so(sampan: Sampan) -> None:
    sampan("create", "--name", "web", "busybox", "true")

    assert first(why(sampan, "web")) == (
        "never-started",
        "it has been created, and nobody has started it\nsampan start web",
    )
    assert "No such container: none" in sampan.fails(1, "why", "none").err
    assert sampan("why", "web", "--format", "{{range .Causes}}{{.Kind}}{{end}}").line == "never-started"
    assert "template parsing error" in sampan.fails(64, "why", "web", "--format", "{{").err
    assert sampan("container", "why", "web").lines[1:] == sampan("why", "web").lines[1:]


def test_more_victims_than_the_kernel_names_groups_of_are_named_all_the_same(sampan: Sampan) -> None:
    script = "i=0; while [ $i -lt 25 ]; do i=$((i + 1)); tail /dev/zero; done; exit 4"  # it names 10 in 5 s
    found = run(sampan, "--memory", "12m", "busybox", "sh", "-c", script)

    ending = found["Ending"]
    assert ending["Counts"]["OomKills"] == 25
    victims = [victim["Pid"] for victim in ending["OutOfMemory"] if victim["Program"] == "tail"]
    assert len(set(victims)) > 10
    lines = sampan("events", "--since", "5m", "--until", "0s", "--filter", "event=oom", "--format", "json").lines
    told = [json.loads(line)["Actor"]["Attributes"] for line in lines]
    told_pids = {facts.get("oomPid") for facts in told if facts.get("oomProcess") == "tail"}
    assert told_pids >= {str(pid) for pid in victims}
