"""Bodies of requests, with h11 as the oracle of what chunks are."""

import h11
import pytest
from hypothesis import given, strategies as st

from sampan.http11.body import Body, Malformed


class Source:
    """What the socket would give, in pieces of given sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data, self.sizes = data, sizes

    def __call__(self, buffer: memoryview) -> int:
        size = min(self.sizes.pop() if self.sizes else len(buffer), len(buffer), len(self.data))
        buffer[:size] = self.data[:size]
        self.data = self.data[size:]
        return size


def read(body: Body, source: Source) -> bytes:
    pieces = []
    while (piece := body.next(source)) is not None:
        pieces.append(bytes(piece))
    return b"".join(pieces)


sizes = st.lists(st.integers(1, 40), max_size=50)


@given(st.binary(max_size=200), st.integers(0, 250), st.binary(max_size=50), sizes)
def test_a_body_of_a_stated_length_ends_there(data: bytes, already: int, rest: bytes, sizes: list[int]) -> None:
    body = Body((data + rest)[:already], len(data))
    source = Source((data + rest)[already:], sizes)

    assert read(body, source) == data
    assert (body.rest + source.data).startswith(rest[: len(body.rest)])
    assert len(body.rest) + len(source.data) == len(rest)


@given(
    st.lists(st.binary(min_size=1, max_size=60), max_size=8),
    st.integers(0, 100),
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]),
    st.sampled_from([b"", b"X: y\r\n", b"A: b\r\nC: d\r\n"]),
    sizes,
)
def test_chunks_are_put_together(chunks: list, already: int, rest: bytes, trailers: bytes, sizes: list[int]) -> None:
    wire = b"".join(b"%X;x=y\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailers + b"\r\n" + rest
    body = Body(wire[:already], None)
    source = Source(wire[already:], sizes)

    assert read(body, source) == b"".join(chunks)
    assert body.rest + source.data == rest


@given(
    st.binary(max_size=100)
    | st.from_regex(rb"(0|1;?)\r\n([\r\nX:\x00;a0]){0,12}\r\n\r\n", fullmatch=True)
    | st.from_regex(rb"([0-9a-f]{1,2}\r?\n?[ab]{0,20}\r?\n?){0,6}0\r\n\r\n", fullmatch=True)
)
def test_what_is_accepted_is_what_h11_accepts(wire: bytes) -> None:
    body = Body(wire, None)
    try:
        ours = read(body, Source(b"", []))
    except Malformed:
        return

    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)
    theirs = b""
    oracle.next_event()
    while isinstance(event := oracle.next_event(), h11.Data):
        theirs += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert ours == theirs
    assert body.rest == oracle.trailing_data[0]


@pytest.mark.parametrize(
    "wire",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
        b"5\r\nhel",
        b"0\r\n",
        b"f" * 17 + b"\r\n",
        b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\n\r\n",
        b"0\r\n\x00: y\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n X: y\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"",
    ],
)
def test_chunks_that_are_none_are_refused(wire: bytes) -> None:
    with pytest.raises(Malformed):
        read(Body(b"", None), Source(wire, []))


def test_a_body_that_ends_early_is_refused() -> None:
    with pytest.raises(Malformed):
        read(Body(b"ab", 5), Source(b"cd", []))


def test_a_body_that_was_left_in_the_middle_can_be_read_on() -> None:
    body = Body(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\nrest", None)

    first = bytes(body.next(Source(b"", [])) or b"")

    assert first + read(body, Source(b"", [])) == b"abcdef"
    assert body.rest == b"rest"
