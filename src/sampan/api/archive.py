"""The handlers that carry files out of a container and into it."""

from __future__ import annotations

import base64
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from sampan.units import format_timestamp

if TYPE_CHECKING:
    from sampan.api.call import Call
    from sampan.supervise.messages import PathFound

_TAR = "application/x-tar"
_STAT = "X-Docker-Container-Path-Stat"
_KINDS = {  # Go's os.FileMode has the kind of a file in other bits than stat(2)
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


def stat_path(call: Call) -> None:
    """HEAD /containers/{id}/archive."""
    found = call.engine.stat_path(call.path["id"], call.text("path"))
    call.done(200, {_STAT: header(found)})


def read_path(call: Call) -> None:
    """GET /containers/{id}/archive."""
    id, path = call.path["id"], call.text("path")
    found = call.engine.stat_path(id, path)
    with closing(call.engine.read_path(id, path)) as pieces:
        piece = next(pieces)
        stream = call.stream(_TAR, {_STAT: header(found)})
        stream.write(piece)
        for piece in pieces:
            stream.write(piece)
        stream.end()


def write_path(call: Call) -> None:
    """PUT /containers/{id}/archive."""
    call.engine.write_path(
        call.path["id"],
        call.text("path"),
        call.archive(),
        keep_kinds=call.flag("noOverwriteDirNonDir"),
        as_user=call.flag("copyUIDGID"),
    )
    call.done(200)


def header(found: PathFound) -> str:
    """Return what a path is as Docker's header has it: JSON in base64."""
    document = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": format_timestamp(found.mtime_ns),
        "linkTarget": found.link_target,
    }
    return base64.b64encode(msgspec.json.encode(document)).decode()


def go_mode(mode: int) -> int:
    """Return a mode of stat(2) as Go has it."""
    bits = sum(theirs for ours, theirs in _BITS.items() if mode & ours)
    return stat.S_IMODE(mode) & 0o777 | bits | _KINDS.get(stat.S_IFMT(mode), 0)
