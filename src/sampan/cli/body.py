"""From the flags of `run` and `create` to the API's body, exactly as Docker's client maps them.

Rows of cli/options with an `api` are copied to the field that it names; what takes more than that is here. The body
holds what was given and what Docker's client always states; the server takes Docker's default for all else.
"""

from __future__ import annotations

import os

from sampan.cli.failure import Failure, quoted
from sampan.cli.options import RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.flags import Options

    Json = dict[str, Any]


def body_of(options: Options, image: str, command: list[str]) -> Json:
    """Return the body of POST /containers/create. Raises Failure (125) where values don't go together."""
    host: Json = {"NetworkMode": "default", "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}
    body: Json = {"Image": image, "Cmd": command or None, "HostConfig": host}
    _streams(options, body)
    given = options.given
    for flag in RUN:
        if flag.api and flag.name in given:
            where, _, field = flag.api.rpartition(".")
            (host if where else body)[field] = options[flag.name]
    for name, fill in _FILLERS:
        if name in given:
            fill(options, body, host)
    if not given.isdisjoint(_NETWORK):
        from sampan.cli.body_network import join_networks

        join_networks(options, body, host)
    if not given.isdisjoint(_RARE):
        from sampan.cli.body_rare import RARE

        for name in given:
            if name in RARE:
                RARE[name](options, body, host)
    return body


def _streams(options: Options, body: Json) -> None:
    attach = options["attach"]
    body["AttachStdin"] = options["interactive"] or "stdin" in attach
    body["AttachStdout"] = not attach or "stdout" in attach
    body["AttachStderr"] = not attach or "stderr" in attach
    if options.values.get("detach"):
        if attach:
            raise Failure("conflicting options: cannot specify both --attach and --detach")
        body["AttachStdin"] = body["AttachStdout"] = body["AttachStderr"] = False
    if options["interactive"]:
        body["OpenStdin"] = True
        body["StdinOnce"] = body["AttachStdin"]


def _refused(message: str, hint: str = "") -> Failure:
    return Failure(f"sampan: {message}", hint, 125)


def _volumes(options: Options, body: Json, host: Json) -> None:
    for spec in dict.fromkeys(options["volume"]):  # one that is given twice counts once
        source, target = _volume(spec)
        if source:
            host.setdefault("Binds", []).append(f"{source}:{target}")
        else:
            body.setdefault("Volumes", {})[target] = {}


def _volume(spec: str) -> tuple[str, str]:
    """Split `SOURCE:TARGET[:OPTIONS]`; no source: an anonymous volume."""
    parts = spec.split(":")
    if not spec:
        raise _refused("invalid empty volume spec")
    drive = any(len(part) == 1 and part.isalpha() for part in parts[:-1])  # `a:` of Windows
    if len(parts) > 3 and not drive:
        raise _refused(f"invalid spec: {spec}: too many colons")
    if "" in parts and not drive:
        raise _refused(f"invalid spec: {spec}: empty section between colons")
    if len(parts) == 1:
        return "", spec
    source, _, target = spec.partition(":")
    return (os.path.abspath(source) if source[0] == "." else source), target


def _mounts(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["Mounts"] = options["mount"]
    for mount in options["mount"]:
        idmap, chown, writable = mount.pop("IDMap", ""), mount.pop("Chown", False), mount.pop("Writable", False)
        if idmap or chown or writable:
            from sampan.cli.body_rare import annotate_mount

            annotate_mount(host, mount["Target"], idmap=idmap, chown=chown, writable=writable)


def _tmpfs(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["Tmpfs"] = {target: rest for target, _, rest in (spec.partition(":") for spec in options["tmpfs"])}


def _entrypoint(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    body["Entrypoint"] = [options["entrypoint"]]


def _environment(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    body["Env"] = environment(options)


def environment(options: Options) -> list[str]:
    """Return the variables of --env-file and --env, which come last and so win."""
    variables: list[str] = []
    if options.values.get("http-proxy"):
        from sampan.cli.proxies import of_environment

        variables += of_environment()
    if options.values.get("env-host"):
        variables += [f"{name}={value}" for name, value in os.environ.items()]
    variables += options.values.get("unsetenv") or []  # a name alone takes the image's away
    if options["env-file"]:
        from sampan.cli.envfile import read_environment

        for path in options["env-file"]:
            variables += read_environment(path)
    return variables + [with_own_value(variable) for variable in options["env"]]


def with_own_value(variable: str) -> str:
    """Return `NAME=value` for a name that this process has a value of; a name alone unsets it in the container."""
    if "=" in variable or variable not in os.environ:
        return variable
    return f"{variable}={os.environ[variable]}"


def _labels(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    labels: dict[str, str] = {}
    if options["label-file"]:
        from sampan.cli.envfile import read_labels

        for path in options["label-file"]:
            labels.update(read_labels(path))
    labels.update(options["label"])
    body["Labels"] = labels


def _init(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["Init"] = options["init"]


def _stop_timeout(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    body["StopTimeout"] = options["stop-timeout"]


def _pid(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["PidMode"] = _mode(options["pid"], "pid", "PID", ("host",))


def _uts(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["UTSMode"] = _mode(options["uts"], "uts", "UTS", ("host",))


def _cgroupns(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["CgroupnsMode"] = _mode(options["cgroupns"], "cgroupns", "CGROUP", ("host", "private"))


def _mode(value: str, flag: str, name: str, words: tuple[str, ...]) -> str:
    kind, colon, container = value.partition(":")
    if value and value not in words and not (kind == "container" and colon and container):
        raise _refused(f"--{flag}: invalid {name} mode", f"it takes {', '.join(words)} or container:NAME")
    return value


def _security(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    kept = []
    for option in options["security-opt"]:
        name, separator, value = option.partition("=")
        if not separator and name != "no-new-privileges":
            name, separator, value = option.partition(":")
        unknown = name == "systempaths" and value != "unconfined"
        if unknown or (not value and name != "no-new-privileges"):
            raise _refused(f"Invalid --security-opt: {quoted(option)}", "write it as NAME=VALUE: seccomp=unconfined")
        if name == "systempaths":
            host["MaskedPaths"] = host["ReadonlyPaths"] = []
        elif name == "seccomp" and value not in ("builtin", "unconfined"):
            kept.append(f"seccomp={_profile(value)}")
        else:
            kept.append(option)
    host["SecurityOpt"] = kept or None


def _profile(path: str) -> str:
    """Return the JSON text of a seccomp profile, without its white space: the server may not see our files."""
    from sampan.client.jsontext import dumps, loads

    try:
        with open(path, "rb") as f:
            return dumps(loads(f.read()))
    except OSError as e:
        cause = f"open {path}: {(e.strerror or '').lower()}"
        raise _refused(f"opening seccomp profile ({path}) failed: {cause}") from None
    except ValueError:
        raise _refused(f"compacting json for seccomp profile ({path}) failed: it is not JSON") from None


def _sysctls(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["Sysctls"] = dict(options["sysctl"])


def _ulimits(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    by_name = {limit["Name"]: limit for limit in options["ulimit"]}
    host["Ulimits"] = [by_name[name] for name in sorted(by_name)]


def _ports(options: Options, body: Json, host: Json) -> None:
    from sampan.cli.body_ports import fill

    fill(options, body, host)


def _capabilities(options: Options, body: Json, host: Json) -> None:  # noqa: ARG001
    host["CapAdd"] = _named(options["cap-add"]) or None
    host["CapDrop"] = _named(options["cap-drop"]) or None


def _named(given: list[str]) -> list[str]:
    """Return capabilities by their whole names, each once: docker/cli, opts/capabilities.go."""
    upper = (name.upper() for name in given)
    return list(dict.fromkeys(n if n == "ALL" or n.startswith("CAP_") else f"CAP_{n}" for n in upper))


_NETWORK = ("network", "network-alias", "ip", "ip6", "link-local-ip", "mac-address", "link")
_RARE = (
    "annotation",
    "blkio-weight-device",
    "cgroup-conf",
    "chrootdirs",
    "device",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "dns-option",
    "gidmap",
    "gpus",
    "group-entry",
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
    "hostuser",
    "log-driver",
    "log-opt",
    "memory-swappiness",
    "no-healthcheck",
    "passwd-entry",
    "rdt-class",
    "requires",
    "systemd",
    "restart",
    "rootfs",
    "secret",
    "image-volume",
    "storage-opt",
    "read-only-tmpfs",
    "timeout",
    "tz",
    "subgidname",
    "subuidname",
    "uidmap",
    "umask",
    "unsetenv-all",
    "userns",
)
_FILLERS = (
    ("cap-add", _capabilities),
    ("cap-drop", _capabilities),
    ("volume", _volumes),
    ("mount", _mounts),
    ("tmpfs", _tmpfs),
    ("entrypoint", _entrypoint),
    ("env", _environment),
    ("env-file", _environment),
    ("env-host", _environment),
    ("http-proxy", _environment),
    ("unsetenv", _environment),
    ("label", _labels),
    ("label-file", _labels),
    ("init", _init),
    ("stop-timeout", _stop_timeout),
    ("pid", _pid),
    ("uts", _uts),
    ("cgroupns", _cgroupns),
    ("security-opt", _security),
    ("sysctl", _sysctls),
    ("ulimit", _ulimits),
    ("publish", _ports),
    ("publish-all", _ports),
    ("expose", _ports),
)
