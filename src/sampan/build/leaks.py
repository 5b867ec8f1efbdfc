"""Secrets that got into what a build makes: found as they are, in base64 and URL-encoded, in files and in texts.

What is compressed or encrypted is not looked into. One of less than four bytes is not looked for: it is everywhere.
"""

from __future__ import annotations

import base64
import mmap
import os
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SHORTEST = 4
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Leak(NamedTuple):
    """A secret that was found: its id, how it was written, and where."""

    secret: str
    form: str
    where: str

    def __str__(self) -> str:
        form = f" in {self.form}" if self.form else ""
        return f"secret {self.secret} is{form} in {self.where}"


class Searcher:
    """Looks for some secrets, given by their ids."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._forms: list[tuple[str, str, bytes]] = []
        for id, value in secrets.items():
            self._forms += [(id, form, text) for form, text in _forms(value)]
        self._pattern = re.compile(b"|".join(b"(" + re.escape(text) + b")" for _, _, text in self._forms))

    def __bool__(self) -> bool:
        return bool(self._forms)

    def in_text(self, text: str, where: str) -> Leak | None:
        """Look into a text."""
        return self._find(text.encode(errors="surrogateescape"), where)

    def in_directory(self, directory: str) -> Leak | None:
        """Look into all that is below a directory: names, targets of links, attributes and contents."""
        root = os.fsencode(directory)
        for path, entry in _walk(root):
            shown = os.fsdecode(path.removeprefix(root))
            leak = self._find(entry.name, f"the name {shown}") or self._in_entry(path, entry, shown)
            if leak:
                return leak
        return None

    def _in_entry(self, path: bytes, entry: os.DirEntry[bytes], shown: str) -> Leak | None:
        for name in os.listxattr(path, follow_symlinks=False):
            value = os.getxattr(path, name, follow_symlinks=False)
            if leak := self._find(value, f"the attribute {name} of {shown}"):
                return leak
        if entry.is_symlink():
            return self._find(os.readlink(path), f"the link {shown}")
        if entry.is_file(follow_symlinks=False):
            fd = os.open(path, _FILE)
            try:
                if os.fstat(fd).st_size:
                    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as content:
                        return self._find(content, shown)
            finally:
                os.close(fd)
        return None

    def _find(self, data: bytes | mmap.mmap, where: str) -> Leak | None:
        found = self._pattern.search(data)
        if found is None or found.lastindex is None:
            return None
        id, form, _ = self._forms[found.lastindex - 1]
        return Leak(id, form, where)


def _forms(value: bytes) -> Iterator[tuple[str, bytes]]:
    """What a secret looks like; in base64 it may begin at each of three places."""
    value = value.strip()
    if len(value) < SHORTEST:
        return
    yield "", value
    quoted = quote_from_bytes(value, safe="").encode()
    if quoted != value:
        yield "URL encoding", quoted
        yield "URL encoding", quote_from_bytes(value, safe="/").encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value)
        # The first and the last characters depend on what is beside it.
        start, end = (before * 8 + 5) // 6, (before + len(value)) * 8 // 6
        yield "base64", encoded[start:end]
        yield "base64", encoded[start:end].translate(bytes.maketrans(b"+/", b"-_"))


def _walk(directory: bytes) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            yield entry.path, entry
