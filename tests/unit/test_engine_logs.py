"""Reading logs back: the last lines, since and until, rotation, following."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sampan.engine.logs import LogReader
from sampan.engine.registry import Container
from sampan.engine.requests import LogsQuery
from sampan.spec import local_log
from sampan.spec.state import State, Status
from sampan.supervise.logfile import record
from support.descriptors import descriptors
from support.engine import completed, until

SECOND = 10**9


@pytest.fixture(params=["json", "local"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / f"x-{request.param}.log")


def one(path: str, line: bytes, stream: str, time_ns: int) -> bytes:
    """A line in the form that the path's name tells."""
    return local_log.record(stream, time_ns, line) if "local" in path else record(line, stream, time_ns)


def write(path: str, *lines: str, first_ns: int = SECOND, mode: str = "ab") -> None:
    with open(path, mode) as file:
        for number, line in enumerate(lines):
            stream = "stderr" if line.startswith("!") else "stdout"
            file.write(one(path, line.encode(), stream, first_ns + number * SECOND))


def compress(path: str) -> None:
    with open(path, "rb") as file:
        data = file.read()
    with gzip.open(f"{path}.gz", "wb") as packed:
        packed.write(data)
    written = os.stat(path).st_mtime_ns
    os.utime(f"{path}.gz", ns=(written, written))
    os.unlink(path)


def form_of(path: str) -> str:
    return "local" if "local" in path else "json"


def reader(path: str, status: Status = Status.EXITED, **query: Any) -> LogReader:
    container = Container("a", "a", 0, ("i", "i"), completed(), State(status=status))
    return LogReader(container, path, LogsQuery(**query), form=form_of(path))


def text(path: str, **query: Any) -> str:
    return b"".join(data for _, data in reader(path, **query)).decode()


def test_all_of_it_over_rotated_files(path: str) -> None:
    write(f"{path}.2", "1\n", "2\n")
    write(f"{path}.1", "3\n")
    write(path, "4\n", "5\n")

    assert text(path) == "1\n2\n3\n4\n5\n"


@pytest.mark.parametrize("count", range(7))
def test_the_last_lines_over_rotated_files(path: str, count: int) -> None:
    write(f"{path}.2", "1\n", "2\n")
    write(f"{path}.1", "3\n")
    write(path, "4\n", "5\n")

    assert text(path, tail=count) == "".join(f"{n}\n" for n in range(1, 6))[max(0, 10 - 2 * count) :]


def test_the_last_lines_reach_into_compressed_files(path: str) -> None:
    write(f"{path}.2", "1\n", "2\n")
    write(f"{path}.1", "3\n", "4\n")
    write(path, "5\n")
    compress(f"{path}.2")
    compress(f"{path}.1")

    assert text(path) == "1\n2\n3\n4\n5\n"
    assert [text(path, tail=n) for n in range(5)] == ["", "5\n", "4\n5\n", "3\n4\n5\n", "2\n3\n4\n5\n"]


def test_a_compressed_file_that_is_cut_short_gives_what_is_left(path: str) -> None:
    write(f"{path}.1", *(f"{os.urandom(20).hex()}\n" for _ in range(9000)))
    write(path, "end\n")
    compress(f"{path}.1")
    os.truncate(f"{path}.1.gz", os.path.getsize(f"{path}.1.gz") // 2)

    assert 1000 < len(text(path).splitlines()) < 9001
    assert text(path).endswith("end\n")


@pytest.mark.parametrize("form", ["json", "local"])
@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=3000), max_size=60),
    tail=st.integers(0, 70),
)
def test_the_last_lines_are_those_at_the_end(tmp_path_factory, form: str, lines: list[str], tail: int) -> None:
    path = str(tmp_path_factory.mktemp("log") / f"x-{form}.log")
    whole = [line.replace("\n", " ").lstrip("!") + "\n" for line in lines]
    write(path, *whole)

    assert text(path, tail=tail) == "".join(whole[max(0, len(whole) - tail) :])


def test_streams_are_chosen(path: str) -> None:
    write(path, "out\n", "!err\n")

    assert list(reader(path)) == [("stdout", b"out\n"), ("stderr", b"!err\n")]
    write(path, "more\n", "yet more\n")
    assert list(reader(path))[2:] == [("stdout", b"more\nyet more\n")]
    assert text(path, stderr=False) == "out\nmore\nyet more\n"
    assert text(path, stdout=False) == "!err\n"


def test_since_and_until(path: str) -> None:
    write(path, "1\n", "2\n", "3\n", "4\n")

    assert text(path, since_ns=2 * SECOND, until_ns=3 * SECOND) == "2\n3\n"


def test_timestamps_have_nine_digits(path: str) -> None:
    write(path, "1\n")

    assert text(path, timestamps=True) == "1970-01-01T00:00:01.000000000Z 1\n"


def test_a_log_that_does_not_exist_is_empty(path: str) -> None:
    assert text(path) == ""
    assert text(path, tail=3) == ""


def test_half_a_line_of_a_crash_is_left_out(path: str) -> None:
    write(path, "1\n")
    with open(path, "ab") as file:
        file.write(one(path, b"22\n", "stdout", 0)[:9])

    assert text(path) == "1\n"


