"""From the facts of an end to its causes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from sampan.engine.causes import Facts, causes
from sampan.engine.missing_program import named
from sampan.spec.annotations import TIMEOUT
from sampan.spec.docker import ContainerCreate, HealthConfig, HostConfig, LogConfig, Mount, RestartPolicy, Ulimit
from sampan.spec.ending import Counts, Crash, Ending, Forbidden, FullDisk, OutOfMemory, Sender, Sent
from sampan.spec.state import Health, Probe, Startup, State, Status

SECOND = 10**9
ME = Sender(verb="stop", pid=50, uid=1000, program="docker")
MEMORY = Counts(memory_limit=20 << 20, memory_peak=20 << 20, oom_kills=1)
VICTIM = OutOfMemory(pid=7, program="java", resident=19 << 20)


def ended(*, host: HostConfig | None = None, output: tuple[str, ...] = (), body: Any = None, **fields: Any) -> Facts:
    """Return the facts of a container that has ended so."""
    ending = Ending(**{"at_ns": 10 * SECOND, "started_at_ns": 5 * SECOND, "pid": 7, **fields})
    state = State(status=Status.EXITED, exit_code=ending.exit_code, finished_at_ns=ending.at_ns, ending=ending)
    return Facts("web", state, ContainerCreate(host_config=host or HostConfig(), **(body or {})), output)


def kinds(facts: Facts) -> list[str]:
    return [cause.kind for cause in causes(facts)]


def sent(number: int, seconds: float = 0, by: Sender = ME) -> Sent:
    return Sent(number=number, at_ns=int((10 - seconds) * SECOND), sender=by)


TABLE = [
    ("well", ended(), ["exited"]),
    ("by itself", ended(exit_code=3), ["exited"]),
    ("nobody saw it", ended(exit_code=255, unknown=True), ["unknown"]),
    ("out of memory", ended(exit_code=137, signal=9, counts=MEMORY, out_of_memory=(VICTIM,)), ["out-of-memory"]),
    ("no record of it", ended(exit_code=137, signal=9, counts=MEMORY), ["out-of-memory"]),
    ("a child out of memory", ended(exit_code=1, counts=MEMORY, out_of_memory=(VICTIM,)), ["out-of-memory"]),
    ("passed on by a shell", ended(exit_code=137, counts=MEMORY, out_of_memory=(VICTIM,)), ["out-of-memory"]),
    ("stopped", ended(exit_code=143, signal=15, sent=(sent(15),)), ["stopped"]),
    ("stopped, by its handler", ended(exit_code=0, sent=(sent(15, 2),)), ["stopped"]),
    ("stopped, not at once", ended(exit_code=137, signal=9, sent=(sent(15, 4.9), sent(9))), ["stopped"]),
    (
        "killed after a child was out of memory",
        ended(
            exit_code=137,
            signal=9,
            counts=MEMORY,
            out_of_memory=(OutOfMemory(pid=8, program="x"),),
            sent=(sent(9, by=Sender(verb="kill", pid=5)),),
        ),
        ["signal"],
    ),
    ("asked long ago", ended(exit_code=1, sent=(sent(1, 4 - 100),), at_ns=200 * SECOND), ["exited"]),
    ("by a signal of another", ended(exit_code=137, signal=9), ["signal"]),
    ("a child's signal", ended(exit_code=137), ["signal"]),
    (
        "a syscall",
        ended(exit_code=159, signal=31, forbidden=(Forbidden(pid=7, program="x", syscall="y"),)),
        ["seccomp"],
    ),
    ("a child's syscall", ended(exit_code=159), ["seccomp"]),
    ("a crash", ended(exit_code=139, signal=11, crashes=(Crash(pid=7, program="x", said="y"),)), ["crash"]),
    ("abort", ended(exit_code=134, signal=6, core_dumped=True), ["crash"]),
    ("a broken pipe", ended(exit_code=141, signal=13), ["signal"]),
    ("no program", ended(exit_code=127, error='exec: "x": not found', hint="install it"), ["command-not-found"]),
    ("no x", ended(exit_code=126, error='exec: "x": permission denied'), ["not-executable"]),
    ("no port", ended(exit_code=128, error="port is taken"), ["start-failed"]),
    ("too many processes", ended(exit_code=2, counts=Counts(pids_limit=3, pids_refused=2)), ["pids-limit"]),
    (
        "a full disk",
        ended(exit_code=1, full_disks=(FullDisk(holds="its files", path="/var", free=0, size=9),)),
        ["disk-full"],
    ),
    ("a full disk by its words", ended(exit_code=1, output=("x: No space left on device",)), ["disk-full"]),
    ("the words of one that ended well", ended(output=("x: No space left on device",)), ["exited"]),
    ("no memory by its words", ended(exit_code=1, output=("fork: Cannot allocate memory",)), ["out-of-memory"]),
    ("a read-only root", ended(exit_code=1, output=("touch: /x/y: Read-only file system",)), ["read-only"]),
    (
        "its time",
        ended(
            exit_code=137,
            signal=9,
            sent=(sent(9, by=Sender(verb="timeout")),),
            host=HostConfig(annotations={TIMEOUT: "5"}),
        ),
        ["timeout"],
    ),
    (
        "nobody saw it after a kill",
        ended(exit_code=255, unknown=True, sent=(sent(9, 1, by=Sender(verb="kill", pid=5)),)),
        ["unknown", "signal"],
    ),
    (
        "nobody saw it after a reload",
        ended(exit_code=255, unknown=True, sent=(sent(10, 1, by=Sender(verb="kill", pid=5)),)),
        ["unknown"],
    ),
]


@pytest.mark.parametrize(("facts", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_cause_is_found_by_the_facts(facts: Facts, wanted: list[str]) -> None:
    assert kinds(facts) == wanted


@pytest.mark.parametrize(
    ("facts", "fix"),
    [
        (TABLE[3][1], "sampan update --memory 40m web"),
        (
            ended(exit_code=137, signal=9, counts=MEMORY, host=HostConfig(memory=20 << 20, memory_swap=20 << 20)),
            "sampan update --memory 40m --memory-swap 80m web",
        ),
        (ended(exit_code=2, counts=Counts(pids_limit=3, pids_refused=2)), "sampan update --pids-limit 6 web"),
        (
            ended(exit_code=1, output=("dd: writing '/dev/shm/x': No space left on device",)),
            "run it with --shm-size 128m (it has 64MiB)",
        ),
        (
            ended(
                exit_code=1,
                output=("dd: /cache/a/b: No space left on device",),
                host=HostConfig(mounts=(Mount(type="tmpfs", target="/cache"),)),
            ),
            "run it with a larger one: --tmpfs /cache:size=…",
        ),
        (
            ended(
                exit_code=1,
                output=("touch: /srv/y: Read-only file system",),
                host=HostConfig(readonly_rootfs=True),
            ),
            "give it room to write there: --tmpfs /srv, or -v NAME:/srv",
        ),
        (
            ended(exit_code=159, signal=31, host=HostConfig(security_opt=("seccomp={}",))),
            "allow it in that profile, or run with --security-opt seccomp=unconfined",
        ),
        (ended(body={"cmd": ("/bin/sh",)}), "it is a shell without input, which ends at once"),
        (
            ended(exit_code=137, signal=9, host=HostConfig(ulimits=(Ulimit(name="cpu", hard=1, soft=1),))),
            "run it with --ulimit cpu=2:2",
        ),
        (
            ended(exit_code=137, signal=9, host=HostConfig(ulimits=(Ulimit(name="cpu", hard=-1, soft=1),))),
            "find who sends it",
        ),
        (ended(exit_code=137, signal=9, sent=(sent(15, 4), sent(9))), "run it with --init, or --stop-signal"),
    ],
)
def test_what_would_help_is_said(facts: Facts, fix: str) -> None:
    (cause, *_) = causes(facts)

    assert cause.fixes[0].startswith(fix)


def test_an_unlimited_ulimit_is_no_cause() -> None:
    unlimited = HostConfig(ulimits=tuple(Ulimit(name=name, hard=-1, soft=-1) for name in ("memlock", "data", "fsize")))
    (cause,) = causes(ended(exit_code=1, output=("cannot allocate memory",), host=unlimited))

    assert cause.said == "its last lines say that it got no memory: more than this machine allows"
    (cause,) = causes(ended(exit_code=1, output=("write /x: file too large",), host=unlimited))
    assert cause.kind == "file-too-long"


def test_who_asked_is_said() -> None:
    (cause,) = causes(ended(exit_code=143, signal=15, sent=(sent(15, 1.5),)))

    assert cause.said == "`stop` was asked for by docker (pid 50, uid 1000), and SIGTERM ended it"
    assert cause.facts == ("SIGTERM was sent by `stop` 1.5 s before the end",)


def test_a_record_of_another_process_than_the_first_is_called_likely() -> None:
    (own,) = causes(ended(exit_code=139, signal=11, crashes=(Crash(pid=7, program="x", said="y"),)))
    (child,) = causes(ended(exit_code=139, crashes=(Crash(pid=8, program="x", said="y"),)))

    assert own.facts == ("the kernel's record: x[7] y",)
    assert child.facts == (
        "the kernel's record: x[8] y",
        "that record is of a child of its first process, as far as can be known",
    )


def test_a_machine_out_of_memory_is_not_the_containers_limit() -> None:
    victim = msgspec.structs.replace(VICTIM, host=True)
    (cause,) = causes(ended(exit_code=137, signal=9, counts=MEMORY, out_of_memory=(victim,)))

    assert "this machine was out of memory" in cause.said


def test_a_limit_above_the_container_is_not_its_own() -> None:
    counts = msgspec.structs.replace(MEMORY, memory_limit=0)
    (cause,) = causes(ended(exit_code=137, signal=9, counts=counts, out_of_memory=(VICTIM,)))

    assert "a control group that it is in was at its limit" in cause.said


def test_a_kill_in_a_private_pid_namespace_came_from_outside() -> None:
    (private,) = causes(ended(exit_code=137, signal=9))
    (shared,) = causes(ended(exit_code=137, signal=9, host=HostConfig(pid_mode="host")))

    assert "outside of the container" in private.facts[0]
    assert "of the container" in shared.facts[0]


def test_output_that_was_not_kept_is_not_referred_to() -> None:
    (cause,) = causes(ended(exit_code=3, host=HostConfig(log_config=LogConfig(type="none"))))

    assert cause.said == "its program has ended by itself with exit code 3, and its output was not kept"
    assert cause.fixes == ("run it without --log-driver none, to see what it says",)


# ---------------------------------------------------------------------------------------------- not ended, or again


def running(**fields: Any) -> Facts:
    state = State(**{"status": Status.RUNNING, "started_at_ns": 1, **fields})
    return Facts("web", state, ContainerCreate(host_config=HostConfig()))


def test_one_that_runs_well_has_no_causes() -> None:
    assert kinds(running(health=Health(status="healthy", log=(Probe(),)))) == []


def test_an_end_before_a_start_by_hand_is_forgotten() -> None:
    assert kinds(running(ending=Ending(at_ns=1, exit_code=3))) == []


def test_an_end_before_a_start_by_policy_is_told() -> None:
    assert kinds(running(ending=Ending(at_ns=1, exit_code=3), restart_count=1)) == ["exited"]


def test_a_limit_that_a_running_container_meets_is_told() -> None:
    now = Counts(memory_limit=1 << 20, oom_kills=1, pids_limit=3, pids_refused=9)

    assert kinds(running()._replace(now=now)) == ["out-of-memory", "pids-limit"]


def test_one_that_waits_for_memory_is_told_to_stand_still() -> None:
    (cause,) = causes(running()._replace(now=Counts(memory_limit=1 << 20, stalled=True)))

    assert cause.said.startswith("it stands still: it is at its limit of 1MiB")
    assert cause.fixes == ("sampan update --memory 2m web",)


@pytest.mark.parametrize(
    ("probe", "said", "fix"),
    [
        (Probe(exit_code=3, output="a\nb"), "ended with exit code 3", "run the check by hand: sampan exec web"),
        (Probe(exit_code=-1), "took too long", "give it more time with --health-timeout"),
        (Probe(exit_code=127), "ended with exit code 127", "what the check runs is not in the image"),
    ],
)
def test_a_failing_health_check_is_told(probe: Probe, said: str, fix: str) -> None:
    health = Health(status="unhealthy", failing_streak=3, log=(probe,))
    body = ContainerCreate(healthcheck=HealthConfig(test=("CMD-SHELL", "wget localhost; exit 3")))
    (cause,) = causes(running(health=health)._replace(body=body))

    assert cause.said == f"its health check has failed 3 times in a row: `/bin/sh -c 'wget localhost; exit 3'` {said}"
    assert cause.facts == tuple(f"the check said: {line}" for line in probe.output.splitlines())
    assert cause.fixes[0].startswith(fix)


def test_a_failing_startup_check_is_told() -> None:
    health = Health(startup=Startup(successes=1, failures=2), log=(Probe(exit_code=-1),))
    host = HostConfig(annotations={"sampan.health-startup-cmd": "up"})
    body = ContainerCreate(healthcheck=HealthConfig(test=("CMD", "check")), host_config=host)
    (cause,) = causes(running(health=health)._replace(body=body))

    assert cause.said == "its startup check has failed 2 times: `/bin/sh -c up` took too long"
    assert cause.fixes[0].startswith("give it more time with --health-startup-timeout")


def test_one_that_was_restarted_for_its_startup_check_says_so() -> None:
    ending = Ending(at_ns=1, signal=9, sent=(sent(9, by=Sender(verb="startup check")),))
    (cause,) = causes(running(ending=ending))

    assert cause.said == "SIGKILL was sent to restart it, since its startup check had failed: --health-startup-retries"


def test_the_check_of_one_that_was_ended_for_it_can_be_run_only_when_it_is_started() -> None:
    facts = ended(exit_code=137, signal=9, sent=(sent(9, by=Sender(verb="health check")),))
    health = Health(status="unhealthy", failing_streak=3, log=(Probe(exit_code=1),))
    body = ContainerCreate(host_config=HostConfig(), healthcheck=HealthConfig(test=("CMD", "check")))
    first, _ = causes(facts._replace(body=body, state=msgspec.structs.replace(facts.state, health=health)))

    assert first.fixes == ("run the check by hand: sampan start web, then sampan exec web check",)


def test_one_that_is_being_started_again_says_why_and_how_to_stop_that() -> None:
    facts = ended(exit_code=3, host=HostConfig(restart_policy=RestartPolicy(name="always")))
    state = msgspec.structs.replace(facts.state, status=Status.RESTARTING, restart_count=22)
    first, second = causes(facts._replace(state=state))

    assert first.kind == "exited"
    assert "for the 22nd time, by --restart always" in second.said
    assert second.fixes == ("sampan update --restart no web",)


def test_one_whose_policy_is_used_up_says_so() -> None:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
    facts = ended(exit_code=3, host=HostConfig(restart_policy=policy))
    *_, last = causes(facts._replace(state=msgspec.structs.replace(facts.state, restart_count=2)))

    assert "on-failure:2" in last.said


def test_one_that_was_never_started_says_so() -> None:
    assert kinds(Facts("web", State(), ContainerCreate())) == ["never-started"]


def test_an_end_that_an_earlier_version_recorded_has_no_more_than_its_code() -> None:
    assert kinds(Facts("web", State(status=Status.EXITED, exit_code=3), ContainerCreate())) == ["exited"]


# ------------------------------------------------------------------------------------------------------ what shells say


@given(st.lists(st.text(max_size=200), max_size=5).map(tuple))
def test_no_output_breaks_what_is_read_of_it(output: tuple[str, ...]) -> None:
    assert isinstance(named(output, 127), str)
    for code in (0, 1, 126, 127, 137, 255):
        assert causes(ended(exit_code=code, output=output))


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("sh: nosuch: not found", "nosuch"),
        ("/bin/sh: 1: nosuch: not found", "nosuch"),
        ("bash: line 1: nosuch: command not found", "nosuch"),
        ("/entry.sh: line 22: /x/y: Permission denied", "/x/y"),
        ("env: 'python3\\r': No such file or directory", "python3\r"),
        ("env: \u2018python3\u2019: No such file or directory", "python3"),
        ("bash: /x: /bin/foo: bad interpreter: No such file or directory", "/x"),
        ("sh: exec: /x: cannot execute: required file not found", "/x"),
        ("sh: exec: line 0: /x: Permission denied", "/x"),
        ("/x: line 1: \N{REPLACEMENT CHARACTER}ELF\N{REPLACEMENT CHARACTER}: not found", "/x"),
        ("all went well", ""),
        ("", ""),
    ],
)
def test_the_program_that_a_shell_could_not_run_is_read(line: str, program: str) -> None:
    assert named(("before", line), 127) == program


def test_words_that_are_a_shells_only_with_its_exit_codes_are_not_believed_with_others() -> None:
    assert named(("grep: /x: No such file or directory",), 2) == ""
    assert named(('/x: 1: Syntax error: "(" unexpected',), 2) == "/x"
    assert named(("/x: 7: Syntax error: newline unexpected",), 2) == ""
