"""Seccomp profiles: what they compile to, judged by a small machine for classic BPF on every architecture."""

from __future__ import annotations

import errno
import importlib.util
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from sampan.errors import InvalidInput, Unsupported
from sampan.kernel import credentials, libseccomp, seccomp, seccomp_profile
from sampan.spec.defaults import capabilities, seccomp as defaults

ROOT = Path(__file__).resolve().parents[2]
ALLOW = 0x7FFF0000
KILL = 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


def run(bpf: bytes, token: int, number: int, *args: int) -> int:
    """Interpret a filter for one system call, as the kernel would; seccomp(2)."""
    order = "<" if token & 0x40000000 else ">"
    number &= 0xFFFFFFFF
    data = struct.pack(f"{order}IIQ6Q", number, token, 0, *[*args, 0, 0, 0, 0, 0, 0][:6])
    instructions = list(struct.iter_unpack(f"{order}HBBI", bpf))
    accumulator, at = 0, 0
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from(f"{order}I", data, k)
            case 0x54:
                accumulator &= k
            case 0x05:
                at += k
            case 0x15:
                at += jt if accumulator == k else jf
            case 0x25:
                at += jt if accumulator > k else jf
            case 0x35:
                at += jt if accumulator >= k else jf
            case 0x06:
                return k
            case _:
                raise AssertionError(hex(code))


LIBRARY = libseccomp._library()


class Machine:
    """A filter with an architecture: judges calls by name."""

    def __init__(self, bpf: bytes, architecture: str) -> None:
        self.bpf, self.token = bpf, LIBRARY.token(architecture)
        self.audit = 0xC000003E if architecture == "x32" else self.token

    def __call__(self, call: str | int, *args: int) -> int:
        if isinstance(call, str):
            call = libseccomp.NEWER.get(call) or LIBRARY.resolve_arch(self.token, call.encode())
        return run(self.bpf, self.audit, call, *args)


FILTERS = [
    (a, native)
    for a in defaults.ARCHITECTURES
    for native in (
        seccomp_profile.NATIVE[a],
        *{"x86_64": ("x86", "x32"), "aarch64": ("arm",), "s390x": ("s390",)}.get(a, ()),
    )
]


@pytest.mark.parametrize(("shipped", "architecture"), FILTERS)
def test_the_default_filter_on_every_architecture(shipped: str, architecture: str) -> None:
    judge = Machine(seccomp.default_filter(shipped), architecture)
    flags = 1 if architecture.startswith("s390") else 0
    clone_with = lambda value: judge("clone", *[0] * flags, value)

    for call in (
        "read",
        "openat",
        "execve",
        "futex",
        "wait4",
        "getpid",
        "fchmodat2",
        "futex_wait",
        "statmount",
        "chroot",
    ):
        assert (call, judge(call)) == (call, ALLOW)
    for call in (
        "mount",
        "unshare",
        "setns",
        "keyctl",
        "add_key",
        "bpf",
        "io_uring_setup",
        "userfaultfd",
        "open_tree_attr",
    ):
        assert (call, judge(call)) == (call, EPERM)
    assert clone_with(0x11) == ALLOW
    assert clone_with(0x3D0F00) == ALLOW  # what a thread is made with
    assert {clone_with(1 << bit) for bit in (17, 25, 26, 27, 28, 29, 30)} == {EPERM}
    assert judge("clone3") == ENOSYS
    assert {judge(n) for n in (470, 511)} == {ENOSYS} if architecture != "x32" else True


@pytest.mark.parametrize("upper", [0, 1 << 32])
def test_a_socket_s_family_is_judged_by_the_bits_that_the_kernel_reads(upper: int) -> None:
    judge = Machine(seccomp.default_filter("x86_64"), "x86_64")

    assert [f for f in range(60) if judge("socket", upper | f) != ALLOW] == [38, 40, *range(48, 60)]


def test_personality_takes_only_the_harmless_ones() -> None:
    judge = Machine(seccomp.default_filter("x86_64"), "x86_64")

    assert {judge("personality", p) for p in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)} == {ALLOW}
    assert judge("personality", 0x0400000) == EPERM  # READ_IMPLIES_EXEC


def test_a_process_of_another_architecture_is_killed() -> None:
    bpf = seccomp.default_filter("riscv64")

    assert run(bpf, 0xC000003E, 0) == KILL


def test_a_32_bit_program_may_use_sockets_in_both_ways() -> None:
    judge = Machine(seccomp.default_filter("x86_64"), "x86")

    assert judge(102, 9) == ALLOW  # socketcall
    assert judge(359, 2) == judge(370) == ALLOW  # socket, sendmsg: direct calls since Linux 4.3
    assert judge(359, 40) == EPERM


