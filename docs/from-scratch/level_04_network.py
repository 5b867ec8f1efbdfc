"""Level 4: a name and a network of its own.

    python3 level_04_network.py ROOT COMMAND...      for example: /tmp/boat /bin/ip addr

Three more kinds of namespace, each a flag of the same call:

    UTS   the hostname
    IPC   System V shared memory and message queues, which have numbers instead of file names
    NET   network devices, addresses, routes, ports: all of it

A new network namespace has one device, the loopback, and that is down. With it up, programs inside can talk to
each other by 127.0.0.1 and to nobody else. Two containers can both listen on port 80.

What is missing: a root user inside can still leave the chroot by an old trick: chroot again into a subdirectory
while the working directory stays above, then walk up `..` past the root. A chroot is a note at the process, not a
wall.
"""

import os
import sys

from sampan.kernel import link, mount, namespaces, process
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE


def main() -> None:
    root, *command = sys.argv[1:]
    pid, _ = namespaces.clone(
        CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWNET
    )  # new: three flags
    if pid == 0:
        child(root, command)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def child(root: str, command: list[str]) -> None:
    process.sethostname("boat")  # new
    link.loopback_up()  # new
    mount.mount(None, "/", None, MS.REC | MS.PRIVATE)
    mount.mount("proc", f"{root}/proc", "proc")
    mount.mount("tmpfs", f"{root}/tmp", "tmpfs")
    os.chroot(root)
    os.chdir("/")
    os.execve(command[0], command, {"PATH": "/bin:/usr/bin", "HOME": "/root"})


if __name__ == "__main__":
    main()
