"""The device program, run by a small BPF machine against what its rules mean."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given, strategies as st

from sampan.kernel import bpf
from sampan.kernel.bpf import DeviceRule

NUMBERS = st.none() | st.integers(0, 3)
RULES = st.builds(
    DeviceRule,
    allow=st.booleans(),
    type=st.sampled_from("abc"),
    major=NUMBERS,
    minor=NUMBERS,
    access=st.lists(st.sampled_from("rwm"), min_size=1, unique=True).map("".join),
)


def run(program: bytes, type: str, major: int, minor: int, access: str) -> bool:
    """Interpret a program for one request, as the kernel would."""
    context = (sum(bpf._ACCESS[a] for a in access) << 16 | bpf._TYPES[type], major, minor)
    instructions = list(struct.iter_unpack("=BBhi", program))
    registers, at = [0] * 11, 0
    while True:
        code, pair, off, imm = instructions[at]
        dst, src = (pair & 15, pair >> 4) if sys.byteorder == "little" else (pair >> 4, pair & 15)
        at += 1
        match code:
            case bpf._LOAD_WORD:
                assert src == 1
                registers[dst] = context[off // 4]
            case bpf._MOVE:
                registers[dst] = imm
            case bpf._MOVE_REGISTER:
                registers[dst] = registers[src]
            case bpf._AND:
                registers[dst] &= imm
            case bpf._SHIFT_RIGHT:
                registers[dst] >>= imm
            case bpf._JUMP_NOT_EQUAL:
                at += off if registers[dst] != imm else 0
            case bpf._JUMP_IF_ANY:
                at += off if registers[dst] & imm else 0
            case bpf._JUMP:
                at += off
            case bpf._EXIT:
                return bool(registers[0])
            case _:
                raise AssertionError(code)


def allowed(rules: list[DeviceRule], type: str, major: int, minor: int, access: str) -> bool:
    """Say it the slow way: each letter by the last rule that names the device and the letter."""

    def letter(wanted: str) -> bool:
        for r in reversed(rules):
            if wanted in r.access and r.type in {"a", type} and r.major in {None, major} and r.minor in {None, minor}:
                return r.allow
        return False

    return all(letter(a) for a in access)


@given(
    st.lists(RULES, max_size=8),
    st.sampled_from("bc"),
    st.integers(0, 3),
    st.integers(0, 3),
    st.lists(st.sampled_from("rwm"), min_size=1, unique=True).map("".join),
)
def test_the_last_rule_that_names_a_device_and_an_access_decides(rules, type, major, minor, access) -> None:
    assert run(bpf.device_program(rules), type, major, minor, access) == allowed(rules, type, major, minor, access)


def test_no_rule_means_no_device() -> None:
    assert not run(bpf.device_program([]), "c", 1, 3, "r")


@pytest.mark.parametrize(("access", "yes"), [("r", True), ("rw", True), ("w", True), ("m", False), ("rm", False)])
def test_two_rules_add_up_to_what_one_request_asks(access: str, yes: bool) -> None:
    rules = [DeviceRule(True, "c", 1, 3, "r"), DeviceRule(True, "c", 1, 3, "w")]

    assert run(bpf.device_program(rules), "c", 1, 3, access) is yes
