"""Level 1: another root.

    python3 level_01_chroot.py ROOT COMMAND...      for example: /tmp/boat /bin/sh

A process carries a root directory with it: the place that "/" means. chroot(2) sets it for this process and for
all that it starts. That is enough to run programs of another Linux: they find their own /bin and /lib, and can't
name your files.

What is missing: it hides names and nothing else. Inside you see every process of the machine, and a root user is
out again in a moment:

    mount -t proc proc /proc        (this mount now also exists outside: look with `mount`)
    ls /proc/$PPID/root/            (the root of the process that started this one: the machine's)
"""

import os
import sys


def main() -> None:
    root, *command = sys.argv[1:]
    os.chroot(root)
    os.chdir("/")  # or the working directory stays outside, and ".." leads on from there
    # By its full path: execvp would search PATH, for which Python imports a module, now from the new root.
    os.execve(command[0], command, {"PATH": "/bin:/usr/bin", "HOME": "/root"})


if __name__ == "__main__":
    main()
