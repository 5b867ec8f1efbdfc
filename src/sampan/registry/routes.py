"""From a request's path to one of the specification's endpoints. Pure; nothing that fails the grammar gets through."""

from __future__ import annotations

import enum
from typing import NamedTuple
from urllib.parse import unquote

from sampan.ids import is_digest
from sampan.registry.refusal import Refusal
from sampan.spec.reference import is_repository

_LONGEST = 2048


class Endpoint(enum.Enum):
    """The paths that there are, as the specification writes them."""

    BASE = "/v2/"
    CATALOG = "/v2/_catalog"
    TAGS = "/v2/<name>/tags/list"
    MANIFEST = "/v2/<name>/manifests/<reference>"
    BLOB = "/v2/<name>/blobs/<digest>"
    UPLOADS = "/v2/<name>/blobs/uploads/"
    UPLOAD = "/v2/<name>/blobs/uploads/<reference>"
    REFERRERS = "/v2/<name>/referrers/<digest>"


class Route(NamedTuple):
    """An endpoint with the variables of its path: `last` is the digest, reference or upload that it ends with."""

    endpoint: Endpoint
    name: str = ""
    last: str = ""


def find(path: str) -> Route:
    """Return the route of a percent-encoded path. Raises Refusal."""
    if len(path) > _LONGEST:
        raise Refusal("NAME_INVALID", "the path is too long")
    parts = unquote(path).split("/")
    match parts:
        case ["", "v2"] | ["", "v2", ""]:
            return Route(Endpoint.BASE)
        case ["", "v2", "_catalog"]:
            return Route(Endpoint.CATALOG)
        case ["", "v2", *name, "tags", "list"]:
            return _named(Endpoint.TAGS, name)
        case ["", "v2", *name, "manifests", reference]:
            return _named(Endpoint.MANIFEST, name, reference)
        case ["", "v2", *name, "blobs", "uploads"] | ["", "v2", *name, "blobs", "uploads", ""]:
            return _named(Endpoint.UPLOADS, name)
        case ["", "v2", *name, "blobs", "uploads", upload]:
            return _named(Endpoint.UPLOAD, name, upload)
        case ["", "v2", *name, "blobs", digest]:
            return _named(Endpoint.BLOB, name, check_digest(digest))
        case ["", "v2", *name, "referrers", digest]:
            return _named(Endpoint.REFERRERS, name, check_digest(digest))
        case _:
            raise Refusal("UNSUPPORTED", "there is no such endpoint", status=404)


def _named(endpoint: Endpoint, name: list[str], last: str = "") -> Route:
    return Route(endpoint, check_name("/".join(name)), last)


def check_name(name: str) -> str:
    """Return a repository's name as it is. Raises Refusal."""
    if not is_repository(name):
        raise Refusal("NAME_INVALID", "invalid repository name", detail={"name": name[:300]})
    return name


def check_digest(digest: str) -> str:
    """Return a digest as it is. Raises Refusal."""
    if not is_digest(digest):
        raise Refusal("DIGEST_INVALID", "not a sha256 or sha512 digest", detail={"digest": digest[:300]})
    return digest
