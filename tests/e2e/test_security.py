"""Ways out of a container that were found in other engines, tried here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.sampan import Sampan


def sh(sampan: Sampan, script: str, *flags: str) -> str:
    return sampan("run", "--rm", *flags, "busybox", "sh", "-c", script, check=False).out.rstrip("\n")


def test_capabilities_are_at_most_dockers_default(sampan: Sampan) -> None:
    lines = sh(sampan, "grep Cap /proc/self/status").splitlines()
    found = {line.split()[0]: int(line.split()[1], 16) for line in lines}

    docker = 0xA80425FB
    assert found["CapBnd:"] & ~docker == 0
    assert found["CapEff:"] & ~docker == 0
    assert found["CapInh:"] == found["CapAmb:"] == 0


def test_no_descriptor_of_ours_is_left_open_in_the_container(sampan: Sampan) -> None:
    # CVE-2024-21626: a leaked directory descriptor was a way to the host.
    assert sh(sampan, "ls /proc/self/fd | sort -n | tr '\\n' ' '").split() == ["0", "1", "2", "3"]
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "100")
    assert sampan("exec", "web", "sh", "-c", "ls /proc/self/fd | sort -n").lines == ["0", "1", "2", "3"]
    assert sampan("exec", "web", "ls", "/proc/1/fd").lines == ["0", "1", "2"]


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 12, 15])
def test_a_working_directory_under_proc_self_fd_leads_nowhere(sampan: Sampan, number: int) -> None:
    said = sampan("run", "--rm", "-w", f"/proc/self/fd/{number}", "busybox", "ls", "-a", "../../../../..", check=False)

    assert said.code != 0 or "work" not in said.lines


def test_the_interpreter_can_not_be_written_through_proc(sampan: Sampan) -> None:
    # CVE-2019-5736: an exec'd process's /proc/PID/exe was the runtime itself.
    import sys

    interpreter = Path(os.path.realpath(sys.executable))
    before = interpreter.stat()
    script = (
        "while :; do for p in /proc/[0-9]*; do (echo x > $p/exe) 2>/dev/null && echo WRITTEN; "
        "case $(readlink $p/exe 2>/dev/null) in *python*) echo SEEN;; esac; done; done"
    )
    sampan("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
    for _ in range(10):
        sampan("exec", "web", "true")

    assert "WRITTEN" not in sampan("logs", "web").out
    assert (interpreter.stat().st_mtime_ns, interpreter.stat().st_size) == (before.st_mtime_ns, before.st_size)


def test_nothing_is_loaded_from_the_container(sampan: Sampan, tmp_path: Path) -> None:
    # CVE-2019-14271: a helper loaded the container's libnss after the chroot.
    (tmp_path / "root/lib").mkdir(parents=True)
    for name in ("libnss_files.so.2", "libc.so.6", "libnss_compat.so.2"):
        (tmp_path / "root/lib" / name).write_bytes(b"\x7fELF evil")
    mounts = [f"-v{tmp_path}/root/lib:/lib64", f"-v{tmp_path}/root/lib:/lib", f"-v{tmp_path}/root/lib:/usr/lib"]

    assert sh(sampan, "id -un", "-u", "user", *mounts) == "user"


def test_links_in_an_image_do_not_lead_mounts_outside(sampan: Sampan, tmp_path: Path) -> None:
    # CVE-2021-30465 and relatives: the target of a mount is resolved inside the root.
    import tarfile

    from support.images import add

    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        add(tar, "bin", type=tarfile.DIRTYPE, mode=0o755)
        add(tar, "bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        add(tar, "data", type=tarfile.SYMTYPE, linkname="/../../../../../tmp")
        add(tar, "up", type=tarfile.SYMTYPE, linkname="../../../../../../etc")
    with tarfile.open(tmp_path / "proc.tar", "w") as tar:
        add(tar, "proc", type=tarfile.SYMTYPE, linkname="/tmp")
    sampan("import", tmp_path / "links.tar", "links")
    sampan("import", tmp_path / "proc.tar", "false-proc")
    (tmp_path / "v").mkdir()

    for target in (f"/data/{tmp_path.name}", f"/up/{tmp_path.name}", "/data"):
        sampan("run", "--rm", "-v", f"{tmp_path}/v:{target}", "links", "/bin/busybox", "true")
        assert not os.path.exists(f"/tmp/{tmp_path.name}")
        assert not os.path.exists(f"/etc/{tmp_path.name}")
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line]
    # CVE-2023-27561: nor does what the kernel shows go where a link leads.
    assert "ordinary directory" in sampan("run", "--rm", "false-proc", "/x", check=False).err
    sampan.remove_everything()
    sampan("rmi", "links", "false-proc")


HIDDEN = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/sys/firmware"]


@pytest.mark.parametrize("path", HIDDEN)
def test_what_tells_of_the_host_is_hidden(sampan: Sampan, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"missing kernel feature: {path}")

    assert sh(sampan, f"if [ -d {path} ]; then ls {path}; else cat {path}; fi") == ""


WRITES = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/proc/sys/vm/panic_on_oom",
    "/sys/kernel/uevent_helper",
]


@pytest.mark.parametrize("path", WRITES)
def test_the_hosts_settings_can_not_be_written(sampan: Sampan, path: str) -> None:
    assert sh(sampan, f"(echo x > {path}) 2>/dev/null && echo WRITTEN") == ""
    assert sh(sampan, f"umount {path}; umount /proc/sys; (echo x > {path}) && echo WRITTEN") == ""


CALLS = {
    "mount": "mount -t tmpfs none /mnt",
    "unshare a user namespace": "unshare -U true",
    "mknod a disk and read it": "mknod /d b 254 0 && head -c 1 /d",
    "set the time": "date -s 2000-01-01 2>/dev/null; test $(date +%Y) = 2000",
    "load a module": "busybox insmod /x.ko 2>&1 | grep -v 'No such file' ; false",
    "set the hostname": "hostname evil",
    "lower niceness": "busybox nice -n -5 true",
    "raise limits": "ulimit -Hn 100000000",
    "chroot through proc": "ls /proc/1/root/work",
    "cgroup release agent": "mkdir /c && mount -t cgroup -o memory c /c",
}


@pytest.mark.parametrize("what", CALLS)
def test_what_root_in_a_container_can_not_do(sampan: Sampan, what: str) -> None:
    assert sampan("run", "--rm", "busybox", "sh", "-c", CALLS[what], check=False).code != 0


def test_processes_of_the_host_are_not_to_be_seen(sampan: Sampan) -> None:
    assert len(sh(sampan, "ps -o pid").splitlines()) <= 4


def test_a_setuid_program_in_a_layer_can_not_be_reached_from_the_host(sampan: Sampan) -> None:
    # CVE-2021-41091: the host's users could walk into the layers and run setuid programs there.
    for directory in (sampan.root, sampan.root / "layers", sampan.root / "containers", sampan.root / "images"):
        assert directory.stat().st_mode & 0o004 == 0, directory
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    assert subprocess.run([*nobody, "ls", sampan.root / "layers"], capture_output=True, check=False).returncode != 0


def test_a_root_that_others_may_pass_shows_them_nothing(sampan: Sampan) -> None:
    sampan("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "cp /bin/busybox /data/su; chmod 4755 /data/su")
    # By a shell: setpriv itself has root's capabilities until it executes something.
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "sh", "-c", '"$0" "$@"']
    outside = sampan.root.stat().st_mode & 0o7777
    sampan.root.chmod(0o755)
    try:
        layer = next((sampan.root / "layers/sha256").iterdir()).name
        for command in (
            [sampan.root / "volumes/data/_data/su", "id"],
            [sampan.root / f"layers/sha256/{layer}/diff/bin/busybox", "id"],
            ["head", "-c1", sampan.root / "state.db"],
            ["head", "-c1", sampan.root / "state.db-wal"],
            ["ls", sampan.root / "build"],
        ):
            said = subprocess.run([*nobody, *command], capture_output=True, check=False, text=True)
            assert "ermission denied" in said.stderr, (command, said)
    finally:
        sampan.root.chmod(outside)


def test_the_socket_is_roots(sampan: Sampan) -> None:
    status = sampan.socket.stat()

    assert (status.st_uid, status.st_mode & 0o007) == (0, 0)


def test_secrets_in_the_servers_environment_do_not_reach_containers(sampan: Sampan) -> None:
    assert "SECRET" not in sampan("run", "--rm", "busybox", "env", env={"SECRET": "x"}).out
    assert "SECRET" not in sampan("run", "--rm", "busybox", "cat", "/proc/1/environ", env={"SECRET": "x"}).out


@pytest.mark.parametrize("path", ["/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_what_hides_a_file_can_not_be_changed(sampan: Sampan, path: str) -> None:
    before = os.stat("/dev/null")
    said = sampan("run", "--rm", "busybox", "sh", "-c", f"chmod 600 {path}; chown 1 {path}; rm {path}", check=False)
    after = os.stat("/dev/null")
    os.chmod("/dev/null", 0o666)
    os.chown("/dev/null", 0, 0)

    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert "Read-only file system" in said.err or "Operation not permitted" in said.err or said.code == 0


@pytest.mark.parametrize("how", ["run", "run -d", "exec", "exec -d"])
def test_a_standard_descriptor_does_not_lead_to_the_hosts_null_device(sampan: Sampan, how: str) -> None:
    sampan("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    verb, *options = how.split()
    target = ["--rm", "busybox"] if verb == "run" else ["box"]

    before = os.stat("/dev/null")
    sampan(verb, *options, *target, "sh", "-c", "chmod 601 /proc/self/fd/0; chown 1 /proc/self/fd/0", check=False)
    sampan("rm", "-f", "box")
    after = os.stat("/dev/null")
    os.chmod("/dev/null", 0o666)
    os.chown("/dev/null", 0, 0)

    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
