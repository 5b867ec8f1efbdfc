"""Level 2: mounts of its own.

    python3 level_02_mounts.py ROOT COMMAND...

The list of what is mounted where belongs to a *mount namespace*. unshare(2) gives this process a copy of the
list. What it mounts from then on is seen by it and its children only, and is gone when the last of them ends:
nobody has to clean up.

The copy begins *shared* where the original was: news still travels between the two. Making everything private
ends that.

What is missing: /proc still shows the machine's processes, so `ls /proc/$PPID/root/` still leads out.
"""

import os
import sys

from sampan.kernel import mount, namespaces
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE


def main() -> None:
    root, *command = sys.argv[1:]
    namespaces.unshare(CLONE.NEWNS)  # new
    mount.mount(None, "/", None, MS.REC | MS.PRIVATE)  # new
    mount.mount("proc", f"{root}/proc", "proc")  # new
    mount.mount("tmpfs", f"{root}/tmp", "tmpfs")  # new
    os.chroot(root)
    os.chdir("/")
    os.execve(command[0], command, {"PATH": "/bin:/usr/bin", "HOME": "/root"})


if __name__ == "__main__":
    main()
