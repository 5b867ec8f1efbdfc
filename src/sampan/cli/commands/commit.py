"""`sampan commit`: an image of what a container is now."""

from __future__ import annotations

import os

from sampan.cli.command import Call, Command
from sampan.cli.each import container
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.cli.output import say
from sampan.cli.references import named
from sampan.client.jsontext import dumps
from sampan.client.wire import query


def commit(call: Call) -> int:
    """Have the image made and print its id."""
    options = call.options
    repository, tag = _named(call, call.arguments[1]) if len(call.arguments) > 1 else ("", "")
    parameters = query(
        container=call.arguments[0],
        repo=repository,
        tag=tag,
        comment=options["message"],
        author=options["author"],
        pause=str(int(options["pause"])),
        changes=[*(_volumes(call) if options["include-volumes"] else ()), *options["change"]],
        squash=options["squash"],
        epoch=_epoch(),
    )
    id = str(call.session.ask("POST", f"/sampan/commit{parameters}").json()["Id"])
    if options["iidfile"]:
        _write(options["iidfile"], id)
    say(id)
    return 0


def _named(call: Call, name: str) -> tuple[str, str]:
    reference = named(call.session, name)
    if reference.digest:
        raise Failure("refusing to create a tag with a digest reference")
    return reference.name, reference.tag or ""


def _epoch() -> str:
    """Return SOURCE_DATE_EPOCH, "" if it is not set: reproducible-builds.org/specs/source-date-epoch."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise Failure(f"invalid SOURCE_DATE_EPOCH {text!r}", "it is seconds since 1970: date +%s prints them")
    return text


def _volumes(call: Call) -> list[str]:
    """Return as instructions where the container has volumes and binds."""
    mounts = call.session.ask("GET", container(call.arguments[0], "/json")).json()["Mounts"] or ()
    return [f"VOLUME {dumps([mount['Destination']])}" for mount in mounts]


def _write(path: str, id: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(id)
    except OSError as e:
        raise Failure(f"can't write the image's id to {path}: {(e.strerror or '').lower()}") from None


COMMAND = Command(
    "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create an image from what a container has changed",
    commit,
    flags=(
        Flag("author", "string", "Author: 'Jane Doe <jane@example.com>'", short="a"),
        Flag("change", "list", "Apply an instruction of a Dockerfile: 'CMD sh'", short="c"),
        Flag(
            "format",
            "string",
            "oci or docker",
            short="f",
            unsupported="an image is neither until it leaves: push and save have --format",
        ),
        Flag("iidfile", "string", "Write the image's id to this file"),
        Flag("include-volumes", "bool", "Make volumes of the container volumes of the image"),
        Flag("message", "string", "Message in the image's history", short="m"),
        Flag("pause", "bool", "Freeze the container meanwhile", short="p", default=True),
        Flag("quiet", "bool", "Print nothing but the id, as without it", short="q"),
        Flag("squash", "bool", "Make one layer of all files, the image's too", short="s"),
    ),
    arguments=(1, 2),
)
