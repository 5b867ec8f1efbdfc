"""Names on networks: what the server gives the shims that answer them.

Who is on a network stands in a file that every shim on it reads; what a container may ask for, its shim is told.
Neither needs the server from then on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

from sampan import ids
from sampan.engine import endpoints, files, own_files
from sampan.errors import SampanError, doing
from sampan.network import names
from sampan.network.namespace import Namespace
from sampan.supervise.messages import AnswerNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.engine.core import Core
    from sampan.engine.links import Channel
    from sampan.engine.registry import Container
    from sampan.spec.network import Endpoint, Network
    from sampan.supervise.messages import Status

_SINCE = 2  # the version of a shim's messages
_writing = threading.Lock()


class Listening:
    """The sockets of a container's resolver, bound in its network namespace; the server's until `close`."""

    def __init__(self, sockets: tuple[socket.socket, ...] = ()) -> None:
        self.sockets = sockets

    @property
    def numbers(self) -> tuple[int, int]:
        """Their ports, UDP and TCP."""
        udp, tcp = (each.getsockname()[1] for each in self.sockets)
        return udp, tcp

    def close(self) -> None:
        """Close the server's copies."""
        for each in self.sockets:
            each.close()


def listen(core: Core, container: Container, namespace: Namespace) -> Listening:
    """Open the resolver's sockets in a container's new namespace, and lead 127.0.0.11:53 to them."""
    container.names = None
    return _listen(core, namespace) if own_files.has_resolver(core, container) else Listening()


def _listen(core: Core, namespace: Namespace) -> Listening:
    listening = Listening(namespace.call(_bind))
    try:
        core.firewall.redirect_names(namespace, *listening.numbers)
    except BaseException:
        listening.close()
        raise
    return listening


def _bind() -> tuple[socket.socket, ...]:
    udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        udp.bind((files.RESOLVER, 0))
        tcp.bind((files.RESOLVER, 0))
        tcp.listen()
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


def hand_over(core: Core, container: Container, listening: Listening, channel: Channel) -> None:
    """Give the sockets to the shim, which answers from the moment when the program runs."""
    if listening.sockets:
        container.names = wanted(core, container)
        channel.post(container.names, [sock.fileno() for sock in listening.sockets])


def wanted(core: Core, container: Container) -> AnswerNames:
    """Return what a container may ask for."""
    places = own_files.places_of(container)
    host_config, default = container.body.host_config, core.networks.default.id
    named = [endpoint for endpoint in places if endpoint.network != default]
    networks = [core.networks.get(endpoint.network) for endpoint in places]
    text = files.resolv_conf(host_config, files.host_resolv_conf(), own_files.networked(core, container))
    return AnswerNames(
        files=tuple(_path(core, endpoint.network) for endpoint in named),
        links=tuple((alias, ids.short(id)) for endpoint in named for alias, id in endpoint.links.items()),
        servers=tuple(server for server in host_config.dns or () if server != files.RESOLVER),
        forward=any(network and not network.internal for network in networks),
        qualified=files.qualified(text),
    )


# ----------------------------------------------------------------------------------------------------- changes


def follow(core: Core, container: Container, old: Sequence[Endpoint]) -> None:
    """Have a running container whose networks were `old` see the present ones, by name and in its files.

    What fails is told in the log: it is on the network all the same.
    """
    resolver = container.names is not None
    try:
        if resolver or own_files.has_resolver(core, container):
            _tell_shim(core, container)
        own_files.follow(core, container, old, resolver=resolver)
    except (SampanError, OSError) as e:
        print(f"sampan: can't tell {container.name} of its networks: {e}", file=sys.stderr, flush=True)


def _tell_shim(core: Core, container: Container) -> None:
    """Have the shim answer what is wanted by now, with sockets if it has none."""
    message, channel = wanted(core, container), container.shim
    if channel is None or message == container.names:
        return
    if container.names is None:
        with (
            Namespace.of(container.state.pid, container.state.start_time) as namespace,
            contextlib.closing(_listen(core, namespace)) as listening,
        ):
            channel.post(message, [sock.fileno() for sock in listening.sockets])
    else:
        channel.post(message)
    container.names = message


def learn(core: Core, container: Container, status: Status) -> None:
    """Take in what a shim answers that this server has found; have it answer what it should."""
    container.names = status.names
    if status.version < _SINCE or container.sandbox is None:
        return
    try:
        if container.names is not None or own_files.has_resolver(core, container):
            _tell_shim(core, container)
    except (SampanError, OSError) as e:
        print(f"sampan: can't have names answered for {container.name}: {e}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------- files


def _path(core: Core, network_id: str) -> str:
    return f"{core.dirs.networks}/{network_id}.names"


def write_names(core: Core, network: Network) -> None:
    """Write which names the network's containers have now: called when one came, went, or got another name."""
    if network.default:
        _write_linked(core, network)
        return
    path = _path(core, network.id)
    with _writing, doing(f"can't write the names of network {network.name}"):
        if core.networks.get(network.id) is None:  # it was removed meanwhile
            return
        present = core.networks.endpoints(network.id)
        text = names.text(network, present, _absent(core, network, {endpoint.container for endpoint in present}))
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(text)
        os.rename(f"{path}.new", path)


def forget_container(core: Core, container: Container) -> None:
    """A container is removed: its names are nobody's any more."""
    for settings in endpoints.places(container).values():
        network = core.networks.get(settings.network_id)
        if network and not network.default:
            write_names(core, network)


def _absent(core: Core, network: Network, present: set[str]) -> Iterable[str]:
    """Yield the names of those that are to be on a network and don't run: nobody else is asked for them."""
    for container in core.registry:
        if container.id in present:
            continue
        settings = endpoints.places(container).get(network.name)
        if settings and settings.network_id == network.id:
            yield from endpoints.names(container, settings, default=False)


def _write_linked(core: Core, network: Network) -> None:
    """On the default bridge names are in /etc/hosts only: of those that `--link` gave them to."""
    for endpoint in core.networks.endpoints(network.id):
        container = core.registry.get(endpoint.container) if endpoint.links else None
        if container and container.running:
            follow(core, container, own_files.places_of(container))


def forget_names(core: Core, network: Network) -> None:
    """The network is removed."""
    with _writing, contextlib.suppress(FileNotFoundError):
        os.unlink(_path(core, network.id))


def repair(core: Core) -> None:
    """At the server's start: write what is, and leave nothing of networks that are gone."""
    known = {f"{network.id}.names": network for network in core.networks}
    try:
        for file in os.listdir(core.dirs.networks):
            if file not in known:
                os.unlink(f"{core.dirs.networks}/{file}")
        for network in known.values():
            if core.networks.endpoints(network.id):
                write_names(core, network)
            else:
                forget_names(core, network)
    except (SampanError, OSError) as e:
        print(f"sampan: can't repair the names of networks: {e}", file=sys.stderr, flush=True)
