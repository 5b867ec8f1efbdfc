"""The handlers of indexes that are made here: `sampan manifest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.api.images import message, progress
from sampan.spec import docker
from sampan.spec.lists import AnnotateRequest, ListRequest, PushListRequest

if TYPE_CHECKING:
    from sampan.api.call import Call


def create(call: Call) -> None:
    """POST /sampan/lists."""
    call.answer({"Name": call.engine.moving.create_list(call.body(ListRequest))}, 201)


def add(call: Call) -> None:
    """POST /sampan/lists/{name}/add."""
    request = msgspec.structs.replace(call.body(ListRequest), name=call.path["name"])
    call.answer({"Digest": call.engine.moving.add_to_list(request)})


def annotate(call: Call) -> None:
    """POST /sampan/lists/{name}/annotate."""
    call.engine.moving.annotate_list(call.path["name"], call.body(AnnotateRequest))
    call.done()


def remove(call: Call) -> None:
    """POST /sampan/lists/{name}/remove: one image of it."""
    call.answer({"Digest": call.engine.moving.remove_from_list(call.path["name"], call.text("image"))})


def delete(call: Call) -> None:
    """DELETE /sampan/lists/{name}: all of it."""
    call.engine.moving.delete_list(call.path["name"])
    call.done()


def exists(call: Call) -> None:
    """HEAD /sampan/lists/{name}."""
    call.engine.moving.check_list(call.path["name"])
    call.done()


def inspect(call: Call) -> None:
    """GET /sampan/lists/{name}; with `image` one of its images; what a registry has where there is no such list.

    With `local` registries are not asked.
    """
    if call.flag("local"):
        call.engine.moving.check_list(call.path["name"])
    call.answer(
        call.engine.moving.inspect_list(
            call.path["name"],
            auth=call.header("x-registry-auth"),
            image=call.text("image"),
            verbose=call.flag("verbose"),
        )
    )


def push(call: Call) -> None:
    """POST /sampan/lists/{name}/push, in lines of progress; the last one tells the digest."""
    request = call.body(PushListRequest)
    with progress(call) as lines:
        digest = call.engine.moving.push_list(call.path["name"], request, lambda event: lines.write(message(event)))
        lines.write(docker.ProgressMessage(aux={"Digest": digest}))
