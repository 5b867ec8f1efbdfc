"""Bodies about secrets: Docker's of a swarm, without the swarm."""

from __future__ import annotations

from sampan.spec.docker.body import Body, Given, always


class SecretDriver(Given, frozen=True, kw_only=True):
    """Who keeps it: there is `file`."""

    name: str = always("")
    options: dict[str, str] | None = None


class SecretCreate(Given, frozen=True, kw_only=True):
    """The body of `POST /secrets/create`. The data is in base64 there."""

    name: str = always("")
    labels: dict[str, str] | None = None
    data: bytes = b""
    driver: SecretDriver | None = None
    templating: SecretDriver | None = None


class SecretVersion(Body, frozen=True, kw_only=True):
    """A swarm's count of changes; here 0."""

    index: int = always(0)


class SecretSpec(Body, frozen=True, kw_only=True):
    """What was asked for, without the data."""

    name: str = always("")
    labels: dict[str, str] = always({})
    driver: SecretDriver = always(SecretDriver(name="file"))


class Secret(Body, frozen=True, kw_only=True):
    """One secret. `secret_data`, which is Podman's, is there only where it is asked for, in base64."""

    id: str = always("")
    version: SecretVersion = always(SecretVersion())
    created_at: str = always("")
    updated_at: str = always("")
    spec: SecretSpec = always(SecretSpec())
    secret_data: bytes = b""


class SecretCreateResponse(Body, frozen=True, kw_only=True):
    """The new secret's id."""

    id: str = always("")
