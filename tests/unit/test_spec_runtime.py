"""Reading config.json: every field of the specification is known, what is wrong is named by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sampan.errors import InvalidInput
from sampan.spec.runtime import ContainerState, Spec, read

FIELDS = Path(__file__).with_name("oci-runtime-1.3-fields.txt").read_text().split()
MINIMAL = {"ociVersion": "1.0.2"}


def changed(path: str, value: Any) -> bytes:
    """Return a minimal document in which one field, in objects and lists as its path says, is `value`."""
    document: dict[str, Any] = json.loads(json.dumps(MINIMAL))
    here: Any = document
    names = path.split(".")
    for name, following in zip(names, [*names[1:], None], strict=True):
        if name.isdigit():
            here.append(value if following is None else [] if following.isdigit() else {})
            here = here[0]
        else:
            here[name] = value if following is None else [] if following.isdigit() else {}
            here = here[name]
    return json.dumps(document).encode()


def known(type: msgspec.inspect.Type, prefix: str = "") -> set[str]:
    """List the places of a type: `linux.devices[].path`, `linux.rdma{}.hcaObjects`."""
    found = {prefix} if prefix else set()
    match type:
        case msgspec.inspect.UnionType():
            for one in type.types:
                found |= known(one, prefix)
        case msgspec.inspect.VarTupleType():
            found |= known(type.item_type, f"{prefix}[]")
        case msgspec.inspect.DictType():
            found |= known(type.value_type, f"{prefix}{{}}")
        case msgspec.inspect.StructType():
            for field in type.fields:
                found |= known(field.type, f"{prefix}.{field.encode_name}".lstrip("."))
    return found


def test_every_field_of_the_schema_is_known() -> None:
    places = known(msgspec.inspect.type_info(Spec))

    # `commandLine` and the parts of other platforms are not Linux's.
    assert [f for f in FIELDS if f not in places] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.user.uid", -1),
        ("process.user.uid", "root"),
        ("process.user.additionalGids.0", 2**32),
        ("process.rlimits.0", {"type": "NOFILE", "soft": 1, "hard": 1}),
        ("process.ioPriority.class", "IOPRIO_CLASS_NONE"),
        ("process.scheduler.policy", "SCHED_NORMAL"),
        ("process.scheduler.flags.0", "X"),
        ("root", {}),
        ("mounts.0", {}),
        ("hooks.prestart.0", {"path": "/x", "timeout": 0}),
        ("linux.namespaces.0.type", "net"),
        ("linux.uidMappings.0", {"containerID": 0, "hostID": 0}),
        ("linux.devices.0", {"type": "x", "path": "/dev/x"}),
        ("linux.rootfsPropagation", "public"),
        ("linux.resources.hugepageLimits.0", {"pageSize": "2mb", "limit": 1}),
        ("linux.resources.pids", {}),
        ("linux.resources.blockIO.weight", 2**16),
        ("linux.resources.rdma.x.hcaHandles", -1),
        ("linux.seccomp.defaultAction", "SCMP_ACT_NONE"),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}),
        ("linux.memoryPolicy.mode", "MPOL_NONE"),
        ("linux.personality.domain", "BSD"),
        ("linux.timeOffsets.monotonic.nanosecs", -1),
    ],
)
def test_a_wrong_field_is_named_by_its_place(path: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"can't read config\.json: .* at `\$\.") as caught:
        read(changed(path, value))

    assert caught.value.message.rpartition("`$.")[2].startswith(path.partition(".")[0])


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"{}", b'{"ociVersion": "\xff"}', b"[" * 100_000])
def test_what_is_no_configuration_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"can.t read config\.json"):
        read(document)


@pytest.mark.parametrize("version", ["2.0.0", "0.1.0", "x", ""])
def test_other_major_versions_are_refused(version: str) -> None:
    with pytest.raises(InvalidInput, match="ociVersion"):
        read(json.dumps({"ociVersion": version}).encode())


def test_unknown_fields_are_ignored_and_null_is_absent() -> None:
    document = {"ociVersion": "1.99.0", "x": {"y": 1}, "mounts": None, "linux": {"z": [], "devices": None}}

    assert read(json.dumps(document).encode()) == Spec(oci_version="1.99.0")


def test_a_state_is_written_in_the_specifications_words() -> None:
    state = ContainerState(oci_version="1.2.0", id="c", status="running", pid=7, bundle="/b", annotations={"a": "b"})

    assert json.loads(msgspec.json.encode(state)) == {
        "ociVersion": "1.2.0", "id": "c", "status": "running", "pid": 7, "bundle": "/b", "annotations": {"a": "b"},
    }  # fmt: skip
