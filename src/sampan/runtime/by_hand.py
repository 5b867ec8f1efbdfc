"""The last step of a script that makes a container without sampan: what no tool of the shell can do any more.

`--explain=sh` puts this file into the script as it is, so it imports nothing of sampan. It is started as
`python3 -I -S last.py last.json` while the host's files are in reach, changes the root, gives up its rights and becomes
the program. The JSON is made by `explain.py`; each part is one operation of the plan.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import platform
import resource
import sys
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
SYSCALL = LIBC.syscall
SYSCALL.restype = ctypes.c_long
PIVOT_ROOT, KEYCTL, SECCOMP, BPF = {
    "x86_64": (155, 250, 317, 321),
    "aarch64": (41, 219, 277, 280),
    "riscv64": (41, 219, 277, 280),
    "ppc64le": (203, 271, 358, 361),
    "s390x": (217, 280, 348, 351),
}[platform.machine()]
PIDFD_OPEN, CLOSE_RANGE = 434, 436
MNT_DETACH = 2
PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 8, 38, 47


def check(result: int, what: str) -> int:
    """End with what failed, and why, unless the kernel did it."""
    if result == -1:
        sys.exit(f"can't {what}: {os.strerror(ctypes.get_errno())}")
    return result


def long(number: int) -> ctypes.c_ulong:
    """Pass a number as wide as a register."""
    return ctypes.c_ulong(number)


def enter(pid: int, flags: int) -> None:
    """Enter the namespaces of another container's process: setns(2) with a pidfd."""
    pidfd = check(SYSCALL(long(PIDFD_OPEN), pid, 0), f"open process {pid}")
    new_pid = 0x20000000
    if flags & new_pid:
        check(LIBC.setns(pidfd, new_pid), "enter the pid namespace")
        child = os.fork()  # a pid namespace takes in the children to come only
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
    check(LIBC.setns(pidfd, flags & ~new_pid), "enter the container's namespaces")


