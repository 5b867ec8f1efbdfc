"""`inspect` of one or several kinds of objects: JSON as Docker prints it, or a template of each."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.output import warn, write
from sampan.cli.template_values import NilList, NilMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

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
            "Annotations", "ExposedPorts", "Labels", "PortBindings", "StorageOpt", "Sysctls", "Tmpfs", "Volumes",
        ),
        NilMap(),
    ),
    **dict.fromkeys(
        ("Health", "Healthcheck", "Init", "OomKillDisable", "PidsLimit", "SizeRootFs", "SizeRw", "StopTimeout")
    ),
    "StopSignal": "",
}  # fmt: skip
"""What Docker's types hold where the JSON has nothing: a template may ask for it."""


def show_all(names: Sequence[str], get: Callable[[str], Any], format: str) -> int:
    """Print what `get` finds for each name; say what it does not find; 1 if something was not found."""
    template = _template(format)
    found, status = [], 0
    problems: list[Failure] = []
    for name in names:
        try:
            found.append(get(name))
        except Failure as e:
            problems.append(e)
            status = 1
    if template is None:
        from sampan.client.jsontext import dumps

        text = dumps(found) if format == "json" else _indented(found)
        write(f"{text}\n")
    else:
        _show_templated(template, found)
    for problem in problems:
        warn(problem.message + (f"\n  hint: {problem.hint}" if problem.hint else ""))
    return status


def _template(format: str) -> Any:
    if format in ("", "json"):
        return None
    from sampan.cli.template import Template, TemplateError

    try:
        return Template(format.replace("\\t", "\t").replace("\\n", "\n"))
    except TemplateError as e:
        raise Failure(f"template parsing error: {e}") from None


def _show_templated(template: Any, found: list[Any]) -> None:
    from sampan.cli.template import TemplateError

    for value in found:
        try:
            text = template.execute(value, zero=ZERO)
        except TemplateError as e:
            raise Failure(f"template parsing error: {e}", "--format json shows every field") from None
        write(f"{text}\n")


def _indented(value: Any) -> str:
    import json

    return json.dumps(value, indent=4, ensure_ascii=False)
