"""Numbers with units."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sampan import units
from sampan.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("100", 100), ("512m", 512 << 20), ("1.5g", 3 << 29), ("64KiB", 65536), ("64kb", 65536),
        ("2T", 2 << 40),        ("1B", 1), (" 3 k ", 3072), ("0.5k", 512),
    ],
)  # fmt: skip
def test_a_size_is_in_powers_of_1024(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1x", "1mm", "1ib", "1_000", "nan", "1e3", "٣", "1.m", "999999p", "1bb"]
)
def test_a_bad_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid size"):
        units.parse_bytes(text)


@pytest.mark.parametrize(("text", "nano"), [("1", 10**9), ("1.5", 15 * 10**8), ("0.01", 10**7), ("0.000000001", 1)])
def test_cpus_are_billionths(text: str, nano: int) -> None:
    assert units.parse_cpus(text) == nano


@pytest.mark.parametrize("text", ["", "-1", "a", "1.0000000001", "inf", "99999999999999"])
def test_a_bad_number_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        units.parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("30s", 30 * 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("100ms", 10**8), ("0", 0),
     ("-2s", -2 * 10**9), ("1us", 1000), ("1µs", 1000), ("7ns", 7)],
)  # fmt: skip
def test_a_duration_is_written_as_in_go(text: str, ns: int) -> None:
    assert units.parse_duration(text) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"), (7, "7ns"), (1_500, "1.5µs"), (200 * 10**6, "200ms"), (1_000_001, "1.000001ms"), (10**9, "1s"),
        (1_500 * 10**6, "1.5s"), (90 * 10**9, "1m30s"), (3600 * 10**9, "1h0m0s"), (93_784_050 * 10**6, "26h3m4.05s"),
    ],
)  # fmt: skip
def test_a_duration_is_written_as_go_writes_it(ns: int, text: str) -> None:
    assert units.format_duration(ns) == text
    assert units.parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "30", "s", "1x", "-", "+", "1m30", "1.2.3s", "1 m", "9999999999h"])
def test_a_bad_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("80", ((80, 80), "tcp", "", (0, 0))),
        ("80/udp", ((80, 80), "udp", "", (0, 0))),
        ("8080:80", ((80, 80), "tcp", "", (8080, 8080))),
        ("127.0.0.1:8080:80/sctp", ((80, 80), "sctp", "127.0.0.1", (8080, 8080))),
        ("[::1]::53/udp", ((53, 53), "udp", "::1", (0, 0))),
        ("8000-8010:80-90", ((80, 90), "tcp", "", (8000, 8010))),
        ("8000-8010:80", ((80, 80), "tcp", "", (8000, 8010))),
    ],
)
def test_ports(text: str, parts: tuple) -> None:
    port = units.parse_port(text)

    container = (port.container_first, port.container_last)
    assert (container, port.protocol, port.host_ip, (port.host_first, port.host_last)) == parts


@pytest.mark.parametrize("text", ["", "0", "65536", "80/icmp", "a:80", "90-80", "1-3:1-2", "80:", ":"])
def test_bad_ports_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        units.parse_port(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("KILL", 9),
        ("sigterm", 15),
        ("SIGHUP", 1),
        ("RTMIN+3", 37),
        ("SIGRTMAX-1", 63),
        ("64", 64),
        ("IO", 29),
    ],
)
def test_signals_by_name_and_number(text: str, number: int) -> None:
    assert units.parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "NOPE", "RTMIN+31", "RTMAX+1", "-9", "KILL+1", "\uff19"])
def test_bad_signals_are_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid signal"):
        units.parse_signal(text)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-[", b"\x1b"),
        ("ctrl-@,x", b"\x00x"),
        ("", b""),
        ("ctrl-P", b"\x10"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert units.parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "ctrl-pp", "a,,b", "é"])
def test_bad_detach_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid detach keys"):
        units.parse_detach_keys(text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:01.5Z", 15 * 10**8),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("1970-01-02", 86400 * 10**9),
        ("1970-01-01T00:01", 60 * 10**9),
    ],
)
def test_timestamps(text: str, ns: int) -> None:
    assert units.parse_timestamp(text) == ns


@pytest.mark.parametrize(
    "text", ["", "yesterday", "1970-13-01", "1970-02-30", "1970-01-01T25:00", "1970-01-01T00:00:00,5Z"]
)
def test_bad_timestamps_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        units.parse_timestamp(text)


@given(st.integers(0, 2**62))
def test_a_timestamp_is_read_as_it_was_written(ns: int) -> None:
    assert units.parse_timestamp(units.format_timestamp(ns)) == ns


@given(st.text(max_size=30))
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (units.parse_bytes, units.parse_cpus, units.parse_duration, units.parse_port, units.parse_signal,
                  units.parse_timestamp, units.parse_detach_keys):  # fmt: skip
        try:
            parse(text)
        except InvalidInput as e:
            assert e.message  # noqa: PT017  # the other outcome is a value


@given(st.integers(0, 2**60))
def test_a_plain_number_of_bytes_is_itself(size: int) -> None:
    assert units.parse_bytes(str(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (150, "2 minutes"),
     (3600, "About an hour"), (7200, "2 hours"), (86400 * 3, "3 days"), (86400 * 20, "2 weeks"),
     (86400 * 90, "3 months"), (86400 * 800, "2 years")],
)  # fmt: skip
def test_ages_read_as_dockers(seconds: int, text: str) -> None:
    assert units.format_ago(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (999, "999B"), (1240000, "1.24MB"), (5 * 10**9, "5GB")])
def test_sizes_read_as_dockers(size: int, text: str) -> None:
    assert units.format_bytes(size) == text


def test_the_time_of_a_log_query_may_be_an_age_a_moment_or_seconds() -> None:
    now = 1_700_000_000 * 10**9

    assert units.parse_time("10m", now) == now - 600 * 10**9
    assert units.parse_time("1700000000.5", now) == now + 5 * 10**8
    assert units.parse_time("2023-11-14T22:13:20Z", now) == now
