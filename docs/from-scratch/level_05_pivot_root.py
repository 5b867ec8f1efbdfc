"""Level 5: no way back.

    python3 level_05_pivot_root.py ROOT COMMAND...      for example: /tmp/boat /bin/mount

pivot_root(2) exchanges the root *mount* of the namespace: the new root comes to "/", the old one is put
somewhere, here on top of the new one, where it is then unmounted. From now on the machine's files aren't hidden:
they aren't there. No path leads to them, whatever tricks are played, because nothing of them is mounted in this
namespace.

The new root has to be a mount, so a directory is first mounted onto itself (a *bind* mount).

What is missing: whatever the container writes changes ROOT itself, for the next container too.
"""

import os
import sys

from sampan.kernel import link, mount, namespaces, process
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE

NEW = CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWNET


def main() -> None:
    root, *command = sys.argv[1:]
    pid, _ = namespaces.clone(NEW)
    if pid == 0:
        child(root, command)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def child(root: str, command: list[str]) -> None:
    process.sethostname("boat")
    link.loopback_up()
    mount.mount(None, "/", None, MS.REC | MS.PRIVATE)
    mount.mount(root, root, None, MS.BIND)  # new
    mount.mount("proc", f"{root}/proc", "proc")
    mount.mount("tmpfs", f"{root}/tmp", "tmpfs")
    enter(root)
    os.execve(command[0], command, {"PATH": "/bin:/usr/bin", "HOME": "/root"})


def enter(root: str) -> None:
    os.chdir(root)  # new: from here to the end of the function, instead of chroot
    mount.pivot_root(".", ".")
    mount.umount(".", detach=True)  # of the two now at ".", this is the one on top: the old root
    os.chdir("/")


if __name__ == "__main__":
    main()
