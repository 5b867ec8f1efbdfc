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


def replace_keeper(dirs: Dirs, listening: socket.socket, *server: str) -> socket.socket:
    """Start a keeper in the place of one that has died; return this server's channel to it.

    It finds the shims again and takes over the listening socket, which stays open in this process too. `server` may be
    the keeper's option of that name.
    """
    ours, theirs = socket.socketpair()
    passed = (listening.fileno(), theirs.fileno())
    try:
        for fd in passed:
            os.set_inheritable(fd, True)
        argv = [sys.executable, "-P", "-c", ENTRY, "--root", dirs.root, *server]
        argv += ["--listen-fd", str(passed[0]), "--server-fd", str(passed[1])]
        pid = os.posix_spawn(sys.executable, argv, os.environ)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        ours.close()
        raise
    finally:
        for fd in passed:
            os.set_inheritable(fd, False)
        theirs.close()
    if status:
        ours.close()
        raise Failed("can't start a keeper", f"its log says why: {dirs.keeper_log}")
    return ours
