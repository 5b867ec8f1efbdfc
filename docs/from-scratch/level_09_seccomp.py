"""Level 9: fewer system calls.

    python3 level_09_seccomp.py IMAGE COMMAND...      for example: /tmp/boat /bin/unshare -r true

A *seccomp filter* is a small program that the kernel runs before each system call of a process: it sees the
call's number and arguments and answers "go on", "fail with this errno" or "kill". Once set it can't be taken off,
and children inherit it.

The one used here is what sampan ships: a list of what programs normally do. Creating namespaces, kernel keyrings,
loading BPF, raw clocks and modules are not on it. Its source is src/sampan/spec/defaults/seccomp.json.

What is missing: it may still use all memory and all processors, and start processes until nobody else can.
"""

import os
import stat
import sys

from sampan.kernel import credentials, link, mount, namespaces, process, seccomp
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
    filter = seccomp.default_filter()  # new: read now, because later this file won't be there any more
    pid, _ = namespaces.clone(NEW)
    if pid == 0:
        child(image, command, filter)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def child(image: str, command: list[str], filter: bytes) -> None:
    process.sethostname("boat")
    link.loopback_up()
    mount.mount(None, "/", None, MS.REC | MS.PRIVATE)
    root = overlay(image)
    mount.mount("tmpfs", f"{root}/tmp", "tmpfs", MS.NOSUID | MS.NODEV)
    kernel_filesystems(root)
    devices(f"{root}/dev")
    enter(root)
    give_up_capabilities()
    seccomp.set_filter(filter)  # new: last, for it forbids much of what was done above
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
