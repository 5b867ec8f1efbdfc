"""The functions of templates: Go's own and those that Docker adds. Each is (least arguments, most, function)."""

from __future__ import annotations

from sampan.cli.failure import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MANY = 1000


def _show(value: Any) -> str:
    from sampan.cli.template_values import show

    return show(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        from sampan.cli.template_values import type_name

        raise TypeError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def to_json(value: Any) -> str:
    """Return the shortest JSON."""
    from sampan.cli.template_values import MISSING, NilList, NilMap, Row
    from sampan.client.jsontext import dumps

    if isinstance(value, Row):  # Go escapes what would be markup in a row, and not in what inspect shows
        return _escaped(dumps(value.as_json()))
    if isinstance(value, list) and value and isinstance(value[0], Row):
        return _escaped(dumps([row.as_json() for row in value]))
    return dumps(None if value is MISSING or isinstance(value, (NilList, NilMap)) else value)


def _escaped(text: str) -> str:
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _join(items: Any, separator: str) -> str:
    return _text(separator).join(_show(item) for item in items or ())


def _split(text: str, separator: str) -> list[str]:
    return _text(text).split(separator) if separator else list(text)


def _title(text: str) -> str:
    out = []
    before = " "
    for c in _text(text):
        out.append(c.upper() if not (before.isalnum() or before in "_'") else c)
        before = c
    return "".join(out)


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, length: int) -> str:
    return _text(text)[:length]


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, dict)):
        return len(value)
    from sampan.cli.template_values import type_name

    raise TypeError(f"len of type {type_name(value)}")


