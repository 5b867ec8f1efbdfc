"""A worker that waits in the middle of a layer, and those who come to it."""

import os
import socket
import threading
import time

import pytest

from sampan.errors import Failed
from sampan.image import unfinished
from sampan.supervise import messages as m
from sampan.supervise.parking import Parking, end_all
from sampan.supervise.state import connect


class Worker:
    """One in a thread, which waits at once; `result` is the descriptor that it was fed, or its failure."""

    def __init__(self, tmp, count=100):
        self.place = unfinished.new_place(str(tmp), "key")
        self.ours, theirs = socket.socketpair()
        self._parking = Parking(self.place, theirs, 7)
        self.result = None
        self._thread = threading.Thread(target=self._run, args=(count,))
        self._thread.start()

    def _run(self, count):
        try:
            self.result = self._parking.more(count)
            self._parking.answer(m.Done())
        except Failed as e:
            self.result = e
            self._parking.answer(m.Refused(error="Failed", message=e.message))
        self._parking.close()
        self._parking._sock.close()  # as the end of its process does

    def visit(self):
        sock = connect(self.place, unfinished.SOCKET)
        assert sock is not None
        sock.settimeout(10)
        return sock

    def end(self):
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.ours.close()
        if isinstance(self.result, int):
            os.close(self.result)


def ask(sock, message, fds=()):
    m.send(sock, message, 1, fds)
    frame = m.receive(sock, m.Decoder())
    return frame and frame.message


def test_the_first_asker_is_told_and_the_next_one_feeds_it(tmp_path):
    worker = Worker(tmp_path)

    frame = m.receive(worker.ours, m.Decoder())
    assert (frame.message, frame.seq) == (m.Parked(compressed_bytes=100), 7)
    reading, writing = os.pipe()
    with worker.visit() as visitor:
        assert ask(visitor, m.Position()) == m.Parked(compressed_bytes=100)
        os.write(writing, b"more")
        assert ask(visitor, m.Feed(), (reading,)) == m.Done()
    assert os.read(worker.result, 10) == b"more"
    os.close(reading)
    os.close(writing)
    worker.end()


def test_it_waits_on_after_visitors_who_go_or_talk_nonsense(tmp_path):
    worker = Worker(tmp_path)

    worker.visit().close()
    with worker.visit() as visitor:
        visitor.sendall(b"\xff" * 1000)
        visitor.shutdown(socket.SHUT_WR)
        assert visitor.recv(10) == b""
    with worker.visit() as visitor:
        assert ask(visitor, m.Feed()) == m.Parked(compressed_bytes=100)  # without a descriptor
    with worker.visit() as visitor:
        assert isinstance(ask(visitor, m.Forget()), m.Refused)
    worker.end()
    assert "is given up" in worker.result.message


def test_it_gives_up_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMPAN_PARKED_S", "0.1")

    worker = Worker(tmp_path)
    worker.end()
    assert "nobody went on with it" in worker.result.message
    assert not unfinished.is_held(worker.place)


@pytest.mark.parametrize("patience", ["", "rubbish", "-1"])
def test_what_is_no_time_is_the_usual_one(tmp_path, monkeypatch, patience):
    monkeypatch.setenv("SAMPAN_PARKED_S", patience)

    worker = Worker(tmp_path)
    time.sleep(0.05)
    with worker.visit() as visitor:
        ask(visitor, m.Forget())
    worker.end()


def test_all_are_ended_whatever_else_is_there(tmp_path):
    workers = [Worker(tmp_path) for _ in range(3)]
    dead = Worker(tmp_path)
    with dead.visit() as visitor:
        ask(visitor, m.Forget())
    dead.end()
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()

    end_all(str(tmp_path), 10)

    for worker in workers:
        worker.end()
        assert "is given up" in worker.result.message


def test_one_that_does_not_answer_is_not_waited_for_without_end(tmp_path):
    place = tmp_path / "unpack-x"
    place.mkdir()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(place / unfinished.SOCKET))
        deaf.listen()

        end_all(str(tmp_path), 0.05)


def test_nothing_to_end_is_fine(tmp_path):
    end_all(str(tmp_path / "not there"), 1)
