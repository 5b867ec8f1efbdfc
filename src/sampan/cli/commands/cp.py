"""`sampan cp`: files between a container and this machine."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.each import container
from sampan.cli.failure import Failure
from sampan.cli.files import file_pieces, written
from sampan.cli.flags import Flag
from sampan.cli.output import warn, write_all
from sampan.cli.session import ServerError
from sampan.client.jsontext import loads
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO

_GO_DIRECTORY, _GO_LINK = 1 << 31, 1 << 27
_PIECE = 1 << 18


class Info:
    """One end of a copy: what is at a path, and whether that says by its slash that it is a directory."""

    def __init__(self, path: str, *, exists: bool, is_directory: bool) -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory

    @property
    def base(self) -> str:
        """Its last component, "." for what is in a directory."""
        if self.path.endswith("/.") or self.path == ".":
            return "."
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def says_directory(self) -> bool:
        """Whether it can only be a directory."""
        return self.path.endswith(("/", "/."))


def cp(call: Call) -> int:
    """Copy one way or the other."""
    source, target = (_place(argument) for argument in call.arguments)
    if source[0] and target[0]:
        raise Failure("copying between containers is not supported", "copy to - and from -: cp A:/x - | cp - B:/")
    if not (source[0] or target[0]):
        raise Failure("must specify at least one container source", "write it as NAME:PATH")
    if source[0]:
        _out(call, source[0], source[1], target[1])
    else:
        _into(call, source[1], target[0], target[1])
    return 0


def _place(argument: str) -> tuple[str, str]:
    """Part CONTAINER:PATH. A path that begins with / or . has no container."""
    name, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or name.startswith("."):
        return "", argument
    return name, path


def arrange(source: Info, target: Info) -> tuple[str, str]:
    """Return the directory to unpack in, and the name that the source gets there; "" for its own.

    The rules are Docker's, `docker cp --help` and moby's archive/copy.go.
    """
    if target.exists and target.is_directory:
        return target.path, ""
    if target.exists and source.is_directory:
        raise Failure("cannot copy directory")
    if not target.exists and not source.is_directory and target.says_directory:
        raise Failure(f"no such directory: {target.path}")
    above, _, name = target.path.rstrip("/").rpartition("/")
    return above or ("/" if target.path.startswith("/") else "."), name


# ----------------------------------------------------------------------------------------------------------- out of it


def _out(call: Call, name: str, path: str, target: str) -> None:
    if target and target != "-":
        _check_local_parent(target)
    if call.options["follow-link"]:
        found = _stat(call, name, path)
        if found and found["mode"] & _GO_LINK:
            path = found["linkTarget"]
    answer = call.session.ask("GET", container(name, f"/archive{query(path=path)}"))
    if target == "-":
        if os.isatty(1):
            raise Failure("refusing to write an archive to a terminal", "redirect it: cp NAME:PATH - > FILE")
        for piece in answer.pieces():
            write_all(1, piece)
        return
    mode = _document(answer.headers["x-docker-container-path-stat"])["mode"]
    source = Info(path, exists=True, is_directory=bool(mode & _GO_DIRECTORY))
    directory, new = arrange(source, _local(target, follow=True))
    counted = _Counted(answer.pieces())
    from sampan.cli.unpacking import unpack

    try:
        unpack(
            directory,
            counted,
            rename=_renaming(source, new),
            owners=call.options["archive"],
            overwrite=call.options["overwrite"],
        )
    except OSError as e:
        raise Failure(f"can't copy to {target}: {(e.strerror or str(e)).lower()}") from None
    _tell(call, counted.bytes, os.path.abspath(target))


def _renaming(source: Info, new: str) -> Any:
    """Return what gives the members of a copy their names: the engine begins each with the source's last component."""
    if not new:
        return None
    known = source.base in (".", "")

    def rename(name: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        return "/".join([new, *(parts if known else parts[1:])])

    return rename


def _check_local_parent(target: str) -> None:
    above = os.path.dirname(os.path.abspath(target.rstrip("/") or "/"))
    if not os.path.isdir(above):
        raise Failure(f'invalid output path: directory "{above}" does not exist')


def _local(path: str, *, follow: bool) -> Info:
    exists = os.path.lexists(path)
    real = os.path.realpath(path) if follow and os.path.islink(path.rstrip("/")) else path
    if real != path:
        exists = os.path.exists(real)
    is_directory = os.path.isdir(real) and (follow or path.endswith(("/", "/.")) or not os.path.islink(path))
    return Info(real, exists=exists, is_directory=is_directory)


# ------------------------------------------------------------------------------------------------------------- into it


def _into(call: Call, path: str, name: str, target: str) -> None:
    where = _resolved(call, name, target)
    if path == "-":
        if not where.is_directory:
            raise Failure(f'destination "{name}:{target}" must be a directory')
        pieces, directory = file_pieces("-"), where.path
    else:
        source = _local_source(path, follow=call.options["follow-link"])
        directory, new = arrange(source, where)
        pieces = _archive(source, new or source.base)
    counted = _Counted(pieces)
    parameters = query(
        path=directory,
        noOverwriteDirNonDir=None if call.options["overwrite"] else "true",
        copyUIDGID="true" if call.options["archive"] else None,
    )
    headers = {"Content-Type": "application/x-tar"}
    call.session.ask("PUT", container(name, f"/archive{parameters}"), counted, headers).read()
    _tell(call, counted.bytes, f"{name}:{where.path}")


def _resolved(call: Call, name: str, path: str) -> Info:
    """Return what is at a path in the container, or where a link there leads."""
    path = path if path.startswith("/") else f"/{path}"
    found = _stat(call, name, path)
    if found and found["mode"] & _GO_LINK:
        path = found["linkTarget"] + ("/" if path.endswith("/") else "")
        found = _stat(call, name, path)
    return Info(path, exists=found is not None, is_directory=bool(found and found["mode"] & _GO_DIRECTORY))


def _stat(call: Call, name: str, path: str) -> dict[str, Any] | None:
    try:
        answer = call.session.ask("HEAD", container(name, f"/archive{query(path=path)}"))
    except ServerError as e:
        if e.http_status == 400:  # the answer to HEAD has no words: what is wrong is said of the copy itself
            return None
        if e.http_status != 404:
            raise
        call.session.ask("GET", container(name, "/json")).read()  # it is there; what is not is the path
        return None
    return _document(answer.headers["x-docker-container-path-stat"])


def _document(text: str) -> dict[str, Any]:
    import binascii

    document: dict[str, Any] = loads(binascii.a2b_base64(text))
    return document


def _local_source(path: str, *, follow: bool) -> Info:
    try:
        info = os.stat(path) if follow or path.endswith(("/", "/.")) else os.lstat(path)
    except OSError as e:
        raise Failure(f"lstat {os.path.abspath(path)}: {(e.strerror or '').lower()}") from None
    import stat

    shown = os.path.realpath(path) if follow and os.path.islink(path) else path
    found = Info(path, exists=True, is_directory=stat.S_ISDIR(info.st_mode))
    found.path = path if found.base == "." else shown
    return found


def _archive(source: Info, name: str) -> Iterator[bytes]:
    """Give a tar of a file or a directory of this machine, under another name."""

    def write(file: BinaryIO) -> None:
        import tarfile

        def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uname = member.gname = ""
            return member

        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            tar.add(source.path, arcname=name, filter=anonymous)

    return written(write, f"can't read {source.path}")


class _Counted:
    """Pieces, and how many bytes they had."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.bytes += len(piece)
            yield piece


def _tell(call: Call, count: int, where: str) -> None:
    quiet = call.options["quiet"] if "quiet" in call.options else not os.isatty(2)
    if not quiet:
        from sampan.cli.commands.stats import human_size3

        warn(f"Successfully copied {human_size3(count)} to {where}")


COMMAND = Command(
    "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-, or SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files between a container and this machine; - is a tar on standard input or output",
    cp,
    flags=(
        Flag("archive", "bool", "Keep owners as they are (into a container: all is its user's)", short="a"),
        Flag("follow-link", "bool", "Copy what a link leads to, if SRC_PATH is one", short="L"),
        Flag("overwrite", "bool", "Let files take the place of directories, and directories that of files"),
        Flag("quiet", "bool", "Do not tell what was copied; it is told on a terminal only", short="q"),
    ),
    arguments=(2, 2),
)
