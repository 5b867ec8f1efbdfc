"""A container's own files in /etc: written when it is made and at each start, and kept right while it runs.

They are bind mounts out of its directory: what is written into them the container sees, and commit leaves them out.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from sampan import ids
from sampan.engine import endpoints, files
from sampan.engine.files import Networked
from sampan.engine.merge import joined
from sampan.errors import doing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.engine.core import Core
    from sampan.engine.registry import Container
    from sampan.spec.docker import HostConfig
    from sampan.spec.network import Endpoint

_LARGEST = 1 << 20
_changing = threading.Lock()


def write_files(core: Core, container: Container) -> None:
    """Write /etc/hosts and its like where they have changed, unless they are another container's."""
    for path, text in own_files(core, container).items():
        if container.written.get(path) != text:
            with doing(f"can't write {path}"):
                files.put(path, text)
            container.written[path] = text


def own_files(core: Core, container: Container) -> dict[str, str]:
    """Return the texts of the container's own files by their paths."""
    host_config = container.body.host_config
    if joined(host_config.network_mode):
        return {}
    name, names = _name(core, container), _names(core, container)
    found = files.texts(host_config, name, names, networked(core, container))
    directory = core.dirs.container(container.id)
    return {f"{directory}/{file}": text for file, text in found.items()}


def _name(core: Core, container: Container) -> str:
    return core.spec(container).hostname or shared_host_name(core, container.body.host_config)


def _names(core: Core, container: Container) -> str:
    return files.full_names(_name(core, container), container.body.domainname)


def shared_host_name(core: Core, host_config: HostConfig) -> str:
    """Return the host name of who shares its UTS namespace: another container, or the host."""
    other = joined(host_config.uts_mode)
    if not other:
        return os.uname().nodename
    container = core.registry.find(other)
    return container.body.hostname or container.id[:12]


# -------------------------------------------------------------------------------------------------- its networks


def networked(core: Core, container: Container) -> Networked:
    """Return what a container's networks put into its files."""
    places = places_of(container)
    return Networked(
        addresses=addresses(places),
        linked=_linked(core, places),
        gateways=_gateways(core, places),
        resolver=has_resolver(core, container),
        ipv6=_has_ipv6(places),
    )


def places_of(container: Container) -> tuple[Endpoint, ...]:
    """Return a running container's places on networks."""
    return container.sandbox.endpoints if container.sandbox else ()


def has_resolver(core: Core, container: Container) -> bool:
    """Whether a container has a name server of its own: on a network with names, and where it would have none else."""
    places = places_of(container)
    if not places:
        return False
    if container.names or any(endpoint.network != core.networks.default.id for endpoint in places):
        return True
    return files.needs_resolver(container.body.host_config, files.host_resolv_conf(), ipv6=_has_ipv6(places))


def addresses(places: Sequence[Endpoint]) -> tuple[str, ...]:
    """Return a container's addresses, without prefixes."""
    return tuple(address.partition("/")[0] for endpoint in places for address in endpoint.addresses)


def _has_ipv6(places: Sequence[Endpoint]) -> bool:
    return any(endpoint.ipv6 for endpoint in places)


def _gateways(core: Core, places: Sequence[Endpoint]) -> tuple[str, ...]:
    """Return by which addresses the host is reached: the default routes' gateways, else the default bridge's."""
    routes = endpoints.default_routes(core.networks, places)
    own = tuple(gateway for gateways in routes.values() for gateway in gateways)
    return own or tuple(subnet.gateway for subnet in core.networks.default.subnets if subnet.gateway)


def _linked(core: Core, places: Sequence[Endpoint]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the containers that `--link` names on the default bridge, as they are now."""
    default = core.networks.default.id
    present = {other.container: other for other in core.networks.endpoints(default)}
    linked = [(names, id) for endpoint in places if endpoint.network == default for names, id in _links(core, endpoint)]
    return tuple((address, names) for names, id in linked if id in present for address in addresses([present[id]]))


def _links(core: Core, endpoint: Endpoint) -> list[tuple[tuple[str, ...], str]]:
    """Return by which names /etc/hosts has each container that is linked."""
    found = []
    for alias, id in endpoint.links.items():
        if other := core.registry.get(id):
            found.append((tuple(dict.fromkeys((alias, other.body.hostname or ids.short(id), other.name))), id))
    return found


# ---------------------------------------------------------------------------------------------- while it runs


def follow(core: Core, container: Container, old: Sequence[Endpoint], *, resolver: bool) -> None:
    """Bring the files of a running container up to its networks, and to whom it is linked to; what it wrote stays.

    `old` are the places that it had, `resolver` whether it had a name server.
    """
    host_config, new, names = container.body.host_config, networked(core, container), _names(core, container)
    directory = core.dirs.container(container.id)
    ours = [*files.linked_lines(new.linked), *files.own_lines(new.addresses, names)]
    gone = set(files.own_lines(addresses(old), names))
    places = (*old, *places_of(container))
    linked = {" ".join(others) for endpoint in places for others, _ in _links(core, endpoint)}
    with _changing, doing(f"can't change the files in /etc of {container.name}"):
        _rewrite(f"{directory}/hosts", lambda text: files.with_lines(text, gone, linked, ours))
        if new.resolver and not resolver:
            host_file, before = files.host_resolv_conf(), new._replace(resolver=False)
            texts = [files.resolv_conf(host_config, host_file, each) for each in (before, new)]
            _rewrite(f"{directory}/resolv.conf", lambda text: texts[1] if text == texts[0] else text)


def _rewrite(path: str, change: Callable[[str], str]) -> None:
    """Change a file that the container may have made anything of; one that has become large stays as it is."""
    text = files.read(path, _LARGEST)
    changed = change(text)
    if changed != text and len(text) < _LARGEST:
        files.put(path, changed)
