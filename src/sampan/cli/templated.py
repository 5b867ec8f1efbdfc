"""One document by `--format`: json, or a template."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.output import say
from sampan.cli.template import Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parsed(format: str) -> Template:
    """Return the template, or raise Failure: 64 is the status of Docker's client, EX_USAGE of sysexits.h."""
    source = "{{json .}}" if format == "json" else format
    try:
        return Template(source)
    except TemplateError as e:
        raise Failure(f"template parsing error: {e}", status=64) from None


def show_one(document: Any, template: Template) -> None:
    """Print a document through a template."""
    try:
        say(template.execute(document))
    except TemplateError as e:
        raise Failure(f"template parsing error: {e}", "--format json shows every field") from None
