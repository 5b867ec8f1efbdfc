"""Places of images on the command line: `docker://NAME`, `oci:PATH:TAG` …; paths are made absolute."""

from __future__ import annotations

import os

from sampan.cli.failure import Failure
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.spec.location import Location

_FILES = ("oci:", "oci-archive:", "docker-archive:", "dir:")
_PATHS = ("/", "./", "../")


def is_place(text: str) -> bool:
    """Tell a place from an image's name: oci:1.0 may be either, and is a place where a path is plain: oci:./1.0."""
    if text.startswith("docker://"):
        return True
    rest = next((text[len(start) :] for start in _FILES if text.startswith(start)), "")
    return rest.startswith(_PATHS)


def located(text: str, default: str = "") -> Location:
    """Read a place; with `default`, a transport, a mere name is one of that."""
    from sampan.spec.location import Location

    try:
        if default and not is_place(text):
            text = f"{default}{text}"
        return Location.parse(text).absolute(os.getcwd())
    except SampanError as e:
        raise Failure(e.message, e.hint) from None


def named_place(text: str) -> Location:
    """Read where a push goes, as Podman does: a transport wins over an image's name, and else it is a registry."""
    return located(text, "" if text.startswith(_FILES) else "docker://")


def auth_for(session: Session, location: Location, creds: str = "") -> dict[str, str]:
    """Return the header with the credentials for a place: the given `user:password`, else those of config.json."""
    from sampan.cli.credentials import headers_for
    from sampan.cli.references import named
    from sampan.spec.location import Transport

    if location.transport is not Transport.REGISTRY:
        return {}
    reference = named(session, location.name)
    return headers_for(session, reference.registry, reference.repository, creds)
