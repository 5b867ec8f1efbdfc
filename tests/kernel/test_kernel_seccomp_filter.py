"""Programs under the shipped filter, and what this kernel is found to be able to do."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from sampan.errors import SyscallError
from sampan.kernel import bpf, credentials, features, keyring, mount, namespaces, process, seccomp
from sampan.kernel.namespaces import CLONE
from sampan.spec.defaults import capabilities
from support.child import in_child


def refused(call, *args) -> str:
    """Name the errno that a call ends with."""
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "done"


def raw(number: int, *args: int) -> None:
    libc_syscall = ctypes.CDLL(None, use_errno=True).syscall
    if libc_syscall(ctypes.c_long(number), *map(ctypes.c_long, args)) == -1:
        raise OSError(ctypes.get_errno(), "raw")


def test_the_default_filter_stops_what_a_container_has_no_business_with() -> None:
    bpf_filter = seccomp.default_filter()

    def story():
        seccomp.set_filter(bpf_filter)
        return {
            "mount": refused(mount.mount, "none", "/tmp", "tmpfs"),
            "fsopen": refused(mount.fsopen, "tmpfs"),
            "unshare": refused(namespaces.unshare, CLONE.NEWUTS),
            "keyctl": refused(keyring.join_session_keyring),
            "bpf": refused(bpf.load, bpf.device_program([])),
            "sethostname": refused(process.sethostname, "x"),
            "clone3": refused(namespaces.clone, CLONE.NEWUTS),
            "personality": refused(process.personality, 0x0400000),
            "newest": refused(raw, 500),
        }

    assert in_child(story, CLONE.NEWNS | CLONE.NEWUTS) == {
        "mount": "EPERM",
        "fsopen": "EPERM",
        "unshare": "EPERM",
        "keyctl": "EPERM",
        "bpf": "EPERM",
        "sethostname": "EPERM",
        "clone3": "ENOSYS",
        "personality": "EPERM",
        "newest": "ENOSYS",
    }


def test_programs_run_under_the_default_filter() -> None:
    bpf_filter = seccomp.default_filter()

    def story():
        kept = frozenset(capabilities.DEFAULT)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            process.set_no_new_privs()
            credentials.capset(kept, kept, frozenset())
            seccomp.set_filter(bpf_filter)
            script = (
                "import threading, socket, subprocess, tempfile, os, select, mmap, ctypes, sqlite3, multiprocessing\n"
                "t = threading.Thread(target=lambda: None); t.start(); t.join()\n"
                "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n"
                "socket.socket(socket.AF_INET).close(); socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()\n"
                "for family in (38, 40):\n"
                "    try: socket.socket(family, socket.SOCK_STREAM)\n"
                "    except PermissionError: pass\n"
                "    else: raise SystemExit('family')\n"
                "assert subprocess.run(['/bin/busybox', 'true']).returncode == 0\n"
                "with tempfile.TemporaryDirectory() as d: open(d + '/f', 'w').close(); os.chmod(d + '/f', 0o600)\n"
                "select.epoll().close(); mmap.mmap(-1, 4096).close(); sqlite3.connect(':memory:').close()\n"
                "print('fine')\n"
            )
            os.execvp("python3", ["python3", "-c", script])
        os.close(writer)
        with open(reader) as stream:
            return stream.read()

    assert in_child(story) == "fine\n"


def test_a_filter_needs_a_right_or_no_new_privs() -> None:
    bpf_filter = seccomp.default_filter()

    def story():
        credentials.capset((), (), ())
        before = refused(seccomp.set_filter, bpf_filter)
        process.set_no_new_privs()
        return before, refused(seccomp.set_filter, bpf_filter)

    assert in_child(story, 0) == ("EACCES", "done")


def test_a_filter_that_is_no_filter_is_refused() -> None:
    with pytest.raises(SyscallError, match="seccomp: invalid argument"):
        seccomp.set_filter(b"\0" * 8)


def test_the_probe_says_what_this_kernel_does() -> None:
    found = features.probe()

    assert found.architecture == os.uname().machine
    assert ".".join(map(str, found.kernel)) == ".".join(os.uname().release.split(".")[:2])
    assert found.namespaces >= {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}
    assert found.capabilities == credentials.capget().permitted
    assert found.rootful
    assert found.seccomp
    assert found.new_mount_api
    assert found.mount_setattr
    assert dict(found.rlimits)["RLIMIT_NOFILE"] > 0
    assert found.cgroup_mode in {"v1", "v2"}
    assert all(os.path.isdir(point) for _, point in found.cgroup_mounts)


def test_the_probe_of_a_process_without_rights_says_so() -> None:
    def story():
        credentials.capset((), (), ())
        return features.probe()

    found = in_child(story, 0)

    assert (found.rootful, found.capabilities, found.may_raise_rlimits) == (False, frozenset(), False)


def test_root_in_a_user_namespace_is_not_the_host_s_root() -> None:
    assert not in_child(features.probe, CLONE.NEWUSER).rootful


def test_the_probe_has_the_facts_of_the_host_struct() -> None:
    from sampan.spec.host import Host

    assert features.Features._fields == Host.__struct_fields__
