"""Go's text/template, as far as `--format` uses it; golang.org/pkg/text/template and docker/cli, templates.go.

    {{.Name}}  {{json .State}}  {{range .Mounts}}…{{else}}…{{end}}  {{if eq .State "running"}}…{{end}}  {{with …}}
    {{$x := .ID}}  {{range $i, $e := .Env}}  {{break}}  {{(index .Mounts 0).Source}}  {{- .ID | printf "%.4s" -}}
    {{define "x"}}…{{end}}  {{template "x" .State}}  {{block "x" .}}…{{end}}

`Template(text)` parses, `execute(data)` returns text; both raise TemplateError in Go's words. Data is what JSON gives,
or a `Row` of a table. This module parses; cli/template_values evaluates.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.template_values import Operand

    Json = Any


class TemplateError(Exception):
    """The template is wrong, or does not fit the data."""


class Token:
    """`kind`: text, field, variable, word, string, number, char, or the punctuation itself."""

    __slots__ = ("kind", "position", "text")

    def __init__(self, kind: str, text: str, position: int) -> None:
        self.kind = kind
        self.text = text
        self.position = position


_SPACE = " \t\r\n"
_TERMINATORS = (*_SPACE, "", ".", ",", "|", ":", ")", "(")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def fail(source: str, position: int, cause: str) -> TemplateError:
    """A parse error with its line."""
    return TemplateError(f"template: :{source.count(chr(10), 0, position) + 1}: {cause}")


def pieces(source: str) -> list[str | list[Token]]:
    """Split a template into texts and actions; an action is its tokens."""
    found: list[str | list[Token]] = []
    at = 0
    trim = False
    while True:
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        if trim:
            text = text.lstrip(_SPACE)
        if start < 0:
            found.append(text)
            return found
        inside = start + 2
        if source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in (" ", "\t", "\n", "\r"):
            text = text.rstrip(_SPACE)
            inside += 2
        found.append(text)
        comment = inside + len(source[inside:]) - len(source[inside:].lstrip(_SPACE))
        if source.startswith("/*", comment):
            at, trim = _comment(source, comment)
            continue
        tokens, at, trim = _action(source, inside)
        found.append(tokens)


def _comment(source: str, at: int) -> tuple[int, bool]:
    end = source.find("*/", at)
    if end < 0:
        raise fail(source, at, "unclosed comment")
    rest = source[end + 2 :].lstrip(_SPACE)
    close = len(source) - len(rest)
    if rest.startswith("-}}") and close > end + 2:
        return close + 3, True
    if rest.startswith("}}"):
        return close + 2, False
    raise fail(source, at, "comment ends before closing delimiter")


def _action(source: str, at: int) -> tuple[list[Token], int, bool]:
    """Return the tokens up to `}}`, where the text goes on, and whether its white space is trimmed."""
    tokens: list[Token] = []
    while at < len(source):
        if source.startswith("}}", at):
            return tokens, at + 2, False
        c = source[at]
        if c in _SPACE:
            after = at + 1
            if source.startswith("-}}", after):
                return tokens, after + 3, True
            tokens.append(Token(" ", c, at))
            at = after
            continue
        token = _token(source, at, c)
        tokens.append(token)
        at += len(token.text)
    raise fail(source, at, "unclosed action")


def _token(source: str, at: int, c: str) -> Token:
    if c in "\"'`":
        return _quoted(source, at, c)
    if (
        (c == "." and source[at + 1 : at + 2].isdigit())
        or c.isdigit()
        or (c in "+-" and source[at + 1 : at + 2].isdigit())
    ):
        return Token("number", c + _word(source, at + 1, "._"), at)
    if c in ".$" or c == "_" or c.isalpha():
        kind = {".": "field", "$": "variable"}.get(c, "word")
        text = c + _word(source, at + 1, "_")
        after = source[at + len(text) : at + len(text) + 1]
        if text != "." and after not in _TERMINATORS and not source.startswith("}}", at + len(text)):
            raise _bad_character(source, at, after)
        return Token("." if text == "." else kind, text, at)
    if source.startswith(":=", at):
        return Token(":=", ":=", at)
    if " " < c <= "~":
        return Token(c, c, at)
    raise _bad_character(source, at, c)


def _bad_character(source: str, at: int, c: str) -> TemplateError:
    return fail(source, at, f"bad character U+{ord(c):04X} '{c}'")


def _word(source: str, at: int, more: str) -> str:
    end = at
    while end < len(source) and (source[end].isalnum() or source[end] in more):
        end += 1
    return source[at:end]


def _quoted(source: str, at: int, mark: str) -> Token:
    end = at + 1
    while end < len(source) and source[end] != mark:
        if source[end] == "\n" and mark != "`":
            break
        end += 2 if source[end] == "\\" and mark != "`" else 1
    if end >= len(source) or source[end] != mark:
        raise fail(
            source,
            at,
            {"`": "unterminated raw quoted string", "'": "unterminated character constant"}.get(
                mark, "unterminated quoted string"
            ),
        )
    return Token({"'": "char", "`": "raw", '"': "string"}[mark], source[at : end + 1], at)


def unescape(source: str, token: Token) -> str:
    """Return what a quoted constant means."""
    inner = token.text[1:-1]
    if token.kind == "raw" or "\\" not in inner:
        return inner
    out = []
    i = 0
    while i < len(inner):
        c = inner[i]
        i += 1
        if c != "\\":
            out.append(c)
            continue
        mark = inner[i]
        i += 1
        width = {"x": 2, "u": 4, "U": 8}.get(mark, 0)
        try:
            out.append(chr(int(inner[i : i + width], 16)) if width else _ESCAPES[mark])
        except (KeyError, ValueError):
            raise fail(source, token.position, f"invalid syntax: {token.text}") from None
        i += width
    return "".join(out)


class Node:
    """One part of a parsed template. `kind`: text, action, if, with, range, break, continue, template.

    Of a template, `text` is the name, and `position` where that is.
    """

    __slots__ = ("body", "kind", "otherwise", "pipe", "position", "text")

    def __init__(self, kind: str, text: str = "", pipe: Pipe | None = None, position: int = 0) -> None:
        self.kind = kind
        self.text = text
        self.position = position
        self.pipe = pipe
        self.body: list[Node] = []
        self.otherwise: list[Node] = []


class Pipe:
    """`$a, $b := command | command`. A command is its operands."""

    __slots__ = ("assign", "commands", "text", "variables")

    def __init__(self, variables: list[str], commands: list[list[Operand]], text: str, *, assign: bool) -> None:
        self.variables = variables
        self.commands = commands
        self.text = text
        self.assign = assign


class Template:
    """A parsed template."""

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self.nodes, self.named = _Parser(source).parse()
        except RecursionError:
            raise fail(source, 0, "exceeded maximum nesting depth") from None

    def execute(self, data: Json, *, zero: dict[str, Json] | None = None, header: bool = False) -> str:
        """Return the text for `data`. `zero` has the values of fields that may be absent or null.

        `header`: functions that only decorate leave their argument as it is.
        """
        from sampan.cli.template_values import Evaluation

        try:
            return Evaluation(self.source, data, zero or {}, self.named, header=header).run(self.nodes)
        except RecursionError:
            raise fail(self.source, 0, "exceeded maximum template depth") from None


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.pieces = pieces(source)
        self.at = 0
        self.loops = 0
        self.known = ["$"]  # variables, at this place
        self.named: dict[str, list[Node]] = {}

    def parse(self) -> tuple[list[Node], dict[str, list[Node]]]:
        """Return what is executed, and the bodies of the templates that have a name."""
        nodes, ending = self._list(top=True)
        if ending:
            raise fail(self.source, self.at, f"unexpected {{{{{ending[0]}}}}}")
        return nodes, self.named

    def _list(self, *, top: bool = False) -> tuple[list[Node], tuple[str, list[Token]] | None]:
        """Return the nodes up to an `else` or `end`, and that. Only at the `top` may a template be defined."""
        nodes: list[Node] = []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            self.at += 1
            if isinstance(piece, str):
                if piece:
                    nodes.append(Node("text", piece))
                continue
            tokens = [t for i, t in enumerate(piece) if t.kind != " " or _matters(piece, i)]
            word = tokens[0].text if tokens and tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                return nodes, (word, [t for t in tokens[1:] if t.kind != " "] and tokens[1:])
            if word in ("if", "with", "range"):
                nodes.append(self._block(word, tokens[1:]))
            elif word in ("break", "continue"):
                if not self.loops:
                    raise fail(self.source, 0, f"{{{{{word}}}}} outside {{{{range}}}}")
                nodes.append(Node(word))
            elif word in ("define", "template", "block"):
                if word == "define" and not top:
                    raise fail(self.source, tokens[0].position, "unexpected <define> in command")
                nodes += self._named(word, tokens)
            else:
                nodes.append(Node("action", pipe=self._pipe(tokens, "command")))
        return nodes, None

    def _block(self, kind: str, tokens: list[Token]) -> Node:
        known = len(self.known)
        node = self._branches(kind, tokens)
        del self.known[known:]
        return node

    def _branches(self, kind: str, tokens: list[Token]) -> Node:
        node = Node(kind, pipe=self._pipe(tokens, kind))
        self.loops += kind == "range"
        node.body, ending = self._list()
        if ending and ending[0] == "else":
            rest = [t for t in ending[1] if t.kind != " "]
            if rest and rest[0].text in ("if", "with"):
                node.otherwise = [self._block(rest[0].text, _after(ending[1], rest[0]))]
                self.loops -= kind == "range"
                return node
            node.otherwise, ending = self._list()
        self.loops -= kind == "range"
        if not ending:
            raise fail(self.source, len(self.source), "unexpected EOF")
        return node

    def _named(self, word: str, tokens: list[Token]) -> list[Node]:
        """Parse what defines a template, executes one, or both; return what is executed."""
        given = [t for t in tokens[1:] if t.kind != " "]
        unexpected = f'"{given[0].text}"' if given else '"}}"'
        if not given or given[0].kind not in ("string", "raw"):
            raise fail(self.source, tokens[0].position, f"unexpected {unexpected} in {word} clause")
        name, rest = unescape(self.source, given[0]), _after(tokens, given[0])
        pipe = self._pipe(rest, f"{word} clause") if (given[1:] and word != "define") or word == "block" else None
        if word == "define" and given[1:]:
            raise fail(self.source, given[1].position, f"unexpected <{given[1].text}> in define clause")
        if word != "template":
            self._define(name, word)
        return [] if word == "define" else [Node("template", name, pipe, given[0].position)]

    def _define(self, name: str, word: str) -> None:
        """Parse a body up to its end. One that says nothing may be defined again, as in Go."""
        loops, self.loops = self.loops, 0
        known, self.known = self.known, ["$"]
        body, ending = self._list()
        self.loops, self.known = loops, known
        if not ending:
            raise fail(self.source, len(self.source), "unexpected EOF")
        if ending[0] == "else":
            raise fail(self.source, 0, f"unexpected {{{{else}}}} in {word} clause")
        if _says(body):
            if _says(self.named.get(name, [])):
                raise fail(self.source, 0, f'template: multiple definition of template "{name}"')
            self.named[name] = body
        else:
            self.named.setdefault(name, body)

    def _pipe(self, tokens: list[Token], context: str) -> Pipe:
        from sampan.cli.template_pipe import parse_pipe

        return parse_pipe(self.source, tokens, context, self.known)


def _matters(tokens: list[Token], index: int) -> bool:
    """White space parts operands: `.A .B` are two, `.A.B` is one."""
    return 0 < index < len(tokens) - 1 and tokens[index - 1].kind != " "


def _says(nodes: list[Node]) -> bool:
    return any(node.kind != "text" or node.text.strip(_SPACE) for node in nodes)


def _after(tokens: list[Token], token: Token) -> list[Token]:
    return tokens[tokens.index(token) + 1 :]
