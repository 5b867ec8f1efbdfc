"""Lists: Docker's tables and the forms that `--format` asks for."""

from __future__ import annotations

from sampan.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sampan.cli.template import Template

_LEAST = 10
_GAP = 3


class Listing:
    """What can be shown of one kind of object: `columns` compute, `headers` name, `default` is the table's order."""

    parse_error = "failed to parse template"
    execute_error = "failed to execute template"

    def __init__(
        self,
        type: str,
        columns: dict[str, Callable[..., Any]],
        headers: dict[str, str],
        default: Sequence[str],
    ) -> None:
        self.type = type
        self.columns = columns
        self.headers = headers
        self.default = default
        self._prepared: Template | None = None

    def show(self, items: Sequence[Any], format: str, *, quiet: str = "") -> str:
        """Return the text of a list in a format: "", "table", "table TEMPLATE", "json" or a template.

        `quiet` names the one column that `-q` leaves.
        """
        if quiet:
            return "".join(f"{self.columns[quiet](item)}\n" for item in items)
        if format in ("", "table"):
            names = self.default
            rows = [[self.headers[name] for name in names]]
            rows += [[str(self.columns[name](item)) for name in names] for item in items]
            return tabulate(rows)
        return self._templated(items, format)

    def prepare(self, format: str) -> Template:
        """Parse a template once; done before the engine is asked, a mistake in it is told at once."""
        from sampan.cli.template import Template, TemplateError

        if self._prepared is None:
            source = "{{json .}}" if format == "json" else format.removeprefix("table ").strip(" ")
            try:
                self._prepared = Template(source.replace("\\t", "\t").replace("\\n", "\n"))
            except TemplateError as e:
                raise Failure(f"{self.parse_error}: {e}") from None
        return self._prepared

    def _templated(self, items: Sequence[Any], format: str) -> str:
        from sampan.cli.template import TemplateError
        from sampan.cli.template_values import Row

        template, table = self.prepare(format), format.startswith("table ")
        try:
            lines = [template.execute(Row(self.columns, item, self.type)) for item in items]
            if table:
                lines.insert(0, template.execute(Row(self._header_columns(), None, self.type), header=True))
        except TemplateError as e:
            fields = ", ".join(f".{name}" for name in sorted(self.columns))
            hint = f"there are {fields}" if "can't evaluate field" in str(e) else ""
            raise Failure(f"{self.execute_error}: {e}", hint) from None
        if table:
            return tabulate([part.split("\t") for line in lines for part in line.split("\n")])
        return "".join(f"{line}\n" for line in lines)

    def _header_columns(self) -> dict[str, Callable[..., Any]]:
        def of(name: str) -> Callable[..., Any]:
            return lambda _item, *arguments: arguments[0] if arguments else self.headers.get(name, name.upper())

        return {name: of(name) for name in self.columns}


def tabulate(rows: list[list[str]]) -> str:
    """Return rows in columns: ten wide at least, three spaces between; Go's text/tabwriter as Docker sets it."""
    widths = [0] * max(map(len, rows))
    for row in rows:
        for i, cell in enumerate(row[:-1]):
            widths[i] = max(widths[i], len(cell) + _GAP, _LEAST)
    lines = [
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] for row in rows
    ]
    return "\n".join(lines) + "\n"


def ellipsis(text: str, length: int) -> str:
    """Cut a text to a number of letters, the last of which is then `…`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def natural(text: str) -> list[Any]:
    """Return what orders names as people do: net9 before net10."""
    import re

    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", text))]


def filters_of(pairs: list[tuple[str, str]]) -> dict[str, dict[str, bool]]:
    """Return --filter's pairs as the API has them: `{"name": {"web": true}}`."""
    found: dict[str, dict[str, bool]] = {}
    for name, value in sorted(pairs):
        if name:
            found.setdefault(name, {})[value] = True
    return found


def local_time(epoch: float) -> str:
    """Return a moment as Go shows it, in this machine's zone: `2024-01-02 15:04:05 +0100 CET`."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(epoch))


def last_used(epoch: float, now: float) -> str:
    """Return when an image was last used: `never`, `now`, `2 days ago`."""
    from sampan.units import format_ago

    if not epoch:
        return "never"
    return f"{format_ago(now - epoch)} ago" if now - epoch >= 2 else "now"


def human_size(size: float) -> str:
    """Return a size in four digits, `1.982MB`: docker/go-units, HumanSize."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}EB"
