"""What URLs and git references of ADD and of contexts say, and what identifies what they lead to. Pure."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from sampan.errors import InvalidInput

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9.-]+:(?!//)\S+")
_SCHEMES = ("http", "https", "ssh", "git")
_UNNAMED = "__unnamed__"


class GitReference(NamedTuple):
    """A repository, and what of it. `ref` "" is its HEAD."""

    remote: str
    ref: str = ""
    directory: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True

    @property
    def commit(self) -> str:
        """The commit, where the reference is one."""
        return self.ref if _COMMIT.fullmatch(self.ref) else ""

    def identity(self, commit: str, *, keep_git_dir: bool) -> str:
        """What says all of its content."""
        extra = f"{' with .git' if keep_git_dir else ''}{'' if self.submodules else ' without submodules'}"
        return f"git {commit} {self.directory!r}{extra}"


def parse_git(text: str) -> GitReference:
    """Read `URL[?key=value&…][#ref[:directory]]`, as BuildKit's frontend does; raise InvalidInput where it is none."""
    url, _, fragment = text.partition("#")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES and not _SCP.fullmatch(url):
        raise InvalidInput(f"can't use {text[:300]}: it is no address of a git repository", "https://HOST/PATH.git#REF")
    if url.startswith("-") or (parts.hostname or "").startswith("-"):
        raise InvalidInput(f"can't use {text[:300]}: a host's name does not begin with a dash")
    ref, _, directory = fragment.partition(":")
    remote, options = url, {}
    if parts.scheme in _SCHEMES and parts.query:
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        remote = parts._replace(query="").geturl()
    return _with_options(GitReference(remote, ref, _inside(directory)), options, text)


def _with_options(reference: GitReference, options: dict[str, str], text: str) -> GitReference:
    for key, value in options.items():
        match key:
            case "ref":
                reference = reference._replace(ref=value)
            case "branch" | "tag":
                reference = reference._replace(ref=f"refs/{'heads' if key == 'branch' else 'tags'}/{value}")
            case "subdir":
                reference = reference._replace(directory=_inside(value))
            case "checksum" | "commit":
                reference = reference._replace(checksum=value)
            case "keep-git-dir":
                reference = reference._replace(keep_git_dir=_truth(value, text))
            case "submodules":
                reference = reference._replace(submodules=_truth(value, text))
            case _:
                raise InvalidInput(f"can't use {text[:300]}: unexpected query {key[:100]!r}")
    if reference.ref.startswith("-"):
        raise InvalidInput(f"can't use {text[:300]}: a reference does not begin with a dash")
    return reference


def _truth(value: str, text: str) -> bool:
    if value.lower() not in {"", "1", "t", "true", "0", "f", "false"}:
        raise InvalidInput(f"can't use {text[:300]}: {value[:100]!r} is neither true nor false")
    return value.lower() not in {"0", "f", "false"}


def _inside(directory: str) -> str:
    return posixpath.normpath("/" + directory).strip("/")


def file_name(url: str) -> str:
    """Return what a file is called that a URL gives."""
    name = posixpath.basename(posixpath.normpath(unquote(urlsplit(url).path) or "/"))
    return name if name not in {"", ".", "..", "/"} and "\0" not in name else _UNNAMED


def url_identity(url: str, checksum: str) -> str:
    """Return what says all of a downloaded file's content: what it is called, and its digest."""
    return f"url {file_name(url)!r} {checksum}"


def shown(url: str) -> str:
    """Return a URL for people: without what may be a password."""
    return re.sub(r"//[^/@]*@", "//", url)[:300]
