"""Names of images, by distribution's grammar: `[registry[:port]/]repository[:tag][@digest]`.

Short names mean docker.io, and one-word ones its `library/`, as in Docker. The first component is a registry if it has
a dot or a colon, is `localhost`, or has an upper-case letter. Source: distribution/reference, regexp.go, normalize.go.
"""

from __future__ import annotations

import re

import msgspec

from sampan.errors import InvalidInput

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_REPOSITORY_MAX = 255
_OFFICIAL = "library/"
_LEGACY_DEFAULT_REGISTRY = "index.docker.io"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_BARE_ID = re.compile(r"[a-f0-9]{64}")
_KNOWN_DIGESTS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(msgspec.Struct, frozen=True, order=True):
    """One image's name. At least one of `tag` and `digest` is there when made by `parse`."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str, default_registry: str = DEFAULT_REGISTRY) -> Reference:
        """Read a name as people write it; with neither tag nor digest the tag is `latest`. Raises InvalidInput.

        A name without a registry is in `default_registry`.
        """
        name, digest = _split_digest(text)
        name, tag = _split_tag(name)
        registry, repository = _split_registry(name, default_registry)
        _check(text, registry, repository)
        if tag is not None and not _TAG.fullmatch(tag):
            raise _invalid(text, f"{tag[:140]!r} can't be a tag")
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/library/debian`."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return self.name + self._suffix()

    def familiar(self) -> str:
        """The form that people read and write: without docker.io and its `library/`."""
        return self.familiar_name() + self._suffix()

    def familiar_name(self) -> str:
        """`familiar()` without tag and digest."""
        # docker.io/localhost/app is not localhost/app, which Docker makes of it.
        if self.registry != DEFAULT_REGISTRY or has_registry(self.repository):
            return self.name
        bare = self.repository.removeprefix(_OFFICIAL)
        return bare if "/" not in bare else self.repository

    def with_tag(self, tag: str) -> Reference:
        """The same repository at `tag`, without a digest."""
        return Reference(self.registry, self.repository, tag)

    def with_digest(self, digest: str) -> Reference:
        """The same repository at `digest`, without a tag."""
        return Reference(self.registry, self.repository, None, digest)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def is_whole(text: str) -> bool:
    """Tell whether a name has a tag or a digest of its own."""
    return "@" in text or ":" in text.rpartition("/")[2]


def is_repository(text: str) -> bool:
    """Tell whether `text` can be a repository's name within a registry."""
    return len(text) <= _REPOSITORY_MAX and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Tell whether `text` can be a tag."""
    return _TAG.fullmatch(text) is not None


def _split_digest(text: str) -> tuple[str, str | None]:
    name, at, digest = text.partition("@")
    if not at:
        return name, None
    if not _DIGEST.fullmatch(digest):
        raise _invalid(text, f"{digest[:140]!r} is no digest")
    algorithm, _, digits = digest.partition(":")
    if len(digits) != _KNOWN_DIGESTS.get(algorithm) or digits != digits.lower():
        raise InvalidInput(f"invalid reference format: {text!r}: invalid checksum digest length or algorithm")
    return name, digest


def _split_tag(name: str) -> tuple[str, str | None]:
    # A colon before the last slash belongs to a port.
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, None
    return head, tag


def has_registry(name: str) -> bool:
    """Tell whether a name says which registry it is in."""
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost" or first != first.lower())


def is_registry(text: str) -> bool:
    """Tell whether `text` is a registry: `host[:port]`."""
    return _REGISTRY.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Tell whether `text` is a registry, or one and the beginning of a repository's name."""
    registry, slash, repository = text.partition("/")
    return is_registry(registry) and (not slash or _REPOSITORY.fullmatch(repository) is not None)


def _split_registry(name: str, default_registry: str) -> tuple[str, str]:
    registry, repository = name.split("/", 1) if has_registry(name) else (default_registry, name)
    if registry == _LEGACY_DEFAULT_REGISTRY:
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    return registry, repository


def _check(text: str, registry: str, repository: str) -> None:
    if _BARE_ID.fullmatch(text):
        raise InvalidInput(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    if not _REGISTRY.fullmatch(registry):
        raise _invalid(text, f"{registry[:140]!r} can't be a registry")
    if repository != repository.lower() and _REPOSITORY.fullmatch(repository.lower()):
        raise InvalidInput(f"invalid reference format: repository name ({repository}) must be lowercase")
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(text, f"{repository[:140]!r} can't be a repository")
    if len(repository) > _REPOSITORY_MAX:
        raise _invalid(text, f"repository name must not be more than {_REPOSITORY_MAX} characters")


def _invalid(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"invalid reference format: {text[:300]!r}: {why}",
        "an image's name reads [registry[:port]/]repository[:tag][@digest], like debian:bookworm",
    )
