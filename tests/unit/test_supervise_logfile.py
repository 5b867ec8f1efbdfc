"""The log: pieces, characters, rotation, a full disk."""

import json
import os

import pytest
from hypothesis import given, strategies as st

from sampan.supervise.lines import PIECE_BYTES, Lines
from sampan.supervise.logfile import LogFile, record, records, rfc3339


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@given(st.lists(st.binary(max_size=50)))
def test_lines_lose_and_add_nothing_however_they_come(chunks):
    lines = Lines()

    whole = [line for chunk in chunks for line in lines.feed(chunk)] + lines.end()

    assert b"".join(whole) == b"".join(chunks)
    assert all(line.endswith(b"\n") for line in whole[:-1])
    assert all(line.count(b"\n") <= 1 for line in whole)


@given(st.integers(PIECE_BYTES - 3, PIECE_BYTES * 3), st.integers(1, 9000))
def test_a_long_line_is_cut_before_16_kib_and_only_its_end_has_a_newline(length, chunk):
    text = "ä" * (length // 2) + "x" * (length % 2) + "\n"
    data = text.encode()
    lines = Lines()

    whole = [line for at in range(0, len(data), chunk) for line in lines.feed(data[at : at + chunk])]

    assert "".join(line.decode() for line in whole) == text
    assert all(len(line.rstrip(b"\n")) <= PIECE_BYTES for line in whole)
    assert all(len(line) > PIECE_BYTES - 4 for line in whole[:-1])


def test_an_object_is_docker_s(tmp_path):
    log = LogFile(f"{tmp_path}/x.log")

    log.write("stdout", b'say "hi"\x1b[0m\n')
    log.write("stderr", memoryview(b"bad \xff byte\nrest"))
    log.close()

    objects = read(f"{tmp_path}/x.log")
    assert [(o["stream"], o["log"]) for o in objects] == [
        ("stdout", 'say "hi"\x1b[0m\n'),
        ("stderr", "bad � byte\n"),
        ("stderr", "rest"),
    ]
    assert all(o["time"].endswith("Z") and list(o) == ["log", "stream", "time"] for o in objects)


@given(st.lists(st.text(st.characters(exclude_characters="\\\n")), min_size=1, max_size=60), st.binary(max_size=5))
def test_many_lines_at_once_are_the_same_objects_as_one_by_one(lines, bad):
    bad = bad.replace(b"\\", b"").replace(b"\n", b"")
    encoded = [line.encode("utf-8", "surrogatepass") + bad + b"\n" for line in lines]

    assert records(b"".join(encoded), "stderr", 7) == b"".join(record(line, "stderr", 7) for line in encoded)


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"a", b"\n")), max_size=30))
def test_nothing_is_lost_whatever_way_it_is_written(tmp_path_factory, chunks):
    path = f"{tmp_path_factory.mktemp('log')}/x.log"
    log = LogFile(path)

    for chunk in chunks:
        log.write("stdout", chunk)
    log.close()

    logged = "".join(o["log"] for o in read(path)) if os.path.exists(path) else ""
    assert logged.count("\n") == b"".join(chunks).count(b"\n")
    expected = [line.decode("utf-8", "replace") for line in b"".join(chunks).split(b"\n")]
    assert logged == "\n".join(expected)


def test_streams_that_alternate_do_not_mix_their_lines(tmp_path):
    log = LogFile(f"{tmp_path}/x.log")

    for piece in (b"a", b"b", b"c\n"):
        log.write("stdout", piece)
        log.write("stderr", piece.upper())
    log.close()

    assert [o["log"] for o in read(f"{tmp_path}/x.log")] == ["abc\n", "ABC\n"]


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, b"1970-01-01T00:00:00.000000000Z"),
        (1_700_000_000_000_000_001, b"2023-11-14T22:13:20.000000001Z"),
        (1_700_000_000_999_999_999, b"2023-11-14T22:13:20.999999999Z"),
    ],
)
def test_times_have_nine_digits(ns, text):
    assert rfc3339(ns) == text


def test_it_is_rotated_and_the_oldest_goes(tmp_path):
    log = LogFile(f"{tmp_path}/x.log", max_bytes=1000, max_files=3)

    for number in range(100):
        log.write("stdout", b"line %d\n" % number)
    log.close()

    assert sorted(os.listdir(tmp_path)) == ["x.log", "x.log.1", "x.log.2"]
    kept = [o["log"] for name in ("x.log.2", "x.log.1", "x.log") for o in read(tmp_path / name)]
    assert kept == [f"line {n}\n" for n in range(100 - len(kept), 100)]
    assert all(os.path.getsize(tmp_path / name) <= 1000 for name in os.listdir(tmp_path))


def test_with_one_file_it_begins_anew(tmp_path):
    log = LogFile(f"{tmp_path}/x.log", max_bytes=200, max_files=1)

    for number in range(10):
        log.write("stdout", b"line %d\n" % number)
    log.close()

    assert os.listdir(tmp_path) == ["x.log"]
    assert read(tmp_path / "x.log")[-1]["log"] == "line 9\n"


def test_it_goes_on_where_a_killed_shim_was_and_mends_half_an_object(tmp_path):
    log = LogFile(f"{tmp_path}/x.log")
    log.write("stdout", b"one\n")
    with open(f"{tmp_path}/x.log", "ab") as file:
        file.write(b'{"log":"tw')

    log = LogFile(f"{tmp_path}/x.log")
    log.write("stdout", b"three\n")
    log.close()

    assert [o["log"] for o in read(f"{tmp_path}/x.log")] == ["one\n", "three\n"]


def test_what_can_not_be_written_is_counted_and_raises_nothing(tmp_path):
    log = LogFile(f"{tmp_path}/missing/x.log")

    log.write("stdout", b"one\ntwo\n")

    assert log.dropped_lines == 2
    (tmp_path / "missing").mkdir()
    log.write("stdout", b"three\n")
    log.close()
    assert [o["log"] for o in read(f"{tmp_path}/missing/x.log")] == [
        "[sampan: 2 lines are missing here: they could not be written to the log]\n",
        "three\n",
    ]
