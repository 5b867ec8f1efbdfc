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
    with call.moving() as moving:
        name = moving.create_list(call.body(ListRequest))
    call.answer({"Name": name}, 201)


def add(call: Call) -> None:
    """POST /sampan/lists/{name}/add."""
    request = msgspec.structs.replace(call.body(ListRequest), name=call.path["name"])
    with call.moving() as moving:
        digest = moving.add_to_list(request)
    call.answer({"Digest": digest})


def annotate(call: Call) -> None:
    """POST /sampan/lists/{name}/annotate."""
    with call.moving() as moving:
        moving.annotate_list(call.path["name"], call.body(AnnotateRequest))
    call.done()


def remove(call: Call) -> None:
    """POST /sampan/lists/{name}/remove: one image of it."""
    with call.moving() as moving:
        digest = moving.remove_from_list(call.path["name"], call.text("image"))
    call.answer({"Digest": digest})


def delete(call: Call) -> None:
    """DELETE /sampan/lists/{name}: all of it."""
    with call.moving() as moving:
        moving.delete_list(call.path["name"])
    call.done()


def exists(call: Call) -> None:
    """HEAD /sampan/lists/{name}."""
    with call.moving() as moving:
        moving.check_list(call.path["name"])
    call.done()


def inspect(call: Call) -> None:
    """GET /sampan/lists/{name}; with `image` one of its images; what a registry has where there is no such list.

    With `local` registries are not asked.
    """
    name, auth = call.path["name"], call.header("x-registry-auth")
    with call.moving() as moving:
        if call.flag("local"):
            moving.check_list(name)
        found = moving.inspect_list(name, auth=auth, image=call.text("image"), verbose=call.flag("verbose"))
    call.answer(found)


def push(call: Call) -> None:
    """POST /sampan/lists/{name}/push, in lines of progress; the last one tells the digest."""
    request = call.body(PushListRequest)
    with progress(call) as lines, call.moving() as moving:
        digest = moving.push_list(call.path["name"], request, lambda event: lines.write(message(event)))
        lines.write(docker.ProgressMessage(aux={"Digest": digest}))
