"""Where an image is, as skopeo writes it: `docker://NAME`, `oci:PATH:TAG`, `dir:PATH`, `store:NAME` …"""

from __future__ import annotations

import enum
import posixpath

import msgspec

from sampan.errors import InvalidInput, Unsupported


class Transport(enum.StrEnum):
    """The kinds of places. The value is what a location begins with."""

    REGISTRY = "docker"
    LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    DIRECTORY = "dir"
    STORE = "store"


_SPELLINGS = {transport.value: transport for transport in Transport} | {
    "containers-storage": Transport.STORE,
    "docker-daemon": Transport.STORE,
}
_ELSEWHERE = frozenset({"atomic", "ostree", "sif", "tarball"})
_HINT = "a place reads docker://NAME, oci:PATH[:TAG], oci-archive:PATH[:TAG], docker-archive:PATH[:NAME], dir:PATH or store:NAME"  # fmt: skip  # noqa: E501


class Location(msgspec.Struct, frozen=True):
    """One image at one place. `path` is a file or directory of this machine; `name` a reference, a tag, or nothing."""

    transport: Transport
    path: str = ""
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read `transport:rest`; in the rest a path ends at its first colon. Raises InvalidInput in skopeo's words."""
        word, colon, rest = text.partition(":")
        if not colon:
            raise InvalidInput(
                f'Invalid image name "{text[:300]}", expected colon-separated transport:reference', _HINT
            )
        transport = _SPELLINGS.get(word)
        if transport is None:
            if word in _ELSEWHERE:
                raise Unsupported(f"unsupported: the transport {word}", _HINT)
            raise InvalidInput(f'Invalid image name "{text[:300]}", unknown transport "{word[:100]}"', _HINT)
        match transport:
            case Transport.REGISTRY:
                if not rest.startswith("//"):
                    raise InvalidInput(f"docker: image reference {rest[:300]} does not start with //", "docker://NAME")
                return cls(transport, name=_given(rest[2:], text))
            case Transport.STORE:
                if rest.startswith("["):
                    raise Unsupported("unsupported: another store than this engine's", "leave [...] out: store:NAME")
                return cls(transport, name=_given(rest, text))
            case Transport.DIRECTORY:
                return cls(transport, path=_given(rest, text))
            case _:
                path, _, name = rest.partition(":")
                return cls(transport, path=_given(path, text), name=name)

    @property
    def is_local(self) -> bool:
        """Whether it is a file or directory."""
        return bool(self.path)

    def absolute(self, directory: str) -> Location:
        """The same with its path made absolute from `directory`."""
        if not self.path:
            return self
        return Location(self.transport, posixpath.normpath(posixpath.join(directory, self.path)), self.name)

    def __str__(self) -> str:
        if self.transport is Transport.REGISTRY:
            return f"docker://{self.name}"
        return ":".join(part for part in (self.transport, self.path, self.name) if part)


def _given(rest: str, text: str) -> str:
    if not rest or "\0" in rest:
        raise InvalidInput(f'Invalid image name "{text[:300]}": nothing is named', _HINT)
    if not rest.isascii() and rest != rest.encode(errors="replace").decode():
        raise InvalidInput("Invalid image name: it is not in UTF-8", "rename the file, or give it a link")
    return rest
