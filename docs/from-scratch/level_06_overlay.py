"""Level 6: an image that stays as it is.

    python3 level_06_overlay.py ROOT COMMAND...      for example: /tmp/boat /bin/sh -c 'echo hello > /root/note'

An *overlay* shows several directories as one. Those below, the layers of an image, are only read. Whatever is
written goes to the one on top, the upper directory: a changed file is copied there first, a deleted one gets a
marker.

So a thousand containers can share one image, a new one costs nothing, and what a container did is a directory
that you can look at: here ROOT.changes/upper. (`work` is for the kernel's own use.)

What is missing: /dev is empty, and much of /proc and all of /sys would be the machine's to change.
"""

import os
import sys

from sampan.kernel import link, mount, namespaces, process
from sampan.kernel.mount import MS
from sampan.kernel.namespaces import CLONE

NEW = CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWNET


def main() -> None:
    image, *command = sys.argv[1:]
    pid, _ = namespaces.clone(NEW)
    if pid == 0:
        child(image, command)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def child(image: str, command: list[str]) -> None:
    process.sethostname("boat")
    link.loopback_up()
    mount.mount(None, "/", None, MS.REC | MS.PRIVATE)
    root = overlay(image)
    mount.mount("proc", f"{root}/proc", "proc")
    mount.mount("tmpfs", f"{root}/tmp", "tmpfs")
    enter(root)
    os.execve(command[0], command, {"PATH": "/bin:/usr/bin", "HOME": "/root"})


def overlay(image: str) -> str:
    upper, work, root = (f"{image}.changes/{name}" for name in ("upper", "work", "root"))  # new: this function
    for directory in (upper, work, root):
        os.makedirs(directory, exist_ok=True)
    mount.mount("overlay", root, "overlay", data=f"lowerdir={image},upperdir={upper},workdir={work}")
    return root


def enter(root: str) -> None:
    os.chdir(root)
    mount.pivot_root(".", ".")
    mount.umount(".", detach=True)
    os.chdir("/")


if __name__ == "__main__":
    main()
