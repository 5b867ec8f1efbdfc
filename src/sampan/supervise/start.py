"""How a server that has lost its keeper starts another.

The command line has the few lines that it needs of its own (client/start.py): it imports next to nothing at a start.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from sampan.errors import Failed

if TYPE_CHECKING:
    from sampan.dirs import Dirs

ENTRY = "import sys; from sampan.supervise.origin import main; sys.exit(main())"
"""Shorter than `-m`: runpy would be imported, and stay."""


def replace_keeper(dirs: Dirs, listening: socket.socket, *server: str, host_fd: int | None = None) -> socket.socket:
    """Start a keeper in the place of one that has died; return this server's channel to it.

    It finds the shims again and takes over the listening socket, which stays open in this process too. `server` may be
    the keeper's option of that name, and `host_fd` the mount namespace that the first keeper was started in.
    """
    ours, theirs = socket.socketpair()
    passed = {"--listen-fd": listening.fileno(), "--server-fd": theirs.fileno()}
    if host_fd is not None:
        passed["--host-fd"] = host_fd
    try:
        for fd in passed.values():
            os.set_inheritable(fd, True)
        argv = [sys.executable, "-P", "-c", ENTRY, "--root", dirs.root, *server]
        argv += [word for name, fd in passed.items() for word in (name, str(fd))]
        pid = os.posix_spawn(sys.executable, argv, os.environ)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        ours.close()
        raise
    finally:
        for fd in passed.values():
            os.set_inheritable(fd, False)
        theirs.close()
    if status:
        ours.close()
        raise Failed("can't start a keeper", f"its log says why: {dirs.keeper_log}")
    return ours
