"""The stand-ins of `sampan-runtime`: what msgspec reads or refuses they read or refuse, at the same place."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from sampan.errors import InvalidInput
from sampan.spec.runtime import Spec, read

WHOLE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
        "args": ["sh", "-c", "true"],
        "env": ["PATH=/bin", "A=ü"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_CHOWN"], "ambient": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 18446744073709551615}],
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {
            "destination": "/m",
            "type": "bind",
            "source": "/m",
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
        },
    ],
    "hooks": {"prestart": [{"path": "/h", "args": ["h"], "env": ["A=b"], "timeout": 5}], "poststop": [{"path": "/p"}]},
    "annotations": {"a": "b"},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
        "cgroupsPath": "/c",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3}],
            "memory": {"limit": 1000, "swap": -1, "disableOOMKiller": False},
            "cpu": {"shares": 2, "cpus": "0-1"},
            "pids": {"limit": 10},
            "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
            "unified": {"memory.high": "1"},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}
            ],
        },
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "timeOffsets": {"monotonic": {"secs": 1}},
    },
    "unknown": [1, {"a": None}],
}
WRONG: tuple[Any, ...] = (None, "x", -7, 1.5, True, [], {}, [7], {"a": 7})

PROGRAM = """
import sys
from sampan.oci import lean
lean.install()
from sampan.errors import InvalidInput
from sampan.spec.runtime import read
import msgspec
assert not msgspec.__file__.endswith("msgspec/__init__.py")
for line in sys.stdin.buffer:
    try:
        print("+" + msgspec.json.encode(read(line)).decode())
    except InvalidInput as e:
        print("-" + e.message)
"""


def places(value: Any, path: tuple[Any, ...] = ()):
    """Yield the path of everything in a document."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def documents():
    """The whole, the whole without each part, and with each part replaced by what it can't all be."""
    yield WHOLE
    for path in places(WHOLE):
        for other in ("absent", *WRONG):
            document = copy.deepcopy(WHOLE)
            above = document
            for key in path[:-1]:
                above = above[key]
            if other == "absent":
                del above[path[-1]]
            else:
                above[path[-1]] = other
            yield document


def genuine(line: str) -> str:
    try:
        return "+" + msgspec.json.encode(read(line.encode())).decode()
    except InvalidInput as e:
        return "-" + e.message


def place(answer: str) -> str:
    """Where an error is, by its path."""
    return answer.rpartition("`$")[2] if "`$" in answer else ""


@pytest.fixture(scope="module")
def answers() -> list[tuple[str, str, str]]:
    lines = list(dict.fromkeys(json.dumps(d) for d in documents()))
    lines += ["", "{", "[]", "7", '{"ociVersion": "1.0.0"} x', '{"ociVersion": "2.0.0"}', '{"ociVersion": "1.0.0"}']
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    return list(zip(lines, map(genuine, lines), done.stdout.splitlines(), strict=True))


def test_what_one_takes_the_other_takes(answers):
    assert len(answers) > 1000
    assert [line for line, one, other in answers if one[0] != other[0]] == []


def test_what_both_take_is_read_as_the_same(answers):
    taken = [(read(one[1:].encode()), read(other[1:].encode())) for _, one, other in answers if one[0] == "+"]

    assert len(taken) > 100
    assert [pair for pair in taken if pair[0] != pair[1]] == []


def test_what_both_refuse_they_refuse_at_the_same_place(answers):
    refused = [(place(one), place(other)) for _, one, other in answers if one[0] == "-"]

    assert len(refused) > 500
    assert [pair for pair in refused if pair[0] != pair[1]] == []


def test_a_plan_by_the_stand_ins_is_the_plan(tmp_path):
    program = """
import sys
if sys.argv[1] == "lean":
    from sampan.oci import lean
    lean.install()
from sampan.runtime.plan import plan
from sampan.spec.host import CgroupMode, Host
from sampan.spec.runtime import read
host = Host(architecture="x86_64", kernel=(6, 1), cgroup_mode=CgroupMode("v1"), namespaces=frozenset({"mnt", "pid"}),
            cgroup_mounts=(("devices", "/c/devices"), ("memory", "/c/memory"), ("pids", "/c/pids")))
document = sys.stdin.buffer.read()
for step in plan(read(document), host, id="c1", bundle="/b").steps:
    print(step.who, type(step.op).__name__, [getattr(step.op, f) for f in step.op.__struct_fields__])
"""
    document = {
        "ociVersion": "1.0.0",
        "root": {"path": "/r"},
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 1, "gid": 1}, "rlimits": WHOLE["process"]["rlimits"]},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "ro"]}],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}],
            "resources": {"memory": {"limit": 1000}, "pids": {"limit": 5}},
            "maskedPaths": ["/proc/kcore"],
        },
    }

    one, other = (
        subprocess.run(
            [sys.executable, "-c", program, how], input=json.dumps(document), capture_output=True, text=True, check=True
        ).stdout
        for how in ("lean", "genuine")
    )

    assert len(one.splitlines()) > 30
    assert one == other


def test_the_stand_ins_have_every_field_of_the_specification():
    assert set(Spec.__struct_fields__) == {
        "oci_version", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux",
    }  # fmt: skip
