"""Evaluating a template: fields, variables, functions, and how Go shows values."""

from __future__ import annotations

from sampan.cli.template import TemplateError
from sampan.cli.template_functions import FUNCTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.template import Node, Pipe, Token


class Missing:
    """What a map without the key gives."""


MISSING = Missing()


class GoMap(dict):  # type: ignore[type-arg]
    """A JSON object that is a map to Docker and not a struct: any key may be asked for, and it is shown as one."""


class NilList(list):  # type: ignore[type-arg]
    """A list that was never made: shown as an empty one, `null` in JSON."""


class NilMap(GoMap):
    """A map that was never made: shown as an empty one, `null` in JSON."""


MAPS = (
    "Labels", "Networks", "Data", "Options", "Sysctls", "Tmpfs", "Annotations", "Ports", "Volumes", "ExposedPorts",
    "PortBindings", "StorageOpt", "AuxiliaryAddresses", "Containers", "Actor.Attributes", "Attributes", "DriverOpts",
)  # fmt: skip
"""Fields of Docker's objects that are maps."""


MAX_DEPTH = 100
"""How many templates may be executed within one another. Go's limit is 100,000; its stacks grow, Python's don't."""


METHODS = ("Label",)
"""Columns that take an argument: the name of one label."""


class Row:
    """One line of a table: `columns` has a function of the item for each name. A template sees the names as fields."""

    __slots__ = ("columns", "item", "type")

    def __init__(self, columns: dict[str, Callable[..., Any]], item: Any, type: str) -> None:
        self.columns = columns
        self.item = item
        self.type = type

    def as_json(self) -> dict[str, Any]:
        """Return every column, by name, as `{{json .}}` shows a row."""
        return {name: self.columns[name](self.item) for name in sorted(self.columns) if name not in METHODS}


