"""Make a root filesystem for the levels: one static program, BusyBox, under many names.

    python3 rootfs.py DIRECTORY

Any unpacked Linux works as well, for example one made by `mmdebstrap` or `docker export`.
"""

import os
import shutil
import sys

PROGRAMS = [
    "sh", "ls", "cat", "echo", "mkdir", "mount", "umount", "ps", "id", "hostname", "ip", "ping", "sleep", "touch", "rm",
    "mknod", "date", "dd", "tail", "grep", "unshare", "true", "wc", "chroot",
]  # fmt: skip


def main() -> None:
    root = sys.argv[1]
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    shutil.copy("/bin/busybox", f"{root}/bin/busybox")  # apt install busybox-static
    for program in PROGRAMS:
        if not os.path.lexists(f"{root}/bin/{program}"):
            os.symlink("busybox", f"{root}/bin/{program}")
    with open(f"{root}/etc/passwd", "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")


if __name__ == "__main__":
    main()
