"""Published ways out of a container, and what the runtime does about each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.errors import Failed, SampanError
from sampan.runtime import container
from sampan.runtime.plan import plan_exec
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import (
    SECCOMP,
    Capabilities,
    IdMapping,
    Mount,
    Namespace,
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


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    before = facts(tmp_path)
    yield made
    assert not left_behind(before, tmp_path)
    remove_parents()


def outside(tmp_path: Path) -> Path:
    """Make a directory of the host's that a container must not reach."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_text("host\n")
    return path


# ------------------------------------------------------------------------------------- links in the way of mounts


@pytest.mark.parametrize("up", [True, False], ids=["dots", "absolute"])
def test_cve_2021_30465_a_link_does_not_lead_a_mount_out_of_the_root(box: Box, tmp_path: Path, up: bool) -> None:
    host = outside(tmp_path)
    (box.lower / "data").symlink_to(("../" * 20 if up else "/") + str(host).lstrip("/"))
    mounts = (Mount(destination="/data/sub", type="tmpfs", source="tmpfs"),)

    said = box.run(box.spec("sh", "-c", "grep tmpfs /proc/self/mountinfo | grep sub", mounts=mounts))

    assert f" {host}/sub " in said.out  # inside, where the link leads when `/` is the container's
    assert sorted(p.name for p in host.iterdir()) == ["secret"]


def test_cve_2024_45310_nothing_is_made_outside_the_root(box: Box, tmp_path: Path) -> None:
    host = outside(tmp_path)
    (box.lower / "link").symlink_to(f"/../../../..{host}/made")
    file = tmp_path / "file"
    file.write_text("x")
    mounts = (
        Mount(destination="/link/a/b", type="bind", source=str(file), options=("rbind",)),
        Mount(destination="/link/c", type="bind", source=str(tmp_path), options=("rbind",)),
    )

    box.run(box.spec("true", mounts=mounts, cwd="/link/d"))

    assert sorted(p.name for p in host.iterdir()) == ["secret"]


@pytest.mark.parametrize("place", ["proc", "sys"])
@pytest.mark.parametrize("to", ["/srv/elsewhere", "srv/../tmp", "../../../../proc"])
def test_cve_2019_19921_and_2023_27561_a_proc_or_sys_that_is_a_link_is_refused(box: Box, place: str, to: str) -> None:
    (box.lower / place).rmdir()
    (box.lower / place).symlink_to(to)

    with pytest.raises(SampanError, match=f"mount {place}.* on /{place}.*: it must be an ordinary directory"):
        box.run(box.spec("true"))


def test_cve_2023_28642_a_link_on_the_way_to_proc_is_refused_too(box: Box) -> None:
    (box.lower / "srv/real").mkdir()
    (box.lower / "srv/link").symlink_to("real")
    mounts = (Mount(destination="/srv/link/proc", type="proc", source="proc"),)

    with pytest.raises(SampanError, match="it must be an ordinary directory"):
        box.run(box.spec("true", mounts=mounts))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/proc", "it must be of type proc"),
        ("/proc/self/attr", "it is inside /proc"),
        ("/proc/./sys/../sys", "it is inside /proc"),
        ("/srv/../proc//sys/net", "it is inside /proc"),
    ],
)
@pytest.mark.parametrize("type", ["bind", "tmpfs"])
def test_cve_2019_16884_nothing_else_is_mounted_where_proc_is_expected(
    box: Box, tmp_path: Path, place: str, words: str, type: str
) -> None:
    options = ("rbind",) if type == "bind" else ()

    with pytest.raises(SampanError, match=words):
        box.run(box.spec("true", mounts=(Mount(destination=place, type=type, source=str(tmp_path), options=options),)))


@pytest.mark.parametrize("to", ["/proc", "/proc/self/attr", "../proc/sys"])
@pytest.mark.parametrize("type", ["bind", "tmpfs"])
def test_cve_2019_16884_nor_does_a_link_of_the_image_lead_a_mount_there(
    box: Box, tmp_path: Path, to: str, type: str
) -> None:
    (box.lower / "data").symlink_to(to)
    options = ("rbind",) if type == "bind" else ()
    mounts = (Mount(destination="/data", type=type, source=str(tmp_path), options=options),)

    with pytest.raises(SampanError, match="a link leads into /proc from there"):
        box.run(box.spec("true", mounts=mounts))


