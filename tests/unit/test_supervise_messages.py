"""Frames and the descriptors beside them."""

import os
import socket

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from sampan.supervise import messages as m
from support.descriptors import descriptors

MESSAGES = st.one_of(
    st.builds(m.Hello),
    st.builds(m.ForkShim, id=st.text()),
    st.builds(
        m.Attach, streams=st.frozensets(st.sampled_from(["stdin", "stdout", "stderr"])), already_read=st.binary()
    ),
    st.builds(m.Launch, id=st.text(), spec=st.binary(), plan=st.binary(), console_size=st.none() | st.just((24, 80))),
    st.builds(m.Exited, exit_code=st.none() | st.integers(0, 255), finished_at_ns=st.integers(0, 1 << 62)),
    st.builds(m.Reaped, id=st.text(), pid=st.integers(1, 1 << 22), status=st.integers(-1, 65535)),
)


@settings(deadline=None)
@given(st.lists(st.tuples(MESSAGES, st.integers(0, 1 << 31), st.integers(0, 3)), max_size=5))
def test_what_is_sent_is_received_with_its_descriptors(frames):
    ours, theirs = socket.socketpair()
    decoder = m.Decoder()
    with ours, theirs, open("/dev/null") as null:
        for message, seq, count in frames:
            m.send(ours, message, seq, [null.fileno()] * count)
        ours.shutdown(socket.SHUT_WR)

        for message, seq, count in frames:
            frame = m.receive(theirs, decoder)
            assert frame is not None
            assert (frame.message, frame.seq, len(frame.fds)) == (message, seq, count)
            for fd in frame.fds:
                assert os.path.samestat(os.fstat(fd), os.fstat(null.fileno()))
                os.close(fd)
        assert m.receive(theirs, decoder) is None


@given(st.lists(MESSAGES, max_size=4), st.integers(1, 7))
def test_frames_are_put_together_from_pieces_of_any_size(messages, size):
    ours, theirs = socket.socketpair()
    data = b"".join(m.encode(message, i) for i, message in enumerate(messages))
    decoder = m.Decoder()
    with ours, theirs:
        received = []
        for at in range(0, len(data), size):
            ours.sendall(data[at : at + size])
            decoder.read(theirs)
            received += decoder.frames()

        assert [f.message for f in received] == messages


@given(st.binary(min_size=8, max_size=64))
def test_garbage_is_refused_and_crashes_nothing(data):
    ours, theirs = socket.socketpair()
    decoder = m.Decoder()
    with ours, theirs:
        ours.sendall(data)
        decoder.read(theirs)
        try:
            frames = list(decoder.frames())
        except m.ProtocolError:
            return
        assert all(isinstance(f.message, m.Message) for f in frames)


def test_a_frame_that_announces_descriptors_that_do_not_come_is_refused():
    ours, theirs = socket.socketpair()
    decoder = m.Decoder()
    with ours, theirs:
        ours.sendall(m.encode(m.Hello(), 1, descriptors=1))

        with pytest.raises(m.ProtocolError):
            m.receive(theirs, decoder)


def test_unclaimed_descriptors_are_closed_with_the_decoder():
    ours, theirs = socket.socketpair()
    decoder = m.Decoder()
    with ours, theirs, open("/dev/null") as null:
        m.send_some(ours, m.encode(m.Hello(), 1, 1)[:-1], [null.fileno()])
        before = descriptors()
        decoder.read(theirs)
        assert [what for _, what in descriptors() - before] == ["/dev/null"]

        decoder.close()
        assert descriptors() <= before


def test_a_newer_sender_s_fields_are_passed_over():
    class Hello(m.Message, frozen=True, kw_only=True, tag="hello", omit_defaults=False):
        version: int = 2
        colour: str = "red"

    ours, theirs = socket.socketpair()
    with ours, theirs:
        m.send(ours, Hello(), 1)

        frame = m.receive(theirs, m.Decoder())
    assert frame is not None
    assert frame.message == m.Hello(version=2)


def test_the_version_is_said_even_when_it_is_the_default():
    assert b"version" in m.encode(m.Hello())
    assert b"version" in m.encode(m.Status(id="x", shim_pid=1))


def test_a_message_to_a_gone_peer_raises_and_does_not_kill():
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(BrokenPipeError):
        m.send(ours, m.Hello(), 1)


def test_what_a_shim_of_the_first_version_says_is_read():
    from sampan.supervise import state

    document = {"type": "status", "version": 1, "id": "c", "shim_pid": 5, "phase": "running", "pid": 7, "start_time": 9}

    frame = m.framing._HEADER.pack(len(packed := msgspec.msgpack.encode(document)), 1) + packed
    decoder = m.Decoder(frame)
    (found,) = [frame.message for frame in decoder.frames()]
    assert (found.version, found.pid, found.names) == (1, 7, None)
    kept = state.decode(msgspec.json.encode({**document, "boot_id": "b", "tasks": [], "log": {"path": "/l"}}))
    assert (kept.names, kept.names_ports) == (None, (0, 0))


def test_what_a_shim_has_written_of_its_name_server_is_read_again():
    from sampan.supervise import state

    names = m.AnswerNames(files=("/a", "/b"), links=(("x", "y"),), servers=("9.9.9.9",), forward=False, qualified=True)
    written = state.State(id="c", shim_pid=5, names=names, names_ports=(1, 2))

    assert state.decode(state.encode(written)) == written
