"""What the device controller lets a container do, on cgroup v1 and v2 (eBPF)."""

from __future__ import annotations

import pytest

from support.sampan import Sampan

USUAL = ["null", "zero", "full", "random", "urandom", "tty"]


def test_the_usual_devices_are_there_and_work(sampan: Sampan) -> None:
    reads = "head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c"
    script = f"{reads}; echo x > /dev/null && echo ok; echo x > /dev/full"
    said = sampan("run", "--rm", "busybox", "sh", "-c", script, check=False)

    assert said.lines == ["4", "4", "ok"]
    assert "No space left" in said.err
    listed = sampan("run", "--rm", "busybox", "ls", "/dev").lines
    assert set(USUAL) | {"fd", "stdin", "stdout", "stderr", "pts", "ptmx", "shm"} <= set(listed)
    assert not {"kmsg", "mem", "sda", "vda", "loop0", "kvm", "fuse"} & set(listed)


KMSG = "mknod /k c 1 11 && head -c 1 /k >/dev/null && echo read"


def test_a_node_of_another_device_can_be_made_but_not_opened(sampan: Sampan) -> None:
    said = sampan("run", "--rm", "busybox", "sh", "-c", KMSG, check=False)

    assert said.code == 1
    assert "Operation not permitted" in said.err


@pytest.mark.parametrize(
    ("rule", "works"),
    [("c 1:11 rwm", True), ("c 1:* r", True), ("c *:* rw", True), ("c 1:11 w", False), ("b 1:11 rwm", False)],
)
def test_a_device_rule_opens_just_what_it_names(sampan: Sampan, rule: str, works: bool) -> None:
    # Reading the kernel's log needs a capability, too.
    command = ["run", "--rm", "--cap-add", "SYSLOG", "--device-cgroup-rule", rule, "busybox", "sh", "-c", KMSG]
    said = sampan(*command, check=False)

    assert (said.line == "read") == works, said


def test_an_exec_is_under_the_same_rules(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "100")

    assert "Operation not permitted" in sampan("exec", "web", "sh", "-c", KMSG, check=False).err
    assert sampan("exec", "web", "sh", "-c", "head -c 3 /dev/zero | wc -c").line == "3"


def test_privileged_may_open_all(sampan: Sampan) -> None:
    assert sampan("run", "--rm", "--privileged", "busybox", "sh", "-c", KMSG).line == "read"
