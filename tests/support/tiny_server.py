"""A server for tests of keeper and shim: whoever connects is given its channel to the keeper, and its pid."""

import contextlib
import os
import select
import socket
import sys

from sampan import dirs as paths
from sampan.supervise.start import replace_keeper


def main() -> None:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    dirs = paths.find(options["--root"])
    listening = socket.socket(fileno=int(options["--listen-fd"]))
    keeper = socket.socket(fileno=int(options["--keeper-fd"]))
    for sock in (listening, keeper):
        sock.set_inheritable(False)
    if os.path.exists(f"{dirs.root}/die-at-once"):
        sys.exit(1)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    poll.register(keeper, 0)
    while True:
        for fd, _ in poll.poll():
            if fd == listening.fileno():
                client, _ = listening.accept()
                with client, contextlib.suppress(BrokenPipeError):
                    socket.send_fds(client, [str(os.getpid()).encode()], [keeper.fileno()])
            else:
                poll.unregister(keeper)
                keeper.close()
                keeper = replace_keeper(dirs, listening, "--server", __file__)
                poll.register(keeper, 0)


main()
