"""Level 10: limits. This is a container.

    python3 level_10_limits.py IMAGE COMMAND...      for example: /tmp/boat /bin/tail /dev/zero

A *control group* is a directory in /sys/fs/cgroup. Making the directory makes the group, writing a process's
number to its cgroup.procs moves the process in, and its other files are counters and limits for all inside
together. Beyond its memory limit a process of the group is killed; beyond the limit of processes fork fails.
Others don't notice.

Two versions are in use: 1 has a tree of groups for each kind of limit, 2 has one for all.

Here it is complete: namespaces for what it sees, a control group for what it uses, an overlay for what it runs
from: three planks. What engines add is convenience: images from a registry, networks, logs, restarts. See how
`sampan run --explain` does the same steps.
"""

import os
import stat
import sys

from sampan.kernel import cgroupfs, credentials, link, mount, namespaces, process, seccomp
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE

NEW = CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWNET
KEEP = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
}  # fmt: skip
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def main() -> None:
    image, *command = sys.argv[1:]
    filter = seccomp.default_filter()
    groups = limits(memory_bytes=64 << 20, processes=32)  # new: this line to the end of the function
    ready, go = os.pipe()
    pid, _ = namespaces.clone(NEW)
    if pid == 0:
        os.close(go)
        if os.read(ready, 1):  # waits until it is in the groups: all that it does shall count
            child(image, command, filter)
        os._exit(1)
    for group in groups:
        cgroupfs.add_process(group, pid)
    os.write(go, b".")
    _, status = os.waitpid(pid, 0)
    for group in groups:
        cgroupfs.remove(group)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(128 - code if code < 0 else code)  # killed by signal 9: 137, as the shell says it


def limits(memory_bytes: int, processes: int) -> list[str]:
    hierarchies = {m.controller: m.mount_point for m in cgroupfs.mounts()}  # new: this function
    name = f"boat-{os.getpid()}"
    if "memory" in hierarchies:  # version 1: a tree for each kind of limit
        memory, pids = (f"{hierarchies[c]}/{name}" for c in ("memory", "pids"))
        files = [(memory, "memory.limit_in_bytes", memory_bytes), (pids, "pids.max", processes)]
    else:  # version 2: one tree for all
        memory = pids = f"{hierarchies['']}/{name}"
        cgroupfs.write(hierarchies[""], "cgroup.subtree_control", "+memory +pids")
        files = [(memory, "memory.max", memory_bytes), (memory, "memory.swap.max", 0), (pids, "pids.max", processes)]
    for group, file, value in files:
        cgroupfs.make(group)
        cgroupfs.write(group, file, str(value))
    return sorted({memory, pids})


def child(image: str, command: list[str], filter: bytes) -> None:
    namespaces.unshare(CLONE.NEWCGROUP)  # new: it sees its own group as the top
    process.sethostname("boat")
    link.loopback_up()
    mount.mount(None, "/", None, MS.REC | MS.PRIVATE)
    root = overlay(image)
    mount.mount("tmpfs", f"{root}/tmp", "tmpfs", MS.NOSUID | MS.NODEV)
    kernel_filesystems(root)
    devices(f"{root}/dev")
    enter(root)
    give_up_capabilities()
    seccomp.set_filter(filter)
    os.execve(command[0], command, {"PATH": "/bin:/usr/bin", "HOME": "/root"})


def overlay(image: str) -> str:
    upper, work, root = (f"{image}.changes/{name}" for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        os.makedirs(directory, exist_ok=True)
    mount.mount("overlay", root, "overlay", data=f"lowerdir={image},upperdir={upper},workdir={work}")
    return root


def kernel_filesystems(root: str) -> None:
    quiet = MS.NOSUID | MS.NODEV | MS.NOEXEC
    mount.mount("proc", f"{root}/proc", "proc", quiet)
    mount.mount("sysfs", f"{root}/sys", "sysfs", quiet | MS.RDONLY)
    for path in (f"{root}/proc/{name}" for name in ("sys", "irq", "bus", "sysrq-trigger")):
        if not os.path.exists(path):  # which there are depends on how the kernel was built
            continue
        mount.mount(path, path, None, MS.BIND)
        # A bind mount is made read-only by a second call.
        mount.mount(None, path, None, MS.REMOUNT | MS.BIND | MS.RDONLY | quiet)
    for name in ("kcore", "keys", "timer_list"):
        if os.path.exists(f"{root}/proc/{name}"):
            mount.mount("/dev/null", f"{root}/proc/{name}", None, MS.BIND)


def devices(dev: str) -> None:
    mount.mount("tmpfs", dev, "tmpfs", MS.NOSUID | MS.NOEXEC, "mode=755,size=64k")
    os.umask(0)
    for name, (major, minor) in DEVICES.items():
        os.mknod(f"{dev}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{dev}/{name}")
    os.mkdir(f"{dev}/pts", 0o755)
    mount.mount("devpts", f"{dev}/pts", "devpts", MS.NOSUID | MS.NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    os.symlink("pts/ptmx", f"{dev}/ptmx")
    os.umask(0o022)


def enter(root: str) -> None:
    os.chdir(root)
    mount.pivot_root(".", ".")
    mount.umount(".", detach=True)
    os.chdir("/")


def give_up_capabilities() -> None:
    for name in credentials.CAPABILITIES.keys() - KEEP:
        credentials.drop_bounding(name)
    credentials.capset(effective=KEEP, permitted=KEEP, inheritable=())
    process.set_no_new_privs()


if __name__ == "__main__":
    main()
