"""`sampan images`: the list of images."""

from __future__ import annotations

import time

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import write
from sampan.cli.table import Listing, filters_of, human_size, last_used, local_time
from sampan.units import format_ago, format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Entry = dict[str, Any]

_NONE = "<none>"
_SHORT = 12


def images(call: Call) -> int:
    """Print the images, one line for each name."""
    options = call.options
    filters = filters_of(options["filter"] + [("reference", name) for name in call.arguments])
    if options["tree"]:
        return _tree(call, filters)
    target = "/images/json"
    text = options["format"] or str(call.session.config().get("imagesFormat") or "")
    shared = ".SharedSize" in text or ".UniqueSize" in text
    if options["all"] or filters or shared:
        from sampan.client.wire import query

        target += query(all=options["all"], filters=filters or None, **{"shared-size": shared})
    found = call.session.ask("GET", target).json()
    digests = options["digests"] or ".Digest" in text
    entries = [entry for image in found for entry in _entries(image, digests=digests)]
    used = any("LastUsed" in image for image in found)
    listing = listing_of(trunc=not options["no-trunc"], digests=options["digests"], used=used)
    if text == "raw":
        text = "image_id: {{.ID}}" if options["quiet"] else _RAW
    quiet = "ID" if options["quiet"] and not options["format"] else ""
    write(listing.show(sorted_by(options["sort"], entries), text, quiet=quiet))
    return 0


def _tree(call: Call, filters: dict[str, dict[str, bool]]) -> int:
    options = call.options
    for name in ("quiet", "digests", "format"):
        if name in options and options[name] != "json":
            shown = "show-digest" if name == "digests" else name
            raise Failure(f"--{shown} is not yet supported with --tree")
    from sampan.cli.image_tree import rendered
    from sampan.client.wire import query

    found = call.session.ask("GET", f"/sampan/images/tree{query(all=options['all'], filters=filters or None)}").json()
    found = sorted_by(options["sort"], found)
    if options["format"] == "json":
        from sampan.client.jsontext import dumps

        write("".join(f"{dumps(image)}\n" for image in found))
    else:
        write(rendered(found, trunc=not options["no-trunc"]))
    return 0


_SORTS: dict[str, tuple[Callable[[Entry], Any], bool]] = {
    "created": (lambda i: i["Created"], True),
    "id": (lambda i: i["Id"], False),
    "lastused": (lambda i: i.get("LastUsed", 0), True),
    "repository": (lambda i: _name(i).rpartition(":")[0] or _name(i), False),
    "size": (lambda i: i["Size"], True),
    "tag": (lambda i: _name(i).rpartition(":")[2], False),
}
"""Key, and whether the greatest comes first."""


def sorted_by(name: str, images: list[Entry]) -> list[Entry]:
    """Return images or lines of them in the order that --sort names; as the engine gave them for none."""
    if not name:
        return images
    if name not in _SORTS:
        raise Failure(f"--sort {name}: must be one of {', '.join(_SORTS)}")
    key, descending = _SORTS[name]
    return sorted(images, key=key, reverse=descending)


def _name(image: Entry) -> str:
    if "repository" in image:
        return f"{image['repository']}:{image['tag']}"
    names: list[str] = image.get("RepoTags") or ["<none>:<none>"]
    return names[0]


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


def listing_of(*, trunc: bool, digests: bool = False, used: bool = False) -> Listing:
    """Return what is shown of images. `used`: the engine tells when they were last used."""
    now = time.time()
    columns: dict[str, Callable[..., Any]] = {
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
    if used:
        columns["LastUsed"] = lambda i: last_used(i["LastUsed"], now)
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
    "LastUsed": "LAST USED",
}

_FILTERS = (
    "before, containers, dangling, digest, id, intermediate, label, label!, readonly, reference, since, until or "
    "unused-for"
)
COMMAND = Command(
    "images [OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    images,
    flags=(
        Flag("all", "bool", "Show all", short="a"),
        Flag("digests", "bool", "Show digests"),
        Flag("filter", "filter", f"Show those that match: NAME=VALUE, with {_FILTERS}", short="f"),
        Flag("format", "string", "table, table TEMPLATE, json or a Go template"),
        Flag("no-trunc", "bool", "Show ids whole"),
        Flag("quiet", "bool", "Show ids only", short="q"),
        Flag("sort", "string", f"In the order of {', '.join(_SORTS)}"),
        Flag("tree", "bool", "With the layers of each, and who shares them"),
    ),
    arguments=(0, 1),
)
