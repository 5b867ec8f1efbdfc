"""The inside of a template's action: declarations, commands joined by `|`, operands."""

from __future__ import annotations

from sampan.cli.template import Pipe, Token, fail, unescape
from sampan.cli.template_functions import FUNCTIONS
from sampan.cli.template_values import Operand


def parse_pipe(source: str, tokens: list[Token], context: str, known: list[str]) -> Pipe:
    """Parse a whole action's pipeline. `context` names the action in messages: `missing value for if`.

    `known` has the variables there are; those that it declares are added.
    """
    reader = _Reader(source, tokens, known)
    pipe = reader.pipe(context, closing="")
    if reader.token:
        raise fail(source, reader.token.position, f"unexpected {_shown(reader.token)} in {context}")
    return pipe


def _shown(token: Token) -> str:
    return f"<{token.text}>" if token.kind in ("field", "variable", ".", "word") else f'"{token.text}"'


class _Reader:
    def __init__(self, source: str, tokens: list[Token], known: list[str]) -> None:
        self.source = source
        self.tokens = tokens
        self.known = known
        self.index = 0

    @property
    def token(self) -> Token | None:
        return self.tokens[self.index] if self.index < len(self.tokens) else None

    def skip_space(self) -> None:
        while self.token and self.token.kind == " ":
            self.index += 1

    def pipe(self, context: str, closing: str) -> Pipe:
        """Parse up to the end, or to the `closing` parenthesis, which is left."""
        self.skip_space()
        start = self.token.position if self.token else 0
        variables, assign = self._declaration()
        self.known += variables  # assigned ones, too: Go finds at execution that there are none; parse.go, pipeline
        commands: list[list[Operand]] = []
        while True:
            operands = self._command()
            if not operands:
                raise fail(self.source, start, f"missing value for {context}")
            if commands and operands[0].kind == "constant":
                raise fail(self.source, start, f"non executable command in pipeline stage {len(commands) + 1}")
            commands.append(operands)
            if self.token and self.token.kind == "|":
                self.index += 1
                continue
            break
        if closing and not (self.token and self.token.kind == closing):
            raise fail(self.source, start, "unclosed left paren")
        end = self.token.position if self.token else self.tokens[-1].position + len(self.tokens[-1].text)
        return Pipe(variables, commands, self.source[start:end].strip(), assign=assign)

    def _declaration(self) -> tuple[list[str], bool]:
        """Take `$a :=`, `$a, $b :=` or `$a =`."""
        mark = self.index
        names: list[str] = []
        while self.token and self.token.kind == "variable":
            names.append(self.token.text)
            self.index += 1
            self.skip_space()
            if self.token and self.token.kind == "," and len(names) == 1:
                self.index += 1
                self.skip_space()
                continue
            if self.token and self.token.kind in (":=", "="):
                assign = self.token.kind == "="
                self.index += 1
                return names, assign
            break
        self.index = mark
        return [], False

    def _command(self) -> list[Operand]:
        operands: list[Operand] = []
        while True:
            self.skip_space()
            if not self.token or self.token.kind in ("|", ")"):
                return operands
            operands.append(self._operand())

    def _operand(self) -> Operand:
        """Take one operand and the fields that follow it without a space."""
        token = self.token
        assert token is not None
        self.index += 1
        operand = self._first(token)
        position = token.position
        fields: list[str] = []
        while self.token and self.token.kind == "field":
            if not fields:
                position = self.token.position
            fields.append(self.token.text[1:])
            self.index += 1
        if fields:
            if operand.kind == "constant":
                raise fail(self.source, position, f"unexpected . after term {token.text}")
            operand.fields += fields
            operand.position = position
            operand.text += "." + ".".join(fields)
        if self.token and self.token.kind not in (" ", "|", ")"):
            raise fail(self.source, self.token.position, f"unexpected {_shown(self.token)} in operand")
        return operand

    def _first(self, token: Token) -> Operand:
        match token.kind:
            case "field":
                return Operand("dot", token, fields=[token.text[1:]])
            case ".":
                return Operand("dot", token)
            case "variable":
                if token.text not in self.known:
                    raise fail(self.source, token.position, f'undefined variable "{token.text}"')
                return Operand("variable", token)
            case "string" | "raw":
                return Operand("constant", token, value=unescape(self.source, token))
            case "char":
                return Operand("constant", token, value=ord(unescape(self.source, token)[:1] or "\0"))
            case "number":
                return Operand("constant", token, value=self._number(token))
            case "word":
                return self._word(token)
            case "(":
                pipe = self.pipe("parenthesized pipeline", closing=")")
                self.index += 1
                return Operand("pipe", token, value=pipe)
            case _:
                raise fail(self.source, token.position, f"unexpected {_shown(token)} in operand")

    def _word(self, token: Token) -> Operand:
        if token.text in ("true", "false"):
            return Operand("constant", token, value=token.text == "true")
        if token.text == "nil":
            return Operand("nil", token)
        if token.text not in FUNCTIONS:
            raise fail(self.source, token.position, f'function "{token.text}" not defined')
        return Operand("function", token)

    def _number(self, token: Token) -> int | float:
        text = token.text
        try:
            return int(text, 0)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise fail(self.source, token.position, f'bad number syntax: "{text}"') from None
