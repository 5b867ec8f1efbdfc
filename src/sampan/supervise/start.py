"""How a keeper is started: by the command line, which needs one, and by a server that has lost its own.

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


def keeper_argv(dirs: Dirs, *, listen_fd: int | None = None, server_fd: int | None = None) -> list[str]:
    """Return the command that starts a keeper; it returns once the keeper's socket listens, and the keeper goes on."""
    argv = [sys.executable, "-P", "-c", ENTRY, "--root", dirs.root]
    if listen_fd is not None:
        argv += ["--listen-fd", str(listen_fd)]
    if server_fd is not None:
        argv += ["--server-fd", str(server_fd)]
    return argv


def replace_keeper(dirs: Dirs, listening: socket.socket) -> socket.socket:
    """Start a keeper in the place of one that has died; return this server's channel to it.

    It finds the shims again and takes over the listening socket, which stays open in this process too.
    """
    ours, theirs = socket.socketpair()
    passed = (listening.fileno(), theirs.fileno())
    try:
        for fd in passed:
            os.set_inheritable(fd, True)
        pid = os.posix_spawn(
            sys.executable, keeper_argv(dirs, listen_fd=passed[0], server_fd=passed[1]), dict(os.environ)
        )
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
