"""`sampan manifest annotate`: what an index says of one of its images."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.lists import PLATFORM, change, list_path


def annotate(call: Call) -> int:
    """Change it; the image itself stays as it is."""
    name, image = call.arguments
    body = {"Image": image, "Change": change(call.options)}
    call.session.ask("POST", list_path(name, "/annotate"), body).read()
    return 0


COMMAND = Command(
    "annotate [OPTIONS] LIST IMAGE|DIGEST",
    "Set what an index says of an image",
    annotate,
    flags=PLATFORM,
    arguments=(2, 2),
)
