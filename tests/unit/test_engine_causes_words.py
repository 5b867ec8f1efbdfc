"""Causes that a container's last lines tell, with its limits and rights beside them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from sampan.engine.causes_words import told_by
from sampan.spec.defaults.capabilities import ALL, DEFAULT
from sampan.spec.docker import ContainerCreate, HostConfig, Ulimit
from sampan.spec.docker.why import Cause
from sampan.spec.runtime import SECCOMP, Capabilities, Linux, Mount, Process, Rlimit, Spec, User

BIND = Mount(destination="/data", type="bind", source="/srv/data", options=("rbind", "rw"))
READ_ONLY = Mount(destination="/data", type="bind", source="/srv/data", options=("rbind", "ro"))
SYSFS = Mount(destination="/sys", type="sysfs", options=("nosuid", "ro"))


def spec(
    *,
    bounding: tuple[str, ...] = DEFAULT,
    user: str = "",
    mounts: tuple[Mount, ...] = (),
    no_new_privileges: bool = False,
    rlimits: tuple[Rlimit, ...] = (),
    sysctl: Any = None,
) -> Spec:
    process = Process(
        user=User(username=user),
        capabilities=Capabilities(bounding=bounding),
        no_new_privileges=no_new_privileges,
        rlimits=rlimits,
    )
    linux = Linux(readonly_paths=("/proc/sys",), sysctl=sysctl or {})
    return Spec(oci_version="1.2.0", process=process, mounts=mounts, linux=linux, annotations={SECCOMP: "default"})


def told(line: str, of: Spec | None = None, **host: Any) -> Cause | None:
    return told_by(("it begins", line), ContainerCreate(host_config=HostConfig(**host)), of or spec())


def limited(name: str, soft: int, hard: int) -> dict[str, Any]:
    return {"ulimits": (Ulimit(name=name, soft=soft, hard=hard),)}


TABLE: list[tuple[str, Spec | None, dict[str, Any], str, str, str, str]] = [
    # the line, its spec, its HostConfig; kind, and what is said, one fact and the fix begin or end with
    ("sh: can't open /x: Too many open files", None, limited("nofile", 16, 16), "ulimit",
     "it had as many files open as it may", "it runs with --ulimit nofile=16:16", "run it with --ulimit nofile=32:32"),
    ("OSError: [Errno 24] Too many open files: '/x'", None, {}, "ulimit",
     "it had as many files open as it may", "no --ulimit nofile was given", "run it with a higher --ulimit nofile=…"),
    ("open /x: too many open files in system", None, {}, "ulimit", "this host has no file handle left", "",
     "find what"),
    ("Error: EMFILE: too many open files, inotify_init", None, {}, "ulimit",
     "it wanted one more inotify instance", "", "on the host: sysctl -w fs.inotify.max_user_instances=1024"),
    ("dd: error writing '/x': File too large", None, limited("fsize", 100, -1), "ulimit",
     "it wrote a file longer than its ulimit allows", "it runs with --ulimit fsize=100:-1",
     "run it with --ulimit fsize=200:-1"),
    ("write /x: file too large", None, {}, "file-too-long", "a file became longer", "", ""),
    ("x.sh: line 3: 9 CPU time limit exceeded", spec(rlimits=(Rlimit(type="RLIMIT_CPU", soft=1, hard=2**64 - 1),)), {},
     "ulimit", "it has used all the processor time", "it runs with --ulimit cpu=1:-1", "run it with --ulimit cpu=2:-1"),
    ("sh: fork: Resource temporarily unavailable", None, limited("nproc", 9, 9), "ulimit",
     "it got no other process or thread", "it runs with --ulimit nproc=9:9", "run it with --ulimit nproc=18:18"),
    ("fork: retry: Resource temporarily unavailable", None, limited("nproc", -1, -1), "ulimit",
     "it got no other process or thread", "its limit of processes", "run it with a higher --ulimit nproc"),
    ("RuntimeError: can't start new thread", None, {}, "ulimit", "it got no other process or thread",
     "its limit of processes, --pids-limit, has refused it none", "run it with a higher --ulimit nproc"),
    ("OutOfMemoryError: unable to create native thread: possibly out of memory", None, {}, "ulimit", "it got no",
     "", ""),
    # network
    ("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)", None, {"network_mode": "host"},
     "address-in-use", "port 80 is taken already", "it is on the host's own network",
     "find who listens there: ss -ltnp"),
    ("Error: listen EADDRINUSE: address already in use :::8080", None, {"network_mode": "container:0123456789abcdef"},
     "address-in-use", "port 8080 is taken already", "it shares the network of the container 0123456789ab", "have one"),
    ("12:00:59 OSError: [Errno 98] Address already in use", None, {"network_mode": "web"}, "address-in-use",
     "the address it wanted to listen at is taken already", "it has a network of its own", "have it start that server"),
    ("ping: bad address 'db'", None, {"network_mode": "bridge"}, "name-resolution", "the name db was not found",
     "on the default network containers have no names",
     "put both on a network of their own: sampan network create NET"),
    ("dial tcp: lookup db.example.com on 127.0.0.11:53: no such host", None, {"network_mode": "web",
     "dns": ("1.1.1.1",)},
     "name-resolution", "the name db.example.com was not found", "it asks the name servers of --dns: 1.1.1.1",
     "see that"),
    ("curl: (6) Could not resolve host: example.com", None, {"network_mode": "none"}, "no-network",
     "the name example.com was not found", "it has no network: --network none", "leave out --network none"),
    ("java.net.UnknownHostException: db", None, {"network_mode": "web"}, "name-resolution", "the name db was not",
     "", ""),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution", None, {"network_mode": "web"},
     "name-resolution", "a host name was not found", "", "see that the name is right"),
    ("ping: sendto: Network is unreachable", None, {"network_mode": "none"}, "no-network",
     "it wanted to reach another host", "it has no network", "leave out --network none"),
    ("dial tcp 127.0.0.1:5432: connect: connection refused", None, {"network_mode": "bridge"}, "connection-refused",
     "nobody listens at port 5432 on localhost, which in a container is the container itself", "",
     "name the other container"),
    ("connect ECONNREFUSED 10.0.0.2:6379", None, {"network_mode": "web"}, "connection-refused",
     "nobody listens at port 6379 where it wanted", "", "start what it needs"),
    # rights
    ("iptables v1.8: can't initialize: Permission denied (you must be root)", None, {}, "not-permitted",
     "it was not permitted to change its network, which takes CAP_NET_ADMIN", "containers don't have that by default",
     "run it with --cap-add NET_ADMIN"),
    ("mount: /mnt: permission denied.", None, {}, "not-permitted", "it was not permitted to mount", "",
     "run it with --cap"),
    ("ping: permission denied (are you root?)", spec(bounding=()), {"cap_drop": ("NET_RAW",)}, "not-permitted",
     "it was not permitted to use a raw socket", "--cap-drop has taken that", "run it without --cap-drop NET_RAW"),
    ("chown: /x: Operation not permitted", spec(bounding=()), {"cap_drop": ("ALL",)}, "not-permitted",
     "it was not permitted to give a file away, which takes CAP_CHOWN", "--cap-drop has taken",
     "run it with --cap-add CHOWN"),
    ("chown: /x: Operation not permitted", spec(user="app"), {}, "not-permitted", "it was not permitted to give",
     "it runs as user app, who has no capabilities", "run it with -u 0"),
    ("unshare: Operation not permitted", spec(bounding=ALL), {"cap_add": ("ALL",)}, "not-permitted",
     "it was not permitted to change namespaces", "the default profile filters its system calls",
     "see whether its filter"),
    ("Error: EPERM: operation not permitted, open '/mount/x'", spec(no_new_privileges=True), {"cap_drop": ("ALL",)},
     "not-permitted", "it was not permitted something", "it runs with --cap-drop ALL", "find what takes the right"),
    ("cat: can't open '/dev/sda': Operation not permitted", None, {}, "not-permitted",
     "it was not permitted to use the device /dev/sda", "a container may use the devices",
     "run it with --device /dev/sda"),
    ("mount: /x: Operation not permitted", spec(bounding=ALL), {"privileged": True}, "not-permitted",
     "it was not permitted to mount", "it is privileged", ""),
    ('sudo: The "no new privileges" flag is set, which prevents sudo', spec(no_new_privileges=True), {},
     "not-permitted",
     "a program that makes itself another user", "it runs with --security-opt no-new-privileges", "run it without"),
    ("su: must be suid to work properly", spec(user="app"), {}, "not-permitted", "a program that makes itself", "",
     "run it as"),
    ("sh: can't create /data/x: Permission denied", spec(user="1000", mounts=(BIND,)), {}, "access-denied",
     "it has no access to /data/x", "/data/x is on the mount of /srv/data at /data",
     "give its files to that user: -v /srv/data:/data:U"),
    ("open /app/x: permission denied", spec(user="app"), {}, "access-denied", "it has no access to /app/x",
     "it runs as user app", "give the file to that user in the image, by chown app"),
    ("touch: x: Permission denied", spec(bounding=()), {"cap_drop": ("DAC_OVERRIDE",)}, "access-denied",
     "it was denied access to a file", "its root has no CAP_DAC_OVERRIDE", "run it without --cap-drop DAC_OVERRIDE"),
    ("cat: /data/x: Permission denied", None, {}, "access-denied", "it has no access", "it runs as root",
     "if it was to be"),
    ("nginx: bind() to 0.0.0.0:80 failed (13: Permission denied)", spec(user="nginx"), {"network_mode": "host"},
     "access-denied", "it may not listen at port 80", "on its network ports below 1024 are for root",
     "have it listen at a port from 1024 on"),
    ("nc: bind: Permission denied", spec(user="app", sysctl={"net.ipv4.ip_unprivileged_port_start": "1024"}), {},
     "access-denied", "it may not listen at a port below 1024", "it runs as user app",
     "run it with --sysctl net.ipv4.ip_unprivileged_port_start=0"),
    ("sysctl: error setting key 'x': open /proc/sys/net/core/x: Read-only file system", None, {}, "read-only",
     "it may not write to /proc/sys/net/core/x", "/proc/sys is read-only",
     "set it for the container: --sysctl net.core.x=…"),
    ("touch: /sys/x: Read-only file system", spec(mounts=(SYSFS,)), {"readonly_rootfs": True}, "read-only",
     "it may not write to /sys/x", "/sys is read-only in containers", "run it with --privileged"),
    ("touch: /data/x: Read-only file system", spec(mounts=(READ_ONLY,)), {"readonly_rootfs": True}, "read-only",
     "it may not write to /data/x", "/srv/data is mounted read-only at /data", "leave out `ro` where /data is mounted"),
    ("touch: /srv/y: Read-only file system", None, {"readonly_rootfs": True}, "read-only", "it may not write to /srv/y",
     "it runs with --read-only", "give it room to write there: --tmpfs /srv"),
    ("io_uring_setup: Function not implemented", None, {}, "not-permitted", "a system call is not there",
     "the default profile filters", "see whether its filter"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "of", "host", "kind", "said", "fact", "fix"), TABLE, ids=[row[0] for row in TABLE])
def test_a_line_tells_a_cause_with_the_limit_or_right_and_the_flag(
    line: str, of: Spec | None, host: dict[str, Any], kind: str, said: str, fact: str, fix: str
) -> None:
    cause = told(line, of, **host)

    assert cause
    assert (cause.kind, cause.from_output) == (kind, True)
    assert cause.said.startswith(f"its last lines say that {said}")
    assert cause.facts[0] == f"it said: {line}"
    assert any(one.startswith(fact) for one in cause.facts)
    assert cause.fixes[0].startswith(fix) if fix else len(cause.fixes) <= 1


@pytest.mark.parametrize(
    "line",
    [
        "all went well",
        "Access denied for user 'root'@'localhost'",
        "git@example.com: Permission denied (publickey)",
        "positional arguments not permitted here",
        "ping: sendto: Network is unreachable",
        "EAGAIN: try again, read",
    ],
)
def test_other_words_tell_nothing(line: str) -> None:
    assert told(line, network_mode="bridge") is None


def test_the_last_line_that_tells_any_cause_counts() -> None:
    output = ("dial tcp db:1: connection refused", "touch: /x: Read-only file system", "I give up")
    cause = told_by(output, ContainerCreate(), spec())

    assert cause
    assert cause.kind == "read-only"


@given(st.text(max_size=300), st.sampled_from([row[0] for row in TABLE]))
def test_no_line_breaks_the_rules(text: str, line: str) -> None:
    for network in ("", "host", "none", "container:x"):
        told(f"{text}{line}{text}", network_mode=network, readonly_rootfs=True, cap_drop=("ALL",))
        told_by((text,), ContainerCreate())
