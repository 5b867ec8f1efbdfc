"""`sampan run` and its flags, as a user types them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until


def sh(sampan: Sampan, script: str, *flags: str) -> str:
    return sampan("run", "--rm", *flags, "busybox", "sh", "-c", script).line


def test_it_prints_what_the_program_prints_and_keeps_the_streams_apart(sampan: Sampan) -> None:
    said = sampan("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")

    assert (said.out, said.err) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
)
def test_its_exit_code_is_the_programs_or_128_and_the_signal(sampan: Sampan, script: str, code: int) -> None:
    # Process 1 of a namespace ignores signals it does not handle, even its own SIGKILL: a child is hit here.
    flags = [] if script.startswith("exit") else ["--init"]

    assert sampan("run", "--rm", *flags, "busybox", "sh", "-c", script, check=False).code == code


def test_standard_input_reaches_the_program_and_ends(sampan: Sampan) -> None:
    assert sampan("run", "--rm", "-i", "busybox", "cat", input="one\ntwo\n").out == "one\ntwo\n"
    assert sampan("run", "--rm", "busybox", "cat", input="not given without -i").out == ""


def test_binary_data_goes_through_unchanged(sampan: Sampan) -> None:
    data = bytes(range(256)) * 4096
    out = sampan.start("run", "--rm", "-i", "busybox", "cat", stdin=-1).communicate(data, timeout=30)[0]

    assert out == data


def test_detached_it_prints_the_id_alone(sampan: Sampan) -> None:
    id = sampan("run", "-d", "--name", "web", "busybox", "sleep", "100").line

    assert len(id) == 64
    assert sampan.inspect("web")["Id"] == id
    assert sampan("ps", "-q").line == id[:12]


def test_rm_removes_the_container_when_it_ends_also_detached(sampan: Sampan) -> None:
    sampan("run", "-d", "--rm", "--name", "gone", "busybox", "true")

    wait_until(lambda: sampan("ps", "-aq").out == "", what="the container is removed")


def test_without_rm_it_stays_and_its_changes_too(sampan: Sampan) -> None:
    sampan("run", "--name", "keep", "busybox", "sh", "-c", "[ -e /mark ] && echo again; touch /mark")

    assert sampan("start", "-a", "keep").out == "again\n"


ENVIRONMENT = [
    (["-e", "A=b"], "A", "b"),
    (["-e", "FROM_OUTSIDE"], "FROM_OUTSIDE", "yes"),
    (["-e", "A="], "A", ""),
    (["--env", "A=b=c d"], "A", "b=c d"),
]


@pytest.mark.parametrize(("flags", "name", "value"), ENVIRONMENT)
def test_environment(sampan: Sampan, flags: list[str], name: str, value: str) -> None:
    said = sampan("run", "--rm", *flags, "busybox", "sh", "-c", f'echo "[${name}]"', env={"FROM_OUTSIDE": "yes"})

    assert said.line == f"[{value}]"


def test_an_environment_file_has_comments_values_and_names(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nONE=1\nTWO=a b # kept\n\nFROM_OUTSIDE\nUNSET_OUTSIDE\n")

    said = sampan("run", "--rm", "--env-file", tmp_path / "env", "busybox", "env", env={"FROM_OUTSIDE": "yes"}).lines

    assert {"ONE=1", "TWO=a b # kept", "FROM_OUTSIDE=yes"} <= set(said)
    assert not [line for line in said if line.startswith("UNSET_OUTSIDE")]


def test_the_default_environment_is_dockers(sampan: Sampan) -> None:
    names = {line.partition("=")[0] for line in sampan("run", "--rm", "--hostname", "box", "busybox", "env").lines}

    assert names == {"PATH", "HOSTNAME", "HOME"}


def test_working_directory_is_made_if_missing(sampan: Sampan) -> None:
    assert sh(sampan, "pwd", "-w", "/new/place") == "/new/place"
    assert sh(sampan, "pwd") == "/"


USERS = [
    ("1000", "uid=1000(user) gid=1000(user)"),
    ("user", "uid=1000(user) gid=1000(user)"),
    ("user:audio", "uid=1000(user) gid=29(audio)"),
    ("1234:29", "uid=1234 gid=29(audio)"),
    ("1234", "uid=1234 gid=0(root)"),
]


@pytest.mark.parametrize(("user", "identity"), USERS)
def test_users_are_looked_up_in_the_image(sampan: Sampan, user: str, identity: str) -> None:
    assert sh(sampan, "id", "-u", user).startswith(identity)


def test_supplementary_groups_come_from_the_image_and_from_flags(sampan: Sampan) -> None:
    assert sh(sampan, "id -G", "-u", "user").split() == ["1000", "10", "29"]
    assert sh(sampan, "id -G", "-u", "nobody", "--group-add", "audio", "--group-add", "77").split() == [
        "65534",
        "29",
        "77",
    ]


def test_home_follows_the_user(sampan: Sampan) -> None:
    assert sh(sampan, "echo $HOME", "-u", "user") == "/home/user"
    assert sh(sampan, "echo $HOME") == "/root"


def test_hostname(sampan: Sampan) -> None:
    assert sh(sampan, "hostname; cat /etc/hostname", "--hostname", "box") == "box\nbox"
    assert sh(sampan, "grep -c box /etc/hosts", "-h", "box") == "1"
    id = sampan("run", "-d", "busybox", "sleep", "9").line
    assert sampan("exec", id, "hostname").line == id[:12]


def test_entrypoint_replaces_the_images_and_takes_arguments(sampan: Sampan) -> None:
    assert sampan("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b").line == "a b"


def test_labels_are_kept_and_filter(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("from=file\n")
    sampan("run", "-d", "--name", "aa", "-l", "tier=web", "--label", "flag", "busybox", "sleep", "9")
    sampan("run", "-d", "--name", "bb", "busybox", "sleep", "9")

    assert sampan.inspect("aa")["Config"]["Labels"] == {"tier": "web", "flag": ""}
    assert sampan("ps", "--filter", "label=tier=web", "--format", "{{.Names}}").lines == ["aa"]


def test_read_only_root_but_writable_tmpfs_and_volume(sampan: Sampan, tmp_path: Path) -> None:
    flags = ["--read-only", "--tmpfs", "/scratch", "-v", f"{tmp_path}:/data"]

    assert "Read-only file system" in sampan("run", "--rm", *flags, "busybox", "touch", "/x", check=False).err
    assert sh(sampan, "touch /scratch/a /data/b /dev/shm/c && echo ok", *flags) == "ok"
    assert (tmp_path / "b").exists()


def test_bind_mounts_show_the_hosts_files_both_ways(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside")

    assert sh(sampan, "cat /data/in; echo back > /data/out", "-v", f"{tmp_path}:/data") == "from outside"
    assert (tmp_path / "out").read_text() == "back\n"


READ_ONLY = [
    ["-v", "{0}:/data:ro"],
    ["--mount", "type=bind,src={0},dst=/data,readonly"],
    ["--mount", "type=bind,source={0},target=/data,ro"],
]


@pytest.mark.parametrize("flags", READ_ONLY, ids=["volume", "mount", "long names"])
def test_read_only_binds(sampan: Sampan, tmp_path: Path, flags: list[str]) -> None:
    said = sampan("run", "--rm", *(flag.format(tmp_path) for flag in flags), "busybox", "touch", "/data/x", check=False)

    assert (said.code, "Read-only file system" in said.err) == (1, True)


def test_a_volume_flag_makes_a_missing_source_as_docker_does(sampan: Sampan, tmp_path: Path) -> None:
    sh(sampan, "touch /data/x", "-v", f"{tmp_path}/made/here:/data")

    assert (tmp_path / "made" / "here" / "x").exists()


def test_a_file_can_be_bound_over_a_file(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("me:x:0:0::/:/bin/sh\n")

    assert sh(sampan, "whoami", "-v", f"{tmp_path}/passwd:/etc/passwd:ro") == "me"


def test_named_and_anonymous_volumes_keep_their_files(sampan: Sampan) -> None:
    sh(sampan, "echo kept > /data/x", "-v", "stuff:/data")

    assert sh(sampan, "cat /data/x", "-v", "stuff:/data") == "kept"


def test_tmpfs_takes_size_and_mode(sampan: Sampan) -> None:
    options = sh(sampan, "grep ' /t ' /proc/mounts", "--tmpfs", "/t:size=1m,mode=700,noexec")

    assert "size=1024k" in options
    assert "mode=700" in options
    assert "noexec" in options
    assert "size=2048k" in sh(sampan, "grep ' /t ' /proc/mounts", "--mount", "type=tmpfs,dst=/t,tmpfs-size=2m")


def test_shm_size(sampan: Sampan) -> None:
    assert "size=65536k" in sh(sampan, "grep ' /dev/shm ' /proc/mounts")
    assert "size=2048k" in sh(sampan, "grep ' /dev/shm ' /proc/mounts", "--shm-size", "2m")


def test_ulimits(sampan: Sampan) -> None:
    assert sh(sampan, "ulimit -n; ulimit -Hn", "--ulimit", "nofile=100:200").split() == ["100", "200"]
    assert sh(sampan, "ulimit -c", "--ulimit", "core=0") == "0"


def test_sysctls_of_the_namespaces(sampan: Sampan) -> None:
    assert sh(sampan, "cat /proc/sys/net/ipv4/ip_forward", "--sysctl", "net.ipv4.ip_forward=1") == "1"
    assert sh(sampan, "cat /proc/sys/kernel/msgmax", "--sysctl", "kernel.msgmax=9000") == "9000"


def test_init_reaps_orphans_and_passes_signals_on(sampan: Sampan) -> None:
    sampan("run", "-d", "--init", "--name", "in", "busybox", "sh", "-c", "(sh -c 'echo over' &) ; exec sleep 100")

    wait_until(lambda: sampan("logs", "in").out)
    wait_until(lambda: sampan("exec", "in", "ps", "-o", "comm").lines[2:] == ["sleep", "ps"], what="it is reaped")
    sampan("kill", "-s", "TERM", "in")
    assert sampan("wait", "in").line == "143"


def test_the_cid_file_has_the_id_and_may_not_exist_before(sampan: Sampan, tmp_path: Path) -> None:
    sampan("run", "-d", "--cidfile", tmp_path / "cid", "--name", "cc", "busybox", "sleep", "9")

    assert (tmp_path / "cid").read_text() == sampan.inspect("cc")["Id"]
    assert "tainer ID file found" in sampan.fails(125, "run", "--cidfile", tmp_path / "cid", "busybox", "true").err


def test_stop_signal_and_stop_timeout(sampan: Sampan) -> None:
    script = "trap 'echo got usr1; exit 7' USR1; echo ready; while :; do sleep 0.05; done"
    sampan("run", "-d", "--name", "st", "--stop-signal", "USR1", "--stop-timeout", "5", "busybox", "sh", "-c", script)
    wait_until(lambda: sampan("logs", "st").out)

    sampan("stop", "st")

    assert sampan("logs", "st").lines == ["ready", "got usr1"]
    assert sampan.inspect("st")["State"]["ExitCode"] == 7


def test_pull_never_and_platform(sampan: Sampan) -> None:
    assert sampan("run", "--rm", "--pull", "never", "busybox", "echo", "ok").line == "ok"
    assert "No such image: nothere:latest" in sampan.fails(125, "run", "--pull", "never", "nothere", "true").err
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert sh(sampan, "echo ok", "--platform", f"linux/{machine}") == "ok"


def test_capabilities_are_dropped_and_added(sampan: Sampan) -> None:
    default = sh(sampan, "grep CapEff /proc/self/status").split()[1]
    all_but = sh(sampan, "grep CapEff /proc/self/status", "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE").split()[
        1
    ]
    more = sh(sampan, "grep CapEff /proc/self/status", "--cap-add", "SYS_TIME", "--cap-drop", "cap_chown").split()[1]

    assert int(all_but, 16) == 1 << 10
    assert int(more, 16) == (int(default, 16) | 1 << 25) & ~1


def test_no_new_privileges(sampan: Sampan) -> None:
    assert sh(sampan, "grep NoNewPrivs /proc/self/status").split()[1] == "0"
    flags = ["--security-opt", "no-new-privileges"]
    assert sh(sampan, "grep NoNewPrivs /proc/self/status", *flags).split()[1] == "1"


def test_seccomp_is_on_unless_unconfined_or_ones_own(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )

    assert sh(sampan, "grep Seccomp: /proc/self/status").split()[1] == "2"
    assert sh(sampan, "grep Seccomp: /proc/self/status", "--security-opt", "seccomp=unconfined").split()[1] == "0"
    said = sampan(
        "run", "--rm", "--security-opt", f"seccomp={tmp_path}/profile.json", "busybox", "mkdir", "/x", check=False
    )
    assert "Operation not permitted" in said.err


def test_privileged_has_all_capabilities_no_filter_and_the_hosts_devices(sampan: Sampan) -> None:
    said = sh(
        sampan,
        "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev/kmsg; grep -c /proc/sys /proc/mounts; true",
        "--privileged",
    )
    capabilities, seccomp, device, hidden = said.splitlines()

    mine = Path("/proc/self/status").read_text()
    assert capabilities in mine
    assert seccomp.split()[1] == "0"
    assert (device, hidden) == ("/dev/kmsg", "0")


@pytest.mark.parametrize("name", ["pid", "ipc", "uts", "net", "cgroup", "mnt"])
def test_each_namespace_is_its_own(sampan: Sampan, name: str) -> None:
    assert sh(sampan, f"readlink /proc/self/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")


HOST = [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net"), ("--cgroupns", "cgroup")]


@pytest.mark.parametrize(("flag", "name"), HOST)
def test_the_hosts_namespace_on_request(sampan: Sampan, flag: str, name: str) -> None:
    assert sh(sampan, f"readlink /proc/self/ns/{name}", flag, "host") == os.readlink(f"/proc/self/ns/{name}")


@pytest.mark.parametrize(("flag", "name"), HOST)
def test_another_containers_namespace(sampan: Sampan, flag: str, name: str) -> None:
    share = ["--ipc", "shareable"] if name == "ipc" else []
    sampan("run", "-d", "--name", "first", *share, "busybox", "sleep", "100")
    theirs = sampan("exec", "first", "readlink", f"/proc/self/ns/{name}").line

    assert sh(sampan, f"readlink /proc/self/ns/{name}", flag, "container:first") == theirs


def test_without_a_network_there_is_only_a_loopback_that_works(sampan: Sampan) -> None:
    fetch = "until nc -w 9 127.0.0.1 80 </dev/null 2>/dev/null; do usleep 10000; done"
    script = f"ls /sys/class/net; (nc -l -p 80 -e echo hi &) ; {fetch}"  # by -e: else it ends with the client's input

    assert sh(sampan, script, "--network", "none").split() == ["lo", "hi"]


def test_detach_keys_and_other_flags_are_kept_in_the_configuration(sampan: Sampan) -> None:
    flags = ["-it", "--stop-timeout", "3", "--shm-size", "1m", "--cap-add", "SYS_TIME"]
    sampan("create", "--name", "cfg", *flags, "busybox", "sh")
    found = sampan.inspect("cfg")

    assert (found["Config"]["Tty"], found["Config"]["OpenStdin"], found["Config"]["StopTimeout"]) == (True, True, 3)
    assert (found["HostConfig"]["ShmSize"], found["HostConfig"]["CapAdd"]) == (1 << 20, ["CAP_SYS_TIME"])
