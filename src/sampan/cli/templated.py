"""One document by `--format`: json, or a template."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.output import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def show_one(document: Any, format: str) -> None:
    """Print a document as JSON in one line, or through a template."""
    from sampan.cli.template import Template, TemplateError

    source = "{{json .}}" if format == "json" else format.replace("\\t", "\t").replace("\\n", "\n")
    try:
        say(Template(source).execute(document))
    except TemplateError as e:
        raise Failure(f"template parsing error: {e}", "--format json shows every field") from None