def test_x32_calls_are_judged_as_those_of_the_same_number() -> None:
    judge = Machine(seccomp.default_filter("x86_64"), "x86_64")

    assert judge(0x40000000 | 452) == ALLOW
    assert judge(0x40000000 | 500) == ENOSYS
    assert judge(0x40000000 | 520) == ALLOW  # x32's own number of execve


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_ADMIN", "open_tree_attr"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ],
)
def test_a_capability_opens_its_calls(capability: str, call: str) -> None:
    profile = seccomp.default_profile()

    assert Machine(seccomp.compile(profile, "x86_64", {capability}), "x86_64")(call) == ALLOW
    assert Machine(seccomp.compile(profile, "x86_64", ()), "x86_64")(call) != ALLOW


def test_what_is_shipped_is_what_the_source_compiles_to() -> None:
    spec = importlib.util.spec_from_file_location("make_seccomp", ROOT / "tools/make_seccomp.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    shipped = {p.name: p.read_bytes() for p in (tool.DEFAULTS / "seccomp").iterdir()}
    made = tool.filters()

    assert shipped.keys() == made.keys()
    assert [name for name in made if made[name] != shipped[name]] == [], "run tools/make_seccomp.py"


def test_the_variants_know_every_capability_that_the_profile_asks_for() -> None:
    profile = json.loads(seccomp.default_profile())
    asked = {c for s in profile["syscalls"] for key in ("includes", "excludes") for c in s.get(key, {}).get("caps", ())}

    assert asked == defaults.JUDGED


@pytest.mark.parametrize(
    ("held", "variant"),
    [
        (capabilities.DEFAULT, "default"),
        ((*capabilities.DEFAULT, "CAP_NET_ADMIN"), "default"),
        ((), "none"),
        (("CAP_NET_BIND_SERVICE",), "none"),
        (capabilities.ALL, "all"),
        ((*capabilities.DEFAULT, "CAP_SYS_PTRACE"), None),
    ],
)
def test_a_capability_set_has_its_variant(held: tuple[str, ...], variant: str | None) -> None:
    assert defaults.variant(held) == variant


def test_the_capability_lists_agree() -> None:
    assert dict(zip(capabilities.ALL, range(len(capabilities.ALL)), strict=True)) == credentials.CAPABILITIES
    assert set(capabilities.DEFAULT) < set(capabilities.ALL)


def test_an_architecture_without_a_filter_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="none is shipped for vax"):
        seccomp.default_filter("vax")


# ---------------------------------------------------------------------------------------------------------- optimising

ARGUMENTS = st.sampled_from([0, 1, 2, 8, 0x11, 36, 38, 40, 0x7E020000, 1 << 29, 1 << 32, (1 << 32) | 40, 2**64 - 1])


def plain_and_small(profile, architecture: str) -> tuple[bytes, bytes, tuple[str, ...]]:
    resolved = seccomp_profile.resolve(profile, architecture, frozenset(capabilities.DEFAULT), (6, 1))
    plain = libseccomp._plain(LIBRARY, resolved)
    return plain, seccomp.compile(profile, architecture, capabilities.DEFAULT, (6, 1)), resolved.architectures


@pytest.fixture(scope="module")
def pairs():
    return {a: plain_and_small(seccomp.default_profile(), a) for a in defaults.ARCHITECTURES}


@settings(max_examples=600)
@given(
    st.sampled_from(FILTERS),
    st.integers(0, 600)
    | st.integers(0x40000000, 0x40000258)
    | st.integers(0xF0000, 0xF0010)
    | st.integers(0, 2**32 - 1),
    st.lists(ARGUMENTS, max_size=3),
)
def test_a_small_filter_says_what_the_large_one_says(pairs, where, number: int, args: list[int]) -> None:
    plain, small, _ = pairs[where[0]]
    token = LIBRARY.token(where[1]) if where[1] != "x32" else LIBRARY.token("x86_64")

    assert run(small, token, number, *args) == run(plain, token, number, *args)


def test_every_number_of_this_machine_s_architectures_is_judged_alike(pairs) -> None:
    plain, small, architectures = pairs["x86_64"]

    assert architectures == ("x86_64", "x86", "x32")
    for token in (0xC000003E, 0x40000003, 0xC00000B7):
        for base in (0, 0x40000000, 0x80000000):
            for number in range(base, base + 560):
                assert run(small, token, number) == run(plain, token, number)


def test_a_small_filter_is_small(pairs) -> None:
    assert {a: len(small) < len(plain) / 2 for a, (plain, small, _) in pairs.items()} == dict.fromkeys(pairs, True)


