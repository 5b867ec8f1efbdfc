"""Process 1 of the test machine: mount what a system has, run pytest, say its exit code, power off."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
MOUNTS = (
    ("proc", "/proc", "proc"),
    ("sysfs", "/sys", "sysfs"),
    ("securityfs", "/sys/kernel/security", "securityfs"),
    ("devtmpfs", "/dev", "devtmpfs"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
    ("tmpfs", "/run", "tmpfs"),
)
REBOOT_POWER_OFF = 0x4321FEDC


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for source, target, kind in MOUNTS:
        if libc.mount(source.encode(), target.encode(), kind.encode(), 0, None) and not os.path.ismount(target):
            print(f"can't mount {target}: {os.strerror(ctypes.get_errno())}")
    for name, kind in (("pts", "devpts"), ("shm", "tmpfs"), ("mqueue", "mqueue")):
        os.makedirs(f"/dev/{name}", exist_ok=True)
        libc.mount(kind.encode(), f"/dev/{name}".encode(), kind.encode(), 0, None)
    for name, target in (("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx")):
        if not os.path.lexists(f"/dev/{name}"):
            os.symlink(target, f"/dev/{name}")
    up = float(Path("/proc/uptime").read_text().split()[0])
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text()
    print(f"Linux {os.uname().release} is up after {up:.1f} s; controllers: {controllers}", end="")
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root", CI="true", TERM="dumb")

    started = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-o",
        "timeout=200",
        *sys.argv[1:],
    ]
    code = subprocess.run(command, cwd=TOP, check=False, stdin=subprocess.DEVNULL).returncode
    print(f"{time.monotonic() - started:.0f} s in pytest")
    print(f"pytest in the machine ended with {code}", flush=True)
    os.sync()
    libc.reboot(REBOOT_POWER_OFF)


main()
