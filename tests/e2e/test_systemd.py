"""`--systemd`: what a container is given whose first process is systemd. A script stands in for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until

STAND_IN = """#!/bin/sh
trap 'echo shut down; exit 0' 37  # RTMIN+3
trap 'echo started anew' TERM
echo up
while :; do sleep 100 & wait $!; done
"""
MAKE = f"""
mkdir -p /lib/systemd /sbin /run/here
cat > /lib/systemd/systemd <<'END'
{STAND_IN}END
chmod +x /lib/systemd/systemd
ln -sf /lib/systemd/systemd /sbin/init
"""
IN_MEMORY = 'for d in /run /run/lock /tmp /var/log/journal; do grep -q " $d tmpfs" /proc/mounts && echo $d; done; :'
ARRANGE_V1 = """
cd /sys/fs/cgroup/systemd
mkdir init.scope && echo 1 > init.scope/cgroup.procs && grep name=systemd /proc/1/cgroup
mkdir ../memory/x 2>/dev/null || mkdir ../x 2>/dev/null || echo refused
"""
ARRANGE_V2 = """
cd /sys/fs/cgroup
mkdir init.scope
for p in $(cat cgroup.procs); do echo $p > init.scope/cgroup.procs; done 2>/dev/null
echo +memory > cgroup.subtree_control && grep . /proc/1/cgroup
echo 1 > memory.max 2>/dev/null || echo refused
"""
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()

pytestmark = pytest.mark.skipif(
    not V2 and not Path("/sys/fs/cgroup/systemd").is_dir(), reason="missing kernel feature: cgroup v1's name=systemd"
)


@pytest.fixture(scope="module")
def image(shared: Sampan) -> str:
    shared("run", "--name", "made", "--network", "none", "busybox", "sh", "-c", MAKE)
    shared("commit", "--change", 'CMD ["/sbin/init"]', "made", "booted")
    shared("rm", "made")
    return "booted"


def sh(sampan: Sampan, name: str, script: str) -> list[str]:
    return sampan("exec", name, "sh", "-c", script).lines


def test_systemd_boots_arranges_its_groups_and_is_shut_down_by_its_own_signal(shared: Sampan, image: str) -> None:
    shared("run", "-d", "--name", "web", "--network", "none", image)
    wait_until(lambda: "up" in shared("logs", "web").lines)

    id = shared.inspect("web")["Id"]
    assert sh(shared, "web", "echo $container $container_uuid") == [f"docker {id[:32]}"]
    assert sh(shared, "web", IN_MEMORY) == ["/run", "/run/lock"], "the rest stays among its files, as with Docker"
    assert sh(shared, "web", "ls -d /run/here") == ["/run/here"], "what the image has there is seen"
    group, refused = sh(shared, "web", ARRANGE_V2 if V2 else ARRANGE_V1)
    assert group.endswith(":/init.scope")
    assert refused == "refused", "nothing that limits it"
    assert sh(shared, "web", "cat /proc/1/comm"), "it can be entered all the same"
    shared("update", "--memory", "100m", "--memory-swap", "100m", "web")
    shared("stop", "web")
    assert shared("logs", "web").lines == ["up", "shut down"]
    assert shared.inspect("web")["State"]["ExitCode"] == 0
    shared("start", "web")
    wait_until(lambda: shared("logs", "web").lines[2:] == ["up"])
    shared("rm", "-f", "web")


def test_podmans_modes_have_it_as_podman_does(shared: Sampan, image: str) -> None:
    places = ["/run", "/run/lock", "/tmp", "/var/log/journal"]
    own = "/sys/fs/cgroup" if V2 else "/sys/fs/cgroup/systemd"

    def run(*args: str) -> list[str]:
        return shared("run", "--rm", "--network", "none", *args).lines

    script = f"{IN_MEMORY}; mkdir {own}/x && echo made; touch /tmp/x"
    assert run("--systemd=always", "busybox", "sh", "-c", script) == [*places, "made"]
    assert run("--systemd=always", "--userns=remap", "busybox", "sh", "-c", script) == [*places, "made"]
    assert run("--systemd=true", "busybox", "sh", "-c", f"{IN_MEMORY}; echo -n $container") == []

    shared("create", "--name", "off", "--systemd=false", image)
    shared("create", "--name", "other", "busybox", "/sbin/init")
    shared("create", "--name", "named", "--systemd=true", "busybox", "/sbin/init")
    shown = [shared.inspect(name)["Config"].get("StopSignal", "") for name in ("off", "other", "named")]
    assert shown == ["", "", "RTMIN+3"], "BusyBox's init knows nothing of that signal"
    shared("rm", "off", "other", "named")

    for flags, said in (
        (["--systemd=what"], '--systemd values must be one of "auto, true, false, always"'),
        (["--systemd=true", "--init"], "conflicting options: --systemd=true and --init"),
    ):
        assert said in shared.fails(125, "run", "--rm", *flags, image).err
