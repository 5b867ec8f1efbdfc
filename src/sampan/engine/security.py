"""What a container may do: capabilities, `--security-opt`, default devices, masked paths. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sampan.errors import InvalidInput, NotPermitted, Unsupported
from sampan.spec.decoding import convert
from sampan.spec.defaults import devices, paths
from sampan.spec.defaults.capabilities import ALL, DEFAULT
from sampan.spec.runtime import Capabilities, DeviceRule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.docker import HostConfig
    from sampan.spec.host import Host

MASKED_PATHS = paths.MASKED
READONLY_PATHS = paths.READONLY
_LABELS = ("user:", "role:", "type:", "level:", "filetype:", "nested")
_ALL_DEVICES = DeviceRule(allow=True, type="a", access="rwm")
_DEVICE_RULES = tuple(
    DeviceRule(allow=rule.allow, type=rule.type, major=rule.major, minor=rule.minor, access=rule.access)
    for rule in devices.RULES
)


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """What `--security-opt` says. `seccomp` is "default", "unconfined" or a profile's JSON."""

    seccomp: str = "default"
    no_new_privileges: bool = False
    apparmor: str = ""
    labels: tuple[str, ...] = ()  # of SELinux

    @property
    def label_disabled(self) -> bool:
        """Whether the user gives the label up."""
        return "disable" in self.labels


def parse(options: Iterable[str]) -> Security:
    """Read `--security-opt` values as the client sends them: a seccomp profile's content is in the value."""
    found: dict[str, Any] = {}
    for option in options:
        # "name:value" is the older form; a profile's JSON has colons of its own
        name, separator, value = option.partition("=") if "=" in option else option.partition(":")
        if name == "seccomp" and separator:
            found["seccomp"] = "default" if value in ("builtin", "default", "") else value
        elif name == "no-new-privileges" and value in ("", "true", "false"):
            found["no_new_privileges"] = value != "false"
        elif name == "apparmor" and value:
            found["apparmor"] = value
        elif name == "label" and (value == "disable" or value.startswith(_LABELS)):
            found["labels"] = (*found.get("labels", ()), value)
        elif name == "systempaths":
            raise InvalidInput(
                f'invalid --security-opt 2: "{option}"', "the client's systempaths=unconfined is empty MaskedPaths"
            )
        else:
            raise InvalidInput(f'invalid --security-opt 2: "{option}"')
    return convert(found, Security)


def seccomp_of(security: Security, host_config: HostConfig) -> str:
    """Return "default", "unconfined" or a profile: a privileged container has none unless it names one."""
    if security.seccomp == "default" and host_config.privileged:
        return "unconfined"
    return security.seccomp


def apparmor_of(security: Security, host_config: HostConfig, host: Host, loaded: str) -> str:
    """Return the AppArmor profile, "" for none. `loaded` is the default profile if the kernel has it.

    A host that confines programs is never left out silently: without a profile to name, it is refused.
    """
    if not host.apparmor:
        if security.apparmor not in ("", "unconfined"):
            raise InvalidInput(f"can't use apparmor profile {security.apparmor}: this kernel runs without AppArmor")
        return ""
    if security.apparmor == "unconfined" or (host_config.privileged and not security.apparmor):
        return ""
    profile = security.apparmor or loaded
    if not profile:
        raise Unsupported(
            "can't confine the container with AppArmor, which this host enforces: no default profile is loaded",
            "install the package apparmor and restart sampan, or run it with --security-opt apparmor=unconfined",
        )
    return profile


def check_label(security: Security, host_config: HostConfig, host: Host) -> None:
    """Refuse a host that enforces SELinux unless the user gives the label up."""
    if host.selinux and not security.label_disabled and not host_config.privileged:
        raise Unsupported(
            "can't label the container for SELinux, which this host enforces: labels are not built yet",
            "run it without a label: --security-opt label=disable",
        )


def _capability(text: str, field: str) -> str:
    name = text.upper()
    if name == "ALL":
        return name
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in ALL:
        raise InvalidInput(f'invalid {field}: unknown capability: "{name}"', "capabilities(7) names them")
    return name


def capabilities(host_config: HostConfig, host: Host) -> Capabilities:
    """Return the five sets: Docker's default with `--cap-add` and `--cap-drop`, or all of them.

    "All" are those that this process may give. The inheritable and ambient sets are empty, CVE-2022-24769.
    """
    add = [_capability(text, "CapAdd") for text in host_config.cap_add or ()]
    drop = [_capability(text, "CapDrop") for text in host_config.cap_drop or ()]
    given = host.capabilities or frozenset(ALL)
    for name in add:
        if name != "ALL" and name not in given and name not in drop:
            raise NotPermitted(f"can't give {name}: sampan itself does not have it", "leave it out of --cap-add")
    if host_config.privileged:
        wanted = set(ALL)
    elif "ALL" in add:
        wanted = set(ALL) - set(drop)
    elif "ALL" in drop:
        wanted = set(add)
    else:
        wanted = (set(DEFAULT) | set(add)) - set(drop)
    names = tuple(name for name in ALL if name in wanted and name in given)
    return Capabilities(bounding=names, effective=names, permitted=names)


def every_capability(host: Host) -> Capabilities:
    """Return all that this process may give: for `exec --privileged`."""
    names = tuple(name for name in ALL if not host.capabilities or name in host.capabilities)
    return Capabilities(bounding=names, effective=names, permitted=names)


def device_rules(host_config: HostConfig, added: Iterable[DeviceRule]) -> tuple[DeviceRule, ...]:
    """Return the device control group's rules, in order: later ones win."""
    if host_config.privileged:
        return (_ALL_DEVICES,)
    return (*_DEVICE_RULES, *added, *(parse_device_rule(text) for text in host_config.device_cgroup_rules or ()))


def parse_device_rule(text: str) -> DeviceRule:
    """Read `--device-cgroup-rule`: "c 1:3 rwm", "b 8:* r", "a *:* rwm"."""
    words = text.split()
    numbers = words[1].split(":") if len(words) == 3 else []
    good = (
        len(numbers) == 2
        and words[0] in ("a", "b", "c")
        and all(n == "*" or (n.isascii() and n.isdigit() and len(n) < 10) for n in numbers)
        and 0 < len(words[2]) <= 3
        and set(words[2]) <= set("rwm")
    )
    if not good:
        raise InvalidInput(f"invalid device cgroup rule format: '{text}'", "write it as 'c 1:3 rwm'")
    major, minor = (None if n == "*" else int(n) for n in numbers)
    return DeviceRule(allow=True, type=words[0], major=major, minor=minor, access=words[2])
