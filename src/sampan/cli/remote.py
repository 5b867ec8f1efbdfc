"""`sampan inspect docker://NAME`: an image where it is, in skopeo's JSON."""

from __future__ import annotations

from sampan.cli.failure import UsageError
from sampan.cli.output import write, write_all
from sampan.cli.places import auth_for, located
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.command import Call


def inspect_place(call: Call) -> int:
    """Print what is known of the image; with --raw its manifest, with --config its configuration."""
    import json

    options = call.options
    if len(call.arguments) > 1:
        raise UsageError("one image that is not in the store can be inspected at a time")
    place = located(call.arguments[0])
    parameters = query(
        name=str(place),
        raw=options["raw"],
        config=options["config"],
        platform=options["platform"],
        tags="0" if options["no-tags"] else None,
    )
    headers = auth_for(call.session, place, options["creds"])
    answer = call.session.ask("GET", f"/sampan/remote{parameters}", None, headers)
    if options["raw"]:
        write_all(1, answer.read())
    elif options["format"] not in ("", "json"):
        from sampan.cli.inspect_template import executed
        from sampan.cli.templated import parsed

        write(executed(parsed(options["format"]), answer.json()) + "\n")
    else:
        indent = 4 if options["format"] == "" else None
        write(json.dumps(answer.json(), indent=indent, ensure_ascii=False) + "\n")
    return 0
