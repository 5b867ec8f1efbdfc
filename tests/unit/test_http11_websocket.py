"""WebSocket's frames, against wsproto's."""

import pytest
from hypothesis import given, strategies as st
from wsproto import events
from wsproto.connection import Connection, ConnectionType

from sampan.http11 import websocket
from sampan.http11.websocket import BINARY, CLOSE, NORMAL, PING, PONG, PROTOCOL_ERROR, TEXT, Reader

MASK = b"\x01\x02\x03\x04"


def masked(first, payload=b"", *, length=None, mask=MASK):
    """A client's frame, of which the parts may be wrong."""
    size = len(payload)
    if length is None:
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    content = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first, length[0] | 0x80]) + length[1:] + mask + content


def told(data, pieces=()):
    """What a reader gives of `data`, cut at those places, and its last reply."""
    reader, content, reply, at = Reader(), b"", b"", 0
    for end in (*sorted(min(p, len(data)) for p in pieces), len(data)):
        content += reader.feed(data[at:end])
        reply = reader.reply or reply
        at = end
    return content, reply, reader.closed


sent = st.lists(
    st.one_of(
        st.builds(events.BytesMessage, data=st.binary(max_size=300), message_finished=st.booleans()),
        st.builds(events.Ping, payload=st.binary(max_size=125)),
        st.builds(events.Pong, payload=st.binary(max_size=125)),
    ),
    max_size=8,
)


@given(sent, st.lists(st.integers(0, 2000), max_size=6))
def test_what_a_client_sends_is_understood_in_whatever_pieces_it_comes(messages, pieces):
    client = Connection(ConnectionType.CLIENT)
    data = b"".join(client.send(message) for message in messages)
    content = b"".join(m.data for m in messages if isinstance(m, events.BytesMessage))

    assert told(data, pieces)[::2] == (content, False)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_client_understands_what_is_sent_and_its_own_frames_of_that_size_are_read(size):
    client, payload = Connection(ConnectionType.CLIENT), bytes(size)
    client.receive_data(websocket.frame(BINARY, memoryview(payload)) + websocket.frame(PING, b"x"))
    messages = list(client.events())

    assert b"".join(m.data for m in messages[:-1]) == payload
    assert messages[-1].payload == b"x"
    assert told(client.send(events.BytesMessage(data=payload)), range(20))[0] == payload


@pytest.mark.parametrize(
    "data",
    [
        masked(0xC2, b"x"),  # a reserved bit
        masked(0x83, b"x"),  # a reserved opcode
        masked(0x8B, b"x"),
        b"\x82\x01x",  # not masked
        masked(0x80, b"x"),  # goes on with nothing
        masked(0x02, b"x") + masked(0x82, b"x"),  # a message inside another
        masked(0x09, b"x"),  # a control frame in parts
        masked(0x89, bytes(126)),  # too long a control frame
        masked(0x82, b"x", length=b"\x7e\0\x01"),  # not the shortest form
        masked(0x82, b"x", length=b"\x7f" + bytes(7) + b"\x01"),
        masked(0x82, b"x", length=b"\x7f\xff" + bytes(7)),  # of 2⁶³ bytes and more
        masked(0x88, b"x"),  # half a status
        masked(0x88, b"\x03\xed"),  # 1005, which is never sent
        masked(0x88, b"\x03\xe8\xff"),  # a reason that is no UTF-8
    ],
)
def test_what_breaks_the_protocol_ends_the_connection_and_nothing_behind_it_counts(data):
    content, reply, closed = told(masked(0x82, b"before") + data + masked(0x82, b"behind"), (3, 11))

    assert (content.replace(b"x", b""), reply, closed) == (b"before", websocket.close(PROTOCOL_ERROR), True)


@pytest.mark.parametrize(("payload", "status"), [(b"", NORMAL), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000)])
def test_a_close_is_answered_with_its_own_status(payload, status):
    assert told(masked(0x80 | CLOSE, payload)) == (b"", websocket.close(status), True)


def test_pings_are_answered_also_amid_a_message_and_pongs_are_not():
    data = masked(TEXT, b"a") + masked(0x80 | PING, b"one") + masked(0x80 | PONG) + masked(0x80, b"b")

    assert told(data) == (b"ab", websocket.frame(PONG, b"one"), False)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_the_same_in_one_piece_and_in_many(data):
    whole, parts = Reader(), Reader()
    content = whole.feed(data)
    given_in_parts = b"".join(parts.feed(data[at : at + 1]) for at in range(len(data)))

    assert (content, whole.closed) == (given_in_parts, parts.closed)
    assert len(whole._held) <= 125
