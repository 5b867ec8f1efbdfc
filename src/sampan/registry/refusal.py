"""What a client is told when it can't have what it asked for: the specification's codes, and their status."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "PAGINATION_NUMBER_INVALID": 400,
    "SIZE_INVALID": 400,
    "TAG_INVALID": 400,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNKNOWN": 500,
    "UNSUPPORTED": 405,
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refusal(Exception):
    """A request is answered with one of the specification's error codes."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 0,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status or _STATUS[code]
        self.detail = detail
        self.headers = headers or {}

    def document(self) -> bytes:
        """Return the body of the answer."""
        error = {"code": self.code, "message": self.message}
        return msgspec.json.encode({"errors": [error if self.detail is None else {**error, "detail": self.detail}]})


def from_os_error(error: OSError) -> Refusal:
    """Tell a client that the disk is full, or only that it isn't the client's fault: paths are none of its business."""
    if error.errno in _FULL:
        return Refusal("UNKNOWN", "the registry has no space left", status=507)
    return Refusal("UNKNOWN", "the registry can't read or write its own files")
