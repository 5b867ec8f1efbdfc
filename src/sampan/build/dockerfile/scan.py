"""A Dockerfile's text in logical lines: directives, comments, continuations, heredocs' documents.

The rules are those of BuildKit's frontend/dockerfile/parser: comments and empty lines inside a continued line are left
out; the escape character continues a line unless another one is before it; directives end at the first line that is
none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import msgspec

from sampan.build.dockerfile.ast import Directive, Heredoc, Location
from sampan.build.dockerfile.errors import Fault, dockerfile_error
from sampan.build.dockerfile.heredoc import heredocs_of
from sampan.build.dockerfile.text import SPACES, trim

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTIVE = re.compile(rf"#[{SPACES}]*([a-zA-Z][a-zA-Z0-9]*)[{SPACES}]*=[{SPACES}]*(.+)")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction's logical line, trimmed, with the documents that follow it and the comments before it."""

    location: Location
    text: str
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    empty_continuation: int = 0  # the line's last row, where an empty one is inside; else 0


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file in logical lines; `comments` are those after the last."""

    escape: str
    directives: tuple[Directive, ...]
    lines: tuple[Line, ...]
    comments: tuple[str, ...]


def scan(source: str, name: str, escape: str = "\\") -> Scan:
    """Split a file without its byte order mark. Raises DockerfileError."""
    scanner = _Scanner(source, name)
    directives = tuple(scanner.directives())
    escape = next((each.value for each in directives if each.name == "escape"), escape)
    lines = tuple(scanner.logical_lines(escape))
    return Scan(escape=escape, directives=directives, lines=lines, comments=tuple(scanner.comments))


class _Scanner:
    def __init__(self, source: str, name: str) -> None:
        self.source = source
        self.name = name
        self.rows = source.split("\n")
        if not self.rows[-1]:
            self.rows.pop()  # the last line has an end
        self.at = 0
        self.comments: list[str] = []

    def directives(self) -> Iterator[Directive]:
        seen = set()
        while self.at < len(self.rows):
            match = _DIRECTIVE.fullmatch(trim(self.rows[self.at]))
            word = match[1].lower() if match else ""
            if match is None or word not in _DIRECTIVES:
                return
            self.at += 1
            location = Location(self.at, self.at)
            if word in seen:
                self.fail(Fault(f"only one {word} parser directive can be used", match[1]), location)
            if word == "escape" and match[2] not in {"\\", "`"}:
                self.fail(Fault(f"invalid escape token '{match[2]}' does not match ` or \\", match[2]), location)
            seen.add(word)
            yield Directive(name=word, value=match[2], location=location)

    def logical_lines(self, escape: str) -> Iterator[Line]:
        continued = re.compile(rf"(?<!{re.escape(escape)}){re.escape(escape)}[ \t]*\Z")
        while self.at < len(self.rows):
            row = self.rows[self.at].rstrip("\r").lstrip(SPACES)
            self.at += 1
            if row and not row.startswith("#"):
                yield self.logical_line(row, continued)
            else:
                self.comments.append(trim(row))

    def logical_line(self, row: str, continued: re.Pattern[str]) -> Line:
        start = self.at
        parts = []
        empty = False
        while match := continued.search(row):
            parts.append(row[: match.start()])
            row = ""
            while self.at < len(self.rows):
                row = self.rows[self.at].rstrip("\r")
                self.at += 1
                stripped = row.lstrip(SPACES)
                if stripped and not stripped.startswith("#"):
                    break
                empty = empty or not stripped
                row = ""
        text = trim("".join([*parts, row]))
        end = self.at
        heredocs = self.documents(text, start)
        comments, self.comments = tuple(self.comments), []
        return Line(
            location=Location(start, self.at),
            text=text,
            heredocs=heredocs,
            comments=comments,
            empty_continuation=end if empty else 0,
        )

    def documents(self, text: str, start: int) -> tuple[Heredoc, ...]:
        found = []
        for heredoc in heredocs_of(text):
            content = []
            while True:
                if self.at >= len(self.rows):
                    self.fail(Fault("unterminated heredoc", heredoc.word), Location(start, self.at))
                row = self.rows[self.at]
                self.at += 1
                end = row.rstrip("\r")
                if (end.lstrip("\t") if heredoc.chomp else end) == heredoc.name:
                    break
                content.append(row + "\n")
            found.append(msgspec.structs.replace(heredoc, content="".join(content)))
        return tuple(found)

    def fail(self, fault: Fault, location: Location) -> NoReturn:
        raise dockerfile_error(fault, self.name, self.source, location)
