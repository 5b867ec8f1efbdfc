"""`sampan events`: what happens, as it happens."""

from __future__ import annotations

import time

from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.moments import moment
from sampan.cli.output import say
from sampan.cli.table import filters_of
from sampan.client.jsontext import loads
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[str, Any]

_SHORT_ID = 12


def events(call: Call) -> int:
    """Print events until --until, or for ever."""
    options = call.options
    template = _template(options["format"])
    length = None if options["no-trunc"] else _SHORT_ID
    parameters = query(
        since=moment(options["since"] or ("" if options["stream"] else "0"), "since"),
        until=moment(options["until"] or ("" if options["stream"] else "0s"), "until"),
        filters=filters_of(options["filter"]) or None,
    )
    for line in call.session.ask("GET", f"/events{parameters}").lines():
        if not line.strip():
            continue
        event = loads(line)
        say(_text(event, length) if template is None else template(event))
    return 0


def _template(format: str) -> Any:
    if not format:
        return None
    from sampan.cli.template import Template, TemplateError

    try:
        template = Template("{{json .}}" if format == "json" else format.replace("\\t", "\t"))
    except TemplateError as e:
        raise _unparsed(e) from None

    def execute(event: Event) -> str:
        try:
            return template.execute(event)
        except TemplateError as e:
            raise _unparsed(e) from None

    return execute


def _unparsed(cause: Exception) -> Failure:
    return Failure(f"Error parsing format: {cause}", "--format json shows every field", 64)


def _text(event: Event, length: int | None) -> str:
    """`2024-01-02T15:04:05.123456789Z container start ID (image=…, name=…)`, in this machine's zone."""
    ns = event.get("timeNano") or event["time"] * 10**9
    seconds, rest = divmod(ns, 10**9)
    zone = time.strftime("%z", time.localtime(seconds))
    shown = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f".{rest:09}{shown}"
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    text = f"{stamp} {event['Type']} {event['Action']} {actor.get('ID', '')[:length]}"
    if attributes:
        text += " (" + ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes)) + ")"
    return text


COMMAND = Command(
    "events [OPTIONS]",
    "Get real time events from the server",
    events,
    flags=(
        Flag("filter", "filter", "Show those that match: NAME=VALUE", short="f"),
        Flag("format", "string", "json or a Go template"),
        Flag("no-trunc", "bool", "Show whole ids", default=True),
        Flag("since", "string", "Since a moment (2024-01-02T15:04:05Z) or a while ago (10m)"),
        Flag("stream", "bool", "Go on with what happens; =false: only what has happened", default=True),
        Flag("until", "string", "Until a moment or a while ago"),
    ),
)
