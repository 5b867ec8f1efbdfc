"""Whether a container's program is systemd, and what it is given then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sampan.engine import mounts, systemd
from sampan.errors import InvalidInput, Unsupported
from sampan.spec.annotations import SYSTEMD
from sampan.spec.docker import ContainerCreate
from sampan.spec.host import CgroupMode, Host
from support.engine import HOST, ID, completed, request, translated

V1 = msgspec.structs.replace(HOST, cgroup_mounts=(("memory", "/m"), ("name=systemd", "/s")))
V2 = msgspec.structs.replace(HOST, cgroup_mode=CgroupMode.V2, cgroup_mounts=(("", "/c"),), cgroup_delegates=True)
UNDELEGATED = msgspec.structs.replace(V2, cgroup_delegates=False)


def asked(mode: str | None, *command: str, **host_config: Any) -> ContainerCreate:
    annotations = {} if mode is None else {SYSTEMD: mode}
    return completed({"Annotations": annotations, **host_config}, Cmd=list(command or ("/sbin/init",)))


def mode(body: ContainerCreate, leads_to: str = "usr/lib/systemd/systemd") -> str:
    return systemd.mode(body, lambda _: leads_to)


@pytest.mark.parametrize(
    ("word", "command", "leads_to", "found"),
    [
        (None, ["/sbin/init"], "usr/lib/systemd/systemd", "auto"),
        (None, ["/lib/systemd/systemd", "--unit=x"], "usr/lib/systemd/systemd", "auto"),
        (None, ["/bin/sh", "-c", "/sbin/init"], "usr/lib/systemd/systemd", "auto"),
        (None, ["/sbin/init"], "bin/busybox", ""),
        (None, ["/sbin/init"], "sbin/init", ""),
        (None, ["/bin/sh", "-c", "exec /sbin/init"], "usr/lib/systemd/systemd", ""),
        (None, ["/usr/bin/nginx"], "usr/lib/systemd/systemd", ""),
        ("auto", ["/sbin/init"], "bin/busybox", ""),
        ("true", ["/sbin/init"], "bin/busybox", "true"),
        ("true", ["/usr/local/sbin/init"], "", "true"),
        ("true", ["systemd"], "", "true"),
        ("true", ["/init"], "", ""),
        ("always", ["sleep", "1"], "", "always"),
        ("false", ["/sbin/init"], "usr/lib/systemd/systemd", ""),
    ],
)
def test_systemd_is_known_by_its_name_and_by_what_that_leads_to(
    word: str | None, command: list[str], leads_to: str, found: str
) -> None:
    assert mode(asked(word, *command), leads_to) == found


@pytest.mark.parametrize("other", [{"Init": True}, {"PidMode": "host"}])
def test_systemd_must_be_process_1(other: dict[str, Any]) -> None:
    assert mode(asked(None, **other)) == ""
    assert mode(asked("true", "sleep", **other)) == ""
    for word in ("true", "always"):
        with pytest.raises(InvalidInput, match=f"^conflicting options: --systemd={word} and --"):
            mode(asked(word, **other))


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r'^--systemd values must be one of "auto, true, false, always": .maybe.'):
        mode(asked("maybe"))


def test_podmans_modes_have_more_in_memory_than_what_it_can_not_do_without() -> None:
    assert list(systemd.in_memory("auto")) == ["/run", "/run/lock"]
    assert list(systemd.in_memory("true")) == ["/run", "/run/lock", "/tmp", "/var/log/journal"]
    assert systemd.in_memory("") == {}


def test_its_tmpfs_is_not_where_something_else_is_mounted() -> None:
    body = asked("true", Binds=["/srv/run:/run"], Tmpfs={"/tmp": "size=1m"})
    made = {mount.target: mount for mount in mounts.wanted(body, (), systemd.in_memory("true"))}

    assert list(made) == ["/run", "/tmp", "/run/lock", "/var/log/journal"]
    assert made["/run"].type == "bind"
    assert "size=1m" in made["/tmp"].options
    assert made["/run/lock"].options == ("nosuid", "nodev", "exec", "tmpcopyup")
    assert not made["/run/lock"].shown


def test_it_is_stopped_by_its_own_signal_unless_another_is_named() -> None:
    plain = request(Cmd=["/sbin/init"])
    named = systemd.applied(plain, completed(Cmd=["/sbin/init"], StopSignal="TERM"), "auto")

    assert systemd.applied(plain, completed(Cmd=["/sbin/init"]), "auto").stop_signal == "RTMIN+3"
    assert named.stop_signal == "TERM"
    assert named.host_config.annotations == {SYSTEMD: "auto"}


def test_a_volume_of_the_image_is_not_where_its_control_groups_are() -> None:
    body = completed(Volumes={"/sys/fs/cgroup": {}, "/data": {}})

    assert systemd.applied(request(), body, "auto").volumes == {"/data": {}}


def test_its_cgroup_namespace_is_its_own_unless_another_is_named() -> None:
    def namespace(**given: Any) -> str:
        full = completed({"Privileged": True, **given})
        return systemd.applied(request({"Privileged": True, **given}), full, "auto").host_config.cgroupns_mode

    assert namespace() == "private"
    assert namespace(CgroupnsMode="host") == "host"


def test_it_is_told_that_it_is_in_a_container() -> None:
    told = translated(given={"systemd": True}, Env=["A=1"]).process.env
    overruled = translated(given={"systemd": True}, Env=["container=other"]).process.env

    assert {"container=docker", f"container_uuid={ID[:32]}", "A=1"} <= set(told)
    assert "container=other" in overruled
    assert "container=docker" not in overruled
    assert not [name for name in translated().process.env if name.startswith("container")]


@pytest.mark.parametrize(
    ("host", "own", "mode"), [(V1, True, "ro"), (V2, True, "rw"), (V1, False, "ro"), (V2, False, "ro")]
)
def test_on_v2_its_control_groups_are_writable_and_on_v1_those_that_limit_are_not(
    host: Host, own: bool, mode: str
) -> None:
    spec = translated(given={"systemd": True, "own_groups": own, "host": host})

    (groups,) = (mount for mount in spec.mounts if mount.destination == "/sys/fs/cgroup")
    assert groups.options[-1] == mode
    assert spec.annotations.get("org.sampan.systemd") == ("true" if own else None)


def owns(word: str, host: Host, **given: Any) -> tuple[bool, list[str]]:
    body, warnings = asked(word, **given), list[str]()
    found = systemd.owns_groups(body, word, mounts.wanted(body), host, warnings)
    return found, warnings


@pytest.mark.parametrize("word", ["auto", "true", "always"])
@pytest.mark.parametrize(("host", "given"), [(V1, {}), (V2, {}), (V1, {"CgroupnsMode": "host"})])
def test_it_arranges_its_control_groups(word: str, host: Host, given: dict[str, str]) -> None:
    assert owns(word, host, **given) == (True, [])


def test_who_mounts_control_groups_has_these() -> None:
    assert owns("true", V2, Binds=["/sys/fs/cgroup:/sys/fs/cgroup:ro"]) == (False, [])
    assert owns("true", V1, Binds=["/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd"]) == (False, [])


@pytest.mark.parametrize(
    ("host", "given", "cause"),
    [
        (HOST, {}, "this host has not mounted the hierarchy name=systemd"),
        (msgspec.structs.replace(HOST, cgroup_mode=CgroupMode.NONE), {}, "none are mounted on this host"),
        (V2, {"CgroupnsMode": "host"}, "--cgroupns host shows it those of others"),
    ],
)
def test_where_it_can_not_arrange_them_who_asked_gets_an_error_and_others_a_warning(
    host: Host, given: dict[str, str], cause: str
) -> None:
    found, (warning,) = owns("auto", host, **given)

    assert not found
    assert cause in warning
    with pytest.raises(Unsupported, match=f"^can't let systemd arrange its control groups: {cause}"):
        owns("true", host, **given)


def test_a_container_that_could_lift_its_limits_so_does_it_only_where_that_was_asked_for() -> None:
    found, (warning,) = owns("auto", UNDELEGATED)
    assert not found
    assert "it could lift its own limits: /sys/fs/cgroup is mounted without nsdelegate" in warning

    found, (warning,) = owns("true", UNDELEGATED)
    assert found
    assert warning.startswith("the container can lift its own limits")
    assert owns("auto", UNDELEGATED, Privileged=True) == (True, [])
    assert owns("auto", UNDELEGATED, UsernsMode="remap") == (True, [])
    assert not owns("auto", UNDELEGATED, UsernsMode="container:web")[0], "whose users may be the host's"
