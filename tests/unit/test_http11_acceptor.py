"""Which threads serve connections, and when these are no longer accepted."""

from __future__ import annotations

import os
import signal
import socket
import threading

from sampan.http11.acceptor import Acceptor
from sampan.http11.channel import Channel
from support.sampan import wait_until

_LONG_S = 20


def test_threads_serve_one_connection_after_another_and_only_some_wait_for_a_next() -> None:
    served: list[threading.Thread] = []
    all_here = threading.Barrier(20)

    class Served:
        def __init__(self, client: socket.socket) -> None:
            self.close = client.close

    def serve(_: object) -> None:
        served.append(threading.current_thread())
        all_here.wait(_LONG_S)

    def alive() -> int:
        return sum(thread.is_alive() for thread in set(served))

    with socket.create_server(("127.0.0.1", 0), backlog=32) as listener:
        acceptor: Acceptor[Channel] = Acceptor(listener, Served, serve, most=32)  # type: ignore[arg-type]
        accepting = threading.Thread(target=acceptor.run)
        accepting.start()

        for burst in (1, 2):
            clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
            for client in clients:  # the end comes when it was served
                with client:
                    assert client.recv(1) == b""
            wait_until(lambda: alive() == 8, what="the threads beyond eight end")
            assert len(served) == 20 * burst

        assert len(set(served[:20]) & set(served[20:])) == 8
        acceptor.leave()
        accepting.join()


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
