"""`sampan inspect`: everything that the engine knows of containers and images."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import container
from sampan.cli.failure import Failure, Unavailable, UsageError, quoted
from sampan.cli.flags import Flag
from sampan.cli.inspecting import show_all
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
    Flag("creds", "string", "Credentials for the registry: USER:PASSWORD"),
    Flag("no-tags", "bool", "Don't ask the registry for all tags", short="n"),
    Flag("platform", "string", "Of an index at a registry choose this one: OS[/ARCH[/VARIANT]]"),
    Flag("raw", "bool", "Show the manifest of an image at its registry as it is, or with --config the configuration"),
)

_LATER = ("network", "volume", "plugin", "node", "service", "secret", "config", "task")


def inspect(call: Call) -> int:
    """Print containers and images by name or id; a container comes before an image of the same name."""
    kind = call.options["type"]
    if any(map(is_place, call.arguments)):
        from sampan.cli.remote import inspect_place

        return inspect_place(call)
    for flag in REMOTE_FLAGS:
        if flag.name in call.options:
            raise UsageError(f"--{flag.name} is for an image at its registry", "name it as docker://NAME")
    if kind in _LATER:
        raise Unavailable(f"--type {kind} is unsupported", "there are container and image")
    if kind not in ("", "container", "image"):
        known = ", ".join(quoted(word) for word in sorted((*_LATER, "container", "image")))
        raise Failure(f"unknown type: {quoted(kind)}: must be one of {known}")

    def get(name: str) -> Any:
        for wanted, read in (("container", get_container), ("image", get_image)):
            if kind == wanted:
                return read(call, name)
            if not kind:
                try:
                    return read(call, name)
                except ServerError as e:
                    if e.http_status != 404:
                        raise
        raise Failure(f"Error: No such object: {name}")

    return show_all(call.arguments, get, call.options["format"])


def get_container(call: Call, name: str) -> Any:
    """Return one container's document."""
    size = query(size=call.options.values.get("size"))
    return call.session.ask("GET", container(name, f"/json{size}")).json()


def get_image(call: Call, name: str, platform: str = "") -> Any:
    """Return one image's document; `platform` is OCI's JSON of it."""
    return call.session.ask("GET", f"/images/{quote(name)}/json{query(platform=platform)}").json()


COMMAND = Command(
    "inspect [OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on containers and images, or of images elsewhere: docker://NAME",
    inspect,
    flags=(FORMAT, SIZE, *REMOTE_FLAGS, Flag("type", "string", "Only objects of this type: container or image")),
    arguments=(1, None),
)