def test_statistics_may_be_shown_in_place_of_the_kernels(box: Box, tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("1 1\n")
    mounts = (Mount(destination="/proc/uptime", type="bind", source=f"{tmp_path}/uptime", options=("bind",)),)

    assert box.run(box.spec("cat", "/proc/uptime", mounts=mounts)).out == "1 1\n"


def test_cve_2021_30465_a_place_that_turns_into_a_link_meanwhile_does_not_lead_out(box: Box, tmp_path: Path) -> None:
    host = outside(tmp_path)
    shared = tmp_path / "shared"
    (shared / "real").mkdir(parents=True)
    (shared / "place").symlink_to("real")
    turn = "import os, sys\nwhile True:\n  for to in sys.argv[1:]: os.symlink(to, 'next'); os.rename('next', 'place')\n"
    command = [sys.executable, "-c", turn, "../" * 20 + str(host).lstrip("/"), "real"]
    mounts = (
        Mount(destination="/data", type="bind", source=str(shared), options=("rbind",)),
        Mount(destination="/data/place/sub", type="tmpfs", source="tmpfs"),
        Mount(destination="/data/place/file", type="bind", source="/etc/hostname", options=("bind",)),
    )
    with subprocess.Popen(command, cwd=shared) as other:
        try:
            for _ in range(15):
                with contextlib.suppress(SampanError):
                    box.run(box.spec("true", mounts=mounts))
        finally:
            other.kill()

    assert sorted(p.name for p in host.iterdir()) == ["secret"]


def test_cve_2025_31133_a_dev_null_of_the_containers_is_not_what_masks(box: Box) -> None:
    (box.lower / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    spec = box.spec("stat", "-c", "%F %t:%T", "/proc/keys")
    spec = msgspec.structs.replace(spec, mounts=tuple(m for m in spec.mounts if not m.destination.startswith("/dev")))
    os.unlink(box.lower / "dev/null")
    (box.lower / "dev").rmdir()
    (box.lower / "srv/fake").mkdir()
    (box.lower / "dev").symlink_to("/srv/fake")

    assert box.run(spec).out == "character special file 1:3\n"


def test_cve_2025_52565_a_console_that_is_a_link_is_bound_to_the_terminal_all_the_same(box: Box) -> None:
    (box.lower / "dev/console").symlink_to("/proc/sys/kernel/core_pattern")
    spec = box.spec("stat", "-c", "%t", "/dev/pts/0", terminal=True)
    mounts = tuple(m for m in spec.mounts if m.destination != "/dev")
    made = container.create(box.plan(msgspec.structs.replace(spec, mounts=mounts)), None)
    os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
    said = all_of_console(made.console)
    os.close(made.console)
    os.close(made.pidfd)
    container.delete(made.cgroups)

    assert said == b"88\r\n"  # 136: a terminal


def test_cve_2025_52881_parameters_are_not_written_into_a_false_proc(box: Box) -> None:
    false = box.lower / "proc/sys/net/ipv4"
    false.mkdir(parents=True)
    (false / "ip_unprivileged_port_start").write_text("1024\n")
    spec = with_linux(box.spec("true"), sysctl={"net.ipv4.ip_unprivileged_port_start": "7"})
    spec = msgspec.structs.replace(spec, mounts=tuple(m for m in spec.mounts if m.destination != "/proc"))

    assert box.run(spec).code == 0
    assert (false / "ip_unprivileged_port_start").read_text() == "1024\n"
    assert not (box.upper(spec) / "proc/sys/net/ipv4/ip_unprivileged_port_start").exists()


def test_cve_2022_29162_a_program_inherits_no_capabilities_that_it_was_not_given(box: Box) -> None:
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        said = box.exec(spec, running, "grep", "-E", "^Cap(Inh|Amb)", "/proc/self/status")

    assert said.out.split()[1::2] == ["0" * 16] * 2


@pytest.mark.parametrize("user", [False, True])
def test_cve_2023_25809_without_a_cgroup_namespace_others_groups_are_not_there_to_be_written(
    open_box: Box, user: bool
) -> None:
    unified = HOST.cgroup_mode is CgroupMode.V2
    options = ("ro",) if unified and not user else ()
    script = "cd /sys/fs/cgroup; ls; ls memory/..; cat */release_agent; echo +pids > cgroup.subtree_control"
    spec = open_box.spec("sh", "-c", script)
    groups = Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=options)
    mounts = (*(m for m in spec.mounts if m.destination != groups.destination), groups)
    spec = msgspec.structs.replace(spec, mounts=mounts)
    spec = in_user_namespace(spec, 100_000) if user else spec
    spec = with_linux(spec, namespaces=tuple(n for n in spec.linux.namespaces if n.type != "cgroup"))

    if unified and user:  # all groups would be seen, and those that are the user's on the host be written
        with pytest.raises(SampanError, match="mount cgroup2 on /sys/fs/cgroup"):
            open_box.run(spec)
    elif unified:
        assert "Read-only" in open_box.run(spec).err
    else:
        said = open_box.run(spec)
        assert "sampan" not in said.out
        assert "release_agent" in said.err  # the root of a hierarchy has it, and no group below


# ------------------------------------------------------------------------------ what a process that enters brings along


@pytest.mark.parametrize("number", range(3, 12))
def test_cve_2024_21626_a_working_directory_through_a_descriptor_is_refused(box: Box, number: int) -> None:
    spec = box.spec("sleep", "100")

    with pytest.raises(SampanError):
        box.run(with_process(spec, args=("pwd",), cwd=f"/proc/self/fd/{number}"))
    with box.running(box.spec("sleep", "100")) as (running, _):
        with pytest.raises(SampanError):
            box.exec(spec, running, "pwd", cwd=f"/proc/self/fd/{number}/../../../..")


def gated_exec(box: Box, spec, running):
    process = msgspec.structs.replace(spec.process, args=("true",))
    made = plan_exec(process, spec, HOST, id=box.plan_id(running), cgroup_parent=PARENT)
    return container.exec_process(made, running.pidfd, (0, 1, 2), gated=True)


def test_cve_2016_9962_and_2019_5736_a_process_that_enters_can_not_be_looked_into(box: Box) -> None:
    spec = box.spec("sleep", "100")
    with box.running(spec) as (running, _):
        other = gated_exec(box, spec, running)
        with open(f"/proc/{other.pid}/status") as file:
            pid = next(line for line in file if line.startswith("NSpid")).split()[-1]
        script = f"cd /proc/{pid} && for f in exe root cwd fd/*; do readlink $f; done; cat environ maps; cat < exe"
        said = box.exec(spec, running, "sh", "-c", script)
        container.start(other)
        os.waitid(os.P_PIDFD, other.pidfd, os.WEXITED)
        os.close(other.pidfd)

    assert said.out == ""
    assert "Permission denied" in said.err


def test_no_descriptor_of_the_hosts_is_open_while_it_waits_in_the_container(box: Box) -> None:
    spec = box.spec("sleep", "100")
    made = container.create(box.plan(spec), (0, 1, 2), gated=True)
    try:
        open_files = {
            os.readlink(f"/proc/{made.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{made.pid}/fd") if int(fd) > 2
        }
    finally:
        container.start(made)
        container.delete(made.cgroups)
        os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
        os.close(made.pidfd)

    assert len(open_files) == 1
    assert open_files.pop().startswith("socket:")


def test_a_process_that_waits_for_start_is_not_dumpable_whoever_its_user_is(box: Box) -> None:
    spec = with_process(box.spec("sleep", "100"), user=User(uid=33, gid=33))
    made = container.create(box.plan(spec), (0, 1, 2), gated=True)
    try:
        assert os.stat(f"/proc/{made.pid}/status").st_uid == 0
        with open(f"/proc/{made.pid}/status") as file:
            assert "Uid:\t33\t33\t33\t33\n" in file.read()
    finally:
        container.start(made)
        container.delete(made.cgroups)
        os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
        os.close(made.pidfd)


def test_cve_2022_0492_groups_can_not_be_mounted_or_written(box: Box) -> None:
    script = (
        "mkdir /tmp/c; mount -t cgroup -o memory cgroup /tmp/c; "
        "busybox unshare -m -U true; "
        "echo /evil > /sys/fs/cgroup/memory/release_agent; echo $$ > /sys/fs/cgroup/cgroup.procs"
    )
    said = box.run(box.spec("sh", "-c", script + "; ls /tmp/c | wc -l"))

    assert said.out.strip() == "0"
    assert len([line for line in said.err.splitlines() if line]) >= 4


@pytest.mark.parametrize("what", ["fifo", "directory", "device"])
def test_a_passwd_that_is_no_file_is_refused_and_not_waited_for(box: Box, what: str) -> None:
    passwd = box.lower / "etc/passwd"
    passwd.unlink()
    if what == "fifo":
        os.mkfifo(passwd)
    elif what == "directory":
        passwd.mkdir()
    else:
        passwd.symlink_to("/dev/zero")

    with pytest.raises(Failed, match="/etc/passwd is no regular file"):
        box.run(box.spec("true"))


def test_a_passwd_that_is_a_link_to_the_hosts_is_the_containers(box: Box, tmp_path: Path) -> None:
    false = tmp_path / "passwd"
    false.write_text("web:x:7:7::/:/bin/sh\n")
    (box.lower / "etc/passwd").unlink()
    (box.lower / "etc/passwd").symlink_to("../" * 20 + str(false).lstrip("/"))

    with pytest.raises(SampanError, match="unable to find user web"):
        box.run(with_process(box.spec("id"), user=User(username="web")))


# ------------------------------------------------------------------------------------------------- user namespaces


@pytest.fixture
def open_box() -> Iterator[Box]:
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    made = Box(directory)
    yield made
    shutil.rmtree(directory)
    remove_parents()


def in_user_namespace(spec, host_id: int):
    mapping = (IdMapping(container_id=0, host_id=host_id, size=65536),)
    return with_linux(
        spec,
        namespaces=tuple(Namespace(type=t) for t in (*NAMESPACES, "user")),
        uid_mappings=mapping,
        gid_mappings=mapping,
    )


def test_root_of_a_user_namespace_is_nobody_outside(open_box: Box) -> None:
    script = "id -u; cat /proc/self/uid_map; mount | grep -c cgroup; stat -c %t:%T /dev/null; touch /new; hostname"
    spec = in_user_namespace(open_box.spec("sh", "-c", script), 100_000)

    said = open_box.run(spec)

    assert said.out.split()[:5] == ["0", "0", "100000", "65536", said.out.split()[4]], said
    assert said.out.split()[-2:] == ["1:3", "box"]
    assert os.stat(open_box.upper(spec) / "new").st_uid == 0  # as an image has it, whose users are the container's own


def test_exec_enters_the_user_namespace(open_box: Box) -> None:
    spec = in_user_namespace(open_box.spec("sleep", "100"), 100_000)
    with open_box.running(spec) as (running, _):
        said = open_box.exec(spec, running, "sh", "-c", "id -u; grep CapEff /proc/self/status")

    assert said.out.split()[0] == "0", said


# ------------------------------------------------------------------------------------- no Python in a changed root

WATCH = """
import os, sys
from pathlib import Path
import msgspec
from sampan.errors import SampanError
from sampan.spec.runtime import *
from support.containers import Box, facts, left_behind, remove_parents
box = Box(Path(sys.argv[1]))
host = os.stat("/")[1:3]
LOOKS = ("import", "open", "compile", "exec", "marshal.load", "ctypes.dlopen", "ctypes.dlsym", "os.listdir",
         "os.scandir", "socket.getaddrinfo", "subprocess.Popen", "code.__new__")
def hook(event, args):
    # An exec opens the root that it has entered; that is no look for a file.
    if event.startswith(LOOKS) and os.stat("/")[1:3] != host and args[0] != "/":
        os.write(2, f"LOOKED {event} {args}\\n".encode())
sys.addaudithook(hook)
what = sys.argv[2]
spec = box.spec("nothing" if what == "failing" else "true", user=User(username="web:more"))
annotations = {SECCOMP: "default", GROUP_ADD: "extra", INIT: "true" if what == "init" else ""}
spec = msgspec.structs.replace(spec, annotations=annotations)
if what == "exec":
    spec = msgspec.structs.replace(spec, process=msgspec.structs.replace(spec.process, args=("sleep", "100")))
    with box.running(spec) as (running, finish):
        said = box.exec(spec, running, "true")
else:
    try:
        said = box.run(spec)
    except SampanError as e:
        said = (127, "", str(e))
print(said)
remove_parents()
"""


@pytest.mark.parametrize("what", ["create", "init", "failing", "exec"])
def test_cve_2019_14271_nothing_is_imported_or_opened_once_the_root_has_changed(tmp_path: Path, what: str) -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(tmp_path), what],
        env={**os.environ, "PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "LOOKED" not in done.stderr + done.stdout


def test_an_unconfined_container_with_all_capabilities_still_has_its_own_namespaces(box: Box) -> None:
    every = tuple(sorted(HOST.capabilities))
    spec = with_process(
        box.spec("sh", "-c", "umount /proc/sys; ls /; mount -t tmpfs t /srv && grep -c /srv /proc/mounts")
    )
    spec = with_process(spec, capabilities=Capabilities(bounding=every, effective=every, permitted=every))
    spec = msgspec.structs.replace(spec, annotations={SECCOMP: "unconfined"})

    said = box.run(spec)
    assert said.out.split()[-1] == "1"
    assert "home" not in said.out.split()
