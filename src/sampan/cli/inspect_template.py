"""A template of what `inspect` finds, with Docker's zero values where the JSON has nothing."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.template import TemplateError
from sampan.cli.template_values import NilList, NilMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.template import Template

ZERO: dict[str, Any] = {
    **dict.fromkeys(
        (
            "Aliases", "Args", "Binds", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps",
            "BlkioDeviceWriteIOps", "BlkioWeightDevice", "CapAdd", "CapDrop", "Cmd", "DNSNames", "DeviceCgroupRules",
            "DeviceRequests", "Devices", "Dns", "DnsOptions", "DnsSearch", "Entrypoint", "Env", "ExecIDs", "ExtraHosts",
            "GroupAdd", "Links", "MaskedPaths", "Mounts", "OnBuild", "ReadonlyPaths", "RepoDigests", "RepoTags",
            "SecondaryIPAddresses", "SecondaryIPv6Addresses", "SecurityOpt", "Shell", "Ulimits", "VolumesFrom",
        ),
        NilList(),
    ),
    **dict.fromkeys(
        (
            "Annotations", "AuxiliaryAddresses", "DriverOpts", "ExposedPorts", "Labels", "Options", "PortBindings",
            "StorageOpt", "Sysctls", "Tmpfs", "Volumes",
        ),
        NilMap(),
    ),
    **dict.fromkeys(
        (
            "Health", "Healthcheck", "Init", "OomKillDisable", "PidsLimit", "SizeRootFs", "SizeRw", "StopTimeout",
            "UsageData",
        )
    ),
    **dict.fromkeys(("IPRange", "StopSignal", "User", "WorkingDir"), ""),
    **dict.fromkeys(("ArgsEscaped", "NetworkDisabled"), False),
}  # fmt: skip
"""What Docker's types hold where the JSON has nothing: a template may ask for it."""


def executed(template: Template, value: Any) -> str:
    """Return what a template makes of one object."""
    try:
        return template.execute(value, zero=ZERO)
    except TemplateError as e:
        raise Failure(f"template parsing error: {e}", "--format json shows every field") from None
