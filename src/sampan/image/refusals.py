"""What a registry's answer that is no success means to the user, in Docker's words."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import Failed, InvalidInput, NotFound, NotPermitted, SampanError, Unsupported
from sampan.spec.decoding import decode_json
from sampan.spec.document import UNREADABLE

if TYPE_CHECKING:
    from sampan.image.transport import Answer
    from sampan.spec.reference import Reference

_LARGEST = 1 << 20
_DENIED = frozenset(("DENIED", "UNAUTHORIZED"))


class Error(msgspec.Struct, frozen=True):
    """One of an answer's errors; distribution-spec, "Error Codes"."""

    code: str = ""
    message: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.code.lower().replace("_", " "), self.message) if part)


class _Errors(msgspec.Struct, frozen=True):
    errors: tuple[Error, ...] = ()
    details: str = ""  # what some token servers say


def errors_of(body: bytes) -> tuple[Error, ...]:
    """Read the body of a refusal; one that can't be read says nothing."""
    try:
        told = decode_json(body, _Errors)
    except UNREADABLE:
        return ()
    return told.errors or ((Error(message=told.details),) if told.details else ())


def explain(answer: Answer, reference: Reference, doing: str) -> SampanError:
    """Return the error for an answer, whose body is read. `doing` is the verb: pull, push, delete."""
    try:
        errors = errors_of(answer.document(_LARGEST, "the registry's answer"))
    except SampanError:
        errors = ()
    status = answer.status
    first = errors[0] if errors else Error()
    words = ", ".join(str(error)[:1000] for error in errors[:10])
    if status in (401, 403) or first.code in _DENIED:
        return denied(reference, doing, words or _plain(status))
    if first.code == "NAME_UNKNOWN":
        return NotFound(f"repository {reference.familiar_name()} not found: {words}")
    if status == 404:
        return _not_found(reference, doing, first, words)
    if status == 429:
        return Failed(
            f"toomanyrequests: {first.message or 'the registry refuses more requests for now'}", "try again later"
        )
    if status == 405 or first.code == "UNSUPPORTED":
        return Unsupported(
            f"can't {doing} {reference.familiar()}: the registry does not support it: {words or _plain(status)}",
            "many registries don't allow it, or have to be told to" if doing == "delete" else "",
        )
    cls = InvalidInput if status in (400, 413, 416, 422) else Failed
    unexpected = f"received unexpected HTTP status: {status} {phrase(status)}".rstrip()
    return cls(f"can't {doing} {reference.familiar()}: {words or unexpected}")


def _not_found(reference: Reference, doing: str, first: Error, words: str) -> SampanError:
    if doing == "push":
        return NotFound(f"can't push {reference.familiar()}: {words or 'not found'}")
    what = words if first.code else "manifest unknown: manifest unknown"
    return NotFound(f"manifest for {reference.familiar()} not found: {what}")


def denied(reference: Reference, doing: str, cause: str) -> NotPermitted:
    """Return the error of one who may not, with Docker's first words."""
    hint = "check the name, and log in: `sampan login " + reference.registry + "`"
    if doing == "pull":
        return NotPermitted(
            f"pull access denied for {reference.familiar_name()}, repository does not exist or may require "
            f"'docker login': {cause}",
            hint,
        )
    return NotPermitted(f"{doing} access denied for {reference.familiar_name()}: {cause}", hint)


def _plain(status: int) -> str:
    if status == 401:
        return "unauthorized: authentication required"
    return "denied" if status == 403 else f"HTTP status {status} {phrase(status)}".rstrip()


def phrase(status: int) -> str:
    """Return what a status is called, "" for one that has no name."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
