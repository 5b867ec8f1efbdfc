"""The /images handlers. What takes long answers in lines of progress, and then its errors are lines too."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from sampan.engine.requests import ImagesQuery, MapQuery
from sampan.errors import InvalidInput, SampanError, Unsupported
from sampan.spec import docker
from sampan.spec.distribution import AuthConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.api.call import Call, Lines
    from sampan.spec.distribution import Progress


def list_images(call: Call) -> None:
    """GET /images/json."""
    call.answer(call.engine.list_images(_query(call)))


def tree(call: Call) -> None:
    """GET /sampan/images/tree: images with their layers."""
    call.answer(call.engine.image_tree(_query(call), call.text("name")))


def image_map(call: Call) -> None:
    """GET /sampan/images/{name}/map: where the bytes are."""
    given = {name: call.integer(name) for name in ("depth", "top", "nodes")}
    query = MapQuery(**{name: number for name, number in given.items() if number is not None})
    call.answer(call.engine.image_map(call.path["name"], query))


def _query(call: Call) -> ImagesQuery:
    filters = dict(call.filters())
    if call.text("filter"):  # before 1.41
        filters["reference"] = (*filters.get("reference", ()), call.text("filter"))
    return ImagesQuery(
        all=call.flag("all"), filters=filters, shared_size=call.flag("shared-size"), manifests=call.flag("manifests")
    )


def inspect(call: Call) -> None:
    """GET /images/{name}/json."""
    platform, manifests = call.platform(), call.flag("manifests")
    if platform and manifests:
        raise InvalidInput("conflicting options: manifests and platform options cannot both be set")
    call.answer(call.engine.inspect_image(call.path["name"], platform=platform, manifests=manifests))


def history(call: Call) -> None:
    """GET /images/{name}/history."""
    call.answer(call.engine.history(call.path["name"], call.platform()))


def tag(call: Call) -> None:
    """POST /images/{name}/tag."""
    call.engine.tag(call.path["name"], call.text("repo"), call.text("tag") or None)
    call.done(201)


def untag(call: Call) -> None:
    """POST /sampan/images/{name}/untag: take names away, the image stays."""
    call.answer(call.engine.untag(call.path["name"], call.texts("name")))


def remove(call: Call) -> None:
    """DELETE /images/{name}."""
    if len(call.texts("platforms")) > 1:
        raise InvalidInput("multiple platforms are not supported", "an image here is of one platform")
    force, no_prune, platform = call.flag("force"), call.flag("noprune"), call.platform("platforms")
    call.answer(call.engine.remove_image(call.path["name"], force=force, no_prune=no_prune, platform=platform))


def create(call: Call) -> None:
    """POST /images/create: a pull (`fromImage`) or an import (`fromSrc`)."""
    if call.text("fromImage"):
        _pull(call)
    elif call.text("fromSrc"):
        _import(call)
    else:
        raise InvalidInput("can't create an image: neither fromImage nor fromSrc is given")


def _pull(call: Call) -> None:
    name, tag = call.text("fromImage"), call.text("tag")
    if tag:
        name += f"@{tag}" if ":" in tag else f":{tag}"
    pulling = call.engine.pull(
        name,
        platform=call.platform(),
        auth=call.header("x-registry-auth"),
        policy=call.text("policy") or "always",  # no parameter of Docker's
        retries=call.retries(),
    )
    with progress(call) as lines, closing(pulling), call.if_client_leaves(pulling.close):
        for event in pulling:
            if event.sizes is None or call.flag("sizes"):  # other clients take each line for one with a status
                lines.write(message(event))


def plan_pull(call: Call) -> None:
    """GET /sampan/images/plan: what a pull of `name` would do."""
    auth = call.header("x-registry-auth")
    with call.moving() as moving:
        plan = moving.plan_pull(call.text("name"), platform=call.platform(), auth=auth)
    call.answer(plan)


def _import(call: Call) -> None:
    source = call.text("fromSrc")
    reference = call.text("repo")
    if reference and call.text("tag"):
        reference += f":{call.text('tag')}"
    if source != "-" and not source.startswith("/"):
        raise Unsupported(
            f"unsupported: can't import from {source[:200]}: only from a client's tar or a directory of this machine"
        )
    with progress(call) as lines:
        id = call.engine.import_image(
            call.archive() if source == "-" else source,
            reference,
            changes=call.texts("changes"),
            message=call.text("message"),
            platform=call.text("platform") or None,
        )
        lines.write(docker.ProgressMessage(status=id))


def load(call: Call) -> None:
    """POST /images/load: an archive made by `save`."""
    quiet = call.flag("quiet", default=True)
    with progress(call) as lines:
        loaded = call.engine.load(call.archive(), progress=lambda event: None if quiet else lines.write(message(event)))
        for line in loaded:
            lines.write(docker.ProgressMessage(stream=f"{line}\n"))


@contextmanager
def progress(call: Call) -> Iterator[Lines]:
    """Answer in lines; an error before the first is an answer of its own, a later one a line like the others."""
    lines = call.lines()
    try:
        yield lines
    except SampanError as e:
        if not lines.begun:
            raise
        detail = docker.ErrorDetail(message=e.message, hint=e.hint)
        lines.write(docker.ProgressMessage(error_detail=detail, error=e.message))
    lines.end()


def message(event: Progress) -> docker.ProgressMessage:
    """One line of progress as Docker has it."""
    if event.sizes is not None:
        return docker.ProgressMessage(aux={"Sizes": event.sizes})
    detail = None
    if event.current is not None or event.total is not None:
        detail = docker.ProgressDetail(current=event.current or 0, total=event.total or 0)
    elif event.id and not event.status.startswith("Pulling from"):
        detail = docker.ProgressDetail()  # an empty object: a layer without a bar
    return docker.ProgressMessage(status=event.status, progress_detail=detail, id=event.id or "")


def check_auth(call: Call) -> None:
    """POST /auth: have a registry check credentials, for `docker login`."""
    given = call.body(docker.AuthConfig)
    with call.moving() as moving:
        token = moving.log_in(
            given.serveraddress,
            AuthConfig(username=given.username, password=given.password, identity_token=given.identitytoken),
        )
    call.answer(docker.AuthResponse(status="Login Succeeded", identity_token=token))