class Follower:
    """A reader on a thread."""

    def __init__(self, path: str, **query: Any) -> None:
        self.container = Container("a", "a", 0, ("i", "i"), completed(), State(status=Status.RUNNING))
        self.reader = LogReader(self.container, path, LogsQuery(follow=True, **query), form=form_of(path))
        self.text = ""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for _, data in self.reader:
            self.text += data.decode()

    def ended(self) -> bool:
        self.thread.join(5)
        return not self.thread.is_alive()


def test_following_ends_with_the_container_and_loses_nothing(path: str) -> None:
    write(path, "1\n")
    follower = Follower(path)
    until(lambda: follower.text == "1\n")

    write(path, "2\n")
    until(lambda: follower.text == "1\n2\n")
    write(path, "3\n")
    follower.container.become(State(status=Status.EXITED))

    assert follower.ended()
    assert follower.text == "1\n2\n3\n"


def test_following_begins_before_there_is_a_log(path: str) -> None:
    follower = Follower(path)

    write(path, "1\n")

    until(lambda: follower.text == "1\n")
    follower.container.become(State(status=Status.EXITED))
    assert follower.ended()


def test_following_goes_on_over_a_rotation(path: str) -> None:
    write(path, "1\n")
    follower = Follower(path, tail=0)
    until(lambda: follower.container.on_change)

    write(path, "2\n")
    os.rename(path, f"{path}.1")
    write(path, "3\n")

    until(lambda: follower.text == "2\n3\n")
    follower.reader.close()
    assert follower.ended()


@pytest.mark.parametrize("packed", [False, True])
def test_following_reads_every_file_of_several_rotations_at_once(path: str, packed: bool) -> None:
    write(path, "1\n")
    container = Container("a", "a", 0, ("i", "i"), completed(), State(status=Status.RUNNING))
    pieces = iter(LogReader(container, path, LogsQuery(follow=True), form=form_of(path), catch_up=True))
    assert next(pieces) == ("stdout", b"1\n")
    write(path, "2\n")
    os.rename(path, f"{path}.3")
    for number, line in ((2, "3\n"), (1, "4\n")):
        write(f"{path}.{number}", line)
        os.utime(f"{path}.{number}", ns=(0, os.stat(f"{path}.3").st_mtime_ns + 1))
        if packed:
            compress(f"{path}.{number}")
    if packed:
        compress(f"{path}.3")
    write(path, "5\n")

    assert b"".join(data for _, data in pieces) == b"2\n3\n4\n5\n"


def test_half_a_line_is_sent_when_it_is_whole(path: str) -> None:
    write(path, "1\n")
    whole = one(path, b"2\n", "stdout", 0)
    with open(path, "ab") as file:
        file.write(whole[:10])
    follower = Follower(path)
    until(lambda: follower.text == "1\n")

    with open(path, "ab") as file:
        file.write(whole[10:])

    until(lambda: follower.text == "1\n2\n")
    follower.reader.close()
    assert follower.ended()


def test_closing_before_reading_leaves_no_descriptor_open(path: str) -> None:
    before = descriptors()

    found = reader(path, follow=True)
    found.close()
    assert list(found) == []

    assert descriptors() <= before


def test_catching_up_takes_in_what_is_written_meanwhile_and_ends(path: str) -> None:
    write(path, "1\n")
    container = Container("a", "a", 0, ("i", "i"), completed(), State(status=Status.RUNNING))
    pieces = iter(LogReader(container, path, LogsQuery(follow=True), form=form_of(path), catch_up=True))
    assert next(pieces) == ("stdout", b"1\n")
    write(path, "2\n")
    os.rename(path, f"{path}.1")
    write(path, "3\n")

    assert [data for _, data in pieces] == [b"2\n", b"3\n"]


def test_details_are_sorted_and_escaped_and_stand_behind_the_time(tmp_path: Path) -> None:
    path = f"{tmp_path}/x-json.log"
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"log":"a\\n","stream":"stdout","attrs":{"z":"1","k y":"a=b,c"},"time":"1970-01-01T00:00:01Z"}\n')
        file.write('{"log":"b\\n","stream":"stdout","time":"1970-01-01T00:00:02.5Z"}\n')

    assert text(path, details=True) == "k+y=a%3Db%2Cc,z=1 a\n b\n"
    assert text(path, details=True, timestamps=True).splitlines() == [
        "1970-01-01T00:00:01.000000000Z k+y=a%3Db%2Cc,z=1 a",
        "1970-01-01T00:00:02.500000000Z  b",
    ]


def test_a_record_of_many_lines_is_counted_and_prefixed_by_line(tmp_path: Path) -> None:
    path = f"{tmp_path}/x-local.log"
    with open(path, "wb") as file:
        file.write(local_log.record("stdout", SECOND, b"1\n2\n3\n"))
        file.write(local_log.record("stderr", 2 * SECOND, b"4\n"))

    assert [text(path, tail=n) for n in range(5)] == ["", "4\n", "3\n4\n", "2\n3\n4\n", "1\n2\n3\n4\n"]
    assert text(path, stderr=False, timestamps=True, tail=3).splitlines() == [
        "1970-01-01T00:00:01.000000000Z 2",
        "1970-01-01T00:00:01.000000000Z 3",
    ]


def test_following_ends_at_the_first_line_that_is_too_late(path: str) -> None:
    write(path, "1\n", "2\n", "3\n")
    follower = Follower(path, until_ns=2 * SECOND)

    assert follower.ended()
    assert follower.text == "1\n2\n"
