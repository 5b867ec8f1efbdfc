"""`sampan ps`: the list of containers."""

from __future__ import annotations

import time

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure, quoted
from sampan.cli.flags import Flag
from sampan.cli.output import warn, write
from sampan.cli.table import Listing, ellipsis, filters_of, local_time
from sampan.units import format_ago, format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Summary = dict[str, Any]

_SHORT = 12
_COMMAND = 20
_MOUNT = 15


def ps(call: Call) -> int:
    """Print the containers that run, or all."""
    options = call.options
    text = options["format"] or str(call.session.config().get("psFormat") or "")
    size = options["size"] or options["sort"] == "size" or ("size" not in options and _shows_size(text))
    limit = 1 if options["latest"] and options["last"] == -1 else options["last"]
    target = "/containers/json"
    if options["all"] or limit > 0 or size or options["filter"]:
        from sampan.client.wire import query

        target += query(
            all=options["all"],
            limit=limit if limit > 0 else None,
            size=size,
            filters=filters_of(options["filter"]) or None,
        )
    listing = listing_of(trunc=not options["no-trunc"], size=options["size"])
    if text == "raw":
        text = _RAW + ("size: {{.Size}}\n" if options["size"] else "")
    quiet = "ID" if options["quiet"] else ""
    if quiet and options["format"]:
        warn("WARNING: Ignoring custom format, because both --format and --quiet are set.")
    if not quiet and text not in ("", "table"):
        _try(listing, text)
    containers = call.session.ask("GET", target).json()
    if options["sort"]:
        containers = _sorted(containers, options["sort"])
    shown = listing.show(containers, text, quiet=quiet)
    if options["noheading"] and not quiet and (text in ("", "table") or text.startswith("table ")):
        shown = shown.partition("\n")[2]
    write(shown)
    return 0


_BLANK: Summary = {"Id": "", "Image": "", "Command": "", "Created": 0, "Status": ""}


def _try(listing: Listing, format: str) -> None:
    """Raise what is wrong with a format also where no container is listed, as Docker's client does for `ps` alone.

    A container without values has no parts of them: that is no mistake (docker/cli refuses `{{slice .ID 0 3}}` here).
    """
    try:
        listing.show([_BLANK], format)
    except Failure as e:
        if "index out of range" not in e.message:
            raise


_KEYS = {"command": "Command", "created": "Created", "runningfor": "Created", "id": "Id", "image": "Image",
         "names": "Names", "size": "SizeRw", "status": "Status"}  # fmt: skip


def _sorted(containers: list[Summary], by: str) -> list[Summary]:
    if by not in _KEYS:
        raise Failure(f"sampan: can't sort by {by}", f"there are {', '.join(sorted(_KEYS))}", 125)
    return sorted(containers, key=lambda one: (one.get(_KEYS[by]) is None, one.get(_KEYS[by])))


def _shows_size(template: str) -> bool:
    return ".Size" in template or "{{json.}}" in template.replace(" ", "")


_RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\n"
    "status: {{.Status}}\nnames: {{.Names}}\n"
    "labels:{{if .Labels}} {{end}}{{.Labels}}\nports:{{if .Ports}} {{end}}{{.Ports}}\n"
)


def listing_of(*, trunc: bool, size: bool) -> Listing:
    """Return what is shown of containers. `trunc` shortens ids, commands and mounts."""
    now = time.time()
    columns: dict[str, Callable[..., Any]] = {
        "ID": lambda c: c["Id"][:_SHORT] if trunc else c["Id"],
        "Names": lambda c: _names(c, trunc=trunc),
        "Image": lambda c: _image(c, trunc=trunc),
        "Command": lambda c: quoted(ellipsis(c["Command"], _COMMAND) if trunc else c["Command"]),
        "CreatedAt": lambda c: local_time(c["Created"]),
        "RunningFor": lambda c: f"{format_ago(now - c['Created'])} ago",
        "Ports": lambda c: ports_text(c.get("Ports") or []),
        "State": lambda c: c.get("State", ""),
        "Status": lambda c: c["Status"],
        "Size": _size,
        "Labels": lambda c: ",".join(f"{k}={v}" for k, v in sorted((c.get("Labels") or {}).items())),
        "Label": lambda c, name: (c.get("Labels") or {}).get(name, ""),
        "Mounts": lambda c: ",".join(
            ellipsis(name, _MOUNT) if trunc else name
            for name in (m.get("Name") or m.get("Source") or "" for m in c.get("Mounts") or ())
        ),
        "LocalVolumes": lambda c: str(sum(1 for m in c.get("Mounts") or () if m.get("Driver") == "local")),
        "Networks": lambda c: ",".join((c.get("NetworkSettings") or {}).get("Networks") or {}),
        "Platform": lambda c: None,  # noqa: ARG005  # said by engines of API 1.51 and later
    }
    default = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
    return Listing("formatter.ContainerContext", columns, _HEADERS, (*default, "Size") if size else default)