def filter_devices(group: str, program: bytes) -> None:
    """Attach a device program to a cgroup v2 group: bpf(2)."""
    code, licence = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"Apache-2.0")
    load = (ctypes.c_uint32 * 18)(15, len(program) // 8)
    ctypes.memmove(ctypes.addressof(load) + 8, ctypes.byref(ctypes.c_uint64(ctypes.addressof(code))), 8)
    ctypes.memmove(ctypes.addressof(load) + 16, ctypes.byref(ctypes.c_uint64(ctypes.addressof(licence))), 8)
    loaded = check(SYSCALL(long(BPF), 5, ctypes.byref(load), 72), "load the device filter")
    attach = (ctypes.c_uint32 * 4)(os.open(group, os.O_RDONLY), loaded, 6, 2)
    check(SYSCALL(long(BPF), 8, ctypes.byref(attach), 16), "attach the device filter")


def rows(path: str, fields: int) -> list[list[str]]:
    """Split a file like /etc/passwd."""
    try:
        with open(path, "rb") as file:  # as bytes: a codec would be looked for in the container's files
            lines = [line.split(":") for line in file.read().decode("latin-1").split("\n")]
    except FileNotFoundError:
        return []
    return [line for line in lines if len(line) >= fields and line[2].isdecimal()]


def look_up(root: str, wanted: dict[str, Any]) -> tuple[int, int, list[int], str]:
    """Find uid, gid, groups and home in the container's own passwd and group."""
    users, groups = rows(f"{root}/etc/passwd", 6), rows(f"{root}/etc/group", 3)
    by_name = {g[0]: int(g[2]) for g in reversed(groups)}
    who, _, which = str(wanted["user"]).partition(":")
    name = who or str(wanted["uid"])
    entry = next((u for u in users if name in {u[0], u[2]}), None)
    if entry is None and not name.isdecimal():
        sys.exit(f"unable to find user {name}: no matching entries in passwd file")
    uid, gid, home = (int(entry[2]), int(entry[3]), entry[5]) if entry else (int(name), 0, "/")
    others = list(wanted["additional_gids"])
    if which:
        gid = int(which) if which.isdecimal() else by_name[which]
    elif who and entry:
        others += [int(g[2]) for g in groups if len(g) > 3 and entry[0] in g[3].split(",")]
    if not who:
        gid = int(wanted["gid"])
    others += [int(g) if g.isdecimal() else by_name[g] for g in wanted["group_add"]]
    first = [gid] if wanted["user"] else []  # CVE-2022-36109
    return uid, gid, list(dict.fromkeys(first + others)), home or "/"


def pivot(root: str) -> None:
    """Make the container's root the root, and take the old one away."""
    os.chdir(root)
    check(SYSCALL(long(PIVOT_ROOT), b".", b"."), "change the root")
    check(LIBC.umount2(b".", MNT_DETACH), "detach the old root")
    os.chdir("/")


def set_capabilities(sets: dict[str, int]) -> None:
    """Set the effective, permitted, inheritable and ambient sets, given as bits."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    words = [sets[s] >> shift & 0xFFFFFFFF for shift in (0, 32) for s in ("effective", "permitted", "inheritable")]
    check(LIBC.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)(*words))), "set capabilities")
    for number in range(64):
        if sets["ambient"] >> number & 1:
            check(LIBC.prctl(PR_CAP_AMBIENT, long(2), long(number), long(0), long(0)), "raise an ambient capability")


def set_filter(program: bytes) -> None:
    """Put this process under a seccomp filter."""
    code = ctypes.create_string_buffer(program, len(program))
    header = (ctypes.c_uint64 * 2)(len(program) // 8, ctypes.addressof(code))
    check(SYSCALL(long(SECCOMP), 1, 0, ctypes.byref(header)), "set the seccomp filter")


def drop_rights(plan: dict[str, Any], uid: int, gid: int, groups: list[int]) -> None:
    """Give up everything the program is not to have, in the plan's order."""
    for number in range(64):
        if not plan["bounding"] >> number & 1:
            LIBC.prctl(PR_CAPBSET_DROP, long(number), long(0), long(0), long(0))
    LIBC.prctl(PR_SET_KEEPCAPS, long(1), long(0), long(0), long(0))
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if plan["no_new_privileges"]:
        check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, long(1), long(0), long(0), long(0)), "give up new privileges")
    program = base64.b64decode(plan["filter"])
    for sets in plan["capabilities"]:
        set_capabilities(sets)
        if program:
            set_filter(program)
            program = b""


def run(plan: dict[str, Any], env: dict[str, str]) -> None:
    """Become the program."""
    name = plan["args"][0]
    places = [name] if "/" in name else [f"{d}/{name}" for d in env.get("PATH", "/usr/bin:/bin").split(":")]
    for place in places:
        if os.access(place, os.X_OK):
            os.execve(place, plan["args"], env)
    sys.exit(f'exec: "{name}": executable file not found in $PATH')


def main() -> None:
    """Do what is left of the plan."""
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    SYSCALL(long(KEYCTL), 1, plan["keyring"].encode(), long(0), long(0), long(0))
    if plan["label"]:
        with open(plan["label"][0], "w", encoding="utf-8") as file:
            file.write(plan["label"][1])
    if plan["devices"]:
        filter_devices(os.environ["GROUP"], base64.b64decode(plan["devices"]))
    root = os.environ.get("ROOT", "")
    if plan["enter"]:
        enter(int(os.environ["PID"]), plan["enter"])
    uid, gid, groups, home = look_up(root, plan["user"])
    if root:
        pivot(root)
    os.chdir(plan["cwd"])
    os.umask(plan["umask"])
    for kind, soft, hard in plan["rlimits"]:
        resource.setrlimit(getattr(resource, kind), (soft, hard))
    env = dict(pair.partition("=")[::2] for pair in plan["env"])
    env.setdefault("HOME", home)
    if plan["reap"] and (child := os.fork()):
        while (ended := os.wait())[0] != child:
            pass
        os._exit(os.waitstatus_to_exitcode(ended[1]) % 256)
    SYSCALL(long(CLOSE_RANGE), 3, 0xFFFFFFFF, 0)
    drop_rights(plan, uid, gid, groups)
    run(plan, env)


if __name__ == "__main__":
    main()
