"""`sampan image map`: where an image's bytes are, and which of them are wasted."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say, write, write_all
from sampan.client.wire import query, quote

_NODES = 3000


def image_map(call: Call) -> int:
    """Print tables, JSON, or write a page to look at in a browser."""
    options = call.options
    if options["format"] not in ("", "json"):
        raise Failure(f"--format {options['format']}: must be json, or be left out for tables")
    nodes = _NODES if options["html"] or options["format"] else None
    asked = query(depth=options["depth"], top=options["top"], nodes=nodes)
    found = call.session.ask("GET", f"/sampan/images/{quote(call.arguments[0])}/map{asked}").json()
    if options["html"]:
        from sampan.cli.treemap import page

        _save(options["html"], page(found))
    elif options["format"]:
        from sampan.client.jsontext import dumps

        say(dumps(found))
    else:
        from sampan.cli.image_map import rendered

        write(rendered(found, trunc=not options["no-trunc"]))
    return 0


def _save(path: str, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    if path == "-":
        write_all(1, data)
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
    except OSError as e:
        raise Failure(f"can't write {path}: {(e.strerror or '').lower()}") from None
    say(path)


COMMAND = Command(
    "map [OPTIONS] IMAGE",
    "Show where the bytes of an image are, and which are wasted or shared",
    image_map,
    flags=(
        Flag("depth", "int", "Count directories down to this depth", default=3),
        Flag("format", "string", "json"),
        Flag("html", "string", "Write a page to look at in a browser: FILE, or - for standard output"),
        Flag("no-trunc", "bool", "Show commands whole"),
        Flag("top", "int", "Show this many of each", default=10),
    ),
    arguments=(1, 1),
)
