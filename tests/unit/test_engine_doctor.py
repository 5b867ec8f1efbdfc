"""What the doctor says of a host."""

from __future__ import annotations

from msgspec.structs import replace

from sampan.engine.doctor import Facts, findings
from sampan.spec.docker.doctor import Finding
from sampan.spec.host import CgroupMode, Host

ALL = frozenset(
    f"CAP_{name}" for name in (
        "SYS_ADMIN", "NET_ADMIN", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "SETPCAP", "SETFCAP",
        "MKNOD", "KILL", "SYS_CHROOT",
    )
)  # fmt: skip
HOST = Host(
    architecture="x86_64",
    kernel=(6, 18),
    cgroup_mode=CgroupMode.V2,
    cgroup_controllers=frozenset({"cpu", "cpuset", "memory", "pids", "io"}),
    namespaces=frozenset({"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}),
    capabilities=ALL,
)
FACTS = Facts(
    filesystems=frozenset({"overlay", "ext4"}),
    user_namespaces=1000,
    root="/var/lib/sampan",
    free_bytes=50 << 30,
    size_bytes=100 << 30,
    free_inodes=10**6,
    inodes=2 * 10**6,
    filesystem="ext4",
    nftables="",
    legacy_iptables=False,
    forwarding_refused=(),
    open_files=20_000,
    libseccomp=True,
)


def bad(host: Host = HOST, **facts: object) -> dict[str, Finding]:
    return {f.check: f for f in findings(host, FACTS._replace(**facts)) if f.outcome != "ok"}  # type: ignore[arg-type]


def test_a_host_that_has_everything_has_nothing_to_mend() -> None:
    assert bad() == {}
    assert all(finding.said and not finding.fix for finding in findings(HOST, FACTS))


def test_what_makes_containers_impossible_has_failed() -> None:
    assert bad(replace(HOST, kernel=(5, 4)))["kernel"].outcome == "failed"
    assert bad(replace(HOST, capabilities=ALL - {"CAP_SYS_ADMIN"}))["rights"].said == "missing: CAP_SYS_ADMIN"
    assert bad(replace(HOST, rootful=False))["rights"].outcome == "failed"
    assert bad(replace(HOST, namespaces=frozenset({"mnt"})))["namespaces"].outcome == "failed"
    assert "modprobe overlay" in bad(filesystems=frozenset({"ext4"}))["overlay"].fix
    assert bad(replace(HOST, cgroup_mode=CgroupMode.NONE))["control groups"].outcome == "failed"
    assert bad(nftables="no such file")["firewall"].outcome == "failed"


def test_what_costs_a_feature_is_a_warning_with_its_fix() -> None:
    found = {
        **bad(replace(HOST, mount_setattr=False, swap_accounting=False, seccomp=False)),
        **bad(user_namespaces=0, free_bytes=1 << 20, free_inodes=3, open_files=256, forwarding_refused=("FORWARD",)),
    }  # fmt: skip

    assert set(found) == {
        "kernel", "swap limit", "seccomp", "user namespaces", "disk", "inodes", "open files", "firewall",
    }  # fmt: skip
    assert all(finding.outcome == "warning" and finding.fix for finding in found.values())
    assert "FORWARD" in found["firewall"].said


def test_a_missing_controller_is_named() -> None:
    found = bad(replace(HOST, cgroup_controllers=frozenset({"cpu", "pids"})))["control groups"]

    assert found.said == "v2 without cpuset, memory: those limits are refused"
    assert "cgroup_enable=memory" in found.fix