class Operand:
    """A term of a command. `kind`: dot, variable, constant, nil, function, pipe; and the `fields` taken of it."""

    __slots__ = ("fields", "kind", "position", "text", "value")

    def __init__(self, kind: str, token: Token, *, value: Any = None, fields: list[str] | None = None) -> None:
        self.kind = kind
        self.text = token.text
        self.position = token.position
        self.value = value
        self.fields = fields or []


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Evaluation:
    """One execution of a template."""

    def __init__(
        self, source: str, data: Any, zero: dict[str, Any], named: dict[str, list[Node]], *, header: bool = False
    ) -> None:
        self.source = source
        self.zero = zero
        self.named = named
        self.inside: list[str] = []  # names of the templates that are being executed
        self.header = header
        self.variables: list[tuple[str, Any]] = [("$", data)]
        self.out: list[str] = []

    def run(self, nodes: list[Node]) -> str:
        """Return the text of a whole template."""
        self._nodes(nodes, self.variables[0][1])
        return "".join(self.out)

    def _nodes(self, nodes: list[Node], dot: Any) -> None:
        for node in nodes:
            match node.kind:
                case "text":
                    self.out.append(node.text)
                case "break":
                    raise _Break
                case "continue":
                    raise _Continue
                case "action":
                    assert node.pipe is not None
                    value = self._pipe(node.pipe, dot)
                    if not node.pipe.variables:
                        self.out.append(show(value, top=True))
                case "range":
                    self._range(node, dot)
                case "template":
                    self._template(node, dot)
                case _:
                    self._condition(node, dot)

    def _template(self, node: Node, dot: Any) -> None:
        """Execute a template by its name: it sees what it is given as dot and $, and no variable from here."""
        whole = f'{{{{template "{node.text}"{f" {node.pipe.text}" if node.pipe else ""}}}}}'
        if node.text not in self.named:
            raise self._at(node.position, whole, f'template "{node.text}" not defined')
        if len(self.inside) == MAX_DEPTH:
            raise self._at(node.position, whole, f"exceeded maximum template depth ({MAX_DEPTH})")
        value = self._pipe(node.pipe, dot) if node.pipe else None
        variables, self.variables = self.variables, [("$", value)]
        self.inside.append(node.text)
        self._nodes(self.named[node.text], value)
        self.inside.pop()
        self.variables = variables

    def _condition(self, node: Node, dot: Any) -> None:
        assert node.pipe is not None
        mark = len(self.variables)
        value = self._pipe(node.pipe, dot)
        if truth(value):
            self._nodes(node.body, value if node.kind == "with" else dot)
        else:
            self._nodes(node.otherwise, dot)
        del self.variables[mark:]

    def _range(self, node: Node, dot: Any) -> None:
        assert node.pipe is not None
        mark = len(self.variables)
        value = self._pipe(node.pipe, dot, declare=False)
        if isinstance(value, dict):
            items = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list):
            items = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            items = [(i, i) for i in range(value)]
        elif value is None or value is MISSING:
            items = []
        else:
            raise self._error(node.pipe.commands[0][0], f"range can't iterate over {show(value)}")
        names = node.pipe.variables
        try:
            for key, item in items:
                if len(names) == 1:
                    self._declare(names[0], item)
                elif names:
                    self._declare(names[0], key)
                    self._declare(names[1], item)
                try:
                    self._nodes(node.body, item)
                except _Continue:
                    pass
                del self.variables[mark:]
        except _Break:
            pass
        del self.variables[mark:]
        if not items:
            self._nodes(node.otherwise, dot)

    def _declare(self, name: str, value: Any) -> None:
        self.variables.append((name, value))

    def _pipe(self, pipe: Pipe, dot: Any, *, declare: bool = True) -> Any:
        value: Any = None
        for number, command in enumerate(pipe.commands):
            value = self._command(command, dot, [value] if number else [])
        if declare and pipe.variables:
            if pipe.assign:
                self._assign(pipe.variables[0], value)
            else:
                self._declare(pipe.variables[0], value)
        return value

    def _assign(self, name: str, value: Any) -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        raise TemplateError(f'template: :1: undefined variable "{name}"')

    def _command(self, command: list[Operand], dot: Any, last: list[Any]) -> Any:
        first = command[0]
        if first.kind == "function":
            return self._function(first, command, dot, last)
        if first.kind == "nil":
            raise self._error(first, "nil is not a command")
        arguments = [self._value(operand, dot) for operand in command[1:]] + last
        if arguments and not first.fields:
            raise self._error(first, f"can't give argument to non-function {first.text}")
        return self._value(first, dot, arguments)

    def _function(self, first: Operand, command: list[Operand], dot: Any, last: list[Any]) -> Any:
        text = " ".join(operand.text for operand in command)
        if first.text in ("and", "or"):
            values: list[Any] = []
            for operand in command[1:]:
                values.append(self._value(operand, dot))
                if truth(values[-1]) != (first.text == "and"):
                    return values[-1]
            values += last
            if not values:
                raise self._error(first, f"wrong number of args for {first.text}: want at least 1 got 0", text)
            return values[-1]
        arguments = [self._value(operand, dot) for operand in command[1:]] + last
        least, most, function = FUNCTIONS[first.text]
        if self.header and first.text in DECORATIONS:
            function = _undecorated
        if not least <= len(arguments) <= most:
            want = f"want {least}" if least == most else f"want at least {least}"
            raise self._error(first, f"wrong number of args for {first.text}: {want} got {len(arguments)}", text)
        try:
            result = function(*arguments)
        except (ValueError, TypeError, KeyError, IndexError) as e:
            raise self._error(first, f"error calling {first.text}: {e.args[0] if e.args else e}", text) from None
        for field in first.fields:
            result = self._field(first, result, field, "", [])
        return result

    def _value(self, operand: Operand, dot: Any, arguments: list[Any] | None = None) -> Any:
        match operand.kind:
            case "constant":
                return operand.value
            case "nil":
                return None
            case "function":
                return self._function(operand, [operand], dot, [])
            case "pipe":
                value = self._pipe(operand.value, dot)
            case "variable":
                value = self._variable(operand)
            case _:
                value = dot
        before = ""
        for index, name in enumerate(operand.fields):
            value = self._field(
                operand, value, name, before, (arguments or []) if index == len(operand.fields) - 1 else []
            )
            before = name
        return value

    def _variable(self, operand: Operand) -> Any:
        name = "$" + operand.text[1:].partition(".")[0]
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise TemplateError(f'template: :1: undefined variable "{name}"')

    def _field(self, operand: Operand, value: Any, name: str, before: str, arguments: list[Any]) -> Any:
        if isinstance(value, Row):
            column = value.columns.get(name)
            if column is None:
                raise self._error(operand, f"can't evaluate field {name} in type *{value.type}")
            wanted = 1 if name in METHODS else 0
            if len(arguments) != wanted:
                raise self._error(
                    operand, f"wrong number of args for {name}: want {wanted} got {len(arguments)}", f".{name}"
                )
            return column(value.item, *arguments)
        if arguments:
            raise self._error(operand, f"{name} is not a method but has arguments")
        if isinstance(value, dict):
            found = value.get(name, MISSING)
            if found is MISSING and name[:1].isupper() and not isinstance(value, GoMap) and before not in MAPS:
                found = _by_go_name(value, name)
            if (found is MISSING or found is None) and name in self.zero and not isinstance(value, GoMap):
                found = self.zero[name]
            if found is MISSING and not (isinstance(value, GoMap) or before in MAPS):
                raise self._error(operand, f'map has no entry for key "{name}"')
            made = isinstance(found, dict) and not isinstance(found, GoMap)
            return GoMap(found) if made and _is_map(name, value) else found
        if value is None or value is MISSING:
            raise self._error(operand, f"nil pointer evaluating interface {{}}.{name}")
        raise self._error(operand, f"can't evaluate field {name} in type {type_name(value)}")

    def _error(self, operand: Operand, cause: str, text: str = "") -> TemplateError:
        return self._at(operand.position, text or operand.text, cause)

    def _at(self, position: int, text: str, cause: str) -> TemplateError:
        line = self.source.count("\n", 0, position) + 1
        column = position - (self.source.rfind("\n", 0, position) + 1)
        name = self.inside[-1] if self.inside else ""
        return TemplateError(f'template: :{line}:{column}: executing "{name}" at <{text}>: {cause}')


