"""A context as a stream: standard input, or a local directory as a tar for an engine that does not see our files."""

from __future__ import annotations

import os

from sampan.cli.files import written

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

    from sampan.build.ignore import Matcher

_PIECE = 1 << 18


def rest_of_input(head: bytes) -> Iterator[bytes]:
    """Give what comes on standard input, whose beginning was read already."""
    yield head
    while piece := os.read(0, _PIECE):
        yield piece


def directory(path: str, dockerfile: str, *, compress: bool) -> Iterator[bytes]:
    """Give a tar of a context without what .dockerignore leaves out. Owners are root's, as Docker's client has it."""
    return written(lambda file: _archive(path, dockerfile, file, compress=compress), f"can't archive {path}")


def _archive(path: str, dockerfile: str, file: object, *, compress: bool) -> None:
    import tarfile

    matcher = _ignored(path, dockerfile)
    mode = "w|gz" if compress else "w|"
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        _add(tar, path, "", matcher, {dockerfile, ".dockerignore"}, ())


def _ignored(path: str, dockerfile: str) -> Matcher:
    """Return the patterns of <Dockerfile>.dockerignore, else of .dockerignore."""
    from sampan.build.ignore import Matcher, parse

    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        try:
            with open(os.path.join(path, name), encoding="utf-8") as f:
                return Matcher(parse(f.read()))
        except FileNotFoundError:
            continue
    return Matcher(())


def _add(
    tar: tarfile.TarFile, root: str, below: str, matcher: Matcher, always: set[str], above: tuple[bool, ...]
) -> None:
    """Add what is in a directory; `always` are files that the engine needs whatever the patterns say."""
    for name in sorted(os.listdir(os.path.join(root, below))):
        path = f"{below}/{name}" if below else name
        where = os.path.join(root, path)
        ignored, inside = matcher.match(path, above)
        is_directory = os.path.isdir(where) and not os.path.islink(where)
        wanted = not ignored or path in always
        if wanted:
            member = tar.gettarinfo(where, arcname=path)
            if member is not None:  # no socket
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                _member(tar, member, where)
        if is_directory and (not ignored or matcher.may_take_in_again(path) or any(_is_in(n, path) for n in always)):
            _add(tar, root, path, matcher, always, inside)


def _is_in(name: str, directory: str) -> bool:
    return name.startswith(f"{directory}/")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    if not member.isreg():
        tar.addfile(member)
        return
    with open(path, "rb") as file:
        tar.addfile(member, file)
