"""Download a file, as ADD does: mode 0600, the time that the server says, the digest computed on the way."""

from __future__ import annotations

import email.utils
import hashlib
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError

from sampan import __version__
from sampan.build.remotes import shown
from sampan.errors import Failed, InvalidInput, NotFound, doing
from sampan.image import trust
from sampan.image.proxies import proxy_for

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

_CONNECT_S, _READ_S = 15, 60
_REDIRECTS = 10  # as Go's http.Client
_PIECE = 1 << 18
_CHECKSUM = re.compile("sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


def download(url: str, path: str, checksum: str = "") -> str:
    """Write what `url` gives to the new file `path`; return its digest, which must be `checksum` if that is given."""
    algorithm = checksum.partition(":")[0] if checksum else "sha256"
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise InvalidInput(f"can't check {shown(url)}: invalid digest {checksum[:100]!r}", "sha256:…")
    with doing(f"can't download {shown(url)}"):
        try:
            with _open(url) as response:
                digest = _write(response, path, hashlib.new(algorithm))
                _set_time(path, response.headers.get("Last-Modified"))
        except HTTPError as e:
            raise Failed(_reason(e), "is the address right, and can this machine reach it?") from e
        if checksum and digest != checksum:
            raise Failed(
                f"digest mismatch {digest}: {checksum}", "the file is another one than when --checksum was written"
            )
    return digest


def _open(url: str) -> BaseHTTPResponse:
    for _ in range(_REDIRECTS + 1):
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"it leads to {shown(url)}, which is neither http nor https")
        response = _pool(url).request(
            "GET",
            url,
            # Not compressed on the way: what comes is the file.
            headers={"User-Agent": f"sampan/{__version__}", "Accept-Encoding": "identity"},
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
        )
        location = response.get_redirect_location()
        if not location:
            break
        response.close()
        url = urljoin(url, location)
    else:
        raise Failed(f"stopped after {_REDIRECTS} redirects")
    if response.status >= 400:
        response.close()
        text = f"invalid response status {response.status}"
        raise NotFound(text) if response.status in {404, 410} else Failed(text)
    return response


def _pool(url: str) -> urllib3.PoolManager:
    tls = trust.context((), ours=None, verify=True) if url.startswith("https://") else None
    proxy = proxy_for(url, os.environ)
    if proxy is not None:
        return urllib3.ProxyManager(proxy, ssl_context=tls)
    return urllib3.PoolManager(ssl_context=tls)


def _write(response: BaseHTTPResponse, path: str, digest: hashlib._Hash) -> str:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0) as file:
        for piece in response.stream(_PIECE, decode_content=False):
            digest.update(piece)
            file.write(piece)
    return f"{digest.name}:{digest.hexdigest()}"


def _set_time(path: str, last_modified: str | None) -> None:
    """As the server says; without a word of it the epoch, as in BuildKit, so that the layer is the same each time."""
    seconds = 0
    if last_modified:
        parsed = email.utils.parsedate_tz(last_modified)
        seconds = email.utils.mktime_tz(parsed) if parsed is not None else 0
    os.utime(path, (seconds, seconds))


def _reason(error: HTTPError) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    return (cause.strerror.lower() if isinstance(cause, OSError) and cause.strerror else str(cause))[:300]