def _by_go_name(value: dict[str, Any], name: str) -> Any:
    """Docker's templates see Go's names, which differ from JSON's in case only: APIVersion is ApiVersion, ID is Id."""
    lower = name.lower()
    return next((value[key] for key in value if key.lower() == lower), MISSING)


DECORATIONS = ("json", "title", "lower", "upper", "truncate", "pad", "join", "split")
"""Functions that leave a table's header as it is."""


def _undecorated(value: Any, *_more: object) -> Any:
    return value


def truth(value: Any) -> bool:
    """Go's: not zero, not empty."""
    return value is not MISSING and (isinstance(value, Row) or bool(value))


def type_name(value: Any) -> str:
    """What Go calls the type."""
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")


def show(value: Any, *, top: bool = False) -> str:
    """Return a value as Go's %v."""
    if isinstance(value, str):
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if value is MISSING or value is None:
        return "<no value>" if value is MISSING and top else "<nil>"
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, list):
        return "[" + " ".join(show(item) for item in value) + "]"
    if isinstance(value, dict):
        if isinstance(value, GoMap):
            return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
        shown = (show(GoMap(v) if isinstance(v, dict) and _is_map(k, value) else v) for k, v in value.items())
        return "{" + " ".join(shown) + "}"
    if isinstance(value, Row):
        return show(value.as_json())
    return str(value)


def _is_map(name: str, struct: dict[str, Any]) -> bool:
    """Tell whether a field of Docker's is a map: `Config` is one beside the `Type` of a log driver."""
    return name in MAPS or (name == "Config" and "Type" in struct)


def go_float(value: float) -> str:
    """Return a float64 as %v has it: the shortest form, with an exponent from 1e+21."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-').zfill(2)}"
    return text
