"""What `--link` tells a program on the default bridge of another container, in Docker's first years' way; its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.engine.core import encode
from sampan.engine.endpoints import parse_link
from sampan.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.network import Endpoint
    from sampan.spec.runtime import Spec

_NOT_PASSED = frozenset({"HOME", "PATH"})


def with_links(core: Core, container: Container, endpoints: Sequence[Endpoint], spec: Spec) -> Spec:
    """Return the configuration with the variables of all links; what the user sets stays as it is."""
    default = core.networks.default.id
    links = [(alias, id) for e in endpoints if e.network == default for alias, id in e.links.items()]
    process = spec.process
    if not links or process is None:
        return spec
    known = {text.partition("=")[0] for text in process.env}
    new = [
        f"{name}={value}"
        for alias, id in links
        if (other := core.registry.get(id)) is not None
        for name, value in _variables(container.name, alias, other, default)
        if name not in known
    ]
    return msgspec.structs.replace(spec, process=msgspec.structs.replace(process, env=(*process.env, *new)))


def _variables(name: str, alias: str, other: Container, network: str) -> Iterator[tuple[str, str]]:
    """Yield the variables of one link; moby, daemon/links/links.go."""
    prefix = alias.upper().replace("-", "_")
    address = next((e.ipv4 for e in other.state.endpoints if e.network == network), "")
    ports = sorted(_ports(other))
    for index, (_, port, protocol) in enumerate(ports):
        url = f"{protocol}://{address}:{port}"
        if index == 0:
            yield f"{prefix}_PORT", url
        start = f"{prefix}_PORT_{port}_{protocol.upper()}"
        yield start, url
        yield f"{start}_ADDR", address
        yield f"{start}_PORT", str(port)
        yield f"{start}_PROTO", protocol
    yield f"{prefix}_NAME", f"/{name}/{alias}"
    for text in other.body.env or ():
        variable, equals, value = text.partition("=")
        if equals and variable not in _NOT_PASSED:
            yield f"{prefix}_ENV_{variable}", value


def _ports(container: Container) -> Iterator[tuple[bool, int, str]]:
    """Yield the exposed ports so that they sort as Docker sorts them: TCP first, then by number."""
    for text in container.body.exposed_ports or {}:
        port, _, protocol = text.partition("/")
        yield protocol not in ("", "tcp"), int(port), protocol or "tcp"


def unlink(core: Core, ref: str) -> None:
    """Take away a link, "container/alias": `rm --link`. What variables told of it stays told."""
    name, _, alias = ref.strip("/").rpartition("/")
    if not name:
        core.registry.find(alias)
        raise Conflict(
            "Conflict, cannot remove the default link name of the container", "a link is named as CONTAINER/ALIAS"
        )
    missing = NotFound(
        f"No such container: {name}/{alias}", "HostConfig.Links of `sampan inspect` has a container's links"
    )
    try:
        container = core.registry.find(name)
    except NotFound:
        raise missing from None
    with container.lock:
        host_config = container.body.host_config
        left = tuple(text for text in host_config.links or () if parse_link(text)[1] != alias)
        if len(left) == len(host_config.links or ()):
            raise missing
        host_config = msgspec.structs.replace(host_config, links=left or None)
        container.body = msgspec.structs.replace(container.body, host_config=host_config)
        core.store.set_body(container.id, encode(container.body))
        if container.sandbox:
            container.sandbox.unlink(alias)
