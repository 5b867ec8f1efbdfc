"""What is told of a build that is done: the id, --iidfile, --metadata-file, the difference that --twice found."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.output import say, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.building.trace import Trace
    from sampan.cli.command import Call
    from sampan.client.wire import Response

    Json = dict[str, Any]


def tell(call: Call, trace: Trace, request: Json) -> None:
    """Write the files that were asked for, print what has to be."""
    options, built = call.options, trace.built
    if built is None:
        raise Failure("the build ended without a result", "the engine's log may say why")
    for output in request.get("outputs", ()):
        if output["attributes"].get("push") == "true":
            _push(call, built, output["attributes"], request.get("annotations", {}))
    id = _id(built)
    if options["iidfile"]:
        _write(options["iidfile"], id)
    if options["metadata-file"]:
        _write(options["metadata-file"], _json(metadata(built)))
    if options["quiet"] and not any(output["attributes"].get("dest") == "-" for output in request.get("outputs", ())):
        say(id)
    if options["twice"]:
        _compare(built)


def _push(call: Call, built: Json, attributes: dict[str, str], annotations: dict[str, str]) -> None:
    """Push each name; progress goes where the build's went."""
    from sampan.cli.progress import show

    quiet = call.options["quiet"] or call.options["progress"] == "rawjson"
    for name in built.get("names", ()):
        answer = _push_index(call, name) if built.get("index") else _push_image(call, name, attributes, annotations)
        show(answer.lines(), stream=2, quiet=quiet)


def _push_image(call: Call, name: str, attributes: dict[str, str], annotations: dict[str, str]) -> Response:
    from sampan.cli.commands.push import ask
    from sampan.cli.references import named

    reference = named(call.session, name)
    return ask(
        call.session,
        reference,
        tag=reference.tag,
        annotation=[f"{key}={value}" for key, value in annotations.items()],
        compressionFormat=attributes.get("compression"),
        compressionLevel=attributes.get("compression-level"),
        forceCompressionFormat=attributes.get("force-compression") == "true",
    )


def _push_index(call: Call, name: str) -> Response:
    from sampan.cli.lists import auths, list_path

    return call.session.ask("POST", list_path(name, "/push"), {"Auths": auths(call.session, [name])})


def _id(built: Json) -> str:
    """Return the digest that stands for the result: the index's where there are several images."""
    images = built.get("images") or [{}]
    return str(built.get("index") or images[0].get("id", ""))


def metadata(built: Json) -> Json:
    """Return what --metadata-file has, in buildx's names."""
    images = built.get("images") or [{}]
    digest = built.get("index") or images[0].get("digest") or ""
    found: Json = {}
    if len(images) == 1:
        found["containerimage.config.digest"] = images[0].get("id", "")
    if digest:
        media_type = "application/vnd.oci.image.index.v1+json" if built.get("index") else (
            "application/vnd.oci.image.manifest.v1+json"
        )  # fmt: skip
        found["containerimage.descriptor"] = {"mediaType": media_type, "digest": digest}
        found["containerimage.digest"] = digest
    if built.get("names"):
        found["image.name"] = ",".join(built["names"])
    return found


def _json(value: Json) -> str:
    import json

    return json.dumps(value, indent=2)


def _compare(built: Json) -> None:
    if not built.get("difference"):
        warn(f"both builds gave {_id(built)}")
        return
    raise Failure(f"the two builds differ: {built['difference']}")


def _write(path: str, text: str) -> None:
    from sampan.kernel.newfile import new_file

    try:
        with new_file(path) as file:
            file.write(text.encode())
    except OSError as e:
        raise Failure(f"can't write {path}: {(e.strerror or '').lower()}") from None
