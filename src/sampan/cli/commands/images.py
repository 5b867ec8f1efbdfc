"""`sampan images`: the list of images."""

from __future__ import annotations

import time

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing, filters_of, human_size, local_time
from sampan.units import format_ago, format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Entry = dict[str, Any]

_NONE = "<none>"
_SHORT = 12


def images(call: Call) -> int:
    """Print the images, one line for each name."""
    options = call.options
    filters = filters_of(options["filter"] + [("reference", name) for name in call.arguments])
    target = "/images/json"
    if options["all"] or filters:
        from sampan.client.wire import query

        target += query(all=options["all"], filters=filters or None)
    text = options["format"] or str(call.session.config().get("imagesFormat") or "")
    found = call.session.ask("GET", target).json()
    digests = options["digests"] or ".Digest" in text
    entries = [entry for image in found for entry in _entries(image, digests=digests)]
    listing = listing_of(trunc=not options["no-trunc"], digests=options["digests"])
    if text == "raw":
        text = "image_id: {{.ID}}" if options["quiet"] else _RAW
    quiet = "ID" if options["quiet"] and not options["format"] else ""
    write(listing.show(entries, text, quiet=quiet))
    return 0


_RAW = (
    "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n"
    "virtual_size: {{.Size}}\n"
)


def _entries(image: Entry, *, digests: bool) -> Iterator[Entry]:
    """Give a line for every name; those without a tag are shown once, by digest or as <none>."""
    tags = [split(tag) for tag in image.get("RepoTags") or () if tag != "<none>:<none>"]
    by_repository: dict[str, list[str]] = {}
    for digest in image.get("RepoDigests") or ():
        repository, _, value = digest.partition("@")
        if repository != _NONE:
            by_repository.setdefault(repository, []).append(value)
    if not tags and not by_repository:
        yield {**image, "repository": _NONE, "tag": _NONE, "digest": _NONE}
        return
    for repository, tag in tags:
        values = by_repository.get(repository) or [_NONE]
        for value in values if digests else [_NONE]:
            yield {**image, "repository": repository, "tag": tag, "digest": value}
    named = {name for name, _ in tags}
    for repository, values in by_repository.items():
        if repository not in named:
            for value in values if digests else [_NONE]:
                yield {**image, "repository": repository, "tag": _NONE, "digest": value}


def split(reference: str) -> tuple[str, str]:
    """Part a name from its tag."""
    name, _, tag = reference.rpartition(":")
    return name, tag


def listing_of(*, trunc: bool, digests: bool = False) -> Listing:
    """Return what is shown of images."""
    now = time.time()
    columns = {
        "ID": lambda i: i["Id"].removeprefix("sha256:")[:_SHORT] if trunc else i["Id"],
        "Repository": lambda i: i["repository"],
        "Tag": lambda i: i["tag"],
        "Digest": lambda i: i["digest"],
        "CreatedSince": lambda i: _since(i, now),
        "CreatedAt": lambda i: local_time(i["Created"]),
        "Size": lambda i: format_bytes(i["Size"]),
        "Containers": lambda i: _known(i.get("Containers")),
        "SharedSize": lambda i: _known_size(i.get("SharedSize")),
        "UniqueSize": lambda i: _known_size(i["Size"] - i["SharedSize"] if i.get("SharedSize", -1) >= 0 else -1),
        "VirtualSize": lambda i: human_size(i["Size"]),
    }
    default = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
    listing = Listing("formatter.imageContext", columns, _HEADERS, [n for n in default if digests or n != "Digest"])
    listing.parse_error = listing.execute_error = "template parsing error"
    return listing


def _since(image: Entry, now: float) -> str:
    return f"{format_ago(now - image['Created'])} ago" if image["Created"] > 0 else "N/A"


def _known(number: int | None) -> str:
    return "N/A" if number is None or number < 0 else str(number)


def _known_size(size: int | None) -> str:
    return "N/A" if size is None or size < 0 else human_size(size)


_HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}

COMMAND = Command(
    "images [OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    images,
    flags=(
        Flag("all", "bool", "Show all", short="a"),
        Flag("digests", "bool", "Show digests"),
        Flag("filter", "filter", "Show those that match: NAME=VALUE", short="f"),
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("no-trunc", "bool", "Show ids whole"),
        Flag("quiet", "bool", "Show ids only", short="q"),
        Flag("tree", "bool", "As a tree", unsupported="an image here is of one platform"),
    ),
    arguments=(0, 1),
)
