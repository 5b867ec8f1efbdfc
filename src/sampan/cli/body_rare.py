"""The rarer flags of `run` and `create` in the API's body; imported only when one of them is given."""

from __future__ import annotations

import os

from sampan.cli.failure import Failure
from sampan.spec.annotations import (
    CGROUP_CONF,
    CHOWN,
    CHROOT_DIRS,
    GIDMAP,
    GROUP_ENTRY,
    HOSTUSERS,
    IDMAP,
    IMAGE_VOLUME,
    OWN_IDS,
    PASSWD_ENTRY,
    RDT_CLASS,
    REQUIRES,
    ROOTFS,
    SECRETS,
    SUBGIDNAME,
    SUBUIDNAME,
    SYSTEMD,
    TIMEOUT,
    UIDMAP,
    UMASK,
    UNSETENV_ALL,
    WRITABLE,
)
from sampan.spec.cdi_names import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.flags import Options

    Json = dict[str, Any]

_ACCESS = "rwm"


def _refused(message: str, hint: str = "") -> Failure:
    return Failure(f"sampan: {message}", hint, 125)


def _devices(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    named = [text for text in options["device"] if split(text)]
    host["Devices"] = [_device(text) for text in options["device"] if not split(text)]
    host["DeviceRequests"] = [*options["gpus"], *([{"Driver": "cdi", "DeviceIDs": named}] if named else [])]


def _device(text: str) -> Json:
    """Read `/dev/x`, `/dev/x:/dev/y`, `/dev/x:rw` or `/dev/x:/dev/y:r`."""
    parts = text.split(":")
    if not text or len(parts) > 3:
        raise _refused(f"bad format for path: {text}", "write it as HOST[:CONTAINER[:rwm]]")
    source, target, access = parts[0], parts[0], _ACCESS
    if len(parts) == 2 and _is_access(parts[1]):
        access = parts[1]
    elif len(parts) > 1:
        target = parts[1]
    if len(parts) == 3:
        access = parts[2]
        if not _is_access(access):
            raise _refused(f"bad mode specified: {access}", "r, w and m: read, write, mknod")
    for path in (source, target):
        if not os.path.isabs(path):
            raise _refused(f"{path} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access}


def _is_access(text: str) -> bool:
    return 0 < len(text) <= len(_ACCESS) and all(c in _ACCESS for c in text) and len(set(text)) == len(text)


def _annotations(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {}).update(options["annotation"])


def annotate_mount(host: Json, target: str, *, idmap: str, chown: bool, writable: bool) -> None:
    """Say of a mount what the API has no field for."""
    annotations = host.setdefault("Annotations", {})
    if idmap:
        annotations[IDMAP + target] = idmap
    if chown:
        annotations[CHOWN + target] = "true"
    if writable:
        annotations[WRITABLE + target] = "true"


def _dns_options(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["DnsOptions"] = options["dns-option"]


def _swappiness(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    value = options["memory-swappiness"]
    if not -1 <= value <= 100:
        raise _refused(f"invalid value: {value}. Valid memory swappiness range is 0-100")
    if value >= 0:
        host["MemorySwappiness"] = value


def _userns(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    name = options["userns"].partition(":")[0]
    if name not in ("", "host", "remap", "nomap", "auto", "keep-id", "private", "container"):
        raise _refused("--userns: invalid USER mode", "host, remap, nomap, auto, keep-id, private or container:NAME")
    host["UsernsMode"] = options["userns"]
    if name == "keep-id":
        host.setdefault("Annotations", {})[OWN_IDS] = f"{os.getuid()}:{os.getgid()}"


def _id_maps(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    given = host.setdefault("Annotations", {})
    for flag, name in (("uidmap", UIDMAP), ("gidmap", GIDMAP)):
        if options[flag]:
            given[name] = ",".join(options[flag])
    for flag, name in (("subuidname", SUBUIDNAME), ("subgidname", SUBGIDNAME)):
        if options[flag]:
            given[name] = options[flag]


def _accounts(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    given = host.setdefault("Annotations", {})
    if options["hostuser"]:
        given[HOSTUSERS] = ",".join(options["hostuser"])
    for flag, name in (("passwd-entry", PASSWD_ENTRY), ("group-entry", GROUP_ENTRY)):
        if options[flag]:
            given[name] = options[flag]


def _cgroup_conf(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    given = host.setdefault("Annotations", {})
    for text in options["cgroup-conf"]:
        file, equals, value = text.partition("=")
        if not equals:
            raise _refused(f"invalid argument {text!r} for --cgroup-conf", "write it as FILE=TEXT: cpu.idle=1")
        given[f"{CGROUP_CONF}{file}"] = value


def _restart(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    policy = restart_policy(options["restart"])
    if policy["Name"] not in ("", "no") and options["rm"]:
        raise _refused("conflicting options: cannot specify both --restart and --rm")
    host["RestartPolicy"] = policy


def restart_policy(text: str) -> Json:
    """Read `no`, `always`, `unless-stopped` or `on-failure[:N]`, in the API's form."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise _refused("invalid restart policy format: no policy provided before colon")
    if colon and not count.removeprefix("-").isdigit():
        raise _refused("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _block_io(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    for flag, field in _BLOCK_IO.items():
        host[field] = options[flag]


_BLOCK_IO = {
    "device-read-bps": "BlkioDeviceReadBps",
    "device-read-iops": "BlkioDeviceReadIOps",
    "device-write-bps": "BlkioDeviceWriteBps",
    "device-write-iops": "BlkioDeviceWriteIOps",
    "blkio-weight-device": "BlkioWeightDevice",
}


def _log(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    driver, settings = options["log-driver"], dict(options["log-opt"])
    if driver == "none" and settings:
        raise _refused("invalid logging opts for driver none")
    host["LogConfig"] = {"Type": driver, "Config": settings}


def _health(options: Options, body: Json, host: Json) -> None:
    from sampan.cli.body_health import fill

    fill(options, body, host)


def _umask(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[UMASK] = options["umask"]


def _unsetenv_all(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[UNSETENV_ALL] = "true" if options["unsetenv-all"] else "false"


def _timeout(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[TIMEOUT] = str(options["timeout"])


def _requires(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[REQUIRES] = ",".join(options["requires"])


def _chroot_dirs(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[CHROOT_DIRS] = ",".join(options["chrootdirs"])


def _rdt_class(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[RDT_CLASS] = options["rdt-class"]


def _systemd(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[SYSTEMD] = options["systemd"]


def _storage(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["StorageOpt"] = dict(options["storage-opt"])


def _image_volume(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host.setdefault("Annotations", {})[IMAGE_VOLUME] = options["image-volume"]


_TEMPORARY = ("/run", "/tmp", "/var/tmp")  # in the container
_READ_WRITE = "rw,exec,nosuid,nodev,tmpcopyup"


def _read_only_tmpfs(options: Options, body: Json, host: Json) -> None:
    """Give it what Podman gives with --read-only, where nothing else is asked for."""
    if not options["read-only-tmpfs"]:
        return
    if not options["read-only"]:
        raise _refused("--read-only-tmpfs is for --read-only")
    taken = {bind.split(":")[1] for bind in host.get("Binds", ())} | set(body.get("Volumes", ()))
    taken |= {mount["Target"] for mount in host.get("Mounts", ())}
    for place in _TEMPORARY:
        if place not in taken:
            host.setdefault("Tmpfs", {}).setdefault(place, _READ_WRITE)


def _rootfs(options: Options, body: Json, host: Json) -> None:
    if options["rootfs"]:
        if options["pull"] in ("always", "newer") or "platform" in options:
            raise _refused("--pull and --platform mean nothing with --rootfs", "a directory is there as it is")
        path = body["Image"].removesuffix(":O")
        host.setdefault("Annotations", {})[ROOTFS] = os.path.abspath(path) + body["Image"][len(path) :]
        body["Image"] = ""


def _secrets(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    for text in options["secret"]:
        if not text or "\n" in text:
            raise _refused(f"invalid argument {text!r} for --secret", "name one that `sampan secret ls` lists")
    host.setdefault("Annotations", {})[SECRETS] = "\n".join(options["secret"])


def _timezone(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    name = options["tz"]
    path = f"{_ZONES}/{name}" if name != "local" else "/etc/localtime"
    if name.startswith("/") or ".." in name.split("/") or not os.path.isfile(path):
        raise _refused(f"unknown time zone {name}", f"there are those of {_ZONES}, and local")
    mount = {"Type": "bind", "Source": os.path.realpath(path), "Target": "/etc/localtime", "ReadOnly": True}
    host.setdefault("Mounts", []).append(mount)


_ZONES = "/usr/share/zoneinfo"


HEALTH = (
    "health-cmd",
    "health-interval",
    "health-log-destination",
    "health-max-log-count",
    "health-max-log-size",
    "health-on-failure",
    "health-retries",
    "health-start-interval",
    "health-start-period",
    "health-startup-cmd",
    "health-startup-interval",
    "health-startup-retries",
    "health-startup-success",
    "health-startup-timeout",
    "health-timeout",
    "no-healthcheck",
)
RARE = {
    **dict.fromkeys(("device", "gpus"), _devices),
    "annotation": _annotations,
    "dns-option": _dns_options,
    "memory-swappiness": _swappiness,
    "restart": _restart,
    "cgroup-conf": _cgroup_conf,
    "chrootdirs": _chroot_dirs,
    "rdt-class": _rdt_class,
    **dict.fromkeys(("hostuser", "passwd-entry", "group-entry"), _accounts),
    "rootfs": _rootfs,
    "secret": _secrets,
    "image-volume": _image_volume,
    "storage-opt": _storage,
    "systemd": _systemd,
    "read-only-tmpfs": _read_only_tmpfs,
    "requires": _requires,
    "timeout": _timeout,
    "tz": _timezone,
    "umask": _umask,
    "unsetenv-all": _unsetenv_all,
    **dict.fromkeys(_BLOCK_IO, _block_io),
    "userns": _userns,
    **dict.fromkeys(("uidmap", "gidmap", "subuidname", "subgidname"), _id_maps),
    "log-driver": _log,
    "log-opt": _log,
    **dict.fromkeys(HEALTH, _health),
}
"""Flag to what puts it into the body."""
