"""Apply Dockerfile instructions to an image's configuration: `--change` of commit and import. Pure.

Docker itself takes no STOPSIGNAL here, Podman no HEALTHCHECK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.build import configuration
from sampan.build.dockerfile import Fault, ast, expand, parse_instructions
from sampan.build.dockerfile.errors import DockerfileError
from sampan.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.image import ExecutionConfig

_INSTRUCTIONS = (
    ast.Cmd, ast.Entrypoint, ast.Env, ast.Expose, ast.Healthcheck, ast.Label, ast.OnBuild, ast.StopSignal, ast.User,
    ast.Volume, ast.Workdir,
)  # fmt: skip
_NAMES = ", ".join(each.__name__.upper() for each in _INSTRUCTIONS)


def apply(config: ExecutionConfig, changes: Iterable[str]) -> ExecutionConfig:
    """Return the configuration after the instructions, one or several in a text. Raises InvalidInput with the line.

    Variables of the environment are replaced where a Dockerfile has them replaced. An ENTRYPOINT does away with the
    command of before, unless a CMD is among the changes: it was for another program.
    """
    text = "\n".join(changes)
    try:
        instructions = parse_instructions(text, "the changes")
    except DockerfileError as e:
        line = text.split("\n")[e.location.start - 1] if e.location else text
        raise InvalidInput(f"can't apply {line!r}: {e.cause}", e.hint) from e
    has_command = False
    for written in instructions:
        if not isinstance(written, _INSTRUCTIONS):
            cause = f"{written.keyword} is not a valid change command"
            raise InvalidInput(f"can't apply {written.text!r}: {cause}", f"it is one of {_NAMES}")
        try:
            environment = dict(each.partition("=")[::2] for each in config.env or ())
            config = configuration.apply(config, expand(written, environment), keeps_command=has_command)
        except Fault as fault:
            raise InvalidInput(f"can't apply {written.text!r}: {fault.cause}", fault.hint) from fault
        has_command = has_command or isinstance(written, ast.Cmd)
    return config
