"""`--userns`, `--uidmap`: containers whose users are others on the host, and their files' owners."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until

FIRST = 1_000_000_000  # of sampan's own range, where /etc/subuid has none
ALONE = ("--network", "none")


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    script = "echo mine > /made; chown user:user /made; echo out > /dev/stdout; exec sleep 1000"
    flags = ("--userns", "remap", "-v", "data:/data", *ALONE)
    sampan("run", "-d", "--name", "web", *flags, "busybox", "sh", "-c", script)
    wait_until(lambda: sampan("logs", "web").line == "out")
    return sampan


def host_ids(pid: int) -> tuple[str, str]:
    status = Path(f"/proc/{pid}/status").read_text()
    return tuple(line.split()[1] for line in status.splitlines() if line.startswith(("Uid:", "Gid:")))  # type: ignore[return-value]


def first_id(sampan: Sampan, name: str) -> int:
    return int(sampan("exec", name, "cat", "/proc/self/uid_map").line.split()[1])


def test_its_root_is_nobody_on_the_host_and_its_files_have_its_own_owners(web: Sampan) -> None:
    pid = web.inspect("web")["State"]["Pid"]
    show = "id -u; stat -c %u:%g / /made /etc/hosts /data /bin/busybox; touch /etc/hosts /data/new /bin/busybox"

    assert host_ids(pid) == (str(FIRST), str(FIRST))
    assert web("exec", "web", "sh", "-c", show).lines == ["0", "0:0", "1000:1000", "0:0", "0:0", "0:0"]
    assert web("exec", "-u", "user", "web", "sh", "-c", "echo hi > /dev/stdout; id -u; cat /made").lines == [
        "hi",
        "1000",
        "mine",
    ]
    host_config = web.inspect("web")["HostConfig"]
    assert host_config["UsernsMode"] == "remap"
    assert host_config["IDMappings"] == {"UidMap": [f"0:{FIRST}:65536"], "GidMap": [f"0:{FIRST}:65536"]}
    assert {line.split()[0] for line in web("top", "web").lines[1:]} == {str(FIRST)}
    assert "A /made" in web("diff", "web").lines
    # What has no user namespace finds the same owners in the volume.
    show = "stat -c %u:%g /data/new"
    assert web("run", "--rm", *ALONE, "-v", "data:/data", "busybox", "sh", "-c", show).line == "0:0"


def test_files_go_out_and_in_with_the_owners_that_they_have_inside(web: Sampan, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("brought")
    os.chown(tmp_path / "in", 5, 6)

    out = tmp_path / "out.tar"
    out.write_bytes(web("cp", "web:/made", "-").out.encode())
    web("cp", "-a", tmp_path / "in", "web:/data/in")
    os.chown(tmp_path / "in", 0, 0)
    web("cp", tmp_path / "in", "web:/root/in")

    with tarfile.open(out) as tar:
        assert [(m.uid, m.gid) for m in tar] == [(1000, 1000)]
    show = "stat -c %u:%g /data/in /root/in; rm /data/in; mkdir /data/here"
    assert web("exec", "web", "sh", "-c", show).lines == ["5:6", "0:0"]
    web("stop", "-t", "0", "web")
    web("cp", "web:/made", tmp_path / "made")
    assert (tmp_path / "made").read_text() == "mine\n"
    os.chown(tmp_path / "in", 5, 6)
    web("cp", tmp_path / "in", "web:/data/here/late")  # also while it does not run
    web("cp", tmp_path / "in", "web:/late")
    web("start", "web")
    show = ("stat", "-c", "%u:%g", "/root/in", "/data/here/late", "/late")
    assert web("exec", "web", *show).lines == ["0:0", "5:6", "5:6"]


def test_files_of_what_does_not_run_are_reached_though_it_joins_others(web: Sampan, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("brought")
    image = ("--mount", "type=image,source=busybox,target=/image")
    web("run", "-d", "--name", "shares", "--ipc", "shareable", "--userns", "remap", *ALONE, "busybox", "sleep", "1000")
    joins = ("--userns", "container:shares", "--ipc", "container:shares", "-v", "data:/data", *image)
    web("create", "--name", "joins", *ALONE, *joins, "busybox", "cat", "/data/in", "/new")

    web("cp", tmp_path / "in", "joins:/data/in")
    web("cp", tmp_path / "in", "joins:/new")
    web("cp", "joins:/image/etc/passwd", tmp_path / "passwd")

    assert web("start", "-a", "joins").out == "broughtbrought"
    assert (tmp_path / "passwd").read_text().startswith("root:")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    with (tmp_path / "image").open("wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", tmp_path / "image"], check=True)
    looped = ["losetup", "--find", "--show", tmp_path / "image"]
    device = subprocess.run(looped, check=True, capture_output=True, text=True).stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


def test_files_of_a_device_have_its_own_owners_and_are_reached_while_it_does_not_run(
    sampan: Sampan, disk: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("brought")
    sampan("volume", "create", "--opt", "type=ext4", "--opt", f"device={disk}", "--opt", "o=noatime", "disk")
    show = "cat /d/in; stat -c %u:%g /d; touch /d/new; chown user /d/new; grep -o ' /d ext4 rw,noatime' /proc/mounts"

    for name, users in (("one", "remap"), ("two", "host")):
        sampan("create", "--name", name, "--userns", users, *ALONE, "-v", "disk:/d", "busybox", "sh", "-c", show)
        sampan("cp", tmp_path / "in", f"{name}:/d/in")
        assert sampan("start", "-a", name).lines == ["brought0:0", " /d ext4 rw,noatime"]
        assert sampan("cp", f"{name}:/d/in", "-").out.startswith("in\0")
    shown = sampan("run", "--rm", *ALONE, "-v", "disk:/d:ro", "busybox", "stat", "-c", "%u", "/d/new").line
    assert shown == "1000"


def test_more_rows_than_the_kernel_takes_are_refused_with_the_reason(sampan: Sampan) -> None:
    rows = [f"--uidmap={n}:{100_000 + n}:1" for n in range(340)]

    refused = sampan.fails(125, "run", "--rm", *ALONE, *rows, "busybox", "true")

    assert "there are too many rows: the kernel takes 4095 bytes of them" in refused.err


def test_a_commit_and_an_export_know_nothing_of_the_mapping(web: Sampan, tmp_path: Path) -> None:
    web("commit", "web", "changed")
    web("export", "-o", tmp_path / "e.tar", "web")

    assert web("run", "--rm", *ALONE, "changed", "stat", "-c", "%u:%g", "/made").line == "1000:1000"
    with tarfile.open(tmp_path / "e.tar") as tar:
        assert (tar.getmember("made").uid, tar.getmember("bin/busybox").uid) == (1000, 0)


def test_it_lives_on_when_server_and_shim_are_killed(web: Sampan) -> None:
    os.kill(web.shim_pid("web"), signal.SIGKILL)
    os.kill(web.info("ServerPid"), signal.SIGKILL)

    wait_until(lambda: web("exec", "web", "id", "-u", check=False).line == "0")
    web("restart", "-t", "0", "web")
    assert first_id(web, "web") == FIRST


def test_ranges_of_their_own_have_no_id_in_common(sampan: Sampan) -> None:
    for name in ("one", "two"):
        sampan("run", "-d", "--name", name, "--userns", "auto:size=5000", *ALONE, "busybox", "sleep", "1000")
    one, two = (first_id(sampan, name) for name in ("one", "two"))
    os.kill(sampan.info("ServerPid"), signal.SIGKILL)
    sampan("run", "-d", "--name", "three", "--userns", "auto", *ALONE, "busybox", "sleep", "1000")

    assert (one, two) == (FIRST + 65536, FIRST + 65536 + 5000)
    assert first_id(sampan, "three") == two + 5000
    sampan("rm", "-f", "one")
    sampan("run", "-d", "--name", "four", "--userns", "auto:size=4000", *ALONE, "busybox", "sleep", "1000")
    assert first_id(sampan, "four") == one


def test_users_that_are_named_one_by_one_and_what_they_may_not(sampan: Sampan, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)  # the way to the files need not be open to them
    files = tmp_path / "files"
    files.mkdir(0o755)
    for name, owner in (("mine", 1234), ("roots", 0)):
        (files / name).write_text(name)
        (files / name).chmod(0o600)
        os.chown(files / name, owner, owner)
    maps = ("--uidmap", "0:200000:1000", "--uidmap", "1000:1234")
    script = (
        "su user -c 'cat /x/mine; echo more >> /x/mine; stat -c %u /x/mine'; stat -c %u /x/roots /y/roots; "
        "head -c 3 /dev/nought | wc -c; cat /x/roots; mknod /m c 1 3; "
        "echo 1 > /proc/sys/kernel/panic; mount -t tmpfs x /mnt; echo end"
    )

    binds = ("-v", f"{files}:/x", "-v", f"{files}:/y:idmap", "--device", "/dev/zero:/dev/nought")
    said = sampan("run", "--rm", *ALONE, *maps, *binds, "busybox", "sh", "-c", script)

    assert said.lines == ["mine1000", "65534", "0", "3", "end"], said
    assert said.err.count("denied") + said.err.count("not permitted") >= 3, said.err
    assert (files / "mine").read_text() == "minemore\n"


def test_a_network_and_who_joins_it_are_the_user_namespaces(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "--userns", "auto", "busybox", "sh", "-c", "echo hi > /f; httpd -f -p 80 -h /")
    address = sampan("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web").line
    fetch = ("wget", "-qO-", f"http://{address}/f")
    wait_until(lambda: sampan("exec", "web", *fetch, check=False).line == "hi", what="it serves")

    shown = sampan("run", "--rm", "--userns", "remap", "busybox", "sh", "-c", f"{' '.join(fetch)}; ls /sys/class/net")

    assert shown.lines == ["hi", "eth0", "lo"]
    joined = ("--rm", "--userns", "remap", "--network", "container:web", "busybox")
    assert sampan("run", *joined, "sh", "-c", f"cat /proc/self/uid_map; {' '.join(fetch)}").lines == [
        f"{0:>10} {FIRST + 65536:>10} {65536:>10}",
        "hi",
    ]
    assert sampan("run", "--rm", "--userns", "container:web", "busybox", "ls", "/sys/class/net").lines == ["eth0", "lo"]
    assert sampan("run", "--rm", "--network", "container:web", "busybox", *fetch).line == "hi"


def test_the_machines_own_root_serves_as_well(sampan: Sampan) -> None:
    script = "stat -c %u /etc/passwd; touch /etc/new; stat -c %u /etc/new; cat /proc/self/uid_map"

    said = sampan("run", "--rm", *ALONE, "--userns", "remap", "host", "sh", "-c", script).out.split()
    assert said == ["0", "0", "0", str(FIRST), "65536"]


def test_a_directory_as_the_root_is_the_containers_or_shown_so(
    sampan: Sampan, busybox_tar: Path, tmp_path: Path
) -> None:
    with tarfile.open(busybox_tar) as tar:
        tar.extractall(tmp_path, filter="tar")
    run = ("run", "--rm", *ALONE, "--userns", "remap", "--rootfs")
    show = ("sh", "-c", "stat -c %u /bin/busybox; touch /x; stat -c %u /x")

    assert "its owner 0 is nobody" in sampan.fails(125, *run, tmp_path, "true").err
    assert sampan(*run, f"{tmp_path}:O", *show).lines == ["0", "0"]


def test_users_of_the_host_and_lines_of_ones_own_are_in_etc_passwd(sampan: Sampan) -> None:
    entries = ("--passwd-entry", "me:*:$UID:$GID::/home/me:/bin/sh", "--group-entry", "us:x:$GID:")
    flags = ("--hostuser", "daemon", *entries, "-u", "4321:321", "--userns", "remap")
    script = "grep -e daemon -e ^me: /etc/passwd; grep us: /etc/group; echo $HOME; id -un; stat -c %u /etc/passwd"
    sampan("create", "--name", "web", *ALONE, *flags, "busybox", "sh", "-c", script)

    said = sampan("start", "-a", "web").lines
    assert said[0].startswith("daemon:*:1:1:")
    assert said[1:] == ["me:*:4321:321::/home/me:/bin/sh", "us:x:321:", "/home/me", "me", "0"]
    assert not any("passwd" in line for line in sampan("diff", "web").lines)
    missing = sampan.fails(125, "run", "--hostuser", "nobody-at-all", "busybox", "true").err
    assert "this machine has no user nobody-at-all" in missing


def test_they_can_be_the_default_for_containers_and_builds(sampan: Sampan, tmp_path: Path) -> None:
    settings = sampan.root / "config.toml"
    settings.write_text('[userns]\ndefault = "remap"\n')
    try:
        (tmp_path / "f").write_text("of the context")
        (tmp_path / "secret").write_text("of mine")
        (tmp_path / "Dockerfile").write_text(
            "FROM busybox\nRUN --mount=type=cache,target=/c --mount=target=/x --mount=type=secret,id=s "
            "cat /x/f /run/secrets/s; id -u; cat /proc/self/uid_map; touch /c/f /new; stat -c %u /c/f /new\n"
        )
        built = sampan("build", "--progress=plain", "-t", "new", "--secret", f"id=s,src={tmp_path}/secret", tmp_path)

        assert "of the contextof mine" in built.err
        assert f"0 {FIRST}" in " ".join(built.err.split())
        show = "stat -c %u /new; cat /proc/self/uid_map"
        assert sampan("run", "--rm", *ALONE, "new", "sh", "-c", show).out.split() == ["0", "0", str(FIRST), "65536"]
        assert sampan("run", "--rm", *ALONE, "--userns=host", "new", "sh", "-c", show).out.split()[:3] == [
            "0",
            "0",
            "0",
        ]
        assert "privileged mode is incompatible" in sampan.fails(125, "run", "--privileged", "busybox", "true").err
        assert "name=userns" in sampan("info", "-f", "{{.SecurityOptions}}").line
    finally:
        settings.unlink()
        sampan("rmi", "-f", "new", check=False)


def test_what_the_host_must_set_for_it_is_set(sampan: Sampan) -> None:
    flags = ("--userns", "auto", "--oom-score-adj", "500", "--ipc", "host", "--tmpfs", "/t:uid=5", *ALONE)
    said = sampan("run", "--rm", *flags, "busybox", "sh", "-c", "cat /proc/self/oom_score_adj; stat -c %u /t")

    assert (said.lines, said.err) == (["500", "5"], "")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--userns", "remap", "--privileged"), "privileged mode is incompatible with user namespaces"),
        (
            ("--userns", "auto", "--network", "host"),
            "cannot share the host's network namespace when user namespaces are",
        ),
        (
            ("--userns", "remap", "--pid", "host"),
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
        (("--userns", "other"), "--userns: invalid USER mode"),
        (("--userns", "auto:size=x"), "invalid number of a user or group: 'size=x'"),
        (("--uidmap", "0:1:"), "invalid number of a user or group: '0:1:'"),
        (("--subuidname", "nobody-at-all"), "/etc/subuid has none for nobody-at-all"),
        (("--userns", "container:none"), "No such container: none"),
        (("--uidmap", "5:100000:9"), "its root is nobody on the host"),
        (("--uidmap", "0:100000:9", "--user", "9"), "can't run as user 9: it is not mapped"),
    ],
)
def test_what_can_not_be_is_refused(sampan: Sampan, flags: tuple[str, ...], message: str) -> None:
    assert message in sampan.fails(125, "run", "--rm", *flags, "busybox", "true").err
