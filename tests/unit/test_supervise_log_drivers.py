"""The compact form, the files it is kept in, and the messages that go elsewhere."""

import os
import socket
import threading

import pytest
from hypothesis import given, strategies as st

from sampan.spec import local_log
from sampan.supervise.compressing import Compressor
from sampan.supervise.link import Receiver
from sampan.supervise.local_file import LocalFile
from sampan.supervise.logmessages import Syslog, journal
from sampan.supervise.logsender import LogSender
from sampan.supervise.loop import IN, Loop


def kept(path):
    with open(path, "rb") as file:
        return list(local_log.records(file.read()))


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"a", b"\n")), max_size=30))
def test_nothing_is_lost_and_every_byte_is_as_it_was(tmp_path_factory, chunks):
    path = f"{tmp_path_factory.mktemp('log')}/x.log"
    log = LocalFile(path)

    for chunk in chunks:
        log.write("stdout", chunk)
    log.close()

    assert b"".join(r.data for r in (kept(path) if os.path.exists(path) else [])) == b"".join(chunks)


@given(st.binary(max_size=200))
def test_damaged_records_end_the_reading_and_raise_nothing(data):
    whole = local_log.record("stdout", 1, b"x\n")

    assert next(local_log.records(whole + data)).data == b"x\n"
    assert local_log.record_before(data, len(data)) is None or data.endswith(data[-4:])


def test_a_line_longer_than_16_kib_is_cut(tmp_path):
    log = LocalFile(f"{tmp_path}/x.log")

    log.write("stdout", b"x" * 40_000 + b"\n")

    assert [len(r.data) for r in kept(f"{tmp_path}/x.log")] == [16384, 16384, 7233]


def test_half_a_record_is_cut_off_and_what_was_not_written_is_counted(tmp_path):
    path = f"{tmp_path}/x.log"
    log = LocalFile(path)
    log.write("stdout", b"one\n")
    with open(path, "ab") as file:
        file.write(local_log.record("stdout", 1, b"two\n")[:-3])

    log = LocalFile(path)
    log.write("stderr", b"three\n")
    log.close()

    assert [(r.stream, r.data) for r in kept(path)] == [("stdout", b"one\n"), ("stderr", b"three\n")]
    log = LocalFile(f"{tmp_path}/missing/x.log")
    log.write("stdout", b"one\ntwo\n")
    assert log.dropped_lines == 2


def test_compressed_files_move_on_with_the_others_and_the_oldest_goes(tmp_path):
    path = f"{tmp_path}/x.log"
    loop = Loop()
    compressor = Compressor(loop, path, 4)
    log = LocalFile(path, 100, 4, compressor=compressor)

    def write(number):
        if log.pending and (number % 3 or number == 40):  # else a rotation meets one that is being compressed
            loop.call_later(0.01, lambda: write(number))
        elif number < 40:
            log.write("stdout", b"%d\n" % number * 20)
            loop.call_later(0, lambda: write(number + 1))
        else:
            loop.stop()

    write(0)
    loop.run()

    assert sorted(os.listdir(tmp_path)) == ["x.log", "x.log.1.gz", "x.log.2.gz", "x.log.3.gz"]


NOW = 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("", b"<27>%b web[%d]: hi\n"),
        ("rfc3164", b"<27>%b box web[%d]: hi\n"),
        ("rfc5424", b"<27>1 2023-11-14T22:13:20Z box web %d web - hi\n"),
        ("rfc5424micro", b"<27>1 2023-11-14T22:13:20.123456Z box web %d web - hi\n"),
    ],
)
def test_syslog_s_forms_are_those_that_docker_sends(form, message, monkeypatch):
    monkeypatch.setenv("TZ", "UTC0")
    expected = message.replace(b"%b", b"Nov 14 22:13:20") % os.getpid()

    assert Syslog(form, 3, "box", "web", False).message("stderr", b"hi\n", NOW) == expected
    counted = Syslog(form, 3, "box", "web", True).message("stderr", b"hi\n", NOW)
    assert counted == b"%d %b" % (len(expected), expected)