def test_long_jumps_are_written_where_short_ones_do_not_reach() -> None:
    rules = [
        {
            "names": [name],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 100 + i,
            "args": [{"index": i % 6, "value": 1000 + i + j, "op": "SCMP_CMP_EQ"} for j in range(6)],
        }
        for i, name in enumerate(
            ("read", "open", "close", "stat", "poll", "mmap", "brk", "ioctl", "pipe", "dup", "kill")
        )
    ]
    plain, small, _ = plain_and_small({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, "x86_64")

    for i, rule in enumerate(rules):
        number = LIBRARY.resolve(rule["names"][0].encode())
        for value in range(990, 1030):
            args = [0] * 6
            args[i % 6] = value
            assert run(small, 0xC000003E, number, *args) == run(plain, 0xC000003E, number, *args)


# ---------------------------------------------------------------------------------------------------- users' profiles

OCI = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        {"name": "getcwd", "action": "SCMP_ACT_KILL_PROCESS"},
        {
            "names": ["kill"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}],
        },
        {
            "names": ["fchown"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 2, "op": "SCMP_CMP_GE"}],
        },
        {"names": ["fchmodat2"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"},
    ],
}


def test_a_deny_list_in_oci_s_form() -> None:
    judge = Machine(seccomp.compile(OCI, "x86_64"), "x86_64")

    assert judge("mkdir") == judge("mkdirat") == 0x50000 | 13
    assert judge("getcwd") == KILL
    assert [judge("kill", 1, s) for s in (9, 15, 1)] == [EPERM, EPERM, ALLOW]  # conditions on one argument: any of them
    assert [judge("fchown", 0, u, g) for u, g in ((1, 2), (1, 1), (2, 2))] == [EPERM, ALLOW, ALLOW]  # on two: both
    assert judge("fchmodat2") == EPERM
    assert judge("read") == judge(480) == ALLOW
    assert Machine(judge.bpf, "x86")("mkdir") == 0x50000 | 13


def test_calls_newer_than_an_allow_list_do_not_exist() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"}],
    }
    judge = Machine(seccomp.compile(json.dumps(profile), "x86_64"), "x86_64")

    assert [judge(c) for c in ("read", "openat2", "mkdir", "faccessat2")] == [ALLOW, ALLOW, EPERM, ENOSYS]


@pytest.mark.parametrize(("kernel", "verdict"), [((4, 7), EPERM), ((4, 8), ALLOW), ((5, 0), ALLOW)])
def test_a_rule_may_ask_for_a_kernel(kernel: tuple[int, int], verdict: int) -> None:
    rule = {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}}
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule, {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}

    assert Machine(seccomp.compile(profile, "x86_64", (), kernel), "x86_64")("ptrace") == verdict


def with_rule(**fields) -> dict:
    rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", **fields}
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_ALLOW"}, rule]}


@pytest.mark.parametrize(
    ("profile", "place"),
    [
        ("{", "Expecting"),
        ("[]", "the profile: must be an object"),
        ({}, "defaultAction: must be one of"),
        ({"defaultAction": "ALLOW"}, "defaultAction: must be one of"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "x"}, "defaultErrnoRet: must be a number"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}, "syscalls: must be an array"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}, r"architectures\[0\]: must be an architecture"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}, "SCMP_ARCH_VAX"),
        (with_rule(action="SCMP_ACT_MAYBE"), r"syscalls\[1\].action: must be one of"),
        (with_rule(names=[]), r"syscalls\[1\].names: must name"),
        (with_rule(name="write"), r"syscalls\[1\]: has 'name' and 'names': use either"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]},
            "the profile: has 'architectures' and 'archMap'",
        ),
        (with_rule(names=[7]), r"syscalls\[1\].names\[0\]: must be a string"),
        (with_rule(args=[{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]), r"syscalls\[1\].args\[0\].index"),
        (with_rule(args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]), r"syscalls\[1\].args\[0\].value"),
        (with_rule(args=[{"index": 0, "value": 1, "op": "=="}]), r"syscalls\[1\].args\[0\].op"),
        (with_rule(includes={"minKernel": "new"}), r"syscalls\[1\].includes.minKernel"),
        (with_rule(excludes={"caps": "CAP_X"}), r"syscalls\[1\].excludes.caps"),
    ],
)
def test_a_bad_profile_is_refused_by_the_place_that_is_wrong(profile, place: str) -> None:
    with pytest.raises(InvalidInput, match=place):
        seccomp.compile(profile, "x86_64")


@pytest.mark.parametrize(
    "profile",
    [{"defaultAction": "SCMP_ACT_NOTIFY"}, {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}],
)
def test_what_a_profile_asks_and_is_not_done_is_refused(profile) -> None:
    with pytest.raises(Unsupported):
        seccomp.compile(profile, "x86_64")


def test_a_caller_that_installs_all_may_have_flags_and_ask_an_agent() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/agent",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }

    assert Machine(seccomp.compile(profile, "x86_64", installs_all=True), "x86_64")("mkdir") == 0x7FC00000


@pytest.mark.parametrize(
    "fields",
    [
        {"listenerPath": ""},
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}]},
    ],
)
def test_what_no_agent_could_answer_is_refused(fields) -> None:
    asked = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent", "syscalls": [asked], **fields}

    with pytest.raises(Unsupported):
        seccomp.compile(profile, "x86_64", installs_all=True)
