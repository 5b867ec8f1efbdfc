"""What a container made by a plan is, seen from inside and from outside, on this kernel."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.errors import CommandNotFound, Failed, InvalidInput, NotExecutable, NotFound, SampanError
from sampan.kernel import process as kernel_process
from sampan.runtime import container, control
from sampan.runtime.plan import plan
from sampan.spec.runtime import (
    GROUP_ADD,
    INIT,
    SECCOMP,
    Capabilities,
    DeviceRule,
    Memory,
    Mount,
    Namespace,
    Pids,
    Resources,
    Rlimit,
    Root,
    User,
)
from support.containers import (
    HOST,
    NAMESPACES,
    PARENT,
    Box,
    all_of_console,
    facts,
    left_behind,
    remove_parents,
    with_linux,
    with_process,
)
from support.engine import until


@pytest.fixture(scope="module")
def module_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    yield Box(tmp_path_factory.mktemp("box"))
    remove_parents()


@pytest.fixture
def box(module_box: Box) -> Iterator[Box]:
    before = facts(module_box.directory)
    yield module_box
    assert not left_behind(before, module_box.directory)


# ------------------------------------------------------------------------------------------------------ isolation


def test_a_program_runs_and_its_streams_and_exit_code_come_back(box: Box) -> None:
    said = box.run(box.spec("sh", "-c", "cat; echo err >&2; exit 7"), stdin=b"hello")

    assert said == (7, "hello", "err\n")


def test_it_is_process_1_and_sees_no_other(box: Box) -> None:
    said = box.run(box.spec("sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'"))

    assert said.out.split()[0] == "1"
    assert int(said.out.split()[1]) <= 3


def test_every_namespace_is_its_own(box: Box) -> None:
    said = box.run(box.spec("sh", "-c", "for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n; done"))

    theirs = dict(line.split(":", 1) for line in said.out.split())
    ours = {n: os.readlink(f"/proc/self/ns/{n}").split(":", 1)[1] for n in theirs}
    assert {n for n in ours if ours[n] == theirs[n]} == {"user"}


def test_the_root_is_the_overlay_and_nothing_of_the_host_is_mounted_in_it(box: Box) -> None:
    said = box.run(box.spec("cat", "/proc/self/mountinfo"))

    points = [line.split()[4] for line in said.out.splitlines()]
    kinds = {line.split(" - ")[1].split()[0] for line in said.out.splitlines()}
    assert points[0] == "/"
    assert "overlay overlay" in said.out.splitlines()[0]
    assert kinds <= {"overlay", "proc", "tmpfs", "devpts", "sysfs", "mqueue", "cgroup", "cgroup2", "devtmpfs"}
    assert not any(p.startswith(("/home", "/tmp", "/work")) for p in points)


def test_what_it_writes_is_in_its_upper_directory_only(box: Box) -> None:
    spec = box.spec("sh", "-c", "echo x > /srv/new; rm /etc/group")
    box.run(spec)

    assert (box.upper(spec) / "srv/new").read_text() == "x\n"
    assert (box.lower / "etc/group").exists()


def test_mounts_of_the_container_do_not_appear_on_the_host(box: Box) -> None:
    with box.running(box.spec("sleep", "100")):
        with open("/proc/self/mountinfo") as file:
            assert str(box.directory) not in file.read()


def test_loopback_is_up_and_there_is_no_other_interface(box: Box) -> None:
    said = box.run(box.spec("ip", "address"))

    assert "127.0.0.1/8" in said.out
    assert "2:" not in said.out


def test_host_name_and_domain_name_are_set(box: Box) -> None:
    spec = msgspec.structs.replace(box.spec("sh", "-c", "hostname; cat /proc/sys/kernel/domainname"), domainname="sea")

    assert box.run(spec).out.split() == ["box", "sea"]


def test_dev_has_the_standard_nodes_and_links(box: Box) -> None:
    said = box.run(box.spec("sh", "-c", "stat -c '%n %F %a %t:%T' /dev/null /dev/urandom /dev/tty; readlink /dev/ptmx"))

    assert said.out.splitlines() == [
        "/dev/null character special file 666 1:3",
        "/dev/urandom character special file 666 1:9",
        "/dev/tty character special file 666 5:0",
        "pts/ptmx",
    ]


def test_masked_paths_are_the_null_device_or_empty_and_read_only_paths_refuse(box: Box) -> None:
    script = (
        "stat -c %t:%T /proc/keys; ls /sys/firmware | wc -l; touch /sys/firmware/x; echo 1 > /proc/sys/vm/drop_caches"
    )
    said = box.run(box.spec("sh", "-c", script))

    assert said.out.split() == ["1:3", "0"]
    assert said.err.count("Read-only") == 2


def test_capabilities_are_dockers_and_the_filter_is_on(box: Box) -> None:
    said = box.run(box.spec("grep", "-E", "^(Cap|NoNew|Seccomp:)", "/proc/self/status"))

    fields = dict(line.split(":\t") for line in said.out.splitlines())
    assert fields["CapBnd"] == fields["CapEff"] == fields["CapPrm"] == "00000000a80425fb"
    assert fields["CapInh"] == fields["CapAmb"] == "0000000000000000"
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "0")


@pytest.mark.parametrize("nnp", [True, False])
def test_without_capabilities_the_filter_is_set_all_the_same(box: Box, nnp: bool) -> None:
    spec = box.spec("grep", "-E", "^(CapEff|CapBnd|Seccomp:)", "/proc/self/status")
    spec = with_process(spec, capabilities=Capabilities(), no_new_privileges=nnp)

    assert box.run(spec).out.split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "Seccomp:", "2"]


def test_a_call_that_the_filter_forbids_is_refused(box: Box) -> None:
    said = box.run(box.spec("mount", "-t", "tmpfs", "tmpfs", "/tmp"))

    assert said.code != 0


def test_unconfined_means_no_filter(box: Box) -> None:
    spec = box.spec("grep", "Seccomp:", "/proc/self/status")
    spec = msgspec.structs.replace(spec, annotations={SECCOMP: "unconfined"})

    assert box.run(spec).out.split() == ["Seccomp:", "0"]


def test_ambient_capabilities_reach_a_user_without_rights(box: Box) -> None:
    names = ("CAP_NET_BIND_SERVICE",)
    caps = Capabilities(bounding=names, effective=names, permitted=names, inheritable=names, ambient=names)
    spec = with_process(box.spec("grep", "CapEff", "/proc/self/status"), capabilities=caps, user=User(uid=33, gid=33))

    assert box.run(spec).out.split() == ["CapEff:", f"{1 << 10:016x}"]


# ----------------------------------------------------------------------------------------------------- the process


@pytest.mark.parametrize(
    ("user", "add", "says"),
    [
        (User(), "", "uid=0(root) gid=0(root)"),
        (User(username="0"), "", "uid=0(root) gid=0(root) groups=0(root)"),
        (User(username="web"), "", "uid=33(web) gid=33(web) groups=33(web),44(extra)"),
        (User(username="web:more"), "", "uid=33(web) gid=55(more) groups=55(more)"),
        (User(username="1000"), "more", "uid=1000 gid=0(root) groups=0(root),55(more)"),
        (User(username="33:7"), "", "uid=33(web) gid=7 groups=7"),
        (User(uid=5, gid=6, additional_gids=(44,)), "", "uid=5 gid=6 groups=44(extra)"),
    ],
)
def test_the_user_is_looked_up_in_the_container(box: Box, user: User, add: str, says: str) -> None:
    spec = with_process(box.spec("id"), user=user)
    spec = msgspec.structs.replace(spec, annotations={**spec.annotations, GROUP_ADD: add})

    assert box.run(spec).out == says + "\n"


def test_an_unknown_user_is_refused_in_dockers_words(box: Box) -> None:
    with pytest.raises(InvalidInput, match="unable to find user nobody: no matching entries in passwd file"):
        box.run(with_process(box.spec("id"), user=User(username="nobody")))


def test_home_is_the_users_unless_given(box: Box) -> None:
    web = User(username="web")

    assert box.run(box.spec("sh", "-c", "echo $HOME", user=web)).out == "/srv\n"
    assert box.run(box.spec("sh", "-c", "echo $HOME", user=web, env=("PATH=/bin", "HOME=/x"))).out == "/x\n"


def test_the_working_directory_is_made_where_it_is_missing(box: Box) -> None:
    assert box.run(box.spec("pwd", cwd="/a/b")).out == "/a/b\n"


def test_umask_and_limits_are_set(box: Box) -> None:
    spec = box.spec(
        "sh", "-c", "umask; ulimit -n; ulimit -Hn", rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=100, hard=200),)
    )

    assert box.run(spec).out.split() == ["0022", "100", "200"]


def test_a_limit_above_ours_is_lowered_with_a_word(box: Box) -> None:
    if HOST.may_raise_rlimits:
        pytest.skip("missing kernel feature: none; this user may raise limits")
    spec = box.spec("sh", "-c", "ulimit -Hn", rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=1 << 30, hard=1 << 30),))

    assert box.run(spec).out.strip() == str(dict(HOST.rlimits)["RLIMIT_NOFILE"])
    assert "was lowered" in box.plan(spec).warnings[0]


def test_no_descriptor_but_three_is_open(box: Box) -> None:
    said = box.run(box.spec("sh", "-c", "ls /proc/$$/fd; true"))

    assert set(said.out.split()) <= {"0", "1", "2"}


def test_signals_that_the_shim_ignores_are_not_ignored_in_the_container(box: Box) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        said = box.run(box.spec("grep", "-E", "Sig(Ign|Blk|Cgt)", "/proc/self/status"))
    finally:
        signal.signal(signal.SIGHUP, before)

    assert said.out.split()[1::2] == ["0" * 16] * 3


def test_a_terminal_is_made_and_is_the_controlling_one(box: Box) -> None:
    spec = box.spec("sh", "-c", "tty; test -t 0 && stat -c %F /dev/console; echo hi > /dev/tty", terminal=True)
    running = container.create(box.plan(spec), None, console_size=(30, 100))
    try:
        os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)
        said = all_of_console(running.console)
    finally:
        os.close(running.console)
        os.close(running.pidfd)
        container.delete(running.cgroups)

    assert said == b"/dev/pts/0\r\ncharacter special file\r\nhi\r\n"


def test_a_gated_container_executes_at_start(box: Box) -> None:
    spec = box.spec("sh", "-c", "echo ran")
    reader, writer = os.pipe()
    running = container.create(box.plan(spec), (0, writer, writer), gated=True)
    os.close(writer)
    try:
        assert running.waiting
        assert Path(f"/proc/{running.pid}/comm").read_text() != "sh\n"

        container.start(running)
        os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)

        assert os.read(reader, 100) == b"ran\n"
    finally:
        os.close(reader)
        os.close(running.pidfd)
        container.delete(running.cgroups)


def test_a_gated_container_that_fails_to_execute_leaves_nothing(box: Box) -> None:
    running = container.create(box.plan(box.spec("nothing")), (0, 1, 2), gated=True)

    with pytest.raises(CommandNotFound):
        container.start(running)


def test_times_of_all_steps_come_back(box: Box) -> None:
    spec = box.spec("true")
    with box.running(spec) as (running, finish):
        finish()

    assert [index for index, _ in running.steps] == list(range(len(box.plan(spec).steps) - 1))
    assert all(ns >= 0 for _, ns in running.steps)


# ---------------------------------------------------------------------------------------------------------- mounts


def test_binds_of_files_and_directories(box: Box, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("inside\n")
    mounts = (
        Mount(destination="/data", type="bind", source=f"{tmp_path}/d", options=("rbind",)),
        Mount(destination="/etc/new/file", type="bind", source=f"{tmp_path}/d/f", options=("rbind", "ro")),
    )
    said = box.run(
        box.spec("sh", "-c", "cat /data/f /etc/new/file; echo y > /data/g; echo z > /etc/new/file", mounts=mounts)
    )

    assert said.out == "inside\ninside\n"
    assert "Read-only" in said.err
    assert (tmp_path / "d/g").read_text() == "y\n"


def test_a_recursively_read_only_bind_is_so_below_its_own_mounts(box: Box, tmp_path: Path) -> None:
    from support.child import in_child

    def in_private_mounts() -> str:
        from sampan.kernel import mount

        (tmp_path / "sub").mkdir()
        mount.mount("tmpfs", str(tmp_path / "sub"), "tmpfs")
        bind = Mount(destination="/data", type="bind", source=str(tmp_path), options=("rbind", "rro"))
        return box.run(box.spec("sh", "-c", "touch /data/x; touch /data/sub/y", mounts=(bind,))).err

    assert in_child(in_private_mounts).count("Read-only") == 2


def test_a_missing_source_is_named(box: Box) -> None:
    bind = Mount(destination="/data", type="bind", source="/nowhere/at/all", options=("rbind",))

    with pytest.raises(NotFound, match=r"can't bind /nowhere/at/all on /data: .*no such file or directory"):
        box.run(box.spec("true", mounts=(bind,)))


def test_a_tmpfs_takes_the_mode_of_what_it_covers(box: Box) -> None:
    mounts = (
        Mount(destination="/root", type="tmpfs", source="tmpfs"),
        Mount(destination="/tmp", type="tmpfs", source="tmpfs"),
    )

    assert box.run(box.spec("stat", "-c", "%a", "/root", "/tmp", mounts=mounts)).out.split() == ["755", "1777"]


def test_many_layers_are_mounted_in_one_page_where_the_kernel_takes_them_so_only(box: Box) -> None:
    spec = box.spec("sh", "-c", "cat /n1 /n40 /srv/0; ls /bin/sh")
    above = []
    for n in range(41):
        layer = box.directory / f"a layer: with, a comma-{n}"
        (layer / "srv").mkdir(parents=True)
        (layer / f"n{n}").write_text(f"{n}\n")
        (layer / "srv/0").write_text(f"of {n}\n")
        above.append(f"lowerdir+={layer}")
    overlay = msgspec.structs.replace(spec.mounts[0], options=(*above, *spec.mounts[0].options))
    spec = msgspec.structs.replace(spec, mounts=(overlay, *spec.mounts[1:]))
    old = msgspec.structs.replace(HOST, overlay_lower_plus=False)
    assert box.run(spec).out == "1\n40\nof 0\n/bin/sh\n"

    made = plan(spec, old, id="c", cgroup_parent=PARENT)
    reader, writer = os.pipe()
    running = container.create(made, (0, writer, writer))
    os.close(writer)
    os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED)
    os.close(running.pidfd)
    container.delete(running.cgroups)

    with open(reader) as stream:
        assert stream.read() == "1\n40\nof 0\n/bin/sh\n"


def test_a_read_only_root_is_so_but_its_mounts_are_not(box: Box) -> None:
    spec = box.spec("sh", "-c", "touch /x; touch /dev/shm/y && echo fine")
    spec = msgspec.structs.replace(spec, root=Root(path=spec.root.path, readonly=True))

    said = box.run(spec)
    assert "Read-only" in said.err
    assert said.out == "fine\n"


def test_a_directory_without_overlay_is_a_root_too(box: Box) -> None:
    spec = box.spec("ls", "/bin/busybox")
    spec = msgspec.structs.replace(spec, root=Root(path=str(box.lower)), mounts=spec.mounts[1:])

    assert box.run(spec).out == "/bin/busybox\n"


def test_kernel_parameters_of_the_containers_namespaces(box: Box) -> None:
    spec = with_linux(
        box.spec("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shmmni"),
        sysctl={"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmni": "111"},
    )

    assert box.run(spec).out.split() == ["0", "111"]


# ------------------------------------------------------------------------------------------- limits, freeze, kill


def test_limits_are_in_the_containers_own_groups(box: Box) -> None:
    if HOST.cgroup_mode != "v1":
        pytest.skip("kernel: this one has cgroup v2")
    limits = Resources(memory=Memory(limit=64 << 20), pids=Pids(limit=20))
    spec = with_linux(
        box.spec("cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max"), resources=limits
    )

    assert box.run(spec).out.split() == [str(64 << 20), "20"]


def test_over_its_memory_limit_it_is_killed_and_that_is_counted(box: Box) -> None:
    limits = Resources(memory=Memory(limit=16 << 20, swap=16 << 20))
    spec = with_linux(box.spec("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"), resources=limits)

    with box.running(spec) as (running, finish):
        assert finish().code == 137
        assert control.oom_kills(running.cgroups) >= 1


def test_devices_that_no_rule_allows_can_be_made_but_not_opened(box: Box) -> None:
    spec = box.spec("sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; head -c 1 /dev/zero | wc -c")

    said = box.run(spec)
    assert "Operation not permitted" in said.err
    assert said.out == "1\n"


def test_a_device_rule_of_the_users_opens_a_device(box: Box) -> None:
    rules = (DeviceRule(allow=False), DeviceRule(allow=True, type="c", major=10, minor=229, access="rw"))
    spec = with_linux(
        box.spec("sh", "-c", "mknod /tmp/fuse c 10 229 && true <> /tmp/fuse"),
        resources=Resources(devices=rules),
    )

    assert "not permitted" not in box.run(spec).err  # the device itself may be missing


def test_frozen_processes_stand_still_and_go_on(box: Box) -> None:
    spec = box.spec("sh", "-c", "while true; do echo . >> /tmp/dots; usleep 2000; done")

    with box.running(spec) as (running, _):
        dots = box.upper(spec) / "tmp/dots"
        until(dots.exists)
        control.freeze(running.cgroups, True)
        frozen = dots.stat().st_size
        time.sleep(0.1)
        assert dots.stat().st_size == frozen
        control.freeze(running.cgroups, False)
        until(lambda: dots.stat().st_size > frozen)


def test_a_frozen_container_can_be_killed_and_removed(box: Box) -> None:
    with box.running(box.spec("sleep", "100")) as (running, finish):
        control.freeze(running.cgroups, True)
        control.kill_everyone(running.cgroups)
        assert finish().code == 137


def test_limits_can_be_changed_up_and_down_in_any_order(box: Box) -> None:
    if HOST.cgroup_mode != "v1":
        pytest.skip("kernel: this one has cgroup v2")
    limits = Resources(memory=Memory(limit=64 << 20, swap=64 << 20))
    from sampan.runtime import cgroups

    with box.running(with_linux(box.spec("sleep", "100"), resources=limits)) as (running, _):
        group = control.directory(running.cgroups, "memory")
        for size in (128 << 20, 32 << 20):
            changed = Resources(memory=Memory(limit=size, swap=size))
            control.update(running.cgroups, cgroups.writes(changed, HOST.cgroup_mode))
            assert Path(group, "memory.memsw.limit_in_bytes").read_text() == f"{size}\n"


# ----------------------------------------------------------------------------------------------------- joining, init


def test_a_container_joins_anothers_namespaces(box: Box) -> None:
    with box.running(box.spec("sleep", "100")) as (first, _):
        joined = tuple(
            Namespace(type=t, path=f"/proc/{first.pid}/ns/{f}")
            for t, f in (("pid", "pid"), ("network", "net"), ("ipc", "ipc"))
        )
        own = tuple(Namespace(type=t) for t in ("mount", "uts", "cgroup"))
        shm = Mount(
            destination="/dev/shm", type="bind", source=f"/proc/{first.pid}/root/dev/shm", options=("rbind", "rprivate")
        )
        box.exec(box.spec("true"), first, "touch", "/dev/shm/from-first")
        spec = with_linux(box.spec("sh", "-c", "ps; readlink /proc/self/ns/net; ls /dev/shm"), namespaces=joined + own)
        spec = msgspec.structs.replace(spec, mounts=(*(m for m in spec.mounts if m.destination != "/dev/shm"), shm))
        said = box.run(spec)

        assert "sleep 100" in said.out
        assert os.readlink(f"/proc/{first.pid}/ns/net") in said.out
        assert "from-first" in said.out
        assert os.readlink("/proc/self/ns/pid_for_children") == os.readlink("/proc/self/ns/pid")


def test_it_shares_what_is_not_asked_for_with_the_host(box: Box) -> None:
    spec = with_linux(
        box.spec("sh", "-c", "readlink /proc/self/ns/net; readlink /proc/self/ns/uts"),
        namespaces=tuple(Namespace(type=t) for t in ("mount", "pid", "ipc", "cgroup")),
    )
    spec = msgspec.structs.replace(spec, hostname="")

    assert box.run(spec).out.split() == [os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/uts")]


def test_a_time_namespace_has_its_offset(box: Box) -> None:
    from sampan.spec.runtime import TimeOffset
    from support.child import in_child

    spec = with_linux(
        box.spec("cat", "/proc/uptime"),
        namespaces=tuple(Namespace(type=t) for t in (*NAMESPACES, "time")),
        time_offsets={"boottime": TimeOffset(secs=1_000_000)},
    )

    def run() -> tuple[str, str, str]:
        """Only a process of one thread may come back from a time namespace, and other tests may have left some here."""
        out = box.run(spec).out
        return out, os.readlink("/proc/self/ns/time_for_children"), os.readlink("/proc/self/ns/time")

    out, children, own = in_child(run, 0)
    assert float(out.split()[0]) > 1_000_000
    assert children == own


def test_with_init_a_reaper_is_process_1(box: Box) -> None:
    gone = "n=0; while grep -qs '^Name:.sleep' /proc/[0-9]*/status && [ $((n=n+1)) -lt 500 ]; do usleep 20000; done"
    spec = box.spec("sh", "-c", f"(sleep 0.05 &); {gone}; ps; tr '\\0' ' ' < /proc/1/cmdline; exit 9")
    spec = msgspec.structs.replace(spec, annotations={**spec.annotations, INIT: "true"})

    said = box.run(spec)
    assert said.code == 9
    assert "sampan-init" in said.out
    assert "defunct" not in said.out
    assert " Z " not in said.out
    assert "python" not in said.out


def test_the_reaper_passes_signals_on_and_ends_as_the_program_does(box: Box) -> None:
    spec = box.spec("sh", "-c", "trap 'echo got; exit 5' TERM; echo up; while true; do usleep 1000; done")
    spec = msgspec.structs.replace(spec, annotations={**spec.annotations, INIT: "true"})

    with box.running(spec) as (running, finish):
        finish.wait_for_output()
        kernel_process.pidfd_send_signal(running.pidfd, signal.SIGTERM)
        assert finish() == (5, "up\ngot\n", "")


def test_the_reaper_says_128_and_the_signal(box: Box) -> None:
    spec = box.spec("sh", "-c", "kill -KILL $$")
    spec = msgspec.structs.replace(spec, annotations={**spec.annotations, INIT: "true"})

    assert box.run(spec).code == 137


def test_an_exec_that_fails_under_the_reaper_is_an_error_too(box: Box) -> None:
    spec = msgspec.structs.replace(box.spec("nothing"), annotations={INIT: "true"})

    with pytest.raises(CommandNotFound):
        box.run(spec)


# ------------------------------------------------------------------------------------------------------------ exec


def test_exec_is_in_all_of_the_containers_namespaces_and_groups(box: Box) -> None:
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        script = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; ls /"
        said = box.exec(spec, running, "sh", "-c", script)

        for n in ("cgroup", "ipc", "mnt", "net", "pid", "uts"):
            assert os.readlink(f"/proc/{running.pid}/ns/{n}") in said.out
        if HOST.cgroup_mode == "v1":
            assert "memory:/\n" in said.out
        assert "srv" in said.out


def test_exec_has_the_containers_restrictions(box: Box) -> None:
    spec = box.spec("sleep", "100", no_new_privileges=True)
    with box.running(spec) as (running, _):
        said = box.exec(
            spec, running, "sh", "-c", "grep -E '^(CapBnd|Seccomp:|NoNew)' /proc/self/status; ls /proc/$$/fd; true"
        )

    assert said.out.split()[:6] == ["CapBnd:", "00000000a80425fb", "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert set(said.out.split()[6:]) <= {"0", "1", "2"}


def test_exec_as_a_user_with_streams(box: Box) -> None:
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        said = box.exec(
            spec, running, "sh", "-c", "id -u; pwd; cat; exit 3", stdin=b"in", user=User(username="web"), cwd="/srv"
        )

    assert said == (3, "33\n/srv\nin", "")


def test_exec_with_a_terminal(box: Box) -> None:
    from sampan.runtime.plan import plan_exec

    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        process = msgspec.structs.replace(spec.process, args=("tty",), terminal=True)
        made = plan_exec(process, spec, HOST, id=box.plan_id(running), cgroup_parent=PARENT)
        other = container.exec_process(made, running.pidfd, None)
        os.waitid(os.P_PIDFD, other.pidfd, os.WEXITED)

        assert all_of_console(other.console) == b"/dev/pts/0\r\n"
        os.close(other.console)
        os.close(other.pidfd)


def test_exec_of_nothing_is_not_found_and_the_container_runs_on(box: Box) -> None:
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        with pytest.raises(CommandNotFound, match=r'exec: "nothing": executable file not found in \$PATH'):
            box.exec(spec, running, "nothing")
        assert box.exec(spec, running, "echo", "on").out == "on\n"


def test_exec_dies_with_the_container(box: Box) -> None:
    from sampan.runtime.plan import plan_exec

    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, finish):
        process = msgspec.structs.replace(spec.process, args=("sleep", "100"))
        other = container.exec_process(
            plan_exec(process, spec, HOST, id=box.plan_id(running), cgroup_parent=PARENT), running.pidfd, (0, 1, 2)
        )
        assert other.pid in control.processes(running.cgroups)
        kernel_process.pidfd_send_signal(running.pidfd, signal.SIGKILL)
        # Process 1 ends when all others of its namespace have been reaped: pid_namespaces(7).
        assert os.waitid(os.P_PIDFD, other.pidfd, os.WEXITED).si_status == signal.SIGKILL
        os.close(other.pidfd)
        assert finish().code == 137


# ---------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        ("", CommandNotFound, r'exec: "/x": stat /x: no such file or directory'),
        ("mkdir /x", NotExecutable, r'exec: "/x": is a directory'),
        ("touch", NotExecutable, r'exec: "/x": permission denied: its mode has no x'),
        ("empty", NotExecutable, r'exec: "/x": exec format error: the file is empty'),
        ("text", NotExecutable, r'exec: "/x": exec format error: it is neither a program nor a script'),
        ("shebang", CommandNotFound, r'exec: "/x": no such file or directory: its interpreter /bin/bash is missing'),
        ("crlf", CommandNotFound, r'exec: "/x": no such file or directory: its #! line ends in a carriage return'),
        ("loader", CommandNotFound, r'exec: "/x": no such file or directory: its loader /lib64/.* is missing'),
        ("arch", NotExecutable, r'exec: "/x": exec format error: it is a program for \w+, and this machine is'),
        (
            "link",
            CommandNotFound,
            r'exec: "/x": stat /x: no such file or directory: it is a link to /y, which is missing',
        ),
    ],
)
def test_a_program_that_can_not_be_executed_is_diagnosed(box: Box, make: str, error: type, says: str) -> None:
    spec = box.spec("/x")
    x = box.upper(spec) / "x"
    texts = {"empty": b"", "text": b"hello", "shebang": b"#!/bin/bash -e\n", "crlf": b"#!/bin/sh\r\n"}
    if make == "mkdir /x":
        x.mkdir()
    elif make == "link":
        x.symlink_to("/y")
    elif make == "touch":
        x.write_bytes(b"#!/bin/sh\n")
    elif make == "loader":
        x.write_bytes(Path(sys.executable).resolve().read_bytes())
    elif make == "arch":
        head = bytearray(Path("/bin/busybox").read_bytes()[:4096])
        head[18] = 183 if HOST.architecture != "aarch64" else 62
        x.write_bytes(head)
    elif make in texts:
        x.write_bytes(texts[make])
    if make and x.is_file() and make != "touch":
        x.chmod(0o755)

    with pytest.raises(error, match=says):
        box.run(spec)


def test_a_program_on_a_noexec_mount_is_diagnosed(box: Box, tmp_path: Path) -> None:
    (tmp_path / "p").write_text("#!/bin/sh\n")
    (tmp_path / "p").chmod(0o755)
    bind = Mount(destination="/data", type="bind", source=str(tmp_path), options=("rbind", "noexec"))

    with pytest.raises(NotExecutable, match="mounted noexec"):
        box.run(box.spec("/data/p", mounts=(bind,)))


def test_a_limit_that_the_kernel_refuses_is_named(box: Box) -> None:
    limits = Resources(pids=Pids(limit=1 << 40))

    with pytest.raises(SampanError, match=r"can't set pids.max to"):
        box.run(with_linux(box.spec("true"), resources=limits))


def test_a_failing_layer_is_named_in_the_kernels_words(box: Box) -> None:
    spec = box.spec("true")
    overlay = msgspec.structs.replace(spec.mounts[0], options=("lowerdir+=/nowhere", "lowerdir+=/neither"))

    with pytest.raises(SampanError, match="can't mount an overlay of 2 layers"):
        box.run(msgspec.structs.replace(spec, mounts=(overlay, *spec.mounts[1:])))


def test_two_containers_live_side_by_side(box: Box) -> None:
    with box.running(box.spec("sleep", "100")) as (first, _), box.running(box.spec("sleep", "100")) as (second, _):
        assert set(control.processes(first.cgroups)) == {first.pid}
        assert set(control.processes(second.cgroups)) == {second.pid}


def test_a_plan_is_refused_before_anything_is_done(box: Box) -> None:
    from sampan.errors import Unsupported

    spec = with_linux(box.spec("true"), namespaces=())

    with pytest.raises(Unsupported):
        plan(spec, HOST, id="x")


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("/etc/passwd", "/etc", "a file can't cover a directory"),
        ("/etc", "/etc/passwd", "a directory can't cover a file"),
    ],
)
def test_a_bind_of_another_kind_than_its_target_is_said(box: Box, source: str, target: str, said: str) -> None:
    spec = box.spec("true", mounts=(Mount(destination=target, type="bind", source=source, options=("bind",)),))

    with pytest.raises(Failed, match=said) as e:
        box.run(spec)
    assert "a directory onto a file (or vice-versa)" in e.value.hint
