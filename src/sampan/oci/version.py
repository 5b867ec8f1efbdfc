"""The versions of the runtime specification that are understood."""

from __future__ import annotations

from sampan.errors import InvalidInput

OCI_VERSION = "1.2.1"
OCI_VERSION_MIN = "1.0.0"
_MAJOR = "1"


def check(version: str) -> None:
    """Refuse a configuration of another major version; a newer minor one only adds, and what it adds is ignored."""
    numbers = version.partition("-")[0].partition("+")[0].split(".")
    if len(numbers) != 3 or not all(n.isdecimal() for n in numbers):
        raise InvalidInput(f"$.ociVersion: {version!r} is no version of the form 1.2.3")
    if numbers[0] != _MAJOR:
        raise InvalidInput(
            f"$.ociVersion: version {version} of the specification is not supported",
            f"this runtime knows {OCI_VERSION_MIN} to {OCI_VERSION}",
        )
