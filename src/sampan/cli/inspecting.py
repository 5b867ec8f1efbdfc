"""`inspect` of one or several kinds of objects: JSON as Docker prints it, or a template of each."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.output import warn, write
from sampan.cli.template_values import NilList, NilMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sampan.cli.template import Template

ZERO: dict[str, Any] = {
    **dict.fromkeys(
        (
            "Args", "Binds", "CapAdd", "CapDrop", "Cmd", "DeviceCgroupRules", "DeviceRequests", "Devices", "Dns",
            "DnsOptions", "DnsSearch", "Entrypoint", "Env", "ExecIDs", "ExtraHosts", "GroupAdd", "Links", "MaskedPaths",
            "Mounts", "OnBuild", "ReadonlyPaths", "RepoDigests", "RepoTags", "SecurityOpt", "Shell", "Ulimits",
            "VolumesFrom",
        ),
        NilList(),
    ),
    **dict.fromkeys(
        (
            "Annotations", "AuxiliaryAddresses", "ExposedPorts", "Labels", "PortBindings", "StorageOpt", "Sysctls",
            "Tmpfs", "Volumes",
        ),
        NilMap(),
    ),
    **dict.fromkeys(
        ("Health", "Healthcheck", "Init", "OomKillDisable", "PidsLimit", "SizeRootFs", "SizeRw", "StopTimeout")
    ),
    "IPRange": "",
    "StopSignal": "",
}  # fmt: skip
"""What Docker's types hold where the JSON has nothing: a template may ask for it."""


def show_all(names: Sequence[str], get: Callable[[str], Any], format: str) -> int:
    """Print what `get` finds for each name; say what it does not find; 1 if something was not found."""
    template = None
    if format not in ("", "json"):
        from sampan.cli.templated import parsed

        template = parsed(format)
    found: list[Any] = []
    problems: list[Failure] = []
    for name in names:
        try:
            found.append(get(name) if template is None else executed(template, get(name)))
        except Failure as e:
            problems.append(e)
    if template:
        write("\n".join([*found, ""]) or "\n")  # nothing found is an empty line in Docker's client
    elif format:
        from sampan.client.jsontext import dumps

        write(f"{dumps(found)}\n")
    else:
        write(f"{_indented(found)}\n")
    for problem in problems:
        warn(problem.message + (f"\n  hint: {problem.hint}" if problem.hint else ""))
    return 1 if problems else 0


def executed(template: Template, value: Any) -> str:
    """Return what a template makes of one object."""
    from sampan.cli.template import TemplateError

    try:
        return template.execute(value, zero=ZERO)
    except TemplateError as e:
        raise Failure(f"template parsing error: {e}", "--format json shows every field") from None


def _indented(value: Any) -> str:
    import json

    return json.dumps(value, indent=4, ensure_ascii=False)
