"""What a log says of its container: `--log-opt tag=…`, and the labels and variables that are picked.

A tag is a template, `{{.ImageName}}/{{.Name}}`. Of Go's language it has the fields of Docker's logging information,
entries of its maps (`.ContainerLabels.app`, `index .ContainerLabels "app"`) and `(.ExtraAttributes nil).KEY`. It is
not the language of `--format` (cli.template): a loop in a tag would be one in the server, written by a client.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import expressions
from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHORT = 12
_FIELDS = re.compile(r"(?:\(\.(ExtraAttributes) nil\)|\.(\w+))((?:\.\w+)*)")
_INDEX = re.compile(r'index\s+(?:\(\.(ExtraAttributes) nil\)|\.(\w+))\s+(?:"([^"\\]*)"|`([^`]*)`)')


class LoggedContainer(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to be said of a container. `command` is the program and its arguments; `hostname` the host's."""

    id: str
    name: str
    image_id: str
    image_name: str
    command: tuple[str, ...]
    hostname: str
    labels: dict[str, str] = {}
    env: tuple[str, ...] = ()

    def fields(self, options: Mapping[str, str]) -> dict[str, str | Mapping[str, str]]:
        """Return Docker's fields; the daemon's name is Docker's too, for rules that sort by it."""
        return {
            "ID": self.id[:_SHORT],
            "FullID": self.id,
            "Name": self.name,
            "ImageID": self.image_id[:_SHORT],
            "ImageFullID": self.image_id,
            "ImageName": self.image_name,
            "Command": " ".join(self.command),
            "Hostname": self.hostname,
            "DaemonName": "docker",
            "ContainerID": self.id,
            "ContainerName": f"/{self.name}",
            "ContainerImageID": self.image_id,
            "ContainerImageName": self.image_name,
            "ContainerLabels": self.labels,
            "Config": options,
            "ExtraAttributes": attributes(self, options),
        }


def tag(container: LoggedContainer, options: Mapping[str, str], default: str) -> str:
    """Return the tag that `options` ask for. Raises InvalidInput in Go's words."""
    template = options.get("tag") or default
    fields = container.fields(options)
    text, *actions = template.split("{{")
    for each in actions:
        action, closed, rest = each.partition("}}")
        if not closed:
            raise InvalidInput("template: log-tag:1: unclosed action", f"the tag is {template[:80]}")
        text += _value(action.removeprefix("-").removesuffix("-").strip(), fields) + rest
    return text


def _value(action: str, fields: Mapping[str, str | Mapping[str, str]]) -> str:
    indexed = _INDEX.fullmatch(action)
    found = indexed or _FIELDS.fullmatch(action)
    if not found:
        raise InvalidInput(
            f"can't understand {{{{{action[:80]}}}}} in the log's tag",
            'a tag may have {{.Name}}, {{.ImageName}}, {{.ID}} and their like, and {{index .ContainerLabels "KEY"}}',
        )
    name = found[1] or found[2]
    if name not in fields:
        raise InvalidInput(
            f'template: log-tag:1:2: executing "log-tag" at <.{name}>: '
            f"can't evaluate field {name} in type *logger.Info",
            f"there are {', '.join(sorted(fields))}",
        )
    value = fields[name]
    keys = [indexed[3] or indexed[4] or ""] if indexed else found[3].split(".")[1:]
    for key in keys:
        if isinstance(value, str):
            raise InvalidInput(f'template: log-tag:1: executing "log-tag" at <.{name}.{key}>: it has no fields')
        value = value.get(key, "" if indexed else "<no value>")
    return value if isinstance(value, str) else f"map[{' '.join(f'{k}:{v}' for k, v in sorted(value.items()))}]"


def attributes(
    container: LoggedContainer, options: Mapping[str, str], rename: Callable[[str], str] = str
) -> dict[str, str]:
    """Return the labels and variables that `options` pick, by their names as `rename` gives them. Docker's order."""
    variables = dict(text.split("=", 1) for text in container.env if "=" in text)
    return {
        rename(name): values[name]
        for kind, values in (("labels", container.labels), ("env", variables))
        for name in _picked(kind, values, options)
    }


def _picked(kind: str, values: Mapping[str, str], options: Mapping[str, str]) -> list[str]:
    names = [name for name in options.get(kind, "").split(",") if name in values]
    if expression := options.get(f"{kind}-regex"):
        names += [name for name in values if expressions.found(expression, name)]
    return names


def check_expressions(options: Mapping[str, str]) -> None:
    """Raise InvalidInput, in Go's words, for an expression that is none."""
    for name in ("labels-regex", "env-regex"):
        try:
            expressions.check(options.get(name, ""))
        except expressions.Malformed as e:
            text = options[name][:80]
            raise InvalidInput(f"error parsing regexp: {e}: `{text}`", f"it is --log-opt {name}") from None
