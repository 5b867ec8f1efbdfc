"""From Docker's body to an OCI configuration."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sampan.engine import unbuilt
from sampan.engine.merge import complete
from sampan.engine.translate import environment, exec_process, join
from sampan.errors import InvalidInput, NotPermitted, Unsupported
from sampan.spec import runtime
from sampan.spec.docker import ContainerCreate, ExecConfig, HostConfig
from sampan.spec.image import ExecutionConfig
from support.engine import HOST, ID, OTHER, completed, request, translated

IMAGE = ExecutionConfig(
    entrypoint=("/entry", "-x"), cmd=("serve",), env=("A=image", "B=image"), working_dir="/app", user="app"
)


@pytest.mark.parametrize(
    ("fields", "args"),
    [
        ({"Cmd": None}, ("/entry", "-x", "serve")),
        ({"Cmd": ["other"]}, ("/entry", "-x", "other")),
        ({"Cmd": None, "Entrypoint": ["/mine"]}, ("/mine",)),
        ({"Cmd": ["a"], "Entrypoint": ["/mine"]}, ("/mine", "a")),
        ({"Cmd": ["a"], "Entrypoint": [""]}, ("a",)),
        ({"Cmd": ["a"], "Entrypoint": []}, ("a",)),
    ],
)
def test_entrypoint_and_command_follow_dockers_rules(fields: dict[str, Any], args: tuple[str, ...]) -> None:
    assert translated(image=IMAGE, **fields).process.args == args


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no command specified"):
        completed(Cmd=None)
    with pytest.raises(InvalidInput, match="no command specified"):
        completed(image=IMAGE, Cmd=None, Entrypoint=[""])


def test_the_users_environment_wins_over_the_images() -> None:
    spec = translated(image=IMAGE, Env=["A=mine", "C=mine"])

    assert set(spec.process.env) >= {"A=mine", "B=image", "C=mine"}
    assert "A=image" not in spec.process.env


def test_a_bare_name_takes_a_variable_away() -> None:
    assert environment(("PATH", "X=1"), "h", tty=True) == ("HOSTNAME=h", "TERM=xterm", "X=1")


def test_the_image_says_what_the_user_does_not() -> None:
    spec = translated(image=IMAGE)

    assert spec.process.cwd == "/app"
    assert spec.process.user.username == "app"


def test_a_relative_working_directory_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needs to be an absolute path"):
        completed(WorkingDir="app")


def test_the_host_name_is_the_short_id_unless_given() -> None:
    assert translated().hostname == ID[:12]
    assert translated(Hostname="web").hostname == "web"


def test_with_the_hosts_network_the_name_is_the_hosts() -> None:
    assert translated({"NetworkMode": "host"}).hostname == "thishost"


@pytest.mark.parametrize("field", ["Hostname", "Domainname"])
@pytest.mark.parametrize("name", ["a b", "a\n6.6.6.6 b", "a\0", "ü" * 33])
def test_a_host_name_that_would_be_more_in_hosts_than_a_name_is_refused(field, name):
    with pytest.raises(InvalidInput, match=f"invalid {field.lower()}"):
        translated(**{field: name})


def test_a_name_of_its_own_and_the_hosts_uts_namespace_contradict() -> None:
    with pytest.raises(InvalidInput, match="hostname and the UTS mode"):
        translated({"UTSMode": "host"}, Hostname="web")


def namespaces(spec: runtime.Spec) -> dict[str, str]:
    return {namespace.type: namespace.path for namespace in spec.linux.namespaces}


def test_every_namespace_is_new_by_default() -> None:
    assert namespaces(translated()) == dict.fromkeys(("mount", "pid", "ipc", "network", "uts", "cgroup"), "")


@pytest.mark.parametrize(
    ("field", "type"),
    [
        ("PidMode", "pid"),
        ("IpcMode", "ipc"),
        ("NetworkMode", "network"),
        ("UTSMode", "uts"),
        ("CgroupnsMode", "cgroup"),
    ],
)
def test_the_hosts_namespace_is_left_out(field: str, type: str) -> None:
    assert type not in namespaces(translated({field: "host"}))


def test_a_joined_namespace_is_named_by_id_until_the_start() -> None:
    spec = translated({"PidMode": "container:web"}, given={"joins": {"pid_mode": OTHER}})

    assert namespaces(spec)["pid"] == f"/proc/container:{OTHER}/ns/pid"
    assert namespaces(join(spec, {OTHER: 42}.__getitem__))["pid"] == "/proc/42/ns/pid"


def test_joining_ipc_shares_dev_shm() -> None:
    spec = join(translated({"IpcMode": "container:web"}, given={"joins": {"ipc_mode": OTHER}}), {OTHER: 42}.__getitem__)

    assert [m.source for m in spec.mounts if m.destination == "/dev/shm"] == ["/proc/42/root/dev/shm"]


@pytest.mark.parametrize(
    "host_config",
    [{"PidMode": "x"}, {"IpcMode": "x"}, {"UTSMode": "x"}, {"CgroupnsMode": "x"}],
)
def test_an_unknown_mode_is_refused(host_config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"invalid .* mode: "):
        completed(host_config)


def destinations(spec: runtime.Spec) -> list[str]:
    return [mount.destination for mount in spec.mounts]


def test_the_root_is_the_first_mount_and_the_users_are_last() -> None:
    spec = translated({"Binds": ["/srv:/data/deep:ro", "/srv:/data"]})

    assert spec.mounts[0] == runtime.Mount(
        destination="/",
        type="overlay",
        source="overlay",
        options=("lowerdir+=/l/top", "lowerdir+=/l/base", "upperdir=/r/upper", "workdir=/r/work"),
    )
    assert destinations(spec)[-2:] == ["/data", "/data/deep"]


def test_a_mount_of_the_users_replaces_the_default_one() -> None:
    spec = translated({"Tmpfs": {"/dev/shm": "size=1m"}, "Binds": ["/x:/etc/hosts"]})

    assert destinations(spec).count("/dev/shm") == 1
    assert [m.source for m in spec.mounts if m.destination == "/etc/hosts"] == ["/x"]


def test_shm_has_dockers_size_unless_told() -> None:
    def size(spec: runtime.Spec) -> tuple[str, ...]:
        return next(m.options for m in spec.mounts if m.destination == "/dev/shm")

    assert "size=67108864" in size(translated())
    assert "size=1048576" in size(translated({"ShmSize": 1 << 20}))


def test_sys_is_read_only_unless_privileged() -> None:
    def options(spec: runtime.Spec) -> tuple[str, ...]:
        return next(m.options for m in spec.mounts if m.destination == "/sys")

    assert "ro" in options(translated())
    assert "rw" in options(translated({"Privileged": True}))


def test_a_privileged_container_has_no_masks_and_every_device() -> None:
    spec = translated({"Privileged": True}, given={"seccomp": "unconfined"})

    assert not spec.linux.masked_paths
    assert not spec.linux.readonly_paths
    assert spec.linux.resources.devices == (runtime.DeviceRule(allow=True, type="a", access="rwm"),)
    assert runtime.SECCOMP not in spec.annotations


def test_default_restrictions() -> None:
    spec = translated()

    assert "/proc/kcore" in spec.linux.masked_paths
    assert "/proc/sys" in spec.linux.readonly_paths
    assert spec.annotations[runtime.SECCOMP] == "default"
    assert spec.linux.resources.devices[0] == runtime.DeviceRule(allow=False, type="a", access="rwm")


def test_paths_may_be_unmasked_as_the_client_does_for_systempaths() -> None:
    spec = translated({"MaskedPaths": [], "ReadonlyPaths": []})

    assert spec.linux.masked_paths == ()
    assert spec.linux.readonly_paths == ()


def caps(**host_config: Any) -> set[str]:
    return set(translated(host_config).process.capabilities.bounding)


def test_capabilities() -> None:
    default = caps()

    assert "CAP_CHOWN" in default
    assert "CAP_SYS_ADMIN" not in default
    assert caps(CapAdd=["SYS_PTRACE"]) == default | {"CAP_SYS_PTRACE"}
    assert caps(CapDrop=["CAP_CHOWN"]) == default - {"CAP_CHOWN"}
    assert caps(CapDrop=["ALL"], CapAdd=["net_bind_service"]) == {"CAP_NET_BIND_SERVICE"}
    assert len(caps(CapAdd=["ALL"])) == 41
    assert caps(CapAdd=["ALL"], CapDrop=["SYS_ADMIN"]) == caps(CapAdd=["ALL"]) - {"CAP_SYS_ADMIN"}
    assert len(caps(Privileged=True)) == 41


def test_no_capability_is_inheritable() -> None:
    """CVE-2022-24769."""
    capabilities = translated({"CapAdd": ["ALL"]}).process.capabilities

    assert capabilities.inheritable == ()
    assert capabilities.ambient == ()


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(InvalidInput, match='invalid CapAdd: unknown capability: "CAP_FOO"'):
        translated({"CapAdd": ["foo"]})


def test_a_capability_that_sampan_has_not_itself_cannot_be_given() -> None:
    poor = msgspec.structs.replace(HOST, capabilities=frozenset({"CAP_CHOWN"}))

    with pytest.raises(NotPermitted, match="CAP_SYS_ADMIN"):
        translated({"CapAdd": ["SYS_ADMIN"]}, given={"host": poor})
    assert translated(given={"host": poor}).process.capabilities.bounding == ("CAP_CHOWN",)


def test_init_groups_and_annotations_are_passed_on() -> None:
    spec = translated({"Init": True, "GroupAdd": ["audio", "7"], "Annotations": {"a": "b"}})

    assert spec.annotations == {
        "a": "b",
        runtime.SECCOMP: "default",
        runtime.INIT: "true",
        runtime.GROUP_ADD: "audio,7",
    }


def test_its_files_are_in_the_directories_for_chroot_too() -> None:
    spec = translated({"Annotations": {"sampan.chroot-dirs": "/srv/root/,b"}, "Binds": ["/h:/b/etc/hosts"]})

    sources = {mount.destination: mount.source for mount in spec.mounts}
    assert sources["/srv/root/etc/resolv.conf"] == sources["/etc/resolv.conf"] == sources["/b/etc/resolv.conf"]
    assert sources["/srv/root/etc/hostname"] == sources["/etc/hostname"]
    assert sources["/b/etc/hosts"] == "/h"


@pytest.mark.parametrize("directory", ["..", "/a/../../b", "", "b\0c"])
def test_a_directory_for_chroot_that_could_be_elsewhere_is_refused(directory: str) -> None:
    with pytest.raises(InvalidInput, match="invalid chroot directory"):
        translated({"Annotations": {"sampan.chroot-dirs": f"/a,{directory}"}})


def test_a_class_of_service_is_entered_where_there_are_any() -> None:
    annotations = {"Annotations": {"sampan.rdt-class": "guests"}}
    able = msgspec.structs.replace(HOST, resctrl="/sys/fs/resctrl")

    assert translated(annotations, given={"host": able}).linux.intel_rdt == runtime.IntelRdt(clos_id="guests")
    with pytest.raises(Unsupported, match="no resctrl filesystem is mounted"):
        translated(annotations)
    for wrong in ("..", "a/b"):
        with pytest.raises(InvalidInput, match="invalid --rdt-class"):
            translated({"Annotations": {"sampan.rdt-class": wrong}}, given={"host": able})


def test_our_own_annotations_cannot_be_given() -> None:
    with pytest.raises(InvalidInput, match="the engine's own"):
        translated({"Annotations": {runtime.SECCOMP: "unconfined"}})


@pytest.mark.parametrize("name", ["kernel.shmmax", "fs.mqueue.msg_max", "net.core.somaxconn"])
def test_namespaced_sysctls_are_set(name: str) -> None:
    assert translated({"Sysctls": {name: "7"}}).linux.sysctl[name] == "7"


@pytest.mark.parametrize(
    ("host_config", "words"),
    [
        ({"Sysctls": {"kernel.panic": "1"}}, "not in a separate kernel namespace"),
        ({"Sysctls": {"vm.swappiness": "1"}}, "not in a separate kernel namespace"),
        ({"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "host"}, "not allowed in host network namespace"),
        ({"Sysctls": {"kernel.shmmax": "1"}, "IpcMode": "host"}, "not allowed in host ipc namespace"),
        ({"Sysctls": {"net.../../x": "1"}}, "invalid sysctl name"),
        ({"Sysctls": {"net.//.vm.swappiness": "1"}}, "invalid sysctl name"),
    ],
)
def test_other_sysctls_are_refused(host_config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        translated(host_config)


def test_any_port_is_open_to_everyone_inside() -> None:
    assert translated().linux.sysctl["net.ipv4.ip_unprivileged_port_start"] == "0"
    assert not translated({"NetworkMode": "host"}).linux.sysctl


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("foo=bar", "invalid --security-opt"),
        ("label=x", "invalid --security-opt"),
        ("no-new-privileges=maybe", "invalid"),
    ],
)
def test_security_options_that_mean_nothing_are_refused(option: str, words: str) -> None:
    with pytest.raises((InvalidInput, Unsupported), match=words):
        translated({"SecurityOpt": [option]})


@pytest.mark.parametrize("option", ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"])
def test_no_new_privileges(option: str) -> None:
    assert translated({"SecurityOpt": [option]}).process.no_new_privileges


# ------------------------------------------------------------------------------------------------ what is not built


def fields_of(struct: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(struct)}


def test_every_field_of_a_request_is_honoured_or_refused() -> None:
    every = fields_of(HostConfig) | fields_of(ContainerCreate)

    assert every == unbuilt.HONOURED | unbuilt.REFUSED.keys()
    assert not unbuilt.HONOURED & unbuilt.REFUSED.keys()


@pytest.mark.parametrize(
    "host_config",
    [
        {"KernelMemory": 1},
    ],
)  # fmt: skip
def test_what_is_not_built_is_refused(host_config: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=r"^unsupported: "):
        completed(host_config)


def test_what_the_docker_client_always_sends_is_accepted() -> None:
    completed(
        {
            "NetworkMode": "default", "RestartPolicy": {"Name": "no"}, "LogConfig": {"Type": "", "Config": {}},
            "MemorySwappiness": -1, "OomKillDisable": False, "PidsLimit": 0, "ConsoleSize": [0, 0], "Devices": [],
            "BlkioDeviceReadBps": [], "DeviceRequests": None, "ContainerIDFile": "x", "Isolation": "", "ShmSize": 0,
        },
        NetworkingConfig={"EndpointsConfig": {"default": {"IPAMConfig": None, "Aliases": None}}},
        AttachStdout=True,
    )  # fmt: skip


def test_the_image_may_have_a_health_check() -> None:
    complete(request(), ExecutionConfig())


# ------------------------------------------------------------------------------------------------ exec


def test_an_exec_keeps_the_containers_restrictions() -> None:
    spec = translated({"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}, Env=["A=1"], User="app")

    process = exec_process(ExecConfig(cmd=("ls",), env=("B=2",), tty=True), spec, HOST)

    assert process.capabilities.bounding == ()
    assert process.no_new_privileges
    assert process.user.username == "app"
    assert process.args == ("ls",)
    assert {"A=1", "B=2", "TERM=xterm"} <= set(process.env)


def test_a_privileged_exec_has_every_capability() -> None:
    assert len(exec_process(ExecConfig(cmd=("ls",), privileged=True), translated(), HOST).capabilities.bounding) == 41


def test_an_exec_without_a_command_is_refused() -> None:
    with pytest.raises(InvalidInput, match="No exec command specified"):
        exec_process(ExecConfig(), translated(), HOST)
