"""`sampan inspect`: everything that the engine knows of containers, images, networks and volumes."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import LATEST, container, network, secret, volume
from sampan.cli.failure import Failure, Unavailable, UsageError, quoted
from sampan.cli.flags import Flag
from sampan.cli.inspecting import show_all
from sampan.cli.output import warn
from sampan.cli.places import is_place
from sampan.cli.session import ServerError
from sampan.client.wire import query, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = Flag("format", "string", "json or a Go template", short="f")
SIZE = Flag("size", "bool", "Show sizes of containers", short="s")

REMOTE_FLAGS = (
    Flag("config", "bool", "Show the configuration of an image at its registry"),
    Flag("creds", "string", "Credentials for the registry: USER[:PASSWORD]"),
    Flag("no-tags", "bool", "Don't ask the registry for all tags", short="n"),
    Flag("platform", "string", "Of an index at a registry choose this one: OS[/ARCH[/VARIANT]]"),
    Flag("raw", "bool", "Show the manifest of an image at its registry as it is, or with --config the configuration"),
)

_KINDS = ("container", "image", "network", "volume", "secret")
_LATER = ("plugin", "node", "service", "config", "task")


def inspect(call: Call) -> int:
    """Print objects by name or id: of the same name the container first, then the others in the order of _KINDS."""
    kind = call.options["type"]
    if any(map(is_place, call.arguments)):
        from sampan.cli.remote import inspect_place

        return inspect_place(call)
    for flag in REMOTE_FLAGS:
        if flag.name in call.options:
            raise UsageError(f"--{flag.name} is for an image at its registry", "name it as docker://NAME")
    if kind in _LATER:
        raise Unavailable(f"--type {kind} is unsupported", f"there are {', '.join(_KINDS)}")
    if kind and kind not in _KINDS:
        known = ", ".join(quoted(word) for word in sorted((*_LATER, *_KINDS)))
        raise Failure(f"unknown type: {quoted(kind)}: must be one of {known}")

    def get(name: str) -> Any:
        for wanted, read in zip(_KINDS, (get_container, get_image, get_network, get_volume, get_secret), strict=True):
            if kind and kind != wanted:
                continue
            try:
                found = read(call, name)
            except ServerError as e:
                if kind or e.http_status != 404:
                    raise
                continue
            if call.options["size"] and wanted != "container":
                warn(f"WARNING: --size ignored for {wanted}")
            return found
        raise Failure(f"Error: No such object: {name}")

    return show_all(call.arguments, get, call.options["format"])


def get_container(call: Call, name: str) -> Any:
    """Return one container's document."""
    size = query(size=call.options.values.get("size"))
    return call.session.ask("GET", container(name, f"/json{size}")).json()


def get_image(call: Call, name: str, platform: str = "") -> Any:
    """Return one image's document; `platform` is OCI's JSON of it."""
    return call.session.ask("GET", f"/images/{quote(name)}/json{query(platform=platform)}").json()


def get_network(call: Call, name: str, parameters: str = "") -> Any:
    """Return one network's document."""
    return call.session.ask("GET", network(name, parameters)).json()


def get_volume(call: Call, name: str) -> Any:
    """Return one volume's document."""
    return call.session.ask("GET", volume(name)).json()


def get_secret(call: Call, name: str) -> Any:
    """Return one secret's document, its data as text if it is asked for."""
    show = call.options.values.get("showsecret")
    found = call.session.ask("GET", secret(name, query(showsecret=show))).json()
    if "SecretData" in found:
        from binascii import a2b_base64

        found["SecretData"] = a2b_base64(found["SecretData"]).decode(errors="surrogateescape")
    return found


COMMAND = Command(
    "inspect [OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on containers, images, networks, volumes and secrets, or of images elsewhere: docker://NAME",
    inspect,
    flags=(
        FORMAT,
        SIZE,
        *REMOTE_FLAGS,
        Flag("type", "string", "Only objects of this type: container, image, network, volume or secret"),
        LATEST,
    ),
    arguments=(1, None),
    choosers=("latest",),
)
