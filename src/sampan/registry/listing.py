"""Lists: tags, repositories, referrers; and the question whether this is a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.registry import pages
from sampan.registry.refusal import Refusal
from sampan.spec.distribution import Descriptor, MediaType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.registry.call import Call

_JSON = "application/json"
_PAGE_BYTES = 2 << 20  # of referrers: their annotations may be long, and the answer is to stay below 4 MiB


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    manifests: tuple[Descriptor, ...]
    schema_version: int = 2
    media_type: str = MediaType.OCI_INDEX


def base(call: Call) -> None:
    """`GET /v2/`: this is a registry, and you may use it."""
    call.answer(b"{}", _JSON)


def catalog(call: Call) -> None:
    """`GET /v2/_catalog`: the repositories that have a manifest."""
    names, headers = _page(call, call.repositories.names())
    call.answer(msgspec.json.encode({"repositories": names}), _JSON, headers)


def tags(call: Call) -> None:
    """`GET …/tags/list`."""
    if not call.repositories.knows(call.name):
        raise Refusal("NAME_UNKNOWN", "repository name not known to registry", detail={"name": call.name})
    names, headers = _page(call, call.repositories.tags(call.name))
    call.answer(msgspec.json.encode({"name": call.name, "tags": names}), _JSON, headers)


def _page(call: Call, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    n = pages.size(call.query("n"))
    found, more = pages.page(names, n, call.query("last"))
    return found, {"Link": pages.link(call.path, n, found[-1])} if more else {}


def referrers(call: Call) -> None:
    """`GET …/referrers/<digest>`: what is attached to a manifest, which need not exist."""
    artifact_type = call.query("artifactType")
    n = pages.size(call.query("n"))
    digests, more = pages.page(call.repositories.referrers(call.name, call.last), n, call.query("last"))
    found, size, last = [], 0, ""
    for digest in digests:
        if size > _PAGE_BYTES:
            more = True
            break
        last = digest
        one = call.repositories.referrer(call.name, call.last, digest)
        if one is not None and (not artifact_type or one.artifact_type == artifact_type):
            found.append(one)
            size += len(msgspec.json.encode(one))
    headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
    if more:
        kept = {"artifactType": artifact_type} if artifact_type else {}
        headers["Link"] = pages.link(call.path, n, last, kept)
    call.answer(msgspec.json.encode(_Index(tuple(found))), MediaType.OCI_INDEX, headers)
