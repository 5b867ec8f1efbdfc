"""CDI files: what they may say, which device is meant, and what changes in a configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sampan.engine import cdi
from sampan.engine.device_requests import names
from sampan.engine.user_modes import UserNamespace
from sampan.errors import InvalidInput
from sampan.spec import cdi as files, runtime
from sampan.spec.cdi_names import split
from sampan.spec.docker import DeviceRequest
from support.engine import translated

DEVICES = [{"name": "x", "containerEdits": {"env": ["A=b"]}}]


def document(**fields: Any) -> bytes:
    return json.dumps({"cdiVersion": "0.7.0", "kind": "v.com/cl", "devices": DEVICES, **fields}).encode()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vendor.com/class=name", ("vendor.com/class", "name")), ("v/c=0", ("v/c", "0")),
        ("nvidia.com/gpu=GPU-12:3", ("nvidia.com/gpu", "GPU-12:3")), ("/dev/null", None), ("/dev/a=b", None),
        ("v.com/c", None), ("v.com=x", None), ("1.com/c=x", None), ("v.com/c=-x", None), ("v.com/c=x:", None),
        ("v.com/c/d=x", None), ("v.com/c=ä", None), ("=", None), ("", None),
    ],
)  # fmt: skip
def test_a_device_of_a_file_is_told_from_a_path(name: str, parts: tuple[str, str] | None) -> None:
    assert split(name) == parts


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"cdiVersion": "2.0"}, "its cdiVersion is '2.0'"), ({"kind": "gpu"}, "its kind is 'gpu'"),
        ({"devices": []}, "it has no devices"), ({"devices": DEVICES * 2}, "two devices called x"),
        ({"devices": [{"name": "-"}]}, "no device can be called '-'"), ({"more": 1}, "unknown field `more`"),
        ({"containerEdits": {"env": ["=x"]}}, "env"), ({"containerEdits": {"hooks": [{"hookName": "x"}]}}, "hookName"),
        ({"containerEdits": {"deviceNodes": [{"path": "/x", "permissions": "rx"}]}}, "permissions"),
        ({"containerEdits": {"mounts": [{"hostPath": "/x"}]}}, "containerPath"),
        ({"containerEdits": {"intelRdt": {"closID": "../x"}}}, "closID"),
    ],
)  # fmt: skip
def test_a_file_that_says_something_else_is_refused_with_its_name(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=r"/f\.json") as caught:
        files.read("/f.json", document(**fields))
    assert fault in caught.value.message


@pytest.mark.parametrize("text", [b"", b"kind: [", b"- a", b"\xff\xfe", b"a: &a [*a]", b"!!python/object:os.system {}"])
def test_yaml_that_is_no_such_file_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"can't read /f\.yaml"):
        files.read("/f.yaml", text)


def test_yaml_and_json_say_the_same() -> None:
    text = b"cdiVersion: 0.7.0\nkind: v.com/cl\ndevices: [{name: x, containerEdits: {env: [A=b], mounts: null}}]\n"

    assert files.read("/f.yaml", text) == files.read("/f.json", document())


def edited(image: runtime.Spec | None = None, **edits: Any) -> runtime.Spec:
    file = files.read("/f.json", document(containerEdits=edits))
    return cdi.edited(image or translated(), file.container_edits, lambda path: ("c", 10, len(path)))


def test_a_device_file_is_looked_at_unless_its_numbers_are_given() -> None:
    nodes = [
        {"path": "/dev/a"}, {"path": "/dev/b", "hostPath": "/dev/long"},
        {"path": "/dev/c", "type": "b", "major": 7, "minor": 1, "permissions": "r", "uid": 5},
        {"path": "/dev/d", "permissions": "none"},
    ]  # fmt: skip
    spec = edited(translated(User="1000:7"), deviceNodes=nodes)

    made = [(d.path, d.type, d.major, d.minor, d.uid, d.gid) for d in spec.linux.devices]
    assert made == [
        ("/dev/a", "c", 10, 6, 1000, 7), ("/dev/b", "c", 10, 9, 1000, 7), ("/dev/c", "b", 7, 1, 5, 7),
        ("/dev/d", "c", 10, 6, 1000, 7),
    ]  # fmt: skip
    assert spec.linux.resources
    rules = [(r.type, r.major, r.minor, r.access) for r in spec.linux.resources.devices if r.minor in (1, 6, 9)]
    assert rules[-3:] == [("c", 10, 6, "rwm"), ("c", 10, 9, "rwm"), ("b", 7, 1, "r")]


def test_in_a_user_namespace_a_device_file_is_bound() -> None:
    rows = (runtime.IdMapping(container_id=0, host_id=7000, size=9),)
    before = translated(given={"users": UserNamespace(rows, rows)})
    spec = edited(before, deviceNodes=[{"path": "/dev/here", "hostPath": "/dev/there"}, {"path": "/dev/same"}])

    assert spec.linux.devices == ()
    assert [(m.destination, m.source) for m in spec.mounts[-2:]] == [("/dev/here", "/dev/there"), ("/dev/same",) * 2]
    assert len(spec.linux.resources.devices) == len(before.linux.resources.devices) + 2  # type: ignore[union-attr]


def test_a_mount_takes_the_place_of_one_that_is_there_and_hides_none() -> None:
    before = translated({"Binds": ["/srv:/usr/lib", "/srv:/usr/lib/deep/er"]})
    mounts = [
        {"hostPath": "/h", "containerPath": "/usr/lib"},
        {"hostPath": "/h", "containerPath": "/usr", "options": ["ro", "rbind"]},
    ]
    spec = edited(before, mounts=mounts)

    found = [(m.source, m.destination, m.options) for m in spec.mounts if m.destination.startswith("/usr")]
    assert [m[:2] for m in found] == [("/h", "/usr"), ("/h", "/usr/lib"), ("/srv", "/usr/lib/deep/er")]
    assert found[0][2] == ("ro", "rbind")
    assert found[1][2] == ("bind",)
    assert spec.mounts[0].destination == "/"


def test_the_rest_goes_where_oci_has_it() -> None:
    hooks = [{"hookName": "createContainer", "path": "/h", "timeout": 0}, {"hookName": "poststop", "path": "/h"}]
    spec = edited(
        hooks=hooks, env=["PATH=/mine", "X=y"], additionalGids=[0, 44], intelRdt={"closID": "gold", "enableCMT": True},
        netDevices=[{"hostInterfaceName": "eth7", "name": "net0"}],
    )  # fmt: skip

    assert spec.hooks == runtime.Hooks(create_container=(runtime.Hook(path="/h"),), poststop=(runtime.Hook(path="/h"),))
    assert spec.process
    assert "PATH=/mine" in spec.process.env
    assert [e for e in spec.process.env if e.startswith("PATH=")] == ["PATH=/mine"]
    assert spec.annotations[runtime.GROUP_ADD] == "44"
    assert spec.linux.net_devices == {"eth7": runtime.NetDevice(name="net0")}
    assert spec.linux.intel_rdt == runtime.IntelRdt(clos_id="gold", enable_monitoring=True)


def found(tmp_path: Path, *names: str, kind: str = "nvidia.com/gpu") -> cdi.Found:
    devices = [{"name": name, "containerEdits": {"env": ["A=b"]}} for name in names]
    (tmp_path / f"{kind.replace('/', '-')}.json").write_bytes(document(kind=kind, devices=devices))
    return cdi.find([str(tmp_path)])


@pytest.mark.parametrize(
    ("request_", "meant"),
    [
        ({"count": -1}, ["all"]), ({"count": 2}, ["0", "2"]), ({"count": 4}, ["0", "2", "10", "11"]),
        ({"device_ids": ("GPU-a",)}, ["GPU-a"]), ({"device_ids": ("0", "nvidia.com/gpu=2")}, ["0", "2"]), ({}, []),
    ],
)  # fmt: skip
def test_a_request_for_gpus_means_devices(tmp_path: Path, request_: dict[str, Any], meant: list[str]) -> None:
    there = found(tmp_path, "all", "10", "0", "GPU-a", "2", "11")

    given = names([DeviceRequest(capabilities=(("gpu",),), **request_)], there)
    assert given == [f"nvidia.com/gpu={name}" for name in meant]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"driver": "cdi", "count": 1}, "unexpected count in CDI device request"),
        ({"driver": "cdi", "options": {"a": "b"}}, "unexpected options in CDI device request"),
        ({"capabilities": (("tpu",), ("a", "b"))}, 'driver "" with capabilities: [[tpu] [a b]]'),
        ({"driver": "amd", "capabilities": (("gpu",),)}, 'driver "amd" with capabilities: [[gpu]]'),
        ({"capabilities": (("gpu",),), "count": 2}, "nvidia.com/gpu has 1"),
        ({"capabilities": (("gpu",),), "count": 1, "device_ids": ("0",)}, "cannot set both Count and DeviceIDs"),
        ({"capabilities": (("gpu",),), "options": {"a": "b"}}, "a CDI device has none"),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        names([DeviceRequest(**request_)], found(tmp_path, "0"))
    assert message in caught.value.message


def test_without_a_driver_nvidias_come_first_then_whatever_gpus_there_are(tmp_path: Path) -> None:
    asked = [DeviceRequest(capabilities=(("gpu",),), count=-1)]

    assert names(asked, found(tmp_path, "7", kind="other.org/gpu")) == ["other.org/gpu=7"]
    assert names(asked, found(tmp_path, "all", kind="amd.com/gpu")) == ["amd.com/gpu=all"]
    assert names(asked, found(tmp_path, "0", "1")) == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]


def test_the_edits_of_a_file_are_made_once(tmp_path: Path) -> None:
    devices = [{"name": name, "containerEdits": {"env": [f"{name}=1"]}} for name in "ab"]
    (tmp_path / "f.json").write_bytes(document(devices=devices, containerEdits={"env": ["ALL=1"]}))

    edits = cdi.edits_of(cdi.find([str(tmp_path)]), ["v.com/cl=b", "v.com/cl=a", "v.com/cl=b"])
    assert edits.env == ("ALL=1", "b=1", "a=1")


@pytest.mark.parametrize("again", ["a{n}: &a{n} [*a{m}, *a{m}]", "a{n}: &a{n} {{<<: [*a{m}, *a{m}]}}"])
def test_a_few_lines_of_yaml_do_not_fill_the_memory(again: str) -> None:
    lines = ["cdiVersion: 1.0.0", "kind: v.com/cl", "a0: &a0 {x: y}"]
    lines += [again.format(n=n, m=n - 1) for n in range(1, 100)]

    with pytest.raises(InvalidInput, match="aliases"):
        files.read("x.yaml", "\n".join(lines).encode())


def test_a_fifo_among_the_files_is_waited_for_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")

    assert cdi.find([str(tmp_path)]).faults == (f"can't read {tmp_path}/x.yaml: it is no file",)


def test_names_and_users_of_thousands_of_digits_are_no_numbers(tmp_path: Path) -> None:
    long = "9" * 5000
    (tmp_path / "x.json").write_bytes(document(devices=[{"name": long}, {"name": "10"}, {"name": "9"}]))
    edits = files.Edits(device_nodes=(files.DeviceNode(path="/dev/x", type="c", major=1),))

    assert cdi.find([str(tmp_path)]).of_kind("v.com/cl") == ["9", "10", long]
    assert cdi.edited(translated(user=long), edits).linux.devices[-1].uid == 0