def test_the_journal_is_told_of_a_piece_that_it_is_one():
    message = journal(b"A=B\n")

    assert message("stdout", b"hi\n", NOW).splitlines() == [
        b"A=B", b"PRIORITY=6", b"SYSLOG_TIMESTAMP=2023-11-14T22:13:20.123456789Z", b"MESSAGE=hi",
    ]  # fmt: skip
    assert b"CONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=hi\n" in message("stdout", b"hi", NOW)


def test_what_is_too_much_while_nobody_listens_is_counted_and_told_later(tmp_path):
    loop = Loop()
    path = f"{tmp_path}/log"
    sender = LogSender(loop, Receiver("unixgram", ((path, 0),)), lambda _stream, line, _now: line, 3000)
    for number in range(100):
        sender.write("stdout", b"line %d\n" % number)
    assert sender.pending
    assert 0 < sender.dropped_lines < 100

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        got = []

        def read(_events):
            got.append(receiver.recv(4096))
            if len(got) == 101 - sender.dropped_lines:
                loop.stop()

        loop.watch(receiver.fileno(), IN, read)
        loop.run()
        sender.close()

    assert got[:-1] == [b"line %d\n" % number for number in range(100 - sender.dropped_lines)]
    assert got[-1] == b"[sampan: %d lines are missing here: they could not be sent]\n" % sender.dropped_lines


def test_lines_that_come_together_are_sent_also_if_they_are_more_than_the_queue_may_hold(tmp_path):
    loop = Loop()
    path = f"{tmp_path}/log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        sender = LogSender(loop, Receiver("unixgram", ((path, 0),)), lambda _stream, line, _now: line, 100)
        got = []

        def read(_events):
            got.append(receiver.recv(4096))
            if got[-1] == b"last\n":
                loop.stop()

        loop.watch(receiver.fileno(), IN, read)
        sender.write("stdout", b"a line\n" * 30 + b"last\n")
        assert sender.dropped_lines == 0
        loop.run()
        sender.close()

    assert got == [b"a line\n"] * 30 + [b"last\n"]


def test_what_was_dropped_is_told_where_it_is_missing(tmp_path):
    loop = Loop()
    path = f"{tmp_path}/log"
    got = []
    sender = LogSender(loop, Receiver("unixgram", ((path, 0),)), lambda _stream, line, _now: line, 3000)
    for number in range(100):
        sender.write("stdout", b"line %d\n" % number)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        queued = 100 - sender.dropped_lines

        def read(_events):
            got.append(receiver.recv(4096))
            if len(got) == queued - 1:
                sender.write("stdout", b"after\n")
            if got[-1] == b"after\n":
                loop.stop()

        loop.watch(receiver.fileno(), IN, read)
        loop.run()
        sender.close()

    assert [line for line in got if not line.startswith(b"line ")] == [
        b"[sampan: %d lines are missing here: they could not be sent]\n" % sender.dropped_lines,
        b"after\n",
    ]


def test_a_receiver_that_answers_while_it_reads_gets_everything():
    loop = Loop()
    got = []

    def serve(listening):
        with listening.accept()[0] as sock:
            while data := sock.recv(100):
                got.append(data)
                sock.sendall(
                    b"a ticket of TLS's"
                )  # would be refused if the connection were closed behind the last line

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        sender = LogSender(loop, Receiver("tcp", (listening.getsockname(),)), lambda _stream, line, _now: line)
        sender.write("stdout", b"".join(b"line %d\n" % number for number in range(1000)))
        sender.close()

        def look():
            loop.call_later(0.01, look if sender.pending else loop.stop)

        look()
        loop.run()
        thread.join(20)

    assert b"".join(got).splitlines()[-1] == b"line 999"
