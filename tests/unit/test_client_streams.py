"""Docker's frames, however they are cut; references and options of the Python client."""

import struct

import pytest
from hypothesis import given, strategies as st

from sampan.client import options
from sampan.client.images import split_tag
from sampan.client.streams import frames, gather
from sampan.errors import Failed, InvalidInput
from sampan.spec import docker

CHUNKS = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=200)), max_size=8)


def framed(chunks: list[tuple[str, bytes]]) -> bytes:
    return b"".join(struct.pack(">BxxxL", {"stdout": 1, "stderr": 2}[n], len(d)) + d for n, d in chunks)


@given(CHUNKS, st.integers(min_value=1, max_value=50))
def test_frames_come_whole_however_they_arrive(chunks: list[tuple[str, bytes]], size: int) -> None:
    data = framed(chunks)
    pieces = [data[i : i + size] for i in range(0, len(data), size)]

    assert list(frames(pieces)) == chunks


def test_a_broken_frame_is_said() -> None:
    with pytest.raises(Failed, match="not in Docker's frames"):
        list(frames([b"plain text, not framed"]))
    with pytest.raises(Failed, match="middle of a frame"):
        list(frames([framed([("stdout", b"abc")])[:-1]]))


def test_streams_are_gathered_by_name() -> None:
    assert gather([("stdout", b"a"), ("stderr", b"x"), ("stdout", b"b")]) == (b"ab", b"x")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("debian", ("debian", "")),
        ("debian:12", ("debian", "12")),
        ("127.0.0.1:5000/debian", ("127.0.0.1:5000/debian", "")),
        ("h:5000/a/b:v1", ("h:5000/a/b", "v1")),
        ("x@sha256:ab", ("x", "sha256:ab")),
    ],
)
def test_a_reference_is_split_at_its_tag(reference: str, parts: tuple[str, str]) -> None:
    assert split_tag(reference) == parts


def test_options_become_dockers_body() -> None:
    body = options.body(
        "debian",
        "sh -c 'echo hi'",
        {
            "memory": "100m",
            "cpus": 0.5,
            "environment": {"A": "b"},
            "volumes": ["/srv:/srv:ro"],
            "ulimits": {"nofile": 9},
        },
    )

    assert body.cmd == ("sh", "-c", "echo hi")
    assert body.env == ("A=b",)
    assert (body.host_config.memory, body.host_config.nano_cpus) == (100 << 20, 500_000_000)
    assert body.host_config.binds == ("/srv:/srv:ro",)
    assert body.host_config.ulimits == (docker.Ulimit(name="nofile", soft=9, hard=9),)


def test_ports_are_written_as_on_the_command_line() -> None:
    body = options.body("debian", None, {"ports": ["8080:80", "[::1]:9000-9001:90-91/udp", "80", "8000-8009:81"]})

    every = {key: [(one.host_ip, one.host_port) for one in given or ()]
             for key, given in (body.host_config.port_bindings or {}).items()}  # fmt: skip
    assert every == {
        "80/tcp": [("", "8080"), ("", "")],
        "90/udp": [("::1", "9000")],
        "91/udp": [("::1", "9001")],
        "81/tcp": [("", "8000-8009")],
    }
    assert body.exposed_ports == {key: {} for key in every}


def test_no_options_are_dockers_defaults() -> None:
    assert options.body("debian", None, {}).host_config == docker.HostConfig()


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(InvalidInput, match="memroy"):
        options.body("debian", None, {"memroy": 1})  # type: ignore[typeddict-unknown-key]
