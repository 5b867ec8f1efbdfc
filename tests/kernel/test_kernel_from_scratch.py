"""The ten levels of docs/from-scratch: each does what it says, and has the hole that it says it has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.kernel import mount
from support.child import in_child

LEVELS = Path(__file__).resolve().parents[2] / "docs/from-scratch"
NAMES = sorted(p.name for p in LEVELS.glob("level_*.py"))


@pytest.fixture
def boat(tmp_path: Path) -> Path:
    root = tmp_path / "boat"
    subprocess.run([sys.executable, LEVELS / "rootfs.py", root], check=True, timeout=60)
    return root


def run(level: int, root: Path, script: str) -> tuple[int, str]:
    """Run a level in a mount namespace of the test's own: the first level mounts for the whole machine."""

    def story():
        name = next(n for n in NAMES if n.startswith(f"level_{level:02}_"))
        done = subprocess.run(
            [sys.executable, LEVELS / name, root, "/bin/sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    answer = in_child(story)
    assert [m for m in mount.mountinfo() if m.mount_point.startswith(str(root))] == []
    return answer


def test_there_are_ten_levels_and_the_index_names_them() -> None:
    index = (LEVELS / "README.md").read_text()

    assert len(NAMES) == 10
    assert [name for name in NAMES if f"({name})" not in index] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_level_is_short_and_needs_nothing_but_the_door(name: str) -> None:
    text = (LEVELS / name).read_text()
    imports = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}

    assert imports <= {"os", "stat", "sys", "sampan.kernel", "sampan.kernel.mount", "sampan.kernel.namespaces"}
    assert len(text.splitlines()) < 150
    assert f"python3 {name} " in text
    assert "main()" in text


@pytest.mark.parametrize("level", range(1, 11))
def test_every_level_runs_a_program_of_the_root_and_passes_on_how_it_ended(level: int, boat: Path) -> None:
    code, output = run(level, boat, "cat /etc/passwd; ls /; exit 7")

    assert (code, output.splitlines()[0]) == (7, "root:x:0:0:root:/root:/bin/sh")
    assert set(output.split()[1:]) == {"bin", "dev", "etc", "proc", "root", "sys", "tmp"}


@pytest.mark.parametrize(("level", "out"), [(1, True), (2, True), (3, False), (5, False), (10, False)])
def test_the_parent_s_root_is_the_way_out_until_level_3(level: int, out: bool, boat: Path) -> None:
    _, output = run(level, boat, "mount -t proc proc /proc 2>/dev/null; ls /proc/$PPID/root/")

    assert ("usr" in output.split()) is out


def test_level_2_keeps_its_mounts(boat: Path) -> None:
    def story():
        before = mount.mountinfo()
        script = "mount -t tmpfs x /root; cat /proc/mounts"
        command = [sys.executable, LEVELS / "level_02_mounts.py", boat, "/bin/sh", "-c", script]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
        return output, mount.mountinfo() == before

    output, same = in_child(story)

    assert "x /root tmpfs" in output
    assert same


def test_level_3_is_process_1(boat: Path) -> None:
    _, output = run(3, boat, "echo $$; ps")

    assert output.split()[0] == "1"
    assert {line.split()[0] for line in output.splitlines()[2:]} <= {"1", "2", "3"}


def test_level_4_has_a_name_and_a_loopback_of_its_own(boat: Path) -> None:
    _, output = run(4, boat, "hostname; ip link; ping -c 1 127.0.0.1")

    assert output.startswith("boat\n")
    assert "LOOPBACK,UP" in output
    assert "1 packets received" in output
    assert "eth0" not in output
    assert os.uname().nodename != "boat"


def test_level_5_has_nothing_of_the_machine_mounted(boat: Path) -> None:
    _, before = run(4, boat, "cat /proc/self/mountinfo")
    _, after = run(5, boat, "cat /proc/self/mountinfo")

    assert [m.mount_point for m in mount.parse_mountinfo(after)] == ["/", "/proc", "/tmp"]
    assert len(before.splitlines()) == 2  # the chroot hides the others, and they are there all the same


def test_level_6_leaves_the_image_as_it_was(boat: Path) -> None:
    run(6, boat, "echo hello > /root/note; rm /etc/passwd; echo x > /tmp/gone")

    upper = Path(f"{boat}.changes/upper")
    assert (upper / "root/note").read_text() == "hello\n"
    assert (upper / "etc/passwd").is_char_device()  # the marker of a deleted file
    assert (boat / "etc/passwd").exists()
    assert not (boat / "root/note").exists()
    assert run(6, boat, "cat /root/note") == (0, "hello\n")


def test_level_7_has_its_devices_and_the_machine_s_settings_are_read_only(boat: Path) -> None:
    _, output = run(7, boat, "ls /dev; echo x > /dev/null && dd if=/dev/zero bs=3 count=1 2>/dev/null | wc -c")
    code, refused = run(
        7,
        boat,
        "for f in proc/sys/kernel/panic proc/irq/default_smp_affinity sys/x sys/y; do echo 1 > /$f; done;"
        "cat /proc/kcore /proc/keys /proc/timer_list 2> /dev/null | wc -c",
    )

    devices = ["fd", "full", "null", "ptmx", "pts", "random", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    assert output.split() == [*devices, "3"]
    assert refused.count("Read-only file system") == 4
    assert (code, refused.split()[-1]) == (0, "0")


def test_level_8_is_a_root_that_may_not_mount(boat: Path) -> None:
    code, output = run(8, boat, "grep -e CapBnd -e NoNewPrivs /proc/self/status; mount -t tmpfs none /tmp")

    assert "NoNewPrivs:\t1" in output
    assert int(output.split()[1], 16) == 0xA00425FB & ~(1 << 27)
    assert code != 0
    assert "permission denied" in output.lower()


def test_level_9_is_under_a_filter(boat: Path) -> None:
    code, output = run(9, boat, "grep Seccomp: /proc/self/status; unshare -r true")

    assert output.splitlines()[0] == "Seccomp:\t2"
    assert code != 0
    assert "not permitted" in output


def test_level_10_ends_a_program_that_takes_too_much(boat: Path) -> None:
    assert run(10, boat, "exec tail /dev/zero")[0] == 137

    _, output = run(
        10,
        boat,
        "i=0; while [ $i -lt 40 ]; do sleep 2 & i=$((i + 1)); done",
    )
    assert "can't fork" in output
    assert left_groups() == []


def left_groups() -> list[str]:
    return [
        f"{parent}/{name}"
        for parent, below, _ in os.walk("/sys/fs/cgroup")
        for name in below
        if name.startswith("boat-")
    ]