def _index(value: Any, *keys: Any) -> Any:
    from sampan.cli.template_values import MISSING

    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "" if all(isinstance(v, str) for v in value.values()) else MISSING)
        elif isinstance(value, (list, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TypeError(f"cannot index slice/array with type {type(key).__name__}")
            if not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TypeError(
                "index of untyped nil" if value is None else f"can't index item of type {type(value).__name__}"
            )
    return value


def _slice(value: Any, *bounds: int) -> Any:
    size = len(value)
    for bound in bounds:
        if not 0 <= bound <= size:
            raise IndexError(f"index out of range: {bound}")
    start, end = (bounds[0] if bounds else 0), (bounds[1] if len(bounds) > 1 else size)
    if start > end:
        raise IndexError(f"invalid slice index: {start} > {end}")
    return value[start:end]


def _kind(value: Any) -> str:
    return {bool: "bool", int: "int", float: "float", str: "string"}.get(type(value), "other")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    for other in others:
        if first is not None and other is not None and _kind(first) != _kind(other):
            raise TypeError("incompatible types for comparison")
        if first == other:
            return True
    return False


def _ordered(a: Any, b: Any) -> None:
    if _kind(a) != _kind(b):
        raise TypeError("incompatible types for comparison")
    if _kind(a) in ("other", "bool"):
        raise TypeError("invalid type for comparison")


def _lt(a: Any, b: Any) -> bool:
    _ordered(a, b)
    return bool(a < b)


def _le(a: Any, b: Any) -> bool:
    _ordered(a, b)
    return bool(a <= b)


def _not(value: Any) -> bool:
    from sampan.cli.template_values import truth

    return not truth(value)


def _print(*values: Any) -> str:
    """Go's Sprint: a space between operands when neither is a string."""
    out = ""
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            out += " "
        out += _show(value)
    return out


def _println(*values: Any) -> str:
    return " ".join(_show(value) for value in values) + "\n"


def _html(value: Any) -> str:
    text = _show(value)
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(plain, safe)
    return text


def _js(value: Any) -> str:
    text = _show(value)
    for plain, safe in (
        ("\\", "\\\\"),
        ("'", "\\'"),
        ('"', '\\"'),
        ("<", "\\u003C"),
        (">", "\\u003E"),
        ("&", "\\u0026"),
        ("=", "\\u003D"),
        ("\n", "\\u000A"),
    ):
        text = text.replace(plain, safe)
    return text


def _urlquery(value: Any) -> str:
    from sampan.client.wire import quote

    return quote(_show(value), " ").replace(" ", "+")


def printf(form: str, *values: Any) -> str:
    """Go's Sprintf with the verbs that make sense for JSON's values."""
    out = []
    rest = list(values)
    i = 0
    form = _text(form)
    while i < len(form):
        c = form[i]
        i += 1
        if c != "%":
            out.append(c)
            continue
        start = i
        while i < len(form) and form[i] in "+-# 0":
            i += 1
        flags = form[start:i]
        width, i = _number(form, i, rest)
        precision = None
        if form[i : i + 1] == ".":
            precision, i = _number(form, i + 1, rest)
            precision = precision or 0
        verb = form[i : i + 1]
        i += 1
        if verb == "%":
            out.append("%")
        elif not verb:
            out.append("%!(NOVERB)")
        elif not rest:
            out.append(f"%!{verb}(MISSING)")
        else:
            value = rest.pop(0)
            if isinstance(value, str):  # Go's fmt: zeros pad only numbers
                flags = flags.replace("0", "")
            out.append(_padded(_verb(verb, value, flags, precision), flags, width))
    if rest:
        from sampan.cli.template_values import type_name

        out.append("%!(EXTRA " + ", ".join(f"{type_name(value)}={_show(value)}" for value in rest) + ")")
    return "".join(out)


def _number(form: str, at: int, rest: list[Any]) -> tuple[int | None, int]:
    if form[at : at + 1] == "*":
        return (rest.pop(0) if rest else 0), at + 1
    end = at
    while end < len(form) and form[end].isdigit():
        end += 1
    return (int(form[at:end]) if end > at else None), end


def _padded(text: str, flags: str, width: int | None) -> str:
    if width is None:
        return text
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and text.lstrip("+-")[:1].isdigit():
        sign = text[:1] if text[:1] in "+-" else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _verb(verb: str, value: Any, flags: str, precision: int | None) -> str:
    from sampan.cli.template_values import type_name

    sign = "+" if "+" in flags and not isinstance(value, str) and value is not None and value >= 0 else ""
    if verb == "v":
        return sign + _show(value)
    if verb == "T":
        return type_name(value)
    if verb == "t" and isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or (verb in "sq" and not isinstance(value, (bool, int, float))):
        return _string_verb(verb, _show(value), precision)
    if isinstance(value, int) and not isinstance(value, bool) and verb in "dxXobcqU":
        number = {"d": "d", "x": "x", "X": "X", "o": "o", "b": "b"}
        if verb in number:
            return sign + format(value, number[verb])
        return f"U+{value:04X}" if verb == "U" else chr(value) if verb == "c" else f"'{chr(value)}'"
    if isinstance(value, float) and verb in "feEgG":
        return (
            sign + format(value, f".{6 if precision is None else precision}{verb}")
            if verb != "g" or precision is not None
            else sign + _show(value)
        )
    return f"%!{verb}({type_name(value)}={_show(value)})"


def _string_verb(verb: str, text: str, precision: int | None) -> str:
    if precision is not None:
        text = text[:precision]
    if verb == "s":
        return text
    if verb == "q":
        return quoted(text)
    if verb in "xX":
        digits = text.encode().hex()
        return digits.upper() if verb == "X" else digits
    return f"%!{verb}(string={text})"


FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "and": (1, _MANY, lambda *values: values[-1]),  # these two are evaluated lazily, see Evaluation
    "or": (1, _MANY, lambda *values: values[-1]),
    "not": (1, 1, _not),
    "len": (1, 1, _len),
    "index": (1, _MANY, _index),
    "slice": (1, 4, _slice),
    "print": (0, _MANY, _print),
    "println": (0, _MANY, _println),
    "printf": (1, _MANY, printf),
    "eq": (1, _MANY, _eq),
    "ne": (2, 2, lambda a, b: not _eq(a, b)),
    "lt": (2, 2, _lt),
    "le": (2, 2, _le),
    "gt": (2, 2, lambda a, b: not _le(a, b)),
    "ge": (2, 2, lambda a, b: not _lt(a, b)),
    "html": (1, _MANY, lambda *values: _html(_print(*values))),
    "js": (1, _MANY, lambda *values: _js(_print(*values))),
    "urlquery": (1, _MANY, lambda *values: _urlquery(_print(*values))),
    "json": (1, 1, to_json),
    "join": (2, 2, _join),
    "split": (2, 2, _split),
    "title": (1, 1, _title),
    "lower": (1, 1, lambda text: _text(text).lower()),
    "upper": (1, 1, lambda text: _text(text).upper()),
    "pad": (3, 3, _pad),
    "truncate": (2, 2, _truncate),
}
