"""When connections are no longer accepted."""

from __future__ import annotations

import os
import signal
import socket
import threading

from sampan.http11.acceptor import Acceptor
from sampan.http11.channel import Channel

_LONG_S = 20


def test_a_signal_of_which_python_hears_only_later_ends_the_wait() -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: told.append("handler"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor: Acceptor[Channel] = Acceptor(listener, lambda _: None, lambda _: None, most=1)  # type: ignore[arg-type, return-value]
        late = threading.Timer(_LONG_S, lambda: (told.append("late"), acceptor.leave()))
        sending = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        try:
            acceptor.leave_at_signals()
            for thread in (late, sending):
                thread.start()
            # Another thread gets it: this one's wait is not interrupted, as by a signal that came right before it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

            acceptor.run()

            late.cancel()
            assert told in ([], ["handler"])
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGUSR1, before)
            sending.join()
            late.cancel()
            late.join()
