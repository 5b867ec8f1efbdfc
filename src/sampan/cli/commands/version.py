"""`sampan version`: of the client, and of the engine."""

from __future__ import annotations

import os
import sys

from sampan import __version__
from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.cli.templated import parsed, show_one
from sampan.client.wire import API_VERSION
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def version(call: Call) -> int:
    """Print both; 1 if the engine can't be asked."""
    template = parsed(call.options["format"]) if call.options["format"] else None
    server: dict[str, Any] | None = None
    problem: Exception | None = None
    try:
        server = call.session.ask("GET", "/version").json()
    except (Failure, SampanError) as e:
        problem = e
    client = _client(call.session.prefix.removeprefix("/v") or API_VERSION)
    if template:
        show_one({"Client": client, "Server": server}, template)
    else:
        say(_client_text(client) + (_server_text(server) if server else ""))
    if problem:
        raise problem
    return 0


def _client(api: str) -> dict[str, Any]:
    machine = os.uname()
    return {
        "Version": __version__,
        "ApiVersion": api,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": sys.version.partition(" ")[0],
        "Os": machine.sysname.lower(),
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine),
        "Context": "default",
    }


def _client_text(client: dict[str, Any]) -> str:
    api = client["ApiVersion"]
    if api != client["DefaultAPIVersion"]:
        api += f" (downgraded from {client['DefaultAPIVersion']})"
    rows = (
        ("Version:", client["Version"]),
        ("API version:", api),
        ("Python version:", client["PythonVersion"]),
        ("OS/Arch:", f"{client['Os']}/{client['Arch']}"),
    )
    return "Client:\n" + "".join(f" {name:<18} {value}\n" for name, value in rows)


def _server_text(server: dict[str, Any]) -> str:
    text = "\nServer:"
    platform = (server.get("Platform") or {}).get("Name")
    text += f" {platform}\n" if platform else "\n"
    components = server.get("Components") or [{"Name": "Engine", "Version": server["Version"], "Details": server}]
    for component in components:
        details = component.get("Details") or {}
        text += f" {component['Name']}:\n"
        for label, value in _details(component, details):
            text += f"  {label + ':':<17} {value}\n"
    return text.rstrip("\n")


def _details(component: dict[str, Any], details: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("Version", component["Version"])]
    if details.get("ApiVersion"):
        least = details.get("MinAPIVersion")
        rows.append(("API version", details["ApiVersion"] + (f" (minimum version {least})" if least else "")))
    named = (("GoVersion", "Go version"), ("PythonVersion", "Python version"), ("GitCommit", "Git commit"))
    rows += [(label, details[key]) for key, label in named if details.get(key)]
    if details.get("BuildTime"):
        rows.append(("Built", details["BuildTime"]))
    if details.get("Os"):
        rows.append(("OS/Arch", f"{details['Os']}/{details.get('Arch', '')}"))
    if details.get("KernelVersion"):
        rows.append(("Kernel", details["KernelVersion"]))
    return rows


COMMAND = Command(
    "version [OPTIONS]",
    "Show the versions of the client and of the engine",
    version,
    flags=(Flag("format", "string", "json or a Go template", short="f"),),
)