_HEADERS = {
    "ID": "CONTAINER ID",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "LocalVolumes": "LOCAL VOLUMES",
    **{
        name: name.upper()
        for name in (
            "Names", "Image", "Command", "Ports", "State", "Status", "Size", "Labels", "Mounts", "Networks", "Platform",
        )
    },
}  # fmt: skip


def _names(container: Summary, *, trunc: bool) -> str:
    names = [name.removeprefix("/") for name in container.get("Names") or ()]
    return ",".join(name for name in names if not trunc or "/" not in name)


def _image(container: Summary, *, trunc: bool) -> str:
    image: str = container["Image"]
    if not image:
        return "<no image>"
    id = str(container.get("ImageID", "")).removeprefix("sha256:")[:_SHORT]
    if trunc and id and image.removeprefix("sha256:")[:_SHORT] == id:
        return id
    return image.partition("@")[0] if trunc and not image.startswith("sha256:") else image


def _size(container: Summary) -> str:
    own, whole = container.get("SizeRw") or 0, container.get("SizeRootFs") or 0
    text = format_bytes(own)
    return f"{text} (virtual {format_bytes(whole)})" if whole > 0 else text


def ports_text(ports: list[dict[str, Any]]) -> str:
    """Return ports as the table has them: `80-82/tcp, 0.0.0.0:8080->80/tcp`; neighbours are one range.

    docker/cli, formatter/container.go, DisplayablePorts: mapped to another number last.
    """
    ranges: list[str] = []
    mapped: list[str] = []
    groups: dict[str, list[int]] = {}
    for port in sorted(ports, key=lambda p: (p["PrivatePort"], p.get("IP", ""), p.get("PublicPort", 0), p["Type"])):
        private, kind, address = port["PrivatePort"], port["Type"], port.get("IP", "")
        if address and port.get("PublicPort") != private:
            mapped.append(f"{_at(address)}:{port.get('PublicPort')}->{private}/{kind}")
            continue
        key = f"{address}/{kind}"
        group = groups.get(key)
        if group and private == group[1] + 1:
            group[1] = private
            continue
        if group:
            ranges.append(_range(key, group))
        groups[key] = [private, private]
    return ", ".join(ranges + [_range(key, group) for key, group in groups.items()] + mapped)


def _range(key: str, group: list[int]) -> str:
    address, _, kind = key.rpartition("/")
    text = str(group[0]) if group[0] == group[1] else f"{group[0]}-{group[1]}"
    return f"{_at(address)}:{text}->{text}/{kind}" if address else f"{text}/{kind}"


def _at(address: str) -> str:
    return f"[{address}]" if ":" in address else address


COMMAND = Command(
    "ps [OPTIONS]",
    "List containers",
    ps,
    flags=(
        Flag("all", "bool", "Show all, not only those that run", short="a"),
        Flag("filter", "filter", "Show those that match: NAME=VALUE", short="f"),
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("last", "int", "Show the last N created, whatever their state", short="n", default=-1),
        Flag("latest", "bool", "Show the last one created", short="l"),
        Flag("no-trunc", "bool", "Show ids, commands and mounts whole"),
        Flag("noheading", "bool", "Leave the line with the columns' names out"),
        Flag("quiet", "bool", "Show ids only", short="q"),
        Flag("size", "bool", "Show sizes", short="s"),
        Flag("sort", "string", "Sort by command, created, id, image, names, runningfor, size or status"),
    ),
)
