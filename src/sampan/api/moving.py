"""The handlers of images that move: push, save, copy; and of images looked at where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.api.images import message, progress
from sampan.engine.pushing import Leaving, compression_of
from sampan.errors import InvalidInput
from sampan.image.compression import Compression
from sampan.image.manifest import Format
from sampan.image.outgoing import Options
from sampan.spec import docker
from sampan.spec.copying import CopyRequest
from sampan.spec.distribution import MediaType

if TYPE_CHECKING:
    from sampan.api.call import Call
    from sampan.engine.pushing import PushResult
    from sampan.http11.channel import Stream


def push(call: Call) -> None:
    """POST /images/{name}/push: Docker's, with the names of podman's API for what it has beside."""
    options = Options(
        format=Format.parse(call.text("format")),
        compression=compression_of(call.text("compressionFormat"), call.integer("compressionLevel")),
        force=call.flag("forceCompressionFormat"),
        annotations=_annotations(call.texts("annotation")),
    )
    auth = call.header("x-registry-auth")
    with progress(call) as lines, call.moving() as moving:

        def pushed(result: PushResult) -> None:
            lines.write(docker.ProgressMessage(aux=msgspec.to_builtins(result)))

        moving.push(
            call.path["name"],
            call.text("tag"),
            Leaving(platform=call.platform(), options=options),
            auth=auth,
            progress=lambda event: lines.write(message(event)),
            pushed=pushed,
        )


def save(call: Call) -> None:
    """GET /images/get, and of one image GET /images/{name}/get."""
    names = (call.path["name"],) if "name" in call.path else call.texts("names")
    format = call.text("format", "docker-archive")
    if format not in ("docker-archive", "oci-archive"):
        raise InvalidInput(f"unknown format {format[:100]!r}", "there are docker-archive and oci-archive")
    docker_archive = format == "docker-archive"
    options = Options(
        format=None if docker_archive else Format.OCI,
        compression=Compression("gzip" if call.flag("compress") else "none"),
        lengths=not docker_archive,
    )
    opened: list[Stream] = []

    def out(notes: tuple[str, ...]) -> Stream:
        text = "; ".join(notes)
        headers = {"Sampan-Notes": "".join(c if c.isprintable() else " " for c in text)} if notes else None
        opened.append(call.stream("application/x-tar", headers))
        return opened[0]

    with call.moving() as moving:
        moving.save(names, Leaving(platform=call.platform(), options=options), docker=docker_archive, out=out)
    opened[0].end()


def _annotations(given: tuple[str, ...]) -> dict[str, str] | None:
    pairs = dict(text.partition("=")[::2] for text in given)
    if "" in pairs:
        raise InvalidInput("invalid annotation: it reads NAME=VALUE")
    return pairs or None


def copy(call: Call) -> None:
    """POST /sampan/copy: from place to place, in lines of progress; the last one tells the digest."""
    request = call.body(CopyRequest)
    with progress(call) as lines, call.moving() as moving:
        digest = moving.copy(request, lambda event: lines.write(message(event)))
        lines.write(docker.ProgressMessage(aux={"Digest": digest}))


def inspect(call: Call) -> None:
    """GET /sampan/remote: an image where it is; with `raw` its manifest, with `config` its configuration as it is."""
    name, auth = call.text("name"), call.header("x-registry-auth")
    wanted = call.platform()
    if call.flag("config"):
        with call.moving() as moving:
            raw = moving.config(name, auth=auth, platform=wanted)
        call.answer_bytes(raw, MediaType.OCI_CONFIG)
    elif call.flag("raw"):
        with call.moving() as moving:
            document = moving.manifest(name, auth=auth)
        call.answer_bytes(document.raw, document.media_type)
    else:
        with call.moving() as moving:
            found = moving.inspect(name, auth=auth, platform=wanted, tags=call.flag("tags", default=True))
        call.answer(found)


def list_tags(call: Call) -> None:
    """GET /sampan/remote/tags."""
    with call.moving() as moving:
        found = moving.tags(call.text("name"), auth=call.header("x-registry-auth"))
    call.answer(found)


def delete(call: Call) -> None:
    """DELETE /sampan/remote: the image, of a registry."""
    with call.moving() as moving:
        digest = moving.delete(call.text("name"), auth=call.header("x-registry-auth"))
    call.answer({"Digest": digest})


def distribution(call: Call) -> None:
    """GET /distribution/{name}/json."""
    with call.moving() as moving:
        found = moving.distribution(call.path["name"], auth=call.header("x-registry-auth"))
    call.answer(found)
