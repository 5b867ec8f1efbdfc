"""Level 3: process 1.

    python3 level_03_processes.py ROOT COMMAND...      for example: /tmp/boat /bin/ps

A *pid namespace* is a numbering of processes that begins at 1. Who is inside sees only those who are inside, and
can signal no others. It can't be entered by the process that makes it: its number would change. So a child is
made, by clone(2): like fork, but born in new namespaces.

The /proc mounted by the child shows the child's numbering, so /proc/1/root is now its own root. And process 1 is
special: when it ends the kernel kills all others of the namespace. That is how a container stops with its main
program.

What is missing: hostname, network and System V memory are still the machine's.
"""

import os
import sys

from sampan.kernel import mount, namespaces
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE


def main() -> None:
    root, *command = sys.argv[1:]
    pid, _ = namespaces.clone(CLONE.NEWNS | CLONE.NEWPID)  # new
    if pid == 0:
        child(root, command)
    _, status = os.waitpid(pid, 0)  # new: somebody outside waits, and passes on how it ended
    sys.exit(os.waitstatus_to_exitcode(status))


def child(root: str, command: list[str]) -> None:
    mount.mount(None, "/", None, MS.REC | MS.PRIVATE)
    mount.mount("proc", f"{root}/proc", "proc")
    mount.mount("tmpfs", f"{root}/tmp", "tmpfs")
    os.chroot(root)
    os.chdir("/")
    os.execve(command[0], command, {"PATH": "/bin:/usr/bin", "HOME": "/root"})


if __name__ == "__main__":
    main()
